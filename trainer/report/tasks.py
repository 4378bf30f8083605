"""All tasks of a pair beside each other: what the best learned point costs beside each rival, and what was wanted.

The README shows the first table, `docs/results.md` both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.bench.markdown import table
from engine.operating_points import Unit
from trainer.evaluation.estimates import EstimateSummary, dagger, double_dagger, in_words, percent, with_notes
from trainer.evaluation.method_names import label
from trainer.evaluation.plane import GAPS, JUDGED_AT, LEARNED, PlanePoint, Reached
from trainer.evaluation.record import on_one_machine
from trainer.evaluation.summary import Summary, alone
from trainer.report.plane_report import ANY_TITLES, AT_0_TITLES, setting

TARGET = f"{JUDGED_AT:g}"


class Rival(NamedTuple):
    """A family of the plane, what its column is called, and what was wanted beside it.

    Attributes:
        saving: Share of its cost that CITER's paper saves (Zheng et al. 2025), or that is this project's own bar.
        source: "paper" or "own".
        surely: The bar is any saving at all, but by its whole interval.
        wanted_on: On how many of the paper's five tasks.
    """

    family: str
    title: str
    saving: float
    source: str
    surely: bool = False
    wanted_on: int = 4

    @property
    def bar(self) -> str:
        """What was wanted, in words."""
        return "surely below 100 %" if self.surely else f"at most {percent(1 - self.saving)}"

    def met(self, ratio: EstimateSummary) -> bool:
        """Whether what was wanted was found."""
        value, high = ratio["value"], ratio["high"]
        if self.surely:
            return high is not None and high < 1
        return value is not None and value <= 1 - self.saving

    def bold(self, text: str, ratio: EstimateSummary) -> str:
        """What is said of a ratio, bold where it is what was wanted."""
        return f"**{text}**" if self.met(ratio) else text


RIVALS = (
    Rival("confidence-0", AT_0_TITLES["confidence-0"], 0.15, "own"),
    Rival("co-llm", AT_0_TITLES["co-llm"], 0.27, "paper"),
    Rival("query", AT_0_TITLES["query"], 0.30, "paper"),
    Rival("citer-shortcut", AT_0_TITLES["citer-shortcut"], 0.42, "paper", surely=True, wanted_on=2),
    Rival("assisted-tuned", "speculative decoding, tuned", 0.15, "own"),
)

FAMILIES = {LEARNED: "learned", **{rival.family: rival.title for rival in RIVALS}}
"""What the columns of a table of all of them are called."""


def tasks_section(summaries: Sequence[Summary]) -> str:
    """All tasks of a pair, in bytes and in seconds; empty where fewer than two have a plane with learned routers."""
    planes = [summary for summary in summaries if reached(summary, LEARNED)]
    if len(planes) < 2:
        return ""
    lead = (
        "At 90 % of the gap between both models: the cheapest measured point of a router that learned (from outcomes, "
        "or what the LLM keeps; at any acceptance; written by the same copy of the weights as the LLM alone), its "
        "bytes as a share of LLM only's, and as a share of those of each rival's cheapest point (95 % intervals, "
        "paired over the questions; every resample chooses its points). "
        "The rivals are at acceptance 0, as published, but for speculative decoding; above it they stand in a table of "
        "their own. Either model alone belongs to every rival but speculative decoding, and to ours. Bold: what was "
        "wanted."
    )
    parts = [f"## {planes[0]['pair']}: all tasks", lead, with_notes(short_table(planes))]
    parts.append(wanted([_ratios(summary, "bytes") for summary in planes], "bytes"))
    parts += _at_any_acceptance(planes)
    parts += _left_out(planes)
    parts += _beside_confidence(planes)
    if timed := list(filter(on_one_machine, planes)):
        seconds = (
            "The same in seconds, which are modelled from the passes that were measured when the pair was loaded; only "
            "tasks of which all stages ran on one machine:"
        )
        head = ["task", "seconds of LLM only", *(f"of {rival.title}" for rival in RIVALS)]
        rows = [[summary["task"], _share(summary, "seconds"), *_cells(summary, "seconds")] for summary in timed]
        parts += [seconds, with_notes(table(head, rows))]
        parts.append(wanted([_ratios(summary, "seconds") for summary in timed], "modelled seconds"))
    return "\n\n".join(parts)


def short_table(summaries: Sequence[Summary]) -> str:
    """A row per task: both models alone, the best learned point, and its bytes beside those of each rival."""
    head = ["task", "questions", "SLM only", "LLM only", "best learned point", "bytes of LLM only"]
    rows = []
    for summary in summaries:
        ends = (alone(summary, "slm")["accuracy"], alone(summary, "llm")["accuracy"])
        own = reached(summary, LEARNED)
        best = setting(own["point"], summary["plane"]) if own and own["point"] and "plane" in summary else ""
        about = [summary["task"], str(summary["questions"]), *(percent(each, 1) for each in ends), best]
        rows.append([*about, _share(summary, "bytes"), *_cells(summary, "bytes")])
    return table([*head, *(f"of {rival.title}" for rival in RIVALS)], rows)


def _cells(summary: Summary, unit: Unit) -> list[str]:
    ratios = _ratios(summary, unit)
    return [
        rival.bold(in_words(ratio), ratio) + _marks(ratio, points)
        if (ratio := ratios.get(rival.family)) and (points := _points(summary, rival.family))
        else ""
        for rival in RIVALS
    ]


def _points(summary: Summary, rival: str) -> list[PlanePoint]:
    """The learned point and that of a rival's family, of those that get there."""
    both = (reached(summary, family) for family in (LEARNED, rival))
    return [found["point"] for found in both if found and found["point"]]


def _marks(ratio: EstimateSummary, points: Sequence[PlanePoint]) -> str:
    """The marks of `estimates.NOTES`; one is of the LLM alone, which belongs to a rival, as the last of these."""
    return dagger(ratio) + double_dagger(points) + ("§" if points[-1]["method"] == "llm" else "")


def _share(summary: Summary, unit: Unit) -> str:
    """The least cost of a learned point, of the LLM's alone."""
    own = reached(summary, LEARNED)
    least = own["cost"][unit]["value"] if own else None
    return "" if least is None else of_llm(summary, least, unit)


def wanted(tasks: Sequence[Mapping[str, EstimateSummary]], unit: str) -> str:
    """In words: on how many tasks each rival was beaten by as much as was wanted, and whether on too few of enough.

    Args:
        tasks: For each task the ratios to its rivals by their family, without those that were not measured there.
        unit: Of what the ratios are.
    """
    told = []
    for rival in RIVALS:
        found = [ratios[rival.family] for ratios in tasks if rival.family in ratios]
        met = sum(map(rival.met, found))
        count = f"{met} of {len(found)}" if found else "not measured"
        missed = f", **missed** ({rival.wanted_on} wanted)" if met < rival.wanted_on <= len(found) else ""
        told.append(f"{rival.title} {rival.bar}: {count}{missed}")
    return f"Wanted of the {unit}, and on how many tasks it was found: {'; '.join(told)}."


def _at_any_acceptance(summaries: Sequence[Summary]) -> list[str]:
    """What the best learned point costs beside rivals that have acceptance as well, as text and table."""
    columns = {family: [_cell_of_any(summary, family) for summary in summaries] for family in ANY_TITLES}
    columns = {family: cells for family, cells in columns.items() if any(cells)}
    if not columns:
        return []
    lead = (
        "The same beside rivals that may have acceptance, too, where they were measured above 0: the bytes of the best "
        "learned point as a share of those of the rival's cheapest point, and that point:"
    )
    head = ["task", *(f"of {ANY_TITLES[family]}" for family in columns)]
    rows = [list(row) for row in zip((summary["task"] for summary in summaries), *columns.values(), strict=True)]
    return [lead, with_notes(table(head, rows))]


def _cell_of_any(summary: Summary, family: str) -> str:
    ratio, points = _ratios(summary, "bytes").get(family), _points(summary, family)
    if ratio is None or "plane" not in summary:
        return ""
    return f"{in_words(ratio)}{_marks(ratio, points)}, {setting(points[-1], summary['plane'])}"


def _left_out(summaries: Sequence[Summary]) -> list[str]:
    """How the choice of each family's cheapest point holds on questions that had no part in it, as text and table."""
    rows = []
    for summary in summaries:
        found = [reached(summary, family) for family in FAMILIES]
        cells = [_held(each) if each else "" for each in found]
        rows += [[summary["task"], *cells]] if any(cells) else []
    if not rows:
        return []
    lead = (
        "These points are chosen on the questions that they are measured on, and a family with many points finds one "
        "that was lucky. Chosen on resampled questions instead, to recover 90 % of the gap there, and measured on the "
        "questions that each resample leaves out, where most of that luck is gone: gap recovered, and bytes of LLM "
        "only, over the resamples in which a point gets there:"
    )
    return [lead, with_notes(table(["task", *FAMILIES.values()], rows))]


def _beside_confidence(summaries: Sequence[Summary]) -> list[str]:
    """What the main method saves of SLM confidence's bytes at acceptance 0, as text and table; empty without either."""
    rows = []
    for summary in summaries:
        against, main = summary["comparisons"]["against"].get("confidence"), summary["comparisons"]["method"]
        if against and main:
            own = [against["savings"][f"{gap:g}"]["bytes"] for gap in GAPS]
            mark = across_copies(summary, main, "confidence")
            rows.append([summary["task"], label(main), *(in_words(each) + _sure(each) + mark for each in own)])
    if not rows:
        return []
    lead = (
        "At acceptance 0, with straight lines between measured points: bytes that the router saves beside SLM "
        "confidence at equal accuracy (95 % intervals and p over resamples of the questions):"
    )
    head = ["task", "router", *(f"at {percent(gap)} of the gap" for gap in GAPS)]
    return [lead, with_notes(table(head, rows))]


def _sure(saving: EstimateSummary) -> str:
    p = "" if saving["p_value"] is None else f", p = {saving['p_value']:.1g}"
    return p + dagger(saving)


def across_copies(summary: Summary, *methods: str) -> str:
    """The mark of `estimates.NOTES` where different copies of the weights wrote these methods' points."""
    return double_dagger(point for name in methods for point in summary["methods"][name]["points"])


def _held(reached: Reached) -> str:
    """Gap and bytes of the family on the questions that were left out."""
    if "left_out" not in reached:
        return ""
    gap, size = reached["left_out"]["gap_recovered"], reached["left_out"]["bytes"]
    if gap is None or size is None:
        return "–"
    return f"{percent(gap)} at {percent(size)}{dagger(reached['cost']['bytes'])}"


def _ratios(summary: Summary, unit: Unit) -> dict[str, EstimateSummary]:
    """The best learned point's cost / that of each rival, at 0 or anywhere, by its family, where both were measured."""
    found = {family: reached(summary, family) for family in (*ANY_TITLES, *(rival.family for rival in RIVALS))}
    ratios = {family: each["learned"][unit] for family, each in found.items() if each and "learned" in each}
    return {family: ratio for family, ratio in ratios.items() if ratio["value"] is not None}


def reached(summary: Summary, family: str, target: str = TARGET) -> Reached | None:
    """A family at a target of the plane, where it was measured."""
    return summary["plane"]["families"].get(family, {}).get(target) if "plane" in summary else None


def of_llm(summary: Summary, cost: float, unit: Unit) -> str:
    """A cost per answer in percent of the LLM's alone; empty where that costs nothing."""
    whole = alone(summary, "llm")[unit]
    return percent(cost / whole) if whole else ""
