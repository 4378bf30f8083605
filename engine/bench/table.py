"""Summaries of measurements as Markdown, in docs/speed.md. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.bench.markdown import code, filled, table
from engine.models.files import write_text
from engine.provenance import ROOT, hardware

SUMMARIES, PAGE = ROOT / "assets" / "benchmarks", ROOT / "docs" / "speed.md"

Json = dict[str, Any]


def rewrite(folder: Path = SUMMARIES, page: Path = PAGE) -> None:
    """Rewrites the generated section from the summaries of a folder; an EngineError where a marker is missing."""
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    write_text(page, filled(page, {"benchmark": "\n\n".join(map(render, summaries))}))


def render(summary: Json) -> str:
    """A summary as Markdown: title, rows, and on what machine by which command."""
    machine, plan = summary["machine"], summary["plan"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    return (
        f"## {summary['pair']}\n\n{_rows(summary['rows'], plan['first'])}\n\n"
        f"{hardware(machine)}; Python {machine['python']}, {libraries}. Prompts of {plan['prompt']:,} tokens, "
        f"{plan['tokens']:,} new ones, greedy, no end token; the prompt is in the time. Medians of {plan['rounds']} "
        "alternating rounds, in brackets least and greatest. "
        f"{code(summary['command'])}, revision {summary['revision']}."
    )


def _rows(rows: Sequence[Json], lengths: Sequence[int]) -> str:
    def figure(found: Json | None, unit: str = "") -> str:
        if found is None:
            return "–"
        middle, low, high = (_number(found[name]) for name in ("median", "min", "max"))
        return f"{middle}{unit}" if low == high or unit else f"{middle} ({low} to {high})"

    head = ["", "tokens/s", "× `generate`, LLM only", *(f"first token, prompt of {length:,}" for length in lengths)]
    firsts = [[figure(row["first_token_seconds"].get(str(length)), " s") for length in lengths] for row in rows]
    figures = [[row["title"], figure(row["tokens_per_second"]), figure(row["ratio"])] for row in rows]
    return table(head, [one + first for one, first in zip(figures, firsts, strict=True)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
