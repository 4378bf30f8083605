"""A visitor's own prompts, pasted or from a file: CSV, JSONL or one prompt per line.

What is refused (InvalidRequest) is refused with its place and the way out. The text is a stranger's: cells that a
spreadsheet would run as formulas are refused, so that no export holds one. Nothing is stored.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from engine import InvalidRequest

MAX_BYTES = 5_000_000
MAX_ROWS = 200
CELL_LIMIT = 10_000
"""A cell has fewer characters than this."""

Kind = Literal["CSV", "JSONL", "lines"]
EXTENSIONS: dict[str, Kind | None] = {"csv": "CSV", "jsonl": "JSONL", "txt": None}
"""A .txt file is read like pasted text."""

_MEANING = {"prompt": "prompt", "question": "prompt", "answer": "answer", "expected": "answer"}
_COLUMNS = 'the columns are "prompt" and, if you know the answers, "answer"'
_NEWLINE = re.compile(r"\r\n|\n|\r")  # not str.splitlines, which also splits within JSON strings
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_FORMULA = tuple("=+-@＝＋－＠")
_SIGNED_NUMBER = re.compile(r"[+-] ?[$€£¥]? ?\d[\d., \xa0\u202f]*(?:[eE][+-]?\d+)?(?:/\d+)? ?%?")

_Fields = Sequence[tuple[str, Any]]
"""One row as it stands in the text: names of columns and what is below them."""


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


def read_file(name: str, content: bytes) -> tuple[str, PromptTable]:
    """The text of an uploaded file, and its prompts; the name's extension says what the file is."""
    source = shorten(name.replace("\\", "/").rpartition("/")[2] or "the file", 60)
    extension = name.rpartition(".")[2].lower()
    if extension not in EXTENSIONS:
        raise InvalidRequest(f"{source}: a .csv, .jsonl or .txt file is needed. Save or export it as one of these.")
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"{source}: {len(content):,} bytes; at most {MAX_BYTES:,} are taken. Split it.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02X} is not UTF-8"
        raise InvalidRequest(f"{source}: {found}. Save it as text in UTF-8: CSV, or JSONL.") from None
    return text, parse(text, source, EXTENSIONS[extension])


def parse(text: str, source: str = "Your prompts", kind: Kind | None = None) -> PromptTable:
    """The prompts of a text; messages call it `source`, and where `kind` is None its first line tells what it is."""
    if len(text) > MAX_BYTES:
        raise InvalidRequest(f"{source}: {len(text):,} characters; at most {MAX_BYTES:,} are taken. Split it.")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InvalidRequest(f"{source}: there is nothing in it. Give at least one prompt.")
    if control := _UNWRITABLE.search(text):
        line = len(_NEWLINE.findall(text[: control.start()])) + 1
        raise InvalidRequest(f"{source}, line {line:,}: {_unwritable(control[0])}")
    kind = kind or _kind_of(text)
    rows: list[PromptRow] = []
    unused: dict[str, None] = {}
    for place, fields in {"CSV": _csv, "JSONL": _jsonl, "lines": _lines}[kind](text, source):
        if len(rows) == MAX_ROWS:
            raise InvalidRequest(f"{source}, {place}: more than {MAX_ROWS} prompts. Remove some, or split it.")
        row, others = _row(f"{source}, {place}", place, fields)
        rows.append(row)
        unused.update(dict.fromkeys(others))
    if not rows:
        raise InvalidRequest(f"{source}: a header but no row below it. Give at least one prompt.")
    return PromptTable(tuple(rows), kind, tuple(unused))


def formula_like(cell: str) -> bool:
    """Whether a spreadsheet might run a cell as a formula; a signed number such as "-5" or "+3 %" is none."""
    begin = cell.strip()
    return cell.startswith(("\t", "\r")) or (begin.startswith(_FORMULA) and not _SIGNED_NUMBER.fullmatch(begin))


def shorten(value: str, length: int = 40) -> str:
    """A value as a message shows it: the beginning, with control characters spelled out."""
    shown = value[:length] + ("…" if len(value) > length else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _unwritable(character: str) -> str:
    return f"the control character U+{ord(character):04X} is not plain text. Remove it, or export the prompts again."


def _kind_of(text: str) -> Kind:
    first = next(_numbered_lines(text))[1].strip()
    if first in ("{", "[") or first.startswith(('{"', "[{")) or (first.startswith("{") and first.endswith("}")):
        return "JSONL"
    return "CSV" if _known_columns(first, _delimiter(first)) else "lines"


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, each with its number."""
    return ((number, line) for number, line in enumerate(_NEWLINE.split(text), 1) if line.strip())


def _lines(text: str, source: str) -> Iterator[tuple[str, _Fields]]:
    for number, line in _numbered_lines(text):
        yield f"line {number:,}", [("prompt", line)]


def _csv(text: str, source: str) -> Iterator[tuple[str, _Fields]]:
    delimiter = _delimiter(next(_numbered_lines(text))[1])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                _places(f"{source}, row {number:,}", header)
                continue
            if len(cells) > len(header):
                counts = f"{len(cells)} cells, but the header has {len(header)}"
                raise InvalidRequest(
                    f"{source}, row {number:,}: {counts}. Put double quotes around a cell that contains a {delimiter!r}"
                )
            yield f"row {number:,}", list(zip(header, cells, strict=False))
    except csv.Error as error:
        way_out = "Write double quotes within a cell twice, and quotes around the whole cell."
        raise InvalidRequest(f"{source}, row {number + 1:,}: this is no CSV ({error}). {way_out}") from None


def _delimiter(header: str) -> str:
    """What separates the cells of a header: what gives it the most known columns."""
    return max(",;\t", key=lambda sign: _known_columns(header, sign))


def _known_columns(header: str, delimiter: str) -> int:
    try:
        names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return 0
    return sum(name.strip().lower() in _MEANING for name in names)


def _jsonl(text: str, source: str) -> Iterator[tuple[str, _Fields]]:
    for number, line in _numbered_lines(text):
        place, fields = f"line {number:,}", None
        with suppress(ValueError, RecursionError):
            fields = json.loads(line, object_pairs_hook=tuple)  # the only tuples there are
        if not isinstance(fields, tuple):
            way_out = 'Every line must be one whole JSON object: {"prompt": "…"}.'
            raise InvalidRequest(f"{source}, {place}: {shorten(line)} is none. {way_out}")
        yield place, fields


def _places(where: str, names: Sequence[str]) -> dict[str, int]:
    """Which of the names are those of "prompt" and "answer"."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        meaning = _MEANING.get(name.strip().lower())
        if meaning in places:
            both = f"“{shorten(names[places[meaning]])}” and “{shorten(name)}”"
            raise InvalidRequest(f"{where}: {both} mean the same; {_COLUMNS}. Keep one of them.")
        if meaning is not None:
            places[meaning] = place
    if "prompt" not in places:
        listed = ", ".join(f"“{shorten(name, 30)}”" for name in names[:6]) or "nothing"
        raise InvalidRequest(f"{where}: no “prompt” among {listed}; {_COLUMNS}.")
    return places


def _row(where: str, place: str, fields: _Fields) -> tuple[PromptRow, list[str]]:
    """A row's prompt and answer, and the names of its other fields."""
    names = [name for name, _ in fields]
    places = _places(where, names)
    prompt = _text(f"{where}, prompt", fields[places["prompt"]][1])
    answer = fields[places["answer"]][1] if "answer" in places else None
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer)
    expected = _text(f"{where}, answer", str(answer) if is_number else "" if answer is None else answer)
    if not prompt.strip():
        raise InvalidRequest(f"{where}, prompt: it is empty. Fill it, or remove the row.")
    others = [name for at, name in enumerate(names) if at not in places.values() and name]
    return PromptRow(prompt.strip(), unicodedata.normalize("NFC", expected).strip() or None, place), others


def _text(where: str, value: Any) -> str:
    """A cell that is short and plain text."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: {shorten(json.dumps(value))} is no text. Put it in double quotes.")
    if len(value) >= CELL_LIMIT:
        size = f"{len(value):,} characters; a cell has fewer than {CELL_LIMIT:,}"
        raise InvalidRequest(f"{where}: {size}. Shorten it: {shorten(value)}")
    if control := _UNWRITABLE.search(value):  # JSON can spell what the text itself does not hold
        raise InvalidRequest(f"{where}: {_unwritable(control[0])}")
    if formula_like(value):
        way_out = "Put a word before it; only a plain number may have a sign."
        raise InvalidRequest(f"{where}: “{shorten(value)}” begins as a spreadsheet formula does. {way_out}")
    return value
