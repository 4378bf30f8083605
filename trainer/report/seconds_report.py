"""The part of `docs/results.md` on measured seconds of one task; all tasks beside each other are in `tasks_seconds`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.bench.markdown import code, table
from engine.operating_points import bootstrap_counts
from trainer.evaluation.estimates import estimated
from trainer.evaluation.method_names import spelled_setting
from trainer.evaluation.record import MACHINES, on_one_machine
from trainer.evaluation.seconds import RESAMPLES, SEED, SecondsSummary, TimedPoint


def seconds_section(summary: SecondsSummary) -> str:
    """What was timed, as text and table; where machines differ, why there is no table."""
    source = (
        f"{code(summary['command'])}, revision {summary['revision']}, on {summary['hardware']}; at most "
        f"{summary['max_new_tokens']} new tokens an answer."
    )
    if not on_one_machine(summary):
        return f"**Seconds, measured** on {summary['questions']} of these questions. {MACHINES}\n\n{source}"
    llm = summary["passes"]["llm"]
    passes = ", ".join(f"{1000 * llm[str(n)]:.0f}" for n in (1, 4, 8, 16) if str(n) in llm)
    return (
        f"**Seconds, measured** on {summary['questions']} of these questions, one text at a time, prompt included, "
        "methods taking turns (95 % intervals over the questions). Passes of the LLM over 1, 4, 8 and 16 tokens took "
        f"{passes} ms here:\n\n{seconds_table(summary)}\n\n{source}"
    )


def seconds_table(summary: SecondsSummary) -> str:
    """One row per setting, as Markdown."""
    rows = [_row(point, summary["points"]) for point in summary["points"]]
    head = ["times as fast as LLM only", "seconds, measured", "modelled", "tokens per second, slowest to fastest"]
    return table(["one text at a time", *head, "bytes of LLM only", "tokens", "LLM passes", "taken back"], rows)


def timed_setting(point: TimedPoint, points: Sequence[TimedPoint]) -> str:
    """A point's method with its dials, told from the others of its curve among all `points`."""
    dials = point["method"], point["acceptance"], point["max_draft"]
    others = [each["threshold"] for each in points if (each["method"], each["acceptance"], each["max_draft"]) == dials]
    return spelled_setting(*dials, point["threshold"], others)


def _seconds_in_words(point: TimedPoint) -> str:
    """Mean seconds of an answer, with their interval over the questions where those of each are known."""
    text = f"{point['seconds']:.3g}"
    if each := point.get("by_question"):
        drawn = estimated(bootstrap_counts(len(each), RESAMPLES, SEED) @ np.array(each) / len(each))
        text += f" ({drawn['low']:.3g} to {drawn['high']:.3g})"
    return text


def _row(point: TimedPoint, points: Sequence[TimedPoint]) -> list[Any]:
    speedup, size = point["speedup"], point["bytes_ratio"]["value"] or 0
    times = f"{speedup['value']:.2f}"
    if speedup["low"] != speedup["high"]:
        times += f" ({speedup['low']:.2f} to {speedup['high']:.2f})"
    return [
        timed_setting(point, points),
        times,
        _seconds_in_words(point),
        f"{point['modelled']:.3g}",
        f"{point['tokens_per_second']:.3g}, {point['slowest']:.3g} to {point['fastest']:.3g}",
        f"{100 * size:.0f} %",
        f"{point['tokens']:.0f}",
        f"{point['llm_passes']:.0f}",
        f"{point['taken_back']:.0f}",
    ]
