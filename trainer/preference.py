"""The rules that turn two models' choices into a preference (CITER, section 3.2).

1. The SLM's greedy token is the reference token → prefer the SLM: it is right, and cheaper.
2. Else the LLM's greedy token is the reference token → prefer the LLM.
3. Else the shortcut does not decide, and rollouts do: take the SLM's token, finish the text under the current policy,
   and prefer the SLM if the answer is still right. With a cost weight λ > 0 both tokens are tried, and the one with the
   higher quality − λ · cost is preferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol


class Outcome(Protocol):
    """What became of an answer: whether it is right, and the bytes moved from the action to its end."""

    @property
    def correct(self) -> bool: ...

    @property
    def bytes(self) -> float: ...


class Case(IntEnum):
    """Which model wrote the reference token, given the reference before it."""

    SLM_RIGHT = 0
    ONLY_LLM_RIGHT = 1
    NEITHER = 2


CASE_NAMES = {Case.SLM_RIGHT: "SLM right", Case.ONLY_LLM_RIGHT: "only LLM right", Case.NEITHER: "neither"}

PREFERENCES = {Case.SLM_RIGHT: 1.0, Case.ONLY_LLM_RIGHT: 0.0}
"""The shortcut's label, with the polarity of the routing score: 1 prefers the SLM. NEITHER has none."""


def shortcut(slm: Sequence[int], llm: Sequence[int], reference: Sequence[int]) -> list[Case]:
    """The case of each position, from the reference's token ids and both models' greedy ones, teacher-forced on it."""
    return [
        Case.SLM_RIGHT if small == wanted else Case.ONLY_LLM_RIGHT if large == wanted else Case.NEITHER
        for small, large, wanted in zip(slm, llm, reference, strict=True)
    ]


def rollout_preference(slm: Outcome, llm: Outcome | None, cost_weight: float = 0.0, unit: float = 1.0) -> float:
    """1 if rollouts prefer the SLM's token, 0 if the LLM's; a tie goes to the SLM, whose token is the cheaper one.

    Args:
        slm, llm: What became of the answer after each model's token. `llm` may be None where `cost_weight` is 0.
        cost_weight: λ, in right answers per unit of cost.
        unit: Bytes that count as a cost of 1; the mean of an LLM-only answer.
    """
    if cost_weight == 0.0 or llm is None:
        return float(slm.correct)
    return float(slm.correct - cost_weight * slm.bytes / unit >= llm.correct - cost_weight * llm.bytes / unit)
