"""What another threshold would change in a finished text, read off its events. Pure functions; knows no models.

Up to the first decision that flips, a text is the same at any threshold (the design's section 4): scores depend on the
text before them only, and chance on seed and position. `Decoding.resume` goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from engine.events import Role, TokenEvent, role_at
from engine.request import Request


def first_flip(events: Sequence[TokenEvent], threshold: float) -> int | None:
    """Index of the first token that another model would write at this threshold; None if there is none.

    Tokens without a score and those whose author a person chose never flip.
    """
    for index, event in enumerate(events):
        if event.score is not None and not event.forced and role_at(event.score, threshold) is not event.role:
            return index
    return None


def same_text(events: Sequence[TokenEvent]) -> tuple[float, float]:
    """The thresholds at which every decision of a text stays as it is: above the first number, up to the second.

    Returns:
        (low, high]: the highest score that went to the LLM (−∞ without one), and the lowest that went to the SLM (+∞).
        Empty (low ≥ high) where the threshold was turned while the text was written.
    """
    decided = [(event.score, event.role) for event in events if event.score is not None and not event.forced]
    low = max((score for score, role in decided if role is Role.LLM), default=-math.inf)
    high = min((score for score, role in decided if role is Role.SLM), default=math.inf)
    return low, high


def at_threshold(request: Request, events: Sequence[TokenEvent], threshold: float) -> tuple[Request, list[TokenEvent]]:
    """What stays of a text at another threshold.

    Args:
        request: What the text answers.
        events: The text, complete or cut short.
        threshold: The new one.

    Returns:
        The request at that threshold, and the events that are the same there, for `Decoding.resume`. Without a flip
        those are all events, and a complete text is complete.
    """
    flip = first_flip(events, threshold)
    kept = events if flip is None else events[:flip]
    return replace(request, threshold=threshold), [replace(event, threshold=threshold) for event in kept]
