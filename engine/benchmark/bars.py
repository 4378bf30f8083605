"""The bars of the issue "Close to what the hardware allows", judged from the figures in the JSON and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.benchmark.measure import ratios

Summary = dict[str, Any]
Figure = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One thing that is asked for.

    Attributes:
        title: What is measured; may name figures of the plan.
        wanted: The bar.
        at_least: Whether the figure must be at least that, or below it.
        read: Takes the figure (a spread) from the summary; None where it was not measured.
        unit: "ratio", "share", "bytes" or "seconds".
    """

    title: str
    wanted: float
    at_least: bool
    read: Callable[[Summary], Figure | None]
    unit: str = "ratio"


def judge(summary: Summary) -> list[dict[str, Any]]:
    """What became of every bar.

    Returns:
        Per bar: `bar`, `wanted`, `at_least`, `unit`, `measured` (a spread, or None), whether it is `met` (None if not
        measured), and by which share of it it is missed (`missed_by`, 0 if met).
    """
    bars = GPU_BARS if summary["machine"]["gpu"] else BARS
    return [_judged(bar, bar.title.format(**summary["plan"]), bar.read(summary)) for bar in bars]


def _judged(bar: Bar, title: str, measured: Figure | None) -> dict[str, Any]:
    met = missed = None
    if measured is not None:
        value = measured["median"]
        met = value >= bar.wanted if bar.at_least else value < bar.wanted
        missed = 0.0 if met else abs(value / bar.wanted - 1)
    return {
        "bar": title,
        "wanted": bar.wanted,
        "at_least": bar.at_least,
        "unit": bar.unit,
        "measured": measured,
        "met": met,
        "missed_by": missed,
    }


def row_of(summary: Summary, name: str) -> Figure | None:
    """A row of the table by its name."""
    return next((row for row in summary["rows"] if row["name"] == name), None)


def _faster(row: str, than: str) -> Callable[[Summary], Figure | None]:
    """Tokens per second of one row over those of another, round by round."""

    def read(summary: Summary) -> Figure | None:
        over, under = row_of(summary, row), row_of(summary, than)
        if over is None or under is None:
            return None
        return ratios(over["tokens_per_second"]["rounds"], under["tokens_per_second"]["rounds"])

    return read


def _extra(name: str, figure: str) -> Callable[[Summary], Figure | None]:
    return lambda summary: summary["extras"].get(name, {}).get(figure)


def _row(name: str, figure: str) -> Callable[[Summary], Figure | None]:
    return lambda summary: (row_of(summary, name) or {}).get(figure)


def _peak(row: str) -> Callable[[Summary], Figure | None]:
    def read(summary: Summary) -> Figure | None:
        found = row_of(summary, row)
        if found is None or found["peak_bytes"] is None:
            return None
        return dict.fromkeys(("median", "min", "max"), found["peak_bytes"])

    return read


BARS = (
    Bar("this engine / `generate`, SLM only", 2.2, True, _faster("engine-slm", "generate-slm")),
    Bar("this engine / `generate`, LLM only", 1.9, True, _faster("engine-llm", "generate-llm")),
    Bar("routed at 30 % / `generate`, LLM only", 2.2, True, _faster("routed-30", "generate-llm")),
    Bar("routed at 20 % / llama.cpp, LLM only", 1.0, True, _faster("routed-20", "llama-llm")),
    Bar("routed at 30 % / naive routed loop", 10.0, True, _faster("routed-30", "naive-30")),
    Bar("routed at 30 % / assisted generation", 1.3, True, _faster("routed-30", "assisted")),
    Bar(
        "router, policy, sampling and event, of an SLM step",
        0.03,
        False,
        _extra("overhead", "share_of_slm_step"),
        "share",
    ),
    Bar("16 texts routed at 30 % / 1 text, tokens per second", 5.0, True, _faster("routed-30x16", "routed-30")),
    Bar("sweep of 21 thresholds / one run at the middle one, time", 4.0, False, _extra("sweep", "ratio")),
    Bar("time per token at {context:,} tokens of context / at {prompt:,}", 1.4, False, _extra("context", "ratio")),
    Bar("peak memory above weights and caches, routed at 30 %", 500e6, False, _peak("routed-30"), "bytes"),
)

GPU_BARS = (
    Bar("SLM step", 3e-3, False, _extra("overhead", "slm_step_seconds"), "seconds"),
    Bar("LLM only, of its memory bound", 0.5, True, _row("engine-llm", "share_of_bound"), "share"),
)
"""What is asked for on a GPU, where the rest depends on the card."""
