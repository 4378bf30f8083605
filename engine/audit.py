"""A second look at a finished text: which tokens the other model would have written too, or differently.

A fold over the candidates that both models' passes leave with each token (`Decoding.reveal` reads what is left); it
never changes the text. Knows no models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.events import Role, TokenEvent


@dataclass(frozen=True)
class Audit:
    """What the other model says about each token, by position.

    Attributes:
        missed: Written by the SLM where the LLM's likeliest token is another: what the router let pass.
        wasted: Written by the LLM where the SLM's likeliest token is the same: what the router paid for nothing.
        unknown: Where the other model's candidates are not known.
    """

    missed: tuple[int, ...]
    wasted: tuple[int, ...]
    unknown: tuple[int, ...]


def audit(events: Sequence[TokenEvent]) -> Audit:
    """Audits a text.

    Args:
        events: In order, with what was revealed later folded in (`engine.events.fold_revealed`). At temperature 0 the
            likeliest token is what a model would have written; above, what it would most likely have written.
    """
    missed, wasted, unknown = [], [], []
    for index, event in enumerate(events):
        other = event.llm_alternatives if event.role is Role.SLM else event.slm_alternatives
        if not other:
            unknown.append(index)
        elif event.role is Role.SLM and other[0].id != event.id:
            missed.append(index)
        elif event.role is Role.LLM and other[0].id == event.id:
            wasted.append(index)
    return Audit(tuple(missed), tuple(wasted), tuple(unknown))
