"""The plane of threshold and acceptance: its curves, its front, and the least cost at which each family gets there.

Families are sets of measured points. Unlike in `trainer.evaluation.statistics.cost_at_accuracy` nothing is read between
points: a mixture of two settings is none that anybody would run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired

import numpy as np
from typing_extensions import TypedDict  # typing's own cannot be validated by pydantic before Python 3.12

from engine.operating_points import MEASURED_UNITS, MaxDraft, Unit
from trainer.evaluation import statistics
from trainer.evaluation.estimates import (
    EstimateSummary,
    PointSummary,
    Units,
    difference,
    digits,
    digits_or_none,
    estimated,
    estimates,
    point_at,
    resampled,
    won,
)
from trainer.evaluation.method_names import (
    FIXED,
    JUDGED,
    SPECULATIVE,
    MethodName,
    Rate,
    is_citer,
    method_order,
    spelled,
)
from trainer.evaluation.record import Amount, Point
from trainer.evaluation.statistics import Array, ResampledCurve

WITHIN = 0.01
"""How far below the LLM's accuracy counts as the LLM's, on the same questions."""

GAPS = (0.8, 0.9, 0.95)
"""Shares of the gap between both models at which costs are compared."""

JUDGED_AT = 0.9
"""The one of them by which the bars are judged."""

WHOLE = "plane"
"""The family of everything that was measured."""

LEARNED = "learned"
"""The family of routers that learned from outcomes or from what the LLM keeps, at any acceptance.

Of these only what was written by the same copy of the weights as the LLM alone: a lucky near tie must not be ours."""

AT_0 = {
    "confidence-0": ("confidence",),
    "co-llm": ("co-llm", "co-llm-data"),
    "query": ("query",),
    "citer-shortcut": ("citer-shortcut",),
}
"""Families of what others do, which is at acceptance 0, by their methods."""

ANY = {
    "random": ("random",),
    "confidence": ("confidence",),
    "entropy-or-margin": ("entropy", "margin"),
    "co-llm-any": (*AT_0["co-llm"], "co-llm-refit"),
    "query-any": (*AT_0["query"], "query-refit"),
    "citer-shortcut-any": (*AT_0["citer-shortcut"], "citer-shortcut-refit"),
}
"""The same at any acceptance, and what else needs no training, where they were measured above 0.

A router that was fitted again, as the first was not kept, has a name of its own; a folder has one router of a name."""


class PlanePoint(PointSummary):
    """A point of the plane; the LLM's passes and the tokens taken back are means per answer, null where not known."""

    method: MethodName
    acceptance: Rate
    max_draft: MaxDraft
    llm_passes: Amount | None
    taken_back: Amount | None


class LeftOut(TypedDict):
    """The cheapest point of a family, chosen on resampled questions and measured on those that were not drawn.

    A family with many points finds one that was lucky; most of that luck is not in these figures.

    Attributes:
        gap_recovered: Share of the gap between both models, null without one.
        bytes: Of the LLM's alone.
    """

    gap_recovered: float | None
    bytes: Amount | None


class Reached(TypedDict):
    """A family at an accuracy: what is null or empty has no point that gets there.

    Attributes:
        point: The one that moves the fewest bytes.
        difference: Of its accuracy from the LLM's, on the same questions.
        cost: The family's least per answer, chosen anew in each resample.
        ratio: The whole plane's least cost / the family's.
        learned: The least cost of `LEARNED` / the family's; not there without such routers.
        left_out: Not there in summaries from before it was asked for.
    """

    point: PlanePoint | None
    difference: EstimateSummary | None
    cost: Units
    ratio: Units
    learned: NotRequired[Units]
    left_out: NotRequired[LeftOut]


class Plane(TypedDict):
    """What was measured at acceptances above 0, beside the same methods at 0.

    Attributes:
        targets: Accuracies by "llm" (the LLM's, less `WITHIN`) or share of the gap; null without a gap.
        families: By family and target.
        curves: By method as `method_names.spelled` has it, in order of the threshold.
        front: Best accuracy per bytes: cheapest first, each more accurate than all cheaper ones.
    """

    targets: dict[str, float | None]
    families: dict[str, dict[str, Reached]]
    curves: dict[str, list[PlanePoint]]
    front: list[PlanePoint]


def plane_of(points: Sequence[Point], counts: Array) -> Plane:
    """The plane's statistics.

    Args:
        points: All of an evaluation, "slm" and "llm" among them.
        counts: The bootstrap's draws of the questions [samples, questions].
    """
    real = [point for point in points if point.method != "oracle"]  # it looks at both models, which nobody can
    curve = resampled(real, counts)
    shown = [_point(point, curve, number) for number, point in enumerate(real)]
    slm, llm = (next(n for n, each in enumerate(real) if _alone(each, name)) for name in ("slm", "llm"))
    targets = {"llm": curve.accuracy[llm] - WITHIN} | {
        f"{gap:g}": statistics.accuracy_targets(curve.accuracy[slm], curve.accuracy[llm], gap) for gap in GAPS
    }
    families = families_of(real)
    least: dict[tuple[str, str], dict[Unit, Array]] = {
        (family, name): {
            unit: statistics.least_cost(curve.cost[unit][members], curve.accuracy[members], target)
            for unit in MEASURED_UNITS
        }
        for family, members in families.items()
        for name, target in targets.items()
    }

    size = np.stack([point.column("bytes") for point in real])

    def left_out(members: list[int], target: Array) -> LeftOut:
        enough = curve.accuracy[members] >= target - statistics.TOLERANCE
        cheapest = np.where(enough, curve.cost["bytes"][members], np.inf).argmin(axis=0)
        chosen = np.where(enough.any(axis=0), np.array(members)[cheapest], -1)
        right, moved = (statistics.left_out_means(chosen, counts, each) for each in (curve.correct, size))
        ends = right[1 + slm], right[1 + llm]
        return {
            "gap_recovered": digits_or_none(float(statistics.gap_recovered(right[:1], *map(np.atleast_1d, ends))[0])),
            "bytes": digits_or_none(float(moved[0] / moved[1 + llm])),
        }

    def reached(family: str, members: list[int], name: str) -> Reached:
        cost = least[family, name]
        cheapest = _cheapest(curve, members, float(targets[name][0]))
        found: Reached = {
            "point": None if cheapest is None else shown[cheapest],
            "difference": None if cheapest is None else difference(curve.accuracy[cheapest], curve.accuracy[llm]),
            "cost": estimates(cost),
            "ratio": _ratios(least[WHOLE, name], cost),
            "left_out": left_out(members, targets[name]),
        }
        if LEARNED in families:
            found["learned"] = _ratios(least[LEARNED, name], cost)
        return found

    return {
        "targets": {name: digits_or_none(float(target[0])) for name, target in targets.items()},
        "families": {
            family: {name: reached(family, members, name) for name in targets} for family, members in families.items()
        },
        "curves": _curves(real, shown),
        "front": [shown[number] for number in statistics.front(curve.cost["bytes"][:, 0], curve.accuracy[:, 0])],
    }


def _alone(point: Point, name: str) -> bool:
    return point.method == name and point.acceptance == 0


def families_of(points: Sequence[Point]) -> dict[str, list[int]]:
    """Indices of points by family; those that were not measured are left out. Either model alone belongs to most.

    A rival's points count whatever copy of the weights wrote them.
    """
    numbered = list(enumerate(points))
    copies = {each.weights_copy for each in points if _alone(each, "llm")}
    ends = {n for n, each in numbered if _alone(each, "slm") or _alone(each, "llm")}
    families = {
        WHOLE: {n for n, _ in numbered},
        "acceptance-0": {n for n, each in numbered if each.acceptance == 0 and each.method not in SPECULATIVE},
        **{name: {n for n, each in numbered if each.method == name} for name in reversed(SPECULATIVE)},
    }
    routed = {
        name: {n for n, each in numbered if belongs(name, each.method, each.acceptance, each.weights_copy in copies)}
        for name in (*ANY, LEARNED, *AT_0)
    }
    above = {n for n, each in numbered if each.acceptance > 0}
    families |= {
        name: ends | members
        for name, members in routed.items()
        if members & (above if name in ANY else families[WHOLE])
    }
    return {name: sorted(members) for name, members in families.items() if members}


def belongs(family: str, method: str, acceptance: float, own_copy: bool) -> bool:
    """Whether a point that a router wrote belongs to a family.

    Args:
        family: `LEARNED`, or one of `ANY` or `AT_0`; no other has such points.
        own_copy: Whether the copy of the weights that wrote it wrote the LLM alone, too.
    """
    if family == LEARNED:
        return own_copy and is_learned(method)
    if family in ANY:
        return method in ANY[family]
    return acceptance == 0 and method in AT_0.get(family, ())


def is_learned(method: str) -> bool:
    """Whether a method's points belong to `LEARNED`."""
    return method in ("kept", JUDGED) or (is_citer(method) and method != "citer-shortcut")


def _curves(points: Sequence[Point], shown: Sequence[PlanePoint]) -> dict[str, list[PlanePoint]]:
    """The points of every method that was measured above acceptance 0 as well, a curve for each acceptance."""
    methods = {each.method for each in points if each.acceptance > 0 and each.method not in SPECULATIVE}
    curves: dict[str, list[PlanePoint]] = {}
    for each in sorted(shown, key=lambda each: (method_order(each["method"]), each["acceptance"], each["threshold"])):
        if each["method"] in methods and (each["acceptance"] > 0 or each["method"] not in FIXED):
            curves.setdefault(spelled(each["method"], each["acceptance"], each["max_draft"]), []).append(each)
    return curves


def _cheapest(curve: ResampledCurve, members: Sequence[int], target: float) -> int | None:
    enough = [n for n in members if curve.accuracy[n, 0] >= target - statistics.TOLERANCE]
    return min(enough, key=lambda n: (curve.cost["bytes"][n, 0], -curve.accuracy[n, 0]), default=None)


def _ratios(least: Mapping[Unit, Array], own: Mapping[Unit, Array]) -> Units:
    ratios: dict[Unit, Array] = {unit: least[unit] / own[unit] for unit in MEASURED_UNITS}
    return {unit: estimated(ratio, won(1 - ratio, least[unit], own[unit])) for unit, ratio in ratios.items()}


def _point(point: Point, curve: ResampledCurve, number: int) -> PlanePoint:
    passes, taken_back = (float(point.column(name).mean()) for name in ("llm_passes", "taken_back"))
    return {
        **point_at(curve, number),
        "method": point.method,
        "acceptance": digits(point.acceptance),
        "max_draft": point.max_draft,
        "llm_passes": digits_or_none(passes),
        "taken_back": digits_or_none(taken_back),
    }
