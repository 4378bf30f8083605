"""Summaries as Markdown: the section of docs/speed.md, and the short table of the README. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.benchmark.markdown import code, filled, read, table
from engine.errors import EngineError
from engine.models.files import write_text
from engine.provenance import ROOT, hardware

SUMMARIES, PAGE, README = ROOT / "assets" / "benchmarks", ROOT / "docs" / "speed.md", ROOT / "README.md"
SECTION, SHORT_SECTION = "benchmark", "speed"
SHORT = ("engine-slm", "routed-20", "routed-30", "engine-llm", "generate-llm", "assisted", "llama-slm", "llama-llm")
"""The rows of the README's table, in this order."""
SHORT_FIRST = 500
PROFILE = "-profile.json"
"""The ending of files that `--profile --json` writes: no summaries; `trainer.report.reviewers` reads them."""
NOTHING = "–"

Json = dict[str, Any]
Write = Callable[[float], str]


def rewrite(folder: Path = SUMMARIES, page: Path = PAGE, readme: Path = README) -> bool:
    """Rewrites both generated sections from the summaries of a folder.

    The page has all of them; the README has a few rows of one, that of the `cpu` pair where there is one.

    Returns:
        Whether that changed anything.

    Raises:
        EngineError: No summaries, a damaged one, or a marker is missing; nothing is written then.
    """
    paths = sorted(path for path in folder.glob("*.json") if not path.name.endswith(PROFILE))
    if not paths:
        raise EngineError(f"{folder} holds no summaries: run `python -m engine.benchmark --json {folder}/….json` first")
    summaries = [load(path) for path in paths]
    short = next((each for each in summaries if each["preset"] == "cpu"), summaries[0])
    whole = "\n\n".join(map(render, summaries))
    sections = [(page, SECTION, whole), (readme, SHORT_SECTION, render_short(short))]
    old = {path: read(path) for path in (page, readme)}
    new = dict(old)
    for path, name, body in sections:
        new[path] = filled(new[path], name, body, path)
    for path, text in new.items():
        if text != old[path]:
            write_text(path, text)
    return new != old


def load(path: Path) -> Json:
    """A summary as `--json` wrote it; an EngineError if it cannot be read."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        return {**summary, "rows": list(summary["rows"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is no summary of a benchmark: {error!r}; write it anew with --json") from None


def render(summary: Json) -> str:
    """A summary as Markdown: title, conditions, rows, and whether the texts are those of `generate`."""
    parts = [
        f"## {summary['pair']}",
        _conditions(summary),
        _rows(summary) if summary["rows"] else "",
        _agreement(summary),
        _missing(summary),
        f"{code(summary['command'])}, revision {summary['revision']}.",
    ]
    return "\n\n".join(filter(None, parts))


def render_short(summary: Json) -> str:
    """A few rows of a summary as a table with a few columns, and below it what was measured where."""
    lengths = summary["plan"]["first"]
    lengths = [SHORT_FIRST] if SHORT_FIRST in lengths else lengths[-1:]
    rows = {row["name"]: row for row in summary["rows"]}
    head = ["", "tokens/s", "to `generate` LLM only", *_first_token_head(lengths)]
    body = [
        [
            row["title"],
            _number(row["tokens_per_second"]["median"]),
            _number(row["ratio"]["median"]) if row["ratio"] else NOTHING,
            *_first_token(row, lengths),
        ]
        for row in (rows[name] for name in SHORT if name in rows)
    ]
    plan = summary["plan"]
    made = (
        f"{summary['pair']}, on {hardware(summary['machine'])}; "
        f"prompts of {plan['prompt']:,} tokens, {plan['tokens']:,} new ones; "
        f"medians of {plan['rounds']} rounds. A routed text’s first token takes as long at every share."
    )
    return f"{table(head, body)}\n\n{made}"


def _conditions(summary: Json) -> str:
    machine, plan = summary["machine"], summary["plan"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    bandwidth = _spread(machine["bandwidth"], lambda value: _number(value / 1e9))
    return (
        f"{hardware(machine)}; memory read at {bandwidth} GB/s in the same run; Python {machine['python']}, "
        f"{libraries}. Prompts of {plan['prompt']:,} tokens, {plan['tokens']:,} new tokens, greedy, no end token; "
        f"medians of {plan['rounds']} alternating rounds, in brackets least and greatest. Tokens per second are new "
        "tokens over the time of the whole run, prompt included; beside it, without prompt and first token. The bound "
        "is bytes that must move, as this engine stores the weights, over the bandwidth. The first token of a routed "
        "text is the LLM’s, so both models have read the prompt."
    )


def _rows(summary: Json) -> str:
    lengths = summary["plan"]["first"]
    head = ["", "tokens/s", "after the first", "to `generate` LLM only", "of the bound"]
    head += _first_token_head(lengths)
    return table(head, [_row(row, lengths) for row in summary["rows"]])


def _row(row: Json, lengths: Sequence[int]) -> list[str]:
    share = row["share_of_bound"]
    return [
        row["title"],
        _spread(row["tokens_per_second"], _number),
        _number(after["median"]) if (after := row["tokens_per_second_after_first"]) else NOTHING,
        _spread(row["ratio"], _number) if row["ratio"] else NOTHING,
        f"{_percent(share['median'])} of {_number(row['bound_tokens_per_second'])}" if share else NOTHING,
        *_first_token(row, lengths),
    ]


def _first_token_head(lengths: Sequence[int]) -> list[str]:
    return [f"first token at {length:,}" for length in lengths]


def _first_token(row: Json, lengths: Sequence[int]) -> list[str]:
    figures = [row["first_token_seconds"].get(str(length)) for length in lengths]
    return [_seconds(figure["median"]) if figure else NOTHING for figure in figures]


def _agreement(summary: Json) -> str:
    """One line: do the engine and `generate` write the same with the same weights?"""
    parts = []
    for name, texts in summary["agreement"].items():
        if texts["same"]:
            parts.append(f"{name}: all {texts['tokens']} the same")
        else:
            size = f"{texts['units']:.1f} units of rounding between the two logits"
            tie = "a tie" if texts["tie"] else "no tie"
            parts.append(f"{name}: they part at token {texts['position']} of {texts['tokens']}, {size}, {tie}")
    return f"Greedy tokens of this engine and of `generate` with the same weights: {'; '.join(parts)}." if parts else ""


def _missing(summary: Json) -> str:
    parts = [f"{name} ({reason})" for name, reason in summary["skipped"].items()]
    return f"Not measured: {'; '.join(parts)}." if parts else ""


def _spread(figure: Json, write: Write) -> str:
    middle, low, high = (write(figure[name]) for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"


def _seconds(value: float) -> str:
    return f"{_number(value)} s" if value >= 0.1 else f"{_number(1e3 * value)} ms"
