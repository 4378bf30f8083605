"""A generated section of a Markdown file, between `<!-- name -->` and `<!-- /name -->`; what people wrote stays."""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError


class SectionError(EngineError):
    """A file cannot be read, or its markers are not there once each in their order."""


def read(path: Path) -> str:
    """The text of a Markdown file; a SectionError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SectionError(f"Cannot read {path}: {error}") from None


def filled(text: str, name: str, body: str, path: Path) -> str:
    """The text with `body` as its section `name`; a SectionError (about `path`) unless each marker is there once."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    for marker in (start, end):
        if text.count(marker) != 1:
            raise SectionError(
                f"{path} has the marker {marker} {text.count(marker)} times: write {start} and {end} once each, "
                f"around the place for the {name}"
            )
    before, _, after = text.partition(start)
    if end in before:
        raise SectionError(f"{path} has the marker {end} before {start}: put it after")
    return f"{before}{start}\n{body}\n{after[after.index(end) :]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"
