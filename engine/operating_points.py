"""A router's measured curves: the accuracy, the LLM share and the cost that its thresholds gave on held-out questions.

A curve is at one acceptance; a task may have several. Beside the router's own stand those of policies without training,
which the page offers as well.

The trainer writes it to `operating_points.json` beside a router; the page reads it, so nothing here imports torch. The
file may come from the Hub, so its size, numbers and lengths are bounded here, and its texts are nothing but text.
Interpolation, hull and bootstrap of a curve are in this module only; the browser's script has its own copy of the
first two, which the page's tests compare with these.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from engine.errors import InvalidRequest, RouterError, check_number, first_fault
from engine.events import MAX_THRESHOLD
from engine.models.files import read_bytes, write_text
from engine.setting import MAX_DRAFT

FILE = "operating_points.json"
FORMAT = 1
MAX_BYTES = 1_000_000
MaxDraft = Annotated[int, Field(ge=1, le=MAX_DRAFT)] | Literal["auto"]
"""`setting.DraftLimit` in a file of results: there its bounds belong to the type, a request's checks name the value."""
Unit = Literal["bytes", "flops", "seconds"]
Quality = Literal["right", "same"]
"""What a curve's accuracy is: right answers, or how much of the LLM's own text stands in a text."""
MEASURED_UNITS: tuple[Unit, ...] = ("bytes", "flops", "seconds")
"""Units of a point's cost. The unit "price" is not among them: it depends on the page's sliders."""

HARDLY_WORSE = 0.02
"""Accuracy below the LLM's that a start, or the page's cheapest point, may cost: two points."""

LLM_ONLY = 1.01
"""The threshold of LLM-only: above every score, and the end of the page's slider."""

MAX_COST_WEIGHT = 1e9
"""Largest λ, and largest cost relative to LLM-only: a file from elsewhere may hold any two numbers."""

_WAY_OUT = "get the router again, or delete the file to go without operating points"
_Threshold = Annotated[float, Field(ge=0, le=MAX_THRESHOLD, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Questions = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=10_000)]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A setting with its quality and cost, measured or read between two that were.

    Attributes:
        threshold: score < threshold → LLM.
        accuracy, accuracy_low, accuracy_high: Share of the questions answered right (or see `Quality`), and its 95 %
            interval over them.
        llm_share: LLM-written tokens / generated tokens.
        bytes, flops, seconds: Cost per answer, prompt included; seconds are modelled from measured passes, and None
            where not all of a curve was measured on one machine.
        acceptance: What the LLM keeps of a draft; 0 in files from before there was this dial.
    """

    threshold: _Threshold
    accuracy: _Rate
    accuracy_low: _Rate
    accuracy_high: _Rate
    llm_share: _Rate
    bytes: _Amount
    flops: _Amount
    seconds: _Amount | None
    acceptance: _Rate = 0.0

    @property
    def units(self) -> tuple[Unit, ...]:
        """In which its cost is known."""
        return tuple(unit for unit in MEASURED_UNITS if getattr(self, unit) is not None)

    def cost(self, unit: str) -> float:
        """Cost per answer in one of `units`; raises InvalidRequest for another unit."""
        if unit not in self.units:
            raise InvalidRequest(f"unit = {unit!r} was not measured: choose one of {', '.join(self.units)}")
        return getattr(self, unit)


def _ordered(point: OperatingPoint) -> OperatingPoint:
    if not point.accuracy_low <= point.accuracy <= point.accuracy_high:
        raise ValueError("accuracy_low ≤ accuracy ≤ accuracy_high does not hold")
    return point


_Point = Annotated[OperatingPoint, AfterValidator(_ordered)]


class BestPoint(NamedTuple):
    """A measured point that is best for the cost weights λ from `low` to `high`; None has no end."""

    point: OperatingPoint
    low: float
    high: float | None


@dataclass(frozen=True)
class Curve:
    """What the thresholds of a router, or of another policy, gave on one task with one pair, at one acceptance.

    The two ends have thresholds by definition, whatever they were recorded with: `slm` has 0, `llm` is above 1. Above
    acceptance 0 the LLM has its say at threshold 0, too: `slm` stays the SLM alone and is no part of the curve.

    Attributes:
        task: What was asked, e.g. "csqa".
        questions: How many questions, none of them seen in training.
        pair: Models and quantisation, for people.
        command, revision, hardware: What made the figures, so that they can be made again.
        slm, llm: The ends of the curve: each model alone.
        points: Measured thresholds, sorted; there may be none. A ValueError if their acceptance is not the same.
        max_draft: Drafted tokens at most before the LLM looked; None at acceptance 0, and where it is not known.
        quality: What `accuracy` is of its points; that of "same" is 1 for the LLM.
    """

    task: _Name
    questions: _Questions
    pair: _Text
    command: _Text
    revision: _Text
    hardware: _Text
    slm: _Point
    llm: _Point
    points: Annotated[tuple[_Point, ...], Field(max_length=1_000)] = ()
    max_draft: MaxDraft | None = None
    quality: Quality = "right"

    def __post_init__(self) -> None:
        set_once = object.__setattr__  # frozen from then on
        set_once(self, "slm", replace(self.slm, threshold=0.0))
        if self.llm.threshold <= 1:  # an evaluation records methods that have no threshold with 0
            set_once(self, "llm", replace(self.llm, threshold=LLM_ONLY))
        set_once(self, "points", tuple(sorted(self.points, key=lambda point: point.threshold)))
        if len(found := sorted({point.acceptance for point in self.points})) > 1:
            raise ValueError(f"points of acceptance {', '.join(map(str, found))}: a curve is at one acceptance")
        set_once(self, "slm", replace(self.slm, acceptance=0.0))
        set_once(self, "llm", replace(self.llm, acceptance=self.acceptance))  # its text is the same at any

    @property
    def acceptance(self) -> float:
        """The acceptance of all points; 0 without any."""
        return self.points[0].acceptance if self.points else 0.0

    @property
    def units(self) -> tuple[Unit, ...]:
        """In which the cost of all its points is known."""
        every = (self.slm, self.llm, *self.points)
        return tuple(unit for unit in MEASURED_UNITS if all(unit in point.units for point in every))

    @property
    def measured(self) -> tuple[OperatingPoint, ...]:
        """Everything measured at this acceptance, in order, every threshold once (where twice, the later counts).

        It ends with LLM-only and begins with SLM-only, or above acceptance 0 with the lowest threshold measured. What
        `points` have at thresholds that are an end is left out.
        """
        between = {point.threshold: point for point in self.points if 0 < point.threshold <= 1}
        first = [point for point in self.points if point.threshold == 0][-1:] if self.acceptance else [self.slm]
        return *first, *between.values(), self.llm

    def at(self, threshold: float) -> OperatingPoint:
        """The point at a threshold: linear between measured neighbours; below the first it is that, above 1 `llm`."""
        if threshold > 1:
            return self.llm
        measured = self.measured
        places = [_place(point) for point in measured]
        after = bisect_left(places, threshold)
        if after == 0:
            return measured[0]
        before = after - 1
        fraction = (threshold - places[before]) / (places[after] - places[before])
        return replace(_between(measured[before], measured[after], fraction), threshold=threshold)

    def for_share(self, llm_share: float) -> OperatingPoint:
        """The point at an LLM share: linear between measured neighbours.

        With few questions the share may dip as the threshold rises, so that several thresholds have the same one: the
        lowest of them counts, as it is the first on the way up. Below the first share it is the first of `measured`,
        beyond the highest share `llm`.
        """
        measured = self.measured
        reached = next((i for i, point in enumerate(measured) if point.llm_share >= llm_share), len(measured) - 1)
        if reached == 0:
            return measured[0]
        before, after = measured[reached - 1], measured[reached]
        if after.llm_share <= llm_share:  # measured just there, or nowhere
            return after
        fraction = (llm_share - before.llm_share) / (after.llm_share - before.llm_share)
        place = _mix(_place(before), _place(after), fraction)
        return replace(_between(before, after, fraction), threshold=place)

    def cheapest_within(self, points_of_accuracy: float = HARDLY_WORSE, unit: str = "bytes") -> OperatingPoint | None:
        """The cheapest measured point that is hardly worse than the LLM; of equally cheap ones the most accurate.

        SLM-only (at acceptance 0) and LLM-only are measured points too. None only where it was to be better than the
        LLM.

        Args:
            points_of_accuracy: How much worse: 0.02 is two points of accuracy. Below 0 asks for better than the LLM.
            unit: One of `units`.
        """
        needed = self.llm.accuracy - points_of_accuracy - 1e-9  # in floating point 0.26 − 0.02 is more than 0.24
        enough = [point for point in self.measured if point.accuracy >= needed]
        return min(enough, key=lambda point: (point.cost(unit), -point.accuracy), default=None)

    def best(self, cost_weight: float, unit: str = "bytes") -> OperatingPoint:
        """The measured point that maximises accuracy − λ · cost / cost of LLM-only; of equal ones the cheapest.

        Between measured points both are linear, so none there is better than its two neighbours.

        Args:
            cost_weight: λ, at least 0; with 0.1 a tenth of LLM-only's cost is worth one point of accuracy.
            unit: One of `units`.
        """
        check_number("cost_weight", cost_weight, 0.0, MAX_COST_WEIGHT, "0 ignores the cost")
        whole = self.llm.cost(unit) or 1.0  # where the LLM is free, there is nothing to weigh against

        def value(point: OperatingPoint) -> tuple[float, float]:
            return point.accuracy - cost_weight * point.cost(unit) / whole, -point.cost(unit)

        return max(self.measured, key=value)

    def best_points(self, unit: str = "bytes") -> list[BestPoint]:
        """Every measured point that `best` gives for some λ, from λ = 0 upwards: corners of the upper convex hull."""
        cost = {point: self.relative_cost(point, unit) for point in self.measured}
        corners: list[OperatingPoint] = []

        def weight(a: OperatingPoint, b: OperatingPoint) -> float:
            """The λ at which the cheaper a and the better b are equally good."""
            return min((b.accuracy - a.accuracy) / (cost[b] - cost[a]), MAX_COST_WEIGHT)

        for point in sorted(cost, key=lambda point: (cost[point], -point.accuracy)):
            if corners and point.accuracy <= corners[-1].accuracy:
                continue  # dearer and no better
            while len(corners) > 1 and weight(corners[-1], point) >= weight(corners[-2], corners[-1]):
                corners.pop()
            corners.append(point)
        weights = [weight(a, b) for a, b in pairwise(corners)][::-1]
        return [BestPoint(*best) for best in zip(corners[::-1], [0.0, *weights], [*weights, None], strict=True)]

    def relative_cost(self, point: OperatingPoint, unit: str) -> float:
        """Cost / cost of LLM-only, at most `MAX_COST_WEIGHT`; where LLM-only costs nothing, the cost itself."""
        return min(point.cost(unit) / (self.llm.cost(unit) or 1.0), MAX_COST_WEIGHT)


@dataclass(frozen=True, slots=True)
class TimedSetting:
    """How long answers took with a setting, one text at a time, prompt included.

    Attributes:
        policy: As a request names it.
        questions: How many, of the task's.
        max_draft: Drafted tokens at most before the LLM looked.
        times: Seconds / those of the LLM alone on the same questions.
    """

    policy: _Name
    task: _Name
    questions: _Questions
    threshold: _Threshold
    acceptance: _Rate
    max_draft: MaxDraft
    times: Annotated[float, Field(gt=0, le=MAX_COST_WEIGHT)]


@dataclass(frozen=True)
class OperatingPoints:
    """The curves of one router, and of what it is compared with.

    Attributes:
        router: sha256 (hex) of the `router.safetensors` that was measured.
        curves: One per task and acceptance; the first is the one to show.
        untrained: Curves of policies without training on the same questions, by the policy's name.
        timed: Settings whose seconds were measured, of either.
    """

    router: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    curves: Annotated[tuple[Curve, ...], Field(max_length=100)] = ()
    untrained: Annotated[dict[_Name, Annotated[tuple[Curve, ...], Field(max_length=100)]], Field(max_length=20)] = (
        field(default_factory=dict)
    )
    timed: Annotated[tuple[TimedSetting, ...], Field(max_length=1_000)] = ()
    format: Literal[1] = FORMAT

    def of(self, policy: str) -> tuple[Curve, ...]:
        """The curves of a policy: the router's own, or those of one without training; there may be none."""
        return self.curves if policy == "router" else self.untrained.get(policy, ())

    @classmethod
    def load(cls, folder: Path) -> OperatingPoints | None:
        """Reads a router's `operating_points.json`, None if it has none; raises RouterError as `from_json` does."""
        path = folder / FILE
        if not path.exists() and not path.is_symlink():
            return None
        try:
            content = read_bytes(path, MAX_BYTES)
        except OSError as error:
            raise RouterError(f"{path} cannot be read: {error.strerror or error}; {_WAY_OUT}") from error
        return cls.from_json(content, str(path))

    def save(self, folder: Path) -> None:
        """Writes `operating_points.json` into a router's folder; raises RouterError where `load` would refuse it."""
        text = self.to_json()
        self.from_json(text)
        write_text(folder / FILE, text)

    @classmethod
    def from_json(cls, content: str | bytes, source: str = FILE) -> OperatingPoints:
        """Reads what `to_json` wrote, which errors call `source`.

        Raises RouterError if it is too large, or if a value is missing or out of range: the first such value is named.
        """
        size = len(content.encode() if isinstance(content, str) else content)
        if size > MAX_BYTES:
            raise RouterError(f"{source} has more than {MAX_BYTES:,} bytes; {_WAY_OUT}")
        try:
            return TypeAdapter(cls).validate_json(content, strict=True)
        except ValidationError as error:
            raise RouterError(f"{source}: {first_fault(error)}; {_WAY_OUT}") from None

    def to_json(self) -> str:
        """As it stands in the file; `save` lets none through that holds NaN."""
        content = {
            "format": self.format,
            "router": self.router,
            "curves": [asdict(curve) for curve in self.curves],
            "untrained": {name: [asdict(curve) for curve in curves] for name, curves in self.untrained.items()},
            "timed": [asdict(setting) for setting in self.timed],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def bootstrap_counts(items: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each of `items` questions or prompts is drawn in each of `resamples` bootstrap resamples.

    Returns:
        Counts [1 + resamples, items]. Row 0 has every item once: it is what was measured. Each row sums to `items`.
    """
    drawn = np.random.default_rng(seed).integers(items, size=(resamples, items))
    cells = drawn + items * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * items).reshape(resamples, items)
    return np.vstack([np.ones((1, items)), counts.astype(np.float64)])


def _place(point: OperatingPoint) -> float:
    """Where a point stands between 0 and 1: no score is above 1, so LLM-only begins right there."""
    return min(point.threshold, 1.0)


def _between(before: OperatingPoint, after: OperatingPoint, fraction: float) -> OperatingPoint:
    names = [field.name for field in fields(OperatingPoint)]
    return OperatingPoint(**{name: _mix(getattr(before, name), getattr(after, name), fraction) for name in names})


def _mix(before: Any, after: Any, fraction: float) -> Any:
    """Exact at both ends, unlike before + fraction · (after − before); None where either is."""
    if before is None or after is None:
        return None
    return before * (1 - fraction) + after * fraction
