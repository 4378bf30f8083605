"""The rule that turns two models' choices into a preference (CITER, section 3.2). Knows no models and no files.

1. The SLM's greedy token is the reference token → prefer the SLM: it is right, and cheaper.
2. Else the LLM's greedy token is the reference token → prefer the LLM.
3. Else the shortcut does not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Case(IntEnum):
    """Which model wrote the reference token, given the reference before it."""

    SLM_RIGHT = 0
    ONLY_LLM_RIGHT = 1
    NEITHER = 2


CASE_NAMES = {Case.SLM_RIGHT: "SLM right", Case.ONLY_LLM_RIGHT: "only LLM right", Case.NEITHER: "neither"}

PREFERENCES = {Case.SLM_RIGHT: 1.0, Case.ONLY_LLM_RIGHT: 0.0}
"""The shortcut's label, with the polarity of the routing score: 1 prefers the SLM. NEITHER has none."""


def shortcut(slm: Sequence[int], llm: Sequence[int], reference: Sequence[int]) -> list[Case]:
    """The case of each position.

    Args:
        slm, llm: Greedy token ids of both models at each position, teacher-forced on the reference.
        reference: The reference's token ids.

    Returns:
        One case per position.
    """
    return [
        Case.SLM_RIGHT if small == wanted else Case.ONLY_LLM_RIGHT if large == wanted else Case.NEITHER
        for small, large, wanted in zip(slm, llm, reference, strict=True)
    ]
