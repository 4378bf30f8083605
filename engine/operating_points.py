"""A router's measured curves: the accuracy, the LLM share and the cost that its thresholds gave on held-out questions.

Each curve is of one task at one acceptance. Curves of policies without training stand beside the router's own.

The trainer writes them to `operating_points.json` beside a router. The page reads them, so nothing here imports torch.
The file may come from a stranger on the Hub, so its size and every number in it are checked.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from engine.errors import RouterError, first_fault
from engine.events import MAX_THRESHOLD
from engine.models.files import read_bytes, write_text
from engine.setting import MAX_DRAFT

FILE = "operating_points.json"
FORMAT = 1
MAX_BYTES = 1_000_000
MaxDraft = Annotated[int, Field(ge=1, le=MAX_DRAFT)] | Literal["auto"]
"""`setting.DraftLimit` in a file of results: there its bounds belong to the type, a request's checks name the value."""
Quality = Literal["right", "same"]
"""What a curve's accuracy is: right answers, or how much of the LLM's own text stands in a text."""

LLM_ONLY = 1.01
"""The threshold of LLM-only: above every score, and the end of the page's slider."""

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
        bytes, flops, seconds: Cost per answer, prompt included. Seconds follow from measured passes, and are None
            where a curve was measured on several machines.
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


def _ordered(point: OperatingPoint) -> OperatingPoint:
    if not point.accuracy_low <= point.accuracy <= point.accuracy_high:
        raise ValueError("accuracy_low ≤ accuracy ≤ accuracy_high does not hold")
    return point


_Point = Annotated[OperatingPoint, AfterValidator(_ordered)]


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
        return self.points[0].acceptance if self.points else 0.0

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
        places = [min(point.threshold, 1.0) for point in measured]  # no score is above 1: LLM-only begins right there
        after = bisect_left(places, threshold)
        if after == 0:
            return measured[0]
        low, high = measured[after - 1], measured[after]
        share = (threshold - places[after - 1]) / (places[after] - places[after - 1])

        def between(name: str) -> Any:
            one, other = getattr(low, name), getattr(high, name)
            return None if one is None or other is None else one * (1 - share) + other * share  # exact at both ends

        values = {each.name: between(each.name) for each in fields(OperatingPoint)}
        return OperatingPoint(**{**values, "threshold": threshold})


@dataclass(frozen=True)
class OperatingPoints:
    """The curves of one router, and of what it is compared with.

    Attributes:
        router: sha256 (hex) of the `router.safetensors` that was measured.
        curves: One per task and acceptance; the first is the one to show.
        untrained: Curves of policies without training on the same questions, by the policy's name.
    """

    router: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    curves: Annotated[tuple[Curve, ...], Field(max_length=100)] = ()
    untrained: Annotated[dict[_Name, Annotated[tuple[Curve, ...], Field(max_length=100)]], Field(max_length=20)] = (
        field(default_factory=dict)
    )
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
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def bootstrap_counts(items: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each of `items` questions or prompts is drawn in each of `resamples` bootstrap resamples.

    Returns:
        Counts [1 + resamples, items]. Row 0 has every item once: it is what was measured. Each row sums to `items`.
    """
    drawn = np.random.default_rng(seed).integers(items, size=(resamples, items))
    cells = drawn + items * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * items).reshape(resamples, items)
    return np.vstack([np.ones((1, items)), counts.astype(np.float64)])
