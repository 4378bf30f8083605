"""A visitor's own prompts: what is taken as it is meant, and what is refused with its place."""

from __future__ import annotations

import json

import pytest

from app.tune.prompts import CELL_LIMIT, MAX_BYTES, MAX_ROWS, parse
from app.tune.tab import read
from engine import InvalidRequest

ROWS = [("a, b", "1"), ("c", None)]


def pairs(text: str) -> list[tuple[str, str | None]]:
    return [(row.prompt, row.expected) for row in parse(text).rows]


def refused(text: str, name: str) -> str:
    """The reason for which a file is refused."""
    with pytest.raises(InvalidRequest) as error:
        parse(text, name)
    assert str(error.value).startswith(name) and len(str(error.value)) < 400
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        'prompt,answer\n"a, b",1\nc,\n',
        'PROMPT , Expected\r\n"a, b",1\r\nc\r\n',
        'question;answer\n"a, b";1\nc;\n',
        "prompt\tanswer\na, b\t1\nc\t",
        '\ufeffanswer,prompt\r1,"a, b"\r,c',
        '\n\n"prompt","answer"\n\n"a, b","1"\n , \n"c",""\n\n',
        '{"prompt": "a, b", "answer": 1}\n\n{"question": " c "}\n',
        '{"prompt": "a, b", "expected": "1"}\r\n{"prompt": "c", "answer": null}',
    ],
)
def test_csv_and_jsonl_give_the_same_rows_however_they_are_spelt(text):
    assert pairs(text) == ROWS


def test_each_prompt_has_the_place_that_an_editor_or_a_spreadsheet_shows():
    lines = parse("a prompt, and an answer\n\n  [two] {three}? \r\n")
    assert lines.kind == "lines"
    assert [(row.prompt, row.place) for row in lines.rows] == [
        ("a prompt, and an answer", "line 1"), ("[two] {three}?", "line 3"),
    ]  # fmt: skip
    table = parse('prompt,answer,id,notes\n"two\nlines",1\nnext,2\n\nlast,3,7,x')
    assert [row.place for row in table.rows] == ["row 2", "row 3", "row 5"] and table.rows[0].prompt == "two\nlines"
    assert table.unused == ("id", "notes"), "columns that nobody reads are named"
    assert parse('{"id": 1, "prompt": "a"}\n{"choices": [], "prompt": "b"}').unused == ("id", "choices")


def test_a_file_is_read_as_its_name_says():
    assert parse("prompt,answer\nä,ß\n", "C:\\mine\\Prompts.CSV").rows[0].expected == "ß"
    (row,) = parse('{"prompt": "a\\u2028b", "answer": -0.5}', "x.jsonl").rows
    assert (row.prompt, row.expected) == ("a\u2028b", "-0.5")
    assert parse("prompt,answer\na,1", "x.txt").kind == "CSV", "read like pasted text"


def test_the_limits_themselves_are_taken():
    whole = json.dumps({"prompt": "x" * (CELL_LIMIT - 1), "answer": "y" * (CELL_LIMIT - 1)})
    assert len(parse("\n".join([whole] * MAX_ROWS), "x.jsonl").rows) == MAX_ROWS


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.csv", "prompt\n" + "a\n" * (MAX_ROWS + 1), ["row 202", "200"]),
        ("lines.txt", "a\n" * (MAX_ROWS + 1), ["line 201", "200"]),
        ("answer.csv", "prompt,answer\nok," + "y" * CELL_LIMIT, ["row 2", "answer", "10,000"]),
        ("huge.csv", 'prompt\n"' + "x" * 200_000 + '"', ["row 2", "limit"]), ("commas.csv", ",,,\n,,", ["header"]),
        ("columns.csv", "text,label\na,b", ["row 1", "“text”", "“prompt”"]),
        ("twice.csv", "prompt,Question\na,b", ["row 1", "2 columns are the prompt: “prompt”, “Question”"]),
        ("alone.csv", "prompt\n", ["header"]),
        ("blank.txt", " \n \n", ["nothing"]),
        ("wide.csv", "prompt,answer\nWhat, then?,3", ["row 2", "3 cells"]), ("none.jsonl", "{}", ["line 1"]),
        ("open.csv", 'prompt\nok\n"oh\nno', ["row 3", "quotes"]), ("middle.csv", 'prompt\n"a"b', ["row 2", "quotes"]),
        ("empty.csv", "prompt,answer\n,5", ["row 2", "empty"]), ("list.jsonl", '[{"prompt": "a"}]', ["object"]),
        ("broken.jsonl", '{"prompt": "a"}\n{"prompt": ', ["line 2", "object"]),
        ("number.jsonl", '{"prompt": ["a"]}', ["line 1", '["a"]']),
        ("infinite.jsonl", '{"prompt": "a", "answer": 1e999}', ["line 1", "Infinity"]),
        ("deep.jsonl", '{"prompt": ' + "[" * 100_000, ["object"]), ("digits.jsonl", '{"a": ' + "1" * 5000, ["object"]),
        ("half.jsonl", '{"prompt": "\\ud800"}', ["surrogate"]),
        ("big.txt", "x" * (MAX_BYTES + 1), ["5,000,001"]), ("book.csv", "PK\x03\x04rest", ["“prompt” among"]),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_place_and_value(name: str, text: str, said: list[str]):
    message = refused(text, name)
    assert all(part in message for part in said), message


def test_what_a_script_sends_is_read_or_refused():
    assert read({"name": "a.csv", "text": "prompt\na"})["count"] == 1
    for odd in ({}, None, [], {"text": 1}, {"name": [], "text": "a"}):
        assert read(odd)["error"]
