"""A visitor's own prompts, pasted or from a file: CSV, JSONL or one prompt per line. Nothing is stored.

The message of an InvalidRequest names the place of the fault and a way out.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from engine import InvalidRequest
from engine.errors import check_text, shown

MAX_BYTES = 5_000_000
MAX_ROWS = 200
CELL_LIMIT = 10_000
"""A cell has fewer characters than this."""

_SHOWN = 40  # characters of a value in a message
Kind = Literal["CSV", "JSONL", "lines"]
_EXTENSIONS: dict[str, Kind] = {"csv": "CSV", "jsonl": "JSONL"}  # any other file is read like pasted text

_MEANING = {"prompt": "prompt", "question": "prompt", "answer": "answer", "expected": "answer"}
_COLUMNS = 'the columns are "prompt" and, if you know the answers, "answer"'
_NEWLINE = re.compile(r"\r\n|\n|\r")  # not str.splitlines, which also splits within JSON strings

_Rows = Iterator[tuple[str, dict[str, Any]]]
"""Rows as they stand in a text: the place, as in "row 3", and each column's cell."""


@dataclass(frozen=True)
class PromptRow:
    """One prompt, without the white space around it, and the answer it should get, if any."""

    prompt: str
    expected: str | None
    place: str  # e.g. "row 3", as a spreadsheet or an editor counts


@dataclass(frozen=True)
class PromptTable:
    """All prompts of a text, what it was read as, and the names of columns that are neither prompt nor answer."""

    rows: tuple[PromptRow, ...]
    kind: Kind
    unused: tuple[str, ...] = ()


def parse(text: str, name: str = "") -> PromptTable:
    """The prompts of a text. Messages name its file, if it has one, and the extension of the `name` says the kind."""
    source = shown(name.replace("\\", "/").rpartition("/")[2], limit=60) or "Your prompts"
    if len(text) > MAX_BYTES:
        raise InvalidRequest(f"{source}: {len(text):,} characters; at most {MAX_BYTES:,} are taken. Split it.")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InvalidRequest(f"{source}: there is nothing in it. Give at least one prompt.")
    kind = _EXTENSIONS.get(name.rpartition(".")[2].lower()) or _kind_of(text)
    rows: list[PromptRow] = []
    unused: dict[str, None] = {}
    for place, cells in {"CSV": _csv, "JSONL": _jsonl, "lines": _lines}[kind](text, source):
        where = f"{source}, {place}"
        if len(rows) == MAX_ROWS:
            raise InvalidRequest(f"{where}: more than {MAX_ROWS} prompts. Remove some, or split it.")
        _check_columns(where, cells)
        known = {_meaning(name): cell for name, cell in cells.items()}
        prompt, answer = (_text(f"{where}, {name}", known.get(name)).strip() for name in ("prompt", "answer"))
        if not prompt:
            raise InvalidRequest(f"{where}, prompt: it is empty. Fill it, or remove the row.")
        rows.append(PromptRow(prompt, unicodedata.normalize("NFC", answer) or None, place))
        unused.update({name: None for name in cells if name and not _meaning(name)})
    if not rows:
        raise InvalidRequest(f"{source}: a header but no row below it. Give at least one prompt.")
    return PromptTable(tuple(rows), kind, tuple(unused))


def _kind_of(text: str) -> Kind:
    first = next(_numbered_lines(text))[1].strip()
    if first in ("{", "[") or first.startswith(('{"', "[{")):
        return "JSONL"
    return "CSV" if _known_columns(first, _delimiter(first)) else "lines"


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(_NEWLINE.split(text), 1) if line.strip())


def _lines(text: str, source: str) -> _Rows:
    for number, line in _numbered_lines(text):
        yield f"line {number:,}", {"prompt": line}


def _csv(text: str, source: str) -> _Rows:
    delimiter = _delimiter(next(_numbered_lines(text))[1])
    header: list[str] = []
    number = 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header) > 0:
                counts = f"{len(cells)} cells, but the header has {len(header)}"
                way_out = f"Put double quotes around a cell that contains a {delimiter!r}"
                raise InvalidRequest(f"{source}, row {number:,}: {counts}. {way_out}")
            if header:
                yield f"row {number:,}", dict(zip(header, cells, strict=False))
            else:
                header = [cell.strip() for cell in cells]
                _check_columns(f"{source}, row {number:,}", header)
    except csv.Error as error:
        way_out = "Write double quotes within a cell twice, and quotes around the whole cell."
        raise InvalidRequest(f"{source}, row {number + 1:,}: this is no CSV ({error}). {way_out}") from None


def _delimiter(header: str) -> str:
    """What separates the cells of a header: what gives it the most known columns."""
    return max(",;\t", key=lambda sign: _known_columns(header, sign))


def _known_columns(header: str, delimiter: str) -> int:
    names: list[str] = []
    with suppress(csv.Error):
        names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    return sum(_meaning(name) is not None for name in names)


def _jsonl(text: str, source: str) -> _Rows:
    for number, line in _numbered_lines(text):
        place, cells = f"line {number:,}", None
        with suppress(ValueError, RecursionError):
            cells = json.loads(line)
        if not isinstance(cells, dict):
            way_out = 'Every line must be one whole JSON object: {"prompt": "…"}.'
            raise InvalidRequest(f"{source}, {place}: {shown(line, limit=_SHOWN)} is none. {way_out}")
        yield place, cells


def _meaning(name: str) -> str | None:
    return _MEANING.get(name.strip().lower())


def _check_columns(where: str, names: Collection[str]) -> None:
    for wanted, least in (("prompt", 1), ("answer", 0)):
        found = [name for name in names if _meaning(name) == wanted]
        listed = ", ".join(f"“{shown(name, limit=30)}”" for name in [*(found or names)][:6]) or "nothing"
        if len(found) > 1:
            raise InvalidRequest(f"{where}: {len(found)} columns are the {wanted}: {listed}. Leave one.")
        if len(found) < least:
            raise InvalidRequest(f"{where}: no “{wanted}” among {listed}; {_COLUMNS}.")


def _text(where: str, cell: Any) -> str:
    """A cell as a text, which is short; an answer may be a number."""
    is_number = isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell)
    value = str(cell) if is_number else "" if cell is None else cell
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: {shown(json.dumps(value), limit=_SHOWN)} is no text. Put it in double quotes.")
    if len(value) >= CELL_LIMIT:
        size = f"{len(value):,} characters; a cell has fewer than {CELL_LIMIT:,}"
        raise InvalidRequest(f"{where}: {size}. Shorten it: {shown(value, limit=_SHOWN)}")
    check_text(where, value, CELL_LIMIT)
    return value
