"""A router's measured curve: the accuracy, the LLM share and the cost that its thresholds gave on held-out questions.

Knows `operating_points.json`, which the trainer writes beside a router, and how to read a curve between its points.
Knows no torch, so that the page may hold a curve; not how it was measured, nor how it is shown. The file may be a
stranger's: its size, numbers and lengths are bounded here, and its texts are nothing but text.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from engine.errors import InvalidRequest, RouterError
from engine.request import MAX_THRESHOLD, number

FILE = "operating_points.json"
FORMAT = 1
MAX_BYTES = 1_000_000
MEASURED_UNITS = ("bytes", "flops", "seconds")
"""Units of a point's cost. The unit "price" is not among them: it depends on the page's sliders."""

LLM_ONLY = 1.01
"""The threshold of LLM-only: above every score, and the end of the page's slider."""

Unit = Literal["bytes", "flops", "seconds"]
_Threshold = Annotated[float, Field(ge=0, le=MAX_THRESHOLD, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=10_000)]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold with its quality and cost, measured or read between two that were.

    Attributes:
        threshold: score < threshold → LLM.
        accuracy: Share of the questions answered right.
        accuracy_low, accuracy_high: Its 95 % interval over questions.
        llm_share: LLM-written tokens / generated tokens.
        bytes: Bytes moved per answer, prompt included.
        flops: FLOPs per answer.
        seconds: Seconds per answer, modelled from measured passes.
    """

    threshold: _Threshold
    accuracy: _Rate
    accuracy_low: _Rate
    accuracy_high: _Rate
    llm_share: _Rate
    bytes: _Amount
    flops: _Amount
    seconds: _Amount

    def cost(self, unit: str) -> float:
        """Cost per answer in one of `MEASURED_UNITS`.

        Raises:
            InvalidRequest: Another unit.
        """
        if unit not in MEASURED_UNITS:
            raise InvalidRequest(f"unit = {unit!r} was not measured: choose one of {', '.join(MEASURED_UNITS)}")
        return getattr(self, unit)


def _ordered(point: OperatingPoint) -> OperatingPoint:
    if not point.accuracy_low <= point.accuracy <= point.accuracy_high:
        raise ValueError("accuracy_low ≤ accuracy ≤ accuracy_high does not hold")
    return point


_Point = Annotated[OperatingPoint, AfterValidator(_ordered)]


@dataclass(frozen=True)
class Curve:
    """What a router's thresholds gave on one task with one pair.

    The two ends have thresholds by definition, whatever they were recorded with: `slm` has 0, `llm` is above 1.

    Attributes:
        task: What was asked, e.g. "csqa".
        questions: How many questions, none of them seen in training.
        pair: Models and quantisation, for people.
        command, revision, hardware: What made the figures, so that they can be made again.
        slm, llm: The ends of the curve: each model alone.
        points: Measured thresholds, sorted; there may be none.
    """

    task: _Name
    questions: Annotated[int, Field(ge=1, le=1_000_000_000)]
    pair: _Text
    command: _Text
    revision: _Text
    hardware: _Text
    slm: _Point
    llm: _Point
    points: Annotated[tuple[_Point, ...], Field(max_length=1_000)] = ()

    def __post_init__(self) -> None:
        set_once = object.__setattr__  # frozen for everybody else
        set_once(self, "slm", replace(self.slm, threshold=0.0))
        if self.llm.threshold <= 1:  # an evaluation records methods that have no threshold with 0
            set_once(self, "llm", replace(self.llm, threshold=LLM_ONLY))
        set_once(self, "points", tuple(sorted(self.points, key=lambda point: point.threshold)))

    @property
    def measured(self) -> tuple[OperatingPoint, ...]:
        """Everything measured, from SLM-only to LLM-only, every threshold once (where twice, the later counts).

        Thresholds of 0 and above 1 are the ends themselves, so `points` that have them are left out.
        """
        between = {point.threshold: point for point in self.points if 0 < point.threshold <= 1}
        return self.slm, *between.values(), self.llm

    def at(self, threshold: float) -> OperatingPoint:
        """The point at a threshold: linear between measured neighbours; 0 and below is `slm`, above 1 is `llm`."""
        if threshold > 1:
            return self.llm
        measured = self.measured
        places = [_place(point) for point in measured]
        after = bisect_left(places, threshold)
        if after == 0:
            return self.slm
        before = after - 1
        fraction = (threshold - places[before]) / (places[after] - places[before])
        return replace(_between(measured[before], measured[after], fraction), threshold=threshold)

    def for_share(self, llm_share: float) -> OperatingPoint:
        """The point at an LLM share: linear between measured neighbours.

        With few questions the share may dip as the threshold rises, so that several thresholds have the same one: the
        lowest of them counts, as it is the first on the way up. Below the SLM's share it is `slm`, beyond the highest
        share `llm`.
        """
        measured = self.measured
        reached = next((i for i, point in enumerate(measured) if point.llm_share >= llm_share), len(measured) - 1)
        if reached == 0:
            return self.slm
        before, after = measured[reached - 1], measured[reached]
        if after.llm_share <= llm_share:  # measured just there, or nowhere
            return after
        fraction = (llm_share - before.llm_share) / (after.llm_share - before.llm_share)
        place = _mix(_place(before), _place(after), fraction)
        return replace(_between(before, after, fraction), threshold=place)

    def cheapest_within(self, points_of_accuracy: float = 0.02, unit: str = "bytes") -> OperatingPoint | None:
        """The cheapest measured point that is hardly worse than the LLM; of equally cheap ones the most accurate.

        Args:
            points_of_accuracy: How much worse: 0.02 is two points of accuracy. Below 0 asks for better than the LLM.
            unit: One of `MEASURED_UNITS`.

        Returns:
            A measured point, SLM-only and LLM-only included; None only where it was to be better than the LLM.

        Raises:
            InvalidRequest: The unit was not measured.
        """
        needed = self.llm.accuracy - points_of_accuracy - 1e-9  # in floating point 0.26 − 0.02 is more than 0.24
        enough = [point for point in self.measured if point.accuracy >= needed]
        return min(enough, key=lambda point: (point.cost(unit), -point.accuracy), default=None)

    def best(self, cost_weight: float, unit: str = "bytes") -> OperatingPoint:
        """The measured point that maximises accuracy − λ · cost / cost of LLM-only; of equal ones the cheapest.

        Between measured points both are linear, so none there is better than its two neighbours.

        Args:
            cost_weight: λ; with 0.1 a tenth of LLM-only's cost is worth one point of accuracy.
            unit: One of `MEASURED_UNITS`.

        Raises:
            InvalidRequest: λ is negative or not a number, or the unit was not measured.
        """
        number("cost_weight", cost_weight, 0.0, 1e9, "0 ignores the cost")
        whole = self.llm.cost(unit) or 1.0  # where the LLM is free, there is nothing to weigh against

        def value(point: OperatingPoint) -> tuple[float, float]:
            return point.accuracy - cost_weight * point.cost(unit) / whole, -point.cost(unit)

        return max(self.measured, key=value)


@dataclass(frozen=True)
class OperatingPoints:
    """The curves of one router.

    Attributes:
        router: sha256 (hex) of the `router.safetensors` that was measured.
        curves: One per task; the first is the one to show.
    """

    router: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    curves: Annotated[tuple[Curve, ...], Field(max_length=100)] = ()
    format: Literal[1] = FORMAT

    @classmethod
    def load(cls, folder: Path) -> OperatingPoints | None:
        """Reads a router's `operating_points.json`; None if it has none.

        Raises:
            RouterError: The file cannot be read, is too large, or a value is missing or out of range.
        """
        path = folder / FILE
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RouterError(f"{path} cannot be read: {error.strerror or error}") from error
        return cls.from_json(content, str(path))

    def save(self, folder: Path) -> None:
        """Writes `operating_points.json` into a router's folder.

        Raises:
            RouterError: `load` would refuse it; nothing is written.
            OSError: The folder cannot be written.
        """
        text = self.to_json()
        self.from_json(text)
        (folder / FILE).write_text(text, encoding="utf-8")

    @classmethod
    def from_json(cls, content: str | bytes, source: str = FILE) -> OperatingPoints:
        """Reads what `to_json` wrote.

        Args:
            content: At most `MAX_BYTES`.
            source: What to call it in errors.

        Raises:
            RouterError: It is too large, or a value is missing or out of range; the message names the first one.
        """
        way_out = "get the router again, or delete the file to go without operating points"
        size = len(content.encode() if isinstance(content, str) else content)
        if size > MAX_BYTES:
            raise RouterError(f"{source} has more than {MAX_BYTES:,} bytes; {way_out}")
        try:
            return TypeAdapter(cls).validate_json(content, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise RouterError(f"{source}: {where}: {first['msg']}; {way_out}") from None

    def to_json(self) -> str:
        """As it stands in the file."""
        content = {"format": self.format, "router": self.router, "curves": [asdict(curve) for curve in self.curves]}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _place(point: OperatingPoint) -> float:
    """Where a point stands between 0 and 1: no score is above 1, so LLM-only begins right there."""
    return min(point.threshold, 1.0)


def _between(before: OperatingPoint, after: OperatingPoint, fraction: float) -> OperatingPoint:
    names = [field.name for field in fields(OperatingPoint)]
    return OperatingPoint(**{name: _mix(getattr(before, name), getattr(after, name), fraction) for name in names})


def _mix(before: float, after: float, fraction: float) -> float:
    """Exact at both ends, unlike before + fraction · (after − before)."""
    return before * (1 - fraction) + after * fraction
