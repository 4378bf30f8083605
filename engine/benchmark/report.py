"""The benchmark's summaries as Markdown, and the README's section made of them. Knows JSON; measures nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.provenance import ROOT
from engine.section import code, filled, read, table

SUMMARIES, README = ROOT / "assets" / "benchmarks", ROOT / "README.md"
SECTION = "benchmark"
NOTHING = "–"

Summary = dict[str, Any]


def rewrite(folder: Path = SUMMARIES, readme: Path = README) -> bool:
    """Rewrites the README's section from the summaries of a folder.

    Returns:
        Whether that changed it.

    Raises:
        EngineError: No summaries, a damaged one, or a marker is missing.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise EngineError(f"{folder} holds no summaries: run `python -m engine.benchmark --json {folder}/….json` first")
    old = read(readme)
    new = filled(old, SECTION, "\n\n".join(render(load(path)) for path in paths), readme)
    if new != old:
        readme.write_text(new, encoding="utf-8")
    return new != old


def load(path: Path) -> Summary:
    """A summary as `--json` wrote it.

    Raises:
        EngineError: It cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if found["rows"] is not None else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is no summary of a benchmark: {error!r}; write it anew with --json") from None


def render(summary: Summary) -> str:
    """A summary as Markdown: title, conditions, rows, bars, and whether the texts are those of `generate`."""
    parts = [f"### {summary['pair']}", _conditions(summary)]
    if summary["rows"]:
        parts.append(_rows(summary))
    if any(bar["measured"] for bar in summary["bars"]):
        parts.append(_bars(summary))
    parts += [text for text in (_agreement(summary), _missing(summary)) if text]
    parts.append(f"{code(summary['command'])}, revision {summary['revision']}.")
    return "\n\n".join(parts)


def _conditions(summary: Summary) -> str:
    machine, plan = summary["machine"], summary["plan"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    where = machine["gpu"] or f"{machine['threads']} threads of {machine['processor']}"
    return (
        f"{where}; memory read at {_per_second(machine['bandwidth'])} in the same run; Python {machine['python']}, "
        f"{libraries}. Prompts of {plan['prompt']:,} tokens, {plan['tokens']:,} new tokens, greedy, no end token; "
        f"medians of {plan['rounds']} alternating rounds, in brackets least and greatest. Tokens per second are new "
        "tokens over the time of the whole run, prompt included; beside it, without prompt and first token. The bound "
        "is bytes that must move, as this engine stores the weights, over the bandwidth. Memory is the most that a run "
        "took above the weights and its caches. The first token of a routed text is the LLM’s, so both models have "
        "read the prompt."
    )


def _rows(summary: Summary) -> str:
    lengths = summary["plan"]["first"]
    head = ["", "tokens/s", "after the first", "to `generate` LLM only", "of the bound", "memory"]
    head += [f"memory, first token at {length:,}" for length in lengths[-1:]]
    head += [f"first token at {length:,}" for length in lengths]
    return table(head, [_row(row, lengths) for row in summary["rows"]])


def _row(row: Summary, lengths: list[int]) -> list[str]:
    share = row["share_of_bound"]
    return [
        row["title"],
        _spread(row["tokens_per_second"], _number),
        _number(after["median"]) if (after := row["tokens_per_second_after_first"]) else NOTHING,
        _spread(row["ratio"], _number) if row["ratio"] else NOTHING,
        f"{_percent(share['median'])} of {_number(row['bound_tokens_per_second'])}" if share else NOTHING,
        NOTHING if row["peak_bytes"] is None else _bytes(row["peak_bytes"]),
        *(
            NOTHING if row["first_token_peak_bytes"] is None else _bytes(row["first_token_peak_bytes"])
            for _ in lengths[-1:]
        ),
        *(
            _seconds(found["median"]) if (found := row["first_token_seconds"].get(str(length))) else NOTHING
            for length in lengths
        ),
    ]


def _bars(summary: Summary) -> str:
    rows = []
    for bar in summary["bars"]:
        write = {"ratio": _number, "share": _percent, "bytes": _bytes, "seconds": _seconds}[bar["unit"]]
        verdict = "not measured"
        if bar["measured"]:
            verdict = "met" if bar["met"] else f"missed by {_percent(bar['missed_by'])}"
        rows.append(
            [
                bar["bar"],
                f"{'at least' if bar['at_least'] else 'under'} {write(bar['wanted'])}",
                _spread(bar["measured"], write) if bar["measured"] else NOTHING,
                verdict,
            ]
        )
    found = table(["bar", "wanted", "measured", ""], rows)
    meant = (
        "" if summary["preset"] == "cpu" or summary["machine"]["gpu"] else "The bars are meant for the `cpu` pair.\n\n"
    )
    return meant + found


def _agreement(summary: Summary) -> str:
    """One line: do the engine and `generate` write the same with the same weights?"""
    parts = []
    for name, found in summary["agreement"].items():
        if found["same"]:
            parts.append(f"{name}: all {found['tokens']} the same")
            continue
        size = f"{found['units']:.1f} units of rounding between the two logits"
        parts.append(
            f"{name}: they part at token {found['position']} of {found['tokens']}, {size}, "
            f"{'a tie' if found['tie'] else 'no tie'}"
        )
    return f"Greedy tokens of this engine and of `generate` with the same weights: {'; '.join(parts)}." if parts else ""


def _missing(summary: Summary) -> str:
    parts = [f"{name} ({reason})" for name, reason in summary["skipped"].items()]
    return f"Not measured: {'; '.join(parts)}." if parts else ""


def _spread(found: Summary, write: Any) -> str:
    low, high = write(found["min"]), write(found["max"])
    text = write(found["median"])
    return text if low == high else f"{text} ({low} to {high})"


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"


def _seconds(value: float) -> str:
    return f"{_number(value)} s" if value >= 0.1 else f"{_number(1e3 * value)} ms"


def _bytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def _per_second(found: Summary) -> str:
    return f"{_spread(found, lambda value: _number(value / 1e9))} GB/s"
