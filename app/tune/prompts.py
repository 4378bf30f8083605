"""A visitor's own prompts, pasted or from a file: CSV, JSONL or one prompt per line.

What is refused (InvalidRequest) is refused with its place, the value and the way out. The text is a stranger's: cells
that a spreadsheet would run as formulas are refused, so that no export holds one. Nothing is stored.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from engine import InvalidRequest

MAX_BYTES = 5_000_000
MAX_ROWS = 200
CELL_LIMIT = 10_000
"""A cell has fewer characters than this."""

MAX_COLUMNS = 100
"""Of a table, and fields of an object."""

PROMPT, EXPECTED = ("prompt", "question"), ("answer", "expected")
"""Names of the two columns."""

Kind = Literal["CSV", "JSONL", "lines"]
EXTENSIONS: dict[str, Kind | None] = {"csv": "CSV", "jsonl": "JSONL", "txt": None}
"""A .txt file is read like pasted text."""

_NEWLINE = re.compile(r"\r\n|\n|\r")  # not str.splitlines, which also splits within JSON strings
_DELIMITERS = (",", ";", "\t")
_COLUMNS = 'the columns are "prompt" and, if you know the answers, "answer"'
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_CONTROL = "the control character U+{:04X} is not plain text. Remove it, or export the prompts again."
_FORMULA = tuple("=+-@＝＋－＠")
_SIGNED_NUMBER = re.compile(r"[+-] ?[$€£¥]? ?\d[\d., \xa0\u202f]*(?:[eE][+-]?\d+)?(?:/\d+)? ?%?")
_MAGIC = {b"PK\x03\x04": "a ZIP archive, perhaps a workbook (.xlsx)", b"%PDF": "a PDF", b"\x1f\x8b": "gzipped"}
_LONGEST_MISSPELT = 20  # characters of a name that may be meant for "answer" or "expected"
_UTF8 = "Save it in UTF-8; spreadsheets call it “CSV UTF-8”."


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


class _Cells(NamedTuple):
    """One row as it stands in the text; `column` is the name of its prompt's column."""

    place: str
    column: str
    prompt: str
    expected: str


def read_file(name: str, content: bytes) -> tuple[str, PromptTable]:
    """The text of an uploaded file, and its prompts; the name's extension says what the file is."""
    source = shorten(name.replace("\\", "/").rpartition("/")[2] or "the file", 60)
    extension = name.rpartition(".")[2].lower()
    if extension not in EXTENSIONS:
        raise InvalidRequest(f"{source}: a .csv, .jsonl or .txt file is needed. Save or export it as one of these.")
    text = _decode(source, content)
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
        raise InvalidRequest(f"{source}, line {line:,}: {_CONTROL.format(ord(control[0]))}")
    kind = kind or _kind_of(text)
    cells, unused = {"CSV": _csv, "JSONL": _jsonl, "lines": _lines}[kind](text, source)
    return PromptTable(tuple(_row(source, row) for row in cells), kind, tuple(unused))


def formula_like(cell: str) -> bool:
    """Whether a spreadsheet might run a cell as a formula; a signed number such as "-5" or "+3 %" is none."""
    begin = cell.strip()
    return cell.startswith(("\t", "\r")) or (begin.startswith(_FORMULA) and not _SIGNED_NUMBER.fullmatch(begin))


def shorten(value: str, length: int = 40) -> str:
    """A value as a message shows it: the beginning, with control characters spelled out."""
    shown = value[:length] + ("…" if len(value) > length else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _decode(source: str, content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"{source}: {len(content):,} bytes; at most {MAX_BYTES:,} are taken. Split it.")
    way_out = "Export it as text: CSV in UTF-8, or JSONL."
    for magic, what in _MAGIC.items():
        if content.startswith(magic):
            raise InvalidRequest(f"{source}: this is {what}, not text. {way_out}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidRequest(f"{source}: this is UTF-16. {_UTF8}")
    if (at := content.find(0)) >= 0:
        raise InvalidRequest(f"{source}: byte {at + 1:,} is 0, so this is a binary file. {way_out}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)  # the decoder counts without the mark
        line = content[:at].count(b"\n") + 1
        raise InvalidRequest(f"{source}, line {line:,}: byte 0x{content[at]:02X} is not UTF-8. {_UTF8}") from None


def _row(source: str, cells: _Cells) -> PromptRow:
    for name, cell in ((cells.column, cells.prompt), ("answer", cells.expected)):
        where = f"{source}, {cells.place}, {shorten(name)}"
        if len(cell) >= CELL_LIMIT:
            raise InvalidRequest(
                f"{where}: {len(cell):,} characters; a cell has fewer than {CELL_LIMIT:,}. Shorten it: {shorten(cell)}"
            )
        if control := _UNWRITABLE.search(cell):  # JSON can spell what the text itself does not hold
            raise InvalidRequest(f"{where}: {_CONTROL.format(ord(control[0]))}")
        if formula_like(cell):
            begin = {"\t": "a tab", "\r": "a carriage return"}.get(cell[:1]) or f"“{cell.strip()[:1]}”"
            raise InvalidRequest(
                f"{where}: “{shorten(cell)}” begins with {begin}, as a spreadsheet formula does. "
                "Put a word before it; only a plain number may have a sign."
            )
    if not cells.prompt.strip():
        answer = f" beside the answer “{shorten(cells.expected)}”" if cells.expected else ""
        where = f"{source}, {cells.place}, {shorten(cells.column)}"
        raise InvalidRequest(f"{where}: it is empty{answer}. Fill it, or remove the row.")
    return PromptRow(cells.prompt.strip(), unicodedata.normalize("NFC", cells.expected).strip() or None, cells.place)


def _kind_of(text: str) -> Kind:
    first = _numbered_lines(text)[0][1].strip()
    if first in ("{", "[") or first.startswith(('{"', "[{")) or (first.startswith("{") and first.endswith("}")):
        return "JSONL"
    return "CSV" if _delimiter(first) else "lines"


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    """Lines that are not blank, each with its number."""
    return [(number, line) for number, line in enumerate(_NEWLINE.split(text), 1) if line.strip()]


def _columns(names: Sequence[str], where: str, missing: str, way_out: str) -> tuple[int, int | None, list[int]]:
    """Which of the names are the prompt's, the answer's, and neither.

    A misspelt "answer" is refused: leaving it out would measure another thing than was meant.
    """
    if len(names) > MAX_COLUMNS:
        many = f"{len(names):,} columns; at most {MAX_COLUMNS} are taken"
        raise InvalidRequest(f"{where}: {many}. Remove those that are not needed; {_COLUMNS}.")
    plain = [name.strip().lower() for name in names]
    prompts = [i for i, name in enumerate(plain) if name in PROMPT]
    answers = [i for i, name in enumerate(plain) if name in EXPECTED]
    if not prompts:
        listed = ", ".join(f"“{shorten(name, 30)}”" for name in names[:6]) or "no field at all"
        raise InvalidRequest(f"{where}: {missing} {listed}; {_COLUMNS}. {way_out}")
    for same in (prompts, answers):
        if len(same) > 1:
            both = " and ".join(f"“{names[i].strip()}”" for i in same)
            raise InvalidRequest(f"{where}: {both} mean the same; {_COLUMNS}. Keep one of them.")
    unused = [i for i in range(len(names)) if i not in (*prompts, *answers)]
    for i in unused if not answers else []:
        near = len(plain[i]) <= _LONGEST_MISSPELT and difflib.get_close_matches(plain[i], EXPECTED, n=1, cutoff=0.75)
        if near:
            unknown = f"“{shorten(names[i].strip())}” is not known: did you mean “{near[0]}”?"
            raise InvalidRequest(f"{where}: {unknown} Rename or remove it; {_COLUMNS}.")
    return prompts[0], answers[0] if answers else None, unused


def _refuse_count(source: str, count: int) -> None:
    if count == 0:
        raise InvalidRequest(f"{source}: a header but no row below it. Give at least one prompt.")
    if count > MAX_ROWS:
        way_out = f"Remove {count - MAX_ROWS:,} of them."
        raise InvalidRequest(f"{source}: {count:,} prompts; at most {MAX_ROWS} are taken. {way_out}")


def _lines(text: str, source: str) -> tuple[list[_Cells], list[str]]:
    lines = _numbered_lines(text)
    _refuse_count(source, len(lines))
    return [_Cells(f"line {number:,}", "prompt", line, "") for number, line in lines], []


def _csv(text: str, source: str) -> tuple[list[_Cells], list[str]]:
    delimiter = _delimiter(_numbered_lines(text)[0][1]) or ","
    records = _records(text, delimiter, source)
    number, header = next(records, (1, [""]))
    where = f"{source}, row {number:,}"
    prompt, expected, unused = _columns(header, where, "no column “prompt” among", "Add such a header.")
    cells: list[_Cells] = []
    count = 0
    for count, (number, record) in enumerate(records, 1):
        if count > MAX_ROWS:
            continue  # counts the rest for the message
        place = f"row {number:,}"
        if len(record) > len(header):
            sign = "tab" if delimiter == "\t" else delimiter
            raise InvalidRequest(
                f"{source}, {place}: {len(record)} cells, but the header has {len(header)}. Put double quotes around a "
                f"cell that contains “{sign}”: {shorten(delimiter.join(record))}"
            )
        record += [""] * (len(header) - len(record))
        answer = record[expected] if expected is not None else ""
        cells.append(_Cells(place, header[prompt].strip(), record[prompt], answer))
    _refuse_count(source, count)
    return cells, [name for i in unused if (name := header[i].strip())]


def _delimiter(header: str) -> str | None:
    """What separates the cells of a header with a known column; None without one."""

    def known_columns(sign: str) -> int:
        try:
            names = next(csv.reader([header], delimiter=sign, strict=True), [])
        except csv.Error:
            return 0
        return sum(name.strip().lower() in (*PROMPT, *EXPECTED) for name in names)

    best = max(_DELIMITERS, key=known_columns)
    return best if known_columns(best) else None


def _records(text: str, delimiter: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with its number as a spreadsheet counts."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    for number in itertools.count(1):
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


def _jsonl(text: str, source: str) -> tuple[list[_Cells], list[str]]:
    lines = _numbered_lines(text)
    _refuse_count(source, len(lines))
    unused_names: dict[str, None] = {}
    cells: list[_Cells] = []
    for number, line in lines:
        place = f"line {number:,}"
        where = f"{source}, {place}"
        record = _object(line, where)
        names = list(record)
        prompt, expected, unused = _columns(names, where, "no field “prompt” but", "Add it.")
        unused_names.update(dict.fromkeys(names[i] for i in unused))
        answer = _answer(record[names[expected]], f"{where}, {names[expected]}") if expected is not None else ""
        value = record[names[prompt]]
        if not isinstance(value, str):
            shown = shorten(json.dumps(value, ensure_ascii=False))
            raise InvalidRequest(f"{where}, {names[prompt]}: {shown} is no text. Put it in double quotes.")
        cells.append(_Cells(place, names[prompt], value, answer))
    return cells, list(unused_names)


def _object(line: str, where: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise InvalidRequest(f"{where}: the field “{shorten(twice)}” stands there twice. Keep one of them.")
        return record

    try:
        record = json.loads(line, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "it cannot be read"
        way_out = 'Every line must be one whole object: {"prompt": "…"}.'
        raise InvalidRequest(f"{where}: no JSON ({reason}): {shorten(line)} {way_out}") from None
    if not isinstance(record, dict):
        raise InvalidRequest(f'{where}: {shorten(line)} is no object. Every line must be one: {{"prompt": "…"}}.')
    return record


def _answer(value: Any, where: str) -> str:
    """An answer as text; numbers may stand without quotes."""
    if value is None or isinstance(value, str):
        return value or ""
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    shown = shorten(json.dumps(value, ensure_ascii=False))
    raise InvalidRequest(f"{where}: {shown} is neither text nor a number. Put the answer in double quotes.")
