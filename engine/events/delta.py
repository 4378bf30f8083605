"""A change of a growing text: it is cut to `cut` tokens, and then some follow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from engine.events.token_event import TokenEvent


class Delta(NamedTuple):
    """A change of a text, so that `before[:cut] + tokens` is the text after it."""

    cut: int
    tokens: Sequence[TokenEvent]


def delta(before: Sequence[TokenEvent], after: Sequence[TokenEvent]) -> Delta:
    """The smallest change from the events of one text to those of another."""
    pairs = zip(before, after, strict=False)
    cut = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1] or pair[0] == pair[1], pairs))
    return Delta(cut, after[cut:])
