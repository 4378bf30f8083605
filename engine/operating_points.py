"""A router's measured curves: what its thresholds gave on held-out questions, one curve for each task and acceptance.

`ship` writes them to `operating_points.json` beside a router, with those of policies without training. The page spaces
its slider by them, so nothing here imports torch. The file may be a stranger's, so its size and numbers are checked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from engine.errors import RouterError, first_fault
from engine.events import Threshold
from engine.events.parsing import Share
from engine.models.files import read_bytes, write_text

FILE = "operating_points.json"
MAX_BYTES = 1_000_000
Quality = Literal["right", "same"]
"""What a curve's accuracy is: right answers, or how much of the LLM's own text stands in a text."""

_WAY_OUT = "get the router again, or delete the file to go without operating points"
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Questions = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=10_000)]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A setting with its measured quality and cost.

    Attributes:
        threshold: score < threshold → LLM.
        accuracy, accuracy_low, accuracy_high: Share of the questions answered right (or see `Quality`), and its 95 %
            interval over them.
        llm_share: LLM-written tokens / generated tokens.
        bytes: Moved per answer, prompt included.
    """

    threshold: Threshold
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    llm_share: Share
    bytes: _Amount
    acceptance: Share = 0.0


@dataclass(frozen=True)
class Curve:
    """What the thresholds of a policy gave on one task with one pair, at one acceptance.

    Attributes:
        task: What was asked, e.g. "csqa".
        questions: How many; no router learned from them.
        pair: Models and quantisation, for people.
        command, revision, hardware: What made the figures, so that they can be made again.
        slm, llm: Each model alone.
        points: By ascending threshold; there may be none.
    """

    task: _Name
    questions: _Questions
    pair: _Text
    command: _Text
    revision: _Text
    hardware: _Text
    slm: OperatingPoint
    llm: OperatingPoint
    points: Annotated[tuple[OperatingPoint, ...], Field(max_length=1_000)] = ()
    quality: Quality = "right"

    @property
    def acceptance(self) -> float:
        return self.points[0].acceptance if self.points else 0.0


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
    format: Literal[1] = 1

    def of(self, policy: str) -> tuple[Curve, ...]:
        """The curves of a policy: the router's own, or those of one without training; there may be none."""
        return self.curves if policy == "router" else self.untrained.get(policy, ())

    @classmethod
    def load(cls, folder: Path) -> OperatingPoints | None:
        """Reads a router's file, None if it has none; a RouterError names its first value that is out of range."""
        path = folder / FILE
        if not path.exists() and not path.is_symlink():
            return None
        try:
            return _parsed(read_bytes(path, MAX_BYTES), path)
        except OSError as error:
            raise RouterError(f"{path} cannot be read: {error.strerror or error}; {_WAY_OUT}") from error

    def save(self, folder: Path) -> None:
        """Writes the file into a router's folder; raises RouterError where `load` would refuse it."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        _parsed(text.encode(), folder / FILE)
        write_text(folder / FILE, text)


def _parsed(content: bytes, path: Path) -> OperatingPoints:
    try:
        return TypeAdapter(OperatingPoints).validate_json(content, strict=True)
    except ValidationError as error:
        raise RouterError(f"{path}: {first_fault(error)}; {_WAY_OUT}") from None
