"""The part of `docs/results.md` on pairs of other sizes."""

from __future__ import annotations

from collections.abc import Mapping

from engine.benchmark.markdown import code, table
from engine.operating_points import Unit
from trainer.evaluation.estimates import percent
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.scale import UNITS, ScaledPoint, ScaleSummary
from trainer.report.plane_report import FAMILIES


def scale_section(summary: ScaleSummary, chart: str = "") -> str:
    """A row per task and family, and a column per pair and unit; `chart` is a picture of it as Markdown."""
    pairs = summary["pairs"]
    sizes = "; ".join(
        f"{each['pair']}: a pass of the LLM moves {each['llm_to_slm']['bytes']:.1f} times the SLM's bytes and takes "
        f"{each['llm_to_slm']['seconds']:.1f} times as long, on {each['machine']} ({code(each['command'])}, revision "
        f"{each['revision']})"
        for each in pairs
    )
    lead = (
        f"What the answers of {summary['measured']} cost at 90 % of the gap, as a share of LLM only, and what they "
        "would cost with the sizes of another pair; each cell has its own cheapest point. The texts stay as they were "
        "measured. Costs are modelled, from passes that were measured and from how often each model was read. How "
        "often another pair would agree is not known."
    )
    head = ["task", "cheapest point of", *(f"{each['pair']}: {unit}" for each in pairs for unit in UNITS)]
    rows = [
        [task, FAMILIES[family], *(_cell(found[family][unit]) for found in cheapest for unit in UNITS)]
        for task, cheapest in summary["cheapest"].items()
        for family in cheapest[0]
    ]
    title = f"## {summary['measured']}: with an LLM of another size"
    return "\n\n".join(filter(None, [title, lead, table(head, rows), _beside_confidence(summary), chart, f"{sizes}."]))


def _beside_confidence(summary: ScaleSummary) -> str:
    """What the learned point costs of SLM confidence's, with each pair; empty where neither gets there on any task."""
    rows = []
    for task, cheapest in summary["cheapest"].items():
        shares = [share_of_confidence(found, unit) for unit in UNITS for found in cheapest]
        if any(share is not None for share in shares):
            rows.append([task, *("" if share is None else percent(share) for share in shares)])
    if not rows:
        return ""
    head = ["task", *(f"{unit}, {each['pair']}" for unit in UNITS for each in summary["pairs"])]
    lead = "The learned point's cost as a share of that of SLM confidence's cheapest point:"
    return f"{lead}\n\n{table(head, rows)}"


def share_of_confidence(found: Mapping[str, Mapping[Unit, ScaledPoint | None]], unit: Unit) -> float | None:
    """What the learned point costs of SLM confidence's; None where one of them does not get there."""
    ours, theirs = (found.get(family, {}).get(unit) for family in (LEARNED, "confidence-0"))
    return ours["ratio"] / theirs["ratio"] if ours and theirs else None


def _cell(point: ScaledPoint | None) -> str:
    return "not reached" if point is None else f"{percent(point['ratio'])}, {point['setting']}"
