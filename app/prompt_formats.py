"""Reads prompts and answers out of CSV, JSONL or plain lines, each cell with its place.

Knows the formats and the names of the columns, and refuses what does not hold them; what a cell may contain is
`app.prompt_file`'s question. Pure functions over a text that may be anything.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from engine import InvalidRequest

MAX_ROWS = 200
CELL_LIMIT = 10_000
"""A cell has fewer characters than this."""

PROMPT, EXPECTED = ("prompt", "question"), ("answer", "expected")
"""Names of the two columns."""

Kind = Literal["CSV", "JSONL", "lines"]

NEWLINE = re.compile(r"\r\n|\n|\r")  # not str.splitlines, which also splits within JSON strings
_DELIMITERS = (",", ";", "\t")
_COLUMNS = 'the columns are "prompt" and, if you know the answers, "answer"'


class Cells(NamedTuple):
    """One row as it stands in the text: its place, the name of its prompt's column, and its two cells."""

    place: str
    column: str
    prompt: str
    expected: str


def read_cells(text: str, source: str, kind: Kind) -> tuple[list[Cells], list[str]]:
    """The rows of a text that is not blank, and the names of columns that are not used.

    Raises:
        InvalidRequest: It is not of this kind, lacks a prompt, or has too many rows; the message names the place.
    """
    read = {"CSV": _csv, "JSONL": _jsonl, "lines": _lines}[kind]
    return read(text, source)


def kind_of(text: str) -> Kind:
    """What a text that is not blank is, by its first line."""
    first = next(line for line in NEWLINE.split(text) if line.strip()).strip()
    if first in ("{", "[") or first.startswith(('{"', "[{")) or (first.startswith("{") and first.endswith("}")):
        return "JSONL"
    return "CSV" if _delimiter(first) else "lines"


def shorten(value: str, length: int = 40) -> str:
    """A value as a message shows it: the beginning, with control characters spelled out."""
    shown = value[:length] + ("…" if len(value) > length else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


# ---- CSV ----


def _delimiter(header: str) -> str | None:
    """What separates the cells of a header with a known column; None without one."""
    known = {sign: len(_known(_split(header, sign))) for sign in _DELIMITERS}
    best = max(known, key=lambda sign: known[sign])
    return best if known[best] else None


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _known(names: Sequence[str]) -> list[str]:
    return [name for name in map(_plain, names) if name in (*PROMPT, *EXPECTED)]


def _plain(name: str) -> str:
    return name.strip().lower()


def _csv(text: str, source: str) -> tuple[list[Cells], list[str]]:
    delimiter = _delimiter(next(line for line in NEWLINE.split(text) if line.strip())) or ","
    records = _records(text, delimiter, source)
    number, header = next(records, (1, [""]))
    prompt, expected, unused = _columns(header, f"{source}, row {number:,}")
    cells: list[Cells] = []
    count = 0
    for number, record in records:
        count += 1
        if count > MAX_ROWS:
            continue  # counts the rest for the message
        place = f"row {number:,}"
        if len(record) > len(header):
            raise InvalidRequest(
                f"{source}, {place}: {len(record)} cells, but the header has {len(header)}. Put double quotes around a "
                f"cell that contains “{_name(delimiter)}”: {shorten(delimiter.join(record))}"
            )
        record += [""] * (len(header) - len(record))
        answer = record[expected] if expected is not None else ""
        cells.append(Cells(place, header[prompt].strip(), record[prompt], answer))
    _refuse_count(source, count)
    return cells, unused


def _records(text: str, delimiter: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with its number as a spreadsheet counts."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidRequest(f"{source}, row {number:,}: {_csv_reason(error)}") from None
        if any(cell.strip() for cell in record):
            yield number, record


def _csv_reason(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a cell has more than {CELL_LIMIT:,} characters. Shorten it, or close its double quotes."
    if "end of data" in str(error):
        return "a double quote is opened and never closed. Close it, or write quotes within a cell twice."
    return f"this is no CSV ({error}). Write double quotes within a cell twice, and quotes around the whole cell."


def _columns(header: Sequence[str], where: str) -> tuple[int, int | None, list[str]]:
    """Places of the prompt and of the answer, and the names that are not used."""
    names = [_plain(name) for name in header]
    prompts = [i for i, name in enumerate(names) if name in PROMPT]
    answers = [i for i, name in enumerate(names) if name in EXPECTED]
    if not prompts:
        found = ", ".join(f"“{shorten(name, 30)}”" for name in header[:6])
        raise InvalidRequest(f"{where}: no column “prompt” among {found}; {_COLUMNS}. Add such a header.")
    for found in (prompts, answers):
        if len(found) > 1:
            both = " and ".join(f"“{header[i].strip()}”" for i in found)
            raise InvalidRequest(f"{where}: {both} mean the same; {_COLUMNS}. Keep one of them.")
    unused = [header[i].strip() for i, name in enumerate(names) if i not in (*prompts, *answers) and name]
    _refuse_misspelt(unused, bool(answers), where)
    return prompts[0], answers[0] if answers else None, unused


def _refuse_misspelt(unused: Sequence[str], has_answers: bool, where: str) -> None:
    """A misspelt "answer" that was merely left out would measure another thing than was meant."""
    for name in unused:
        near = difflib.get_close_matches(_plain(name), EXPECTED, n=1, cutoff=0.75)
        if near and not has_answers:
            raise InvalidRequest(
                f"{where}: “{shorten(name)}” is not known: did you mean “{near[0]}”? Rename or remove it; {_COLUMNS}."
            )


def _name(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else delimiter


# ---- JSONL and lines ----


def _jsonl(text: str, source: str) -> tuple[list[Cells], list[str]]:
    lines = [(n, line) for n, line in enumerate(NEWLINE.split(text), 1) if line.strip()]
    _refuse_count(source, len(lines))
    unused: dict[str, None] = {}
    cells: list[Cells] = []
    for number, line in lines:
        place = f"line {number:,}"
        record = _object(line, f"{source}, {place}")
        prompts = [name for name in record if _plain(name) in PROMPT]
        answers = [name for name in record if _plain(name) in EXPECTED]
        if not prompts:
            found = ", ".join(f"“{shorten(name, 30)}”" for name in list(record)[:6]) or "no field at all"
            raise InvalidRequest(f"{source}, {place}: no field “prompt” but {found}; {_COLUMNS}. Add it.")
        if max(len(prompts), len(answers)) > 1:
            both = " and ".join(f"“{name}”" for name in max(prompts, answers, key=len))
            raise InvalidRequest(f"{source}, {place}: {both} mean the same; {_COLUMNS}. Keep one of them.")
        others = [name for name in record if name not in (*prompts, *answers)]
        _refuse_misspelt(others, bool(answers), f"{source}, {place}")
        unused.update(dict.fromkeys(others))
        expected = _written(record[answers[0]], f"{source}, {place}, {answers[0]}") if answers else ""
        prompt = record[prompts[0]]
        if not isinstance(prompt, str):
            shown = shorten(json.dumps(prompt, ensure_ascii=False))
            raise InvalidRequest(f"{source}, {place}, {prompts[0]}: {shown} is no text. Put it in double quotes.")
        cells.append(Cells(place, prompts[0], prompt, expected))
    return cells, list(unused)


def _object(line: str, where: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidRequest(f"{where}: the field “{shorten(twice)}” stands there twice. Keep one of them.")
        return dict(pairs)

    try:
        found = json.loads(line, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "it cannot be read"
        raise InvalidRequest(
            f'{where}: no JSON ({reason}): {shorten(line)} Every line must be one whole object: {{"prompt": "…"}}.'
        ) from None
    if not isinstance(found, dict):
        raise InvalidRequest(f'{where}: {shorten(line)} is no object. Every line must be one: {{"prompt": "…"}}.')
    return found


def _written(value: Any, where: str) -> str:
    """An answer as text; numbers may stand without quotes."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    shown = shorten(json.dumps(value, ensure_ascii=False))
    raise InvalidRequest(f"{where}: {shown} is neither text nor a number. Put the answer in double quotes.")


def _lines(text: str, source: str) -> tuple[list[Cells], list[str]]:
    lines = [(n, line) for n, line in enumerate(NEWLINE.split(text), 1) if line.strip()]
    _refuse_count(source, len(lines))
    return [Cells(f"line {number:,}", "prompt", line, "") for number, line in lines], []


def _refuse_count(source: str, count: int) -> None:
    if count == 0:
        raise InvalidRequest(f"{source}: a header but no row below it. Give at least one prompt.")
    if count > MAX_ROWS:
        raise InvalidRequest(
            f"{source}: {count:,} prompts; at most {MAX_ROWS} are taken. Remove {count - MAX_ROWS:,} of them."
        )
