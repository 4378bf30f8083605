"""Markdown that programs write: tables, and sections of files in which people write the rest."""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError


def filled(path: Path, sections: dict[str, str]) -> str:
    """A file's text with each section between its markers `<!-- name -->` and `<!-- /name -->`.

    An EngineError unless each marker is there once, in this order.
    """
    text = path.read_text(encoding="utf-8")
    for name, body in sections.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found or start in rest or end in before + after:
            raise EngineError(f"{path}: write {start} and {end} once each, around the place for the {name}")
        text = f"{before}{start}\n{body}\n{end}{after}"
    return text


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"
