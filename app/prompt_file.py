"""A visitor's own prompts, pasted or from a file: what is taken, and what is refused with its place and the way out.

Knows the limits and what a cell may contain; the formats are `app.prompt_formats`. Pure functions: nothing is stored,
and what is refused changes nothing. The text is a stranger's: cells that a spreadsheet would run as formulas are
refused, so that no export holds one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from app.prompt_formats import CELL_LIMIT, NEWLINE, Cells, Kind, kind_of, read_cells, shorten
from engine import InvalidRequest

MAX_BYTES = 5_000_000
EXTENSIONS: dict[str, Kind | None] = {"csv": "CSV", "jsonl": "JSONL", "txt": None}
"""Of files, and what they are; a .txt is read like pasted text."""

_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_FORMULA = tuple("=+-@＝＋－＠")
_SIGNED_NUMBER = re.compile(r"[+-] ?[$€£¥]? ?\d[\d., \xa0\u202f]*(?:[eE][+-]?\d+)?(?:/\d+)? ?%?")
_MAGIC = {b"PK\x03\x04": "a ZIP archive, perhaps a workbook (.xlsx)", b"%PDF": "a PDF", b"\x1f\x8b": "gzipped"}
_UTF8 = "Save it in UTF-8; spreadsheets call it “CSV UTF-8”."


@dataclass(frozen=True)
class PromptRow:
    """One prompt.

    Attributes:
        prompt: Without the white space around it.
        expected: The answer it should get; None where there is none.
        place: Where it stood, e.g. "row 3", as a spreadsheet or an editor counts.
    """

    prompt: str
    expected: str | None
    place: str


@dataclass(frozen=True)
class PromptTable:
    """All prompts of a text: at least one, at most `MAX_ROWS`.

    Attributes:
        rows: In order.
        kind: What the text was read as.
        unused: Names of columns that are neither prompt nor answer.
    """

    rows: tuple[PromptRow, ...]
    kind: Kind
    unused: tuple[str, ...] = ()


def read_file(name: str, content: bytes) -> tuple[str, PromptTable]:
    """The text of an uploaded file, and its prompts.

    Args:
        name: As it is called; its extension says what it is.
        content: All its bytes.

    Raises:
        InvalidRequest: It is refused; the message names the file, the place, the value and the way out.
    """
    source = shorten(name.replace("\\", "/").rpartition("/")[2] or "the file", 60)
    extension = name.rpartition(".")[2].lower()
    if extension not in EXTENSIONS:
        raise InvalidRequest(f"{source}: a .csv, .jsonl or .txt file is needed. Save or export it as one of these.")
    text = _decode(source, content)
    return text, parse(text, source, EXTENSIONS[extension])


def parse(text: str, source: str = "Your prompts", kind: Kind | None = None) -> PromptTable:
    """The prompts of a text.

    Args:
        text: CSV with a header, one JSON object per line, or one prompt per line.
        source: What to call it in messages.
        kind: What it is; None finds out.

    Raises:
        InvalidRequest: It is refused; the message names the place, the value and the way out.
    """
    if len(text) > MAX_BYTES:
        raise InvalidRequest(f"{source}: {len(text):,} characters; at most {MAX_BYTES:,} are taken. Split it.")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InvalidRequest(f"{source}: there is nothing in it. Give at least one prompt.")
    if found := _UNWRITABLE.search(text):
        line = len(NEWLINE.findall(text[: found.start()])) + 1
        raise InvalidRequest(f"{source}, line {line:,}: {_unwritable(found[0])}")
    kind = kind or kind_of(text)
    cells, unused = read_cells(text, source, kind)
    return PromptTable(tuple(_row(source, found) for found in cells), kind, tuple(unused))


def formula_like(cell: str) -> bool:
    """Whether a spreadsheet might run a cell as a formula; a signed number such as "-5" or "+3 %" is none."""
    begin = cell.strip()
    return cell.startswith(("\t", "\r")) or (begin.startswith(_FORMULA) and not _SIGNED_NUMBER.fullmatch(begin))


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


def _unwritable(character: str) -> str:
    return f"the control character U+{ord(character):04X} is not plain text. Remove it, or export the prompts again."


def _row(source: str, cells: Cells) -> PromptRow:
    for name, cell in ((cells.column, cells.prompt), ("answer", cells.expected)):
        where = f"{source}, {cells.place}, {shorten(name)}"
        if len(cell) >= CELL_LIMIT:
            raise InvalidRequest(
                f"{where}: {len(cell):,} characters; a cell has fewer than {CELL_LIMIT:,}. Shorten it: {shorten(cell)}"
            )
        if found := _UNWRITABLE.search(cell):  # JSON can spell what the text itself does not hold
            raise InvalidRequest(f"{where}: {_unwritable(found[0])}")
        if formula_like(cell):
            begin = {"\t": "a tab", "\r": "a carriage return"}.get(cell[:1]) or f"“{cell.strip()[:1]}”"
            raise InvalidRequest(
                f"{where}: “{shorten(cell)}” begins with {begin}, as a spreadsheet formula does. "
                "Put a word before it; only a plain number may have a sign."
            )
    if not cells.prompt.strip():
        answer = f" beside the answer “{shorten(cells.expected)}”" if cells.expected else ""
        raise InvalidRequest(
            f"{source}, {cells.place}, {cells.column}: it is empty{answer}. Fill it, or remove the row."
        )
    return PromptRow(cells.prompt.strip(), unicodedata.normalize("NFC", cells.expected).strip() or None, cells.place)
