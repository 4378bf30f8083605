"""A visitor's own prompts: what is taken as it is meant, and what is refused with its place and the way out."""

from __future__ import annotations

import difflib
import json
from decimal import Decimal

import pytest

from app.tune.prompts import CELL_LIMIT, MAX_BYTES, MAX_ROWS, formula_like, parse, read_file
from app.tune.tab import read_prompts
from engine import InvalidRequest


def pairs(text: str, **options) -> list[tuple[str, str | None]]:
    return [(row.prompt, row.expected) for row in parse(text, **options).rows]


def refused(text: str | bytes, name: str = "p.csv") -> str:
    """The reason for which a file is refused."""
    with pytest.raises(InvalidRequest) as error:
        read_file(name, text.encode() if isinstance(text, str) else text)
    return str(error.value)


# ---- taken ----


def test_lines_are_prompts():
    assert pairs("What is 2 + 2?\n\n  Name a colour, please. \r\nWho?\n") == [
        ("What is 2 + 2?", None),
        ("Name a colour, please.", None),
        ("Who?", None),
    ]
    assert [row.place for row in parse("a\n\nb").rows] == ["line 1", "line 3"]


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
    assert pairs(text) == [("a, b", "1"), ("c", None)]


def test_rows_are_counted_as_a_spreadsheet_counts_them():
    rows = parse('prompt,answer\n"two\nlines",1\nnext,2\n\nlast,3').rows
    assert [row.place for row in rows] == ["row 2", "row 3", "row 5"]
    assert rows[0].prompt == "two\nlines"


def test_what_a_text_was_read_as_and_what_was_not_used_is_told():
    table = parse("id,prompt,notes\n1,a,b")
    assert (table.kind, table.unused) == ("CSV", ("id", "notes"))
    assert parse('{"id": 1, "prompt": "a"}\n{"choices": [], "prompt": "b"}').unused == ("id", "choices")
    assert parse("a prompt, and an answer\n").kind == "lines"


@pytest.mark.parametrize("value", ["0.5", "-5", "1e3", "12345678901234567890", "1" * 400])
def test_numbers_of_jsonl_are_answers(value):
    (row,) = parse(f'{{"prompt": "a", "answer": {value}}}').rows
    assert row.expected is not None and Decimal(row.expected) == Decimal(value)


def test_a_file_gives_its_text_and_its_rows():
    text, table = read_file("C:\\mine\\Prompts.CSV", "\ufeffprompt,answer\nä,ß\n".encode())
    assert text == "prompt,answer\nä,ß\n" and [(r.prompt, r.expected) for r in table.rows] == [("ä", "ß")]
    assert read_file("x.jsonl", b'{"prompt": "a\\u2028b"}')[1].rows[0].prompt == "a\u2028b"
    assert read_file("x.txt", b"prompt,answer\na,1")[1].rows[0].expected == "1", "read like pasted text"
    assert parse(text) == table, "the box that the text is put into gives the same rows"


@pytest.mark.parametrize("cell", ["-5", "+3", "-1,234.5", "- 5", "-$7", "+3 %", "-1/2", "-1e-3", "5-3", "a=b", "'=1"])
def test_a_signed_number_is_no_formula(cell):
    assert not formula_like(cell)
    assert pairs(f'prompt,answer\na,"{cell}"') == [("a", cell)]


def test_the_limits_themselves_are_taken():
    assert len(parse("\n".join(["a"] * MAX_ROWS)).rows) == MAX_ROWS
    assert len(parse("prompt\n" + "x" * (CELL_LIMIT - 1)).rows[0].prompt) == CELL_LIMIT - 1
    whole = json.dumps({"prompt": "x" * (CELL_LIMIT - 1), "answer": "y" * (CELL_LIMIT - 1)})
    assert len(read_file("x.jsonl", "\n".join([whole] * MAX_ROWS).encode())[1].rows) == MAX_ROWS


# ---- refused ----

REFUSED = {
    "too many rows": ("prompt\n" + "a\n" * 312, ["312 prompts", "200", "Remove 112"]),
    "too many lines": ("a\n" * 201, ["201 prompts", "Remove 1 "]),
    "too many objects": ('{"prompt": "a"}\n' * 201, ["201 prompts"]),
    "a cell of 10,000 characters": ("prompt\nok\n" + "x" * 10_000, ["row 3", "prompt", "10,000 characters", "xxx…"]),
    "a long answer": ("prompt,answer\nok," + "y" * 10_001, ["row 2", "answer", "10,001"]),
    "a cell beyond the csv module's own limit": ('prompt\n"' + "x" * 200_000 + '"', ["row 2", "10,000"]),
    "a formula as a prompt": ("prompt,answer\nok,1\n=1+1,2", ["row 3", "prompt", "“=1+1”", "“=”", "formula"]),
    "a formula as an answer": ("prompt,answer\nok,@SUM(A1)", ["row 2", "answer", "@SUM(A1)"]),
    "a plus": ("prompt\n+1+cmd|' /C calc'!A0", ["row 2", "“+”"]),
    "a minus": ("a\n-2+3\n", ["line 2", "“-2+3”"]),
    "a formula behind a space": ("prompt\n  =1+1", ["row 2", "=1+1"]),
    "a full-width formula": ("prompt\n＝1+1", ["row 2"]),
    "a tab": ('prompt\n"\t=1"', ["row 2", "a tab"]),
    "a carriage return": ('prompt\n"\r=1"', ["row 2", "a carriage return"]),
    "a formula in JSON": ('{"prompt": "a", "answer": "=1"}', ["line 1", "answer", "=1"]),
    "no column for prompts": ("text,label\na,b", ["row 1", "“text”, “label”", "“prompt”"]),
    "no header at all": ("What is 2?,2\nWhat is 3?,3", ["no column “prompt”", "What is 2?"]),
    "two columns for prompts": ("prompt,question\na,b", ["“prompt” and “question”"]),
    "two columns for answers": ("prompt,answer,Answer\na,b,c", ["“answer” and “Answer”"]),
    "a misspelt column": ("prompt,anwser\na,b", ["“anwser”", "did you mean “answer”?"]),
    "too many cells": ("prompt,answer\nWhat, then?,3", ["row 2", "3 cells", "header has 2", "double quotes"]),
    "too many columns": ("prompt" + ",x" * 100 + "\na", ["row 1", "101 columns", "100"]),
    "too many fields": ('{"prompt": "a"' + "".join(f', "x{n}": 1' for n in range(300_000)) + "}", ["300,001"]),
    "the last of many fields twice": (
        "{" + ", ".join(f'"x{n}": 1' for n in [*range(300_000), 299_999]) + "}",
        ["“x299999” stands there twice"],
    ),
    "a quote that never ends": ('prompt\nok\n"oh\nno', ["row 3", "never closed"]),
    "a quote in the middle": ('prompt\n"a"b', ["row 2", "no CSV"]),
    "an answer without a prompt": ("prompt,answer\n,5", ["row 2", "it is empty", "“5”"]),
    "a header alone": ("prompt,answer\n", ["no row below"]),
    "commas alone": (",,,\n,,", ["no column “prompt”"]),
    "nothing": (" \n \n", ["nothing in it"]),
    "broken JSON": ('{"prompt": "a"}\n{"prompt": ', ["line 2", "no JSON", "whole object"]),
    "a list of objects": ('[{"prompt": "a"}]', ["line 1", "no object"]),
    "pretty-printed JSON": ('{\n "prompt": "a"\n}', ["line 1", "no JSON"]),
    "an object without a prompt": ('{"text": "a"}', ["line 1", "“prompt”", "“text”"]),
    "an empty object": ("{}", ["line 1", "no field at all"]),
    "a prompt that is a list": ('{"prompt": ["a"]}', ["line 1", '["a"]', "no text"]),
    "an answer that is true": ('{"prompt": "a", "answer": true}', ["line 1", "answer", "true"]),
    "an answer that is infinite": ('{"prompt": "a", "answer": 1e999}', ["line 1", "Infinity"]),
    "an answer that is no number": ('{"prompt": "a", "answer": NaN}', ["line 1", "NaN"]),
    "a field twice": ('{"prompt": "a", "prompt": "b"}', ["line 1", "“prompt” stands there twice"]),
    "nesting without end": ('{"prompt": ' + "[" * 100_000, ["line 1", "no JSON"]),
    "a number without end": ('{"prompt": "a", "answer": ' + "1" * 5000 + "}", ["line 1", "no JSON"]),
    "half a character in JSON": ('{"prompt": "\\ud800"}', ["line 1", "U+D800"]),
    "a zero in JSON": ('{"prompt": "a\\u0000b"}', ["line 1", "U+0000"]),
    "an escape sequence": ("a\nb\x1b[31m", ["line 2", "U+001B", "control character"]),
    "too much": ("x" * (MAX_BYTES + 1), ["5,000,001", "Split"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_place_the_value_and_the_way_out(case: str):
    text, expected = REFUSED[case]
    name = "mine.jsonl" if text.startswith(("{", "[")) else "mine.csv" if case in _CSV_ONLY else "mine.txt"
    message = refused(text, name)
    assert message.startswith(name)
    for part in expected:
        assert part in message
    assert len(message) < 400
    if case not in _CSV_ONLY:
        with pytest.raises(InvalidRequest, match=r"^Your prompts"):
            parse(text)


_CSV_ONLY = ("no column for prompts", "no header at all", "commas alone")  # pasted, these are lines

BINARY = {
    "a workbook": (b"PK\x03\x04rest", ["ZIP", "xlsx"]),
    "a PDF": (b"%PDF-1.7", ["PDF"]),
    "gzip": (b"\x1f\x8b\x08", ["gzip"]),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00", ["binary", "byte 9"]),
    "UTF-16": ("prompt\na".encode("utf-16"), ["UTF-16", "UTF-8"]),
    "Latin-1": ("prompt\nok\nSchön".encode("latin-1"), ["line 3", "0xF6", "UTF-8"]),
    "Latin-1 behind a mark": (b"\xef\xbb\xbfprompt\n\xe4", ["line 2", "0xE4"]),
    "a zero": (b"prompt\na\x00b", ["byte 9 is 0", "binary"]),
    "nothing": (b"", ["nothing in it"]),
    "too much": (b"x" * (MAX_BYTES + 1), ["5,000,001 bytes"]),
}


@pytest.mark.parametrize("case", BINARY)
def test_a_file_that_is_no_text_is_refused_by_what_it_is(case: str):
    content, expected = BINARY[case]
    message = refused(content)
    for part in ["p.csv", *expected]:
        assert part in message


@pytest.mark.parametrize("name", ["prompts.xlsx", "prompts", "", "csv.exe", "prompts.json"])
def test_a_file_of_another_kind_is_refused_by_its_name(name):
    message = refused("prompt\na", name)
    assert message.startswith(name or "the file") and ".csv, .jsonl or .txt" in message


def test_a_message_shows_little_of_a_value_and_no_control_characters():
    message = refused("prompt,answer\n" + "a," * 3000, "\x1b[31m" + "n" * 300 + ".csv")
    assert len(message) < 400 and message.isprintable()


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("base64.b64decode", lambda *_, **__: pytest.fail("it was decoded"))
    said = json.loads(read_prompts({"name": "a.csv", "file": "A" * (2 * MAX_BYTES)}))
    assert "at most 5,000,000 bytes" in said["error"]


def test_only_what_may_be_misspelt_is_compared(monkeypatch):
    compared = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda name, *_, **__: compared.append(name))
    parse("\n".join([json.dumps({"prompt": "a", "answer": "b", **{f"x{n}": 1 for n in range(98)}})] * MAX_ROWS))
    parse(json.dumps({"prompt": "a", "note": "b", "x" * 1_000_000: "c"}))
    assert compared == ["note"]
