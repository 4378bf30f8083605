"""The part of `docs/results.md` on prompts of another kind."""

from __future__ import annotations

from typing import Any

from engine.bench.markdown import code, table
from trainer.evaluation.estimates import (
    EstimateSummary,
    dagger,
    in_points,
    in_words,
    percent,
    surely,
    with_notes,
)
from trainer.evaluation.method_names import FIXED, label, parsed, spelled_threshold
from trainer.evaluation.summary import RULE
from trainer.evaluation.transfer import BUDGETS, RESAMPLES, TransferCurve, TransferPoint, TransferSummary


def transfer_section(summary: TransferSummary) -> str:
    """Agreement at equal bytes, and all settings as they were measured."""
    return (
        f"## {summary['pair']}: prompts of another kind\n\n"
        "How much of the LLM-only text stands in a method's text (1 − edit distance in tokens / length of the longer), "
        f"over {summary['prompts']} prompts that no router learned from: code, explanations, and other things that "
        f"people ask, greedy.\n\n{budgets_table(summary)}\n\n"
        "All settings as they were measured. In the last column is the agreement less that of SLM confidence’s curve "
        "at acceptance 0 for as many bytes (bold: surely more, ↓: surely less).\n\n"
        f"{points_table(summary)}\n\n"
        f"{code(summary['command'])}, revision {summary['revision']}, on {summary['hardware']}; at most "
        f"{summary['max_new_tokens']} new tokens a text; in brackets 95 % intervals from {RESAMPLES:,} resamples of "
        "the prompts."
    )


def budgets_table(summary: TransferSummary) -> str:
    """Each method's agreement at equal bytes, and how far it is from that of confidence at acceptance 0."""
    rows = [
        [_titled(title), *(_beside(curve, f"{share:g}") for share in BUDGETS)]
        for title, curve in summary["methods"].items()
        if curve["at_budget"]
    ]
    head = [
        f"agreement at {percent(share)} of LLM only's bytes; beside confidence at acceptance 0" for share in BUDGETS
    ]
    return with_notes(table(["method", *head], rows))


def points_table(summary: TransferSummary) -> str:
    """All settings as they were measured, each beside SLM confidence at acceptance 0 where that was measured."""
    rows: list[list[Any]] = [
        [
            _titled(title) if parsed(title).name in FIXED else _with_threshold(title, point, curve),
            in_words(point["agreement"], 1),
            percent(point["llm_share"]),
            in_words(point["bytes_ratio"]),
            surely(in_points(beside), beside) if beside else "",
        ]
        for title, curve in summary["methods"].items()
        for point, beside in zip(curve["points"], _beside_confidence(curve), strict=True)
    ]
    told = f"beside {label(RULE)} at as many bytes"
    return with_notes(table(["setting", "agreement", "LLM share", "bytes of LLM only", told], rows))


def _beside_confidence(curve: TransferCurve) -> list[EstimateSummary | None]:
    """Of each point, in their order; None where confidence was not measured, or is the curve itself."""
    return [each["accuracy"] for each in curve.get("beside_confidence", [])] or [None] * len(curve["points"])


def _with_threshold(title: str, point: TransferPoint, curve: TransferCurve) -> str:
    others = [each["threshold"] for each in curve["points"]]
    return f"{_titled(title)} < {spelled_threshold(point['threshold'], others)}"


def _beside(curve: TransferCurve, share: str) -> str:
    at, beside = curve["at_budget"][share], curve["beside"].get(share)
    own = in_words(at, 1) + dagger(at)
    return f"{own}; {in_points(beside)}" if beside else own


def _titled(title: str) -> str:
    name, at, rest = title.partition("@")
    return label(name) + at + rest
