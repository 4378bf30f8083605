"""Figures as people read them, and what a text costs beside the large model alone. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from engine import TokenEvent
from engine.events import charged
from engine.events.cost import Cost, ModelCost, cost_alone, costs
from engine.models.sources import base_title

UNITS = {"bytes": "bytes moved", "flops": "FLOPs", "seconds": "seconds", "price": "price"}
"""What the page calls the engine's units."""

MEASURED = ("bytes", "flops", "seconds")
"""Units that need no price."""

LEAST_COST = 1e-12
"""Any cost up to this counts as not measured: no text costs so little."""

_NO_BREAK = "\N{NARROW NO-BREAK SPACE}"


def percent(share: float) -> str:
    """A share as "22 %", with a decimal below ten and "<0.1 %" where that would hide it, as the script has it."""
    digits = Decimal("0.1") if 0 < share < 0.0995 else Decimal(1)
    # A tie is rounded up as a browser does; a format specification rounds it to even.
    text = "<0.1" if 0 < share < 0.0005 else Decimal(min(100 * share, 1e12)).quantize(digits, ROUND_HALF_UP)
    return f"{text}{_NO_BREAK}%"


def counted(count: int, noun: str) -> str:
    """A count with its noun, as in "1 token" or "1,200 tokens"."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def significant(value: float, digits: int = 5) -> float:
    """A number without the digits that no plot can show, so that they are not sent."""
    return float(f"{value:.{digits}g}")


def rounded(threshold: float) -> float:
    """A threshold with three digits of its distance from the nearer of 0 and 1, since scores crowd just below 1."""
    distance = min(threshold, 1 - threshold)
    if distance <= 0:
        return round(threshold, 2)
    return round(threshold, min(9, max(3, 2 - math.floor(math.log10(distance)))))


def pair_name(slm: str, llm: str) -> str:
    """Both models' names, the LLM's without the words that both begin with: "Qwen2.5-Coder 0.5B ⇄ 1.5B".

    An aligned SLM is marked as aligned, without the digest of its adapter.
    """
    if (base := base_title(slm)) != slm:
        slm = f"{base} (aligned)"
    first, second = slm.split(), llm.split()
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    return f"{slm} ⇄ {' '.join(second[shared:])}"


class CostParts(NamedTuple):
    """A text's cost in each of `MEASURED`, and tokens.

    Attributes:
        bytes, flops, seconds: (the SLM's part, the LLM's part), both divided by the LLM-only cost; None where that is 0
            or not known. They are separate because a visitor chooses what a token of the LLM costs in tokens of the
            SLM. Seconds are modelled from measured passes.
        tokens: Read and written by the SLM, by the LLM, and by the LLM alone: the browser has their prices. A pass
            writes one token and reads the others.
    """

    bytes: tuple[float, float] | None
    flops: tuple[float, float] | None
    seconds: tuple[float, float] | None
    tokens: tuple[int, ...]


def cost_parts(
    events: Sequence[TokenEvent], prompt_tokens: int, slm: ModelCost, llm: ModelCost, alone: int | None = None
) -> CostParts:
    """What a text costs beside the LLM alone writing `alone` tokens: as many as the text has, if it is None."""
    alone = len(events) if alone is None else alone
    if all(event.threshold == event.acceptance == 0 for event in events):
        slm = replace(slm, router_bytes=0, router_flops=0)
    told, beside = costs(events, prompt_tokens, slm, llm), cost_alone(llm, 0.0, prompt_tokens, alone)
    of_slm, of_llm, passes = told.slm, told.llm, [(event.slm_fed, event.llm_fed) for event in charged(events)]
    if large_only := bool(events) and all(event.threshold > 1 for event in events):
        # The setting "large model only" needs neither the SLM nor the router, and "small model only" no router.
        of_slm, of_llm, passes = Cost(), told.llm_only, [(0, prompt_tokens), *[(0, 1)] * (len(events) - 1)]

    def part(unit: str) -> tuple[float, float] | None:
        small, large, whole = (getattr(cost, unit) for cost in (of_slm, of_llm, beside))
        if whole > LEAST_COST:
            return significant(small / whole), significant(large / whole)
        return (0.0, 1.0) if large_only and alone == len(events) else None

    fed = [[each for each in of if each] for of in zip(*passes, strict=True)]
    tokens = *(count for of in fed for count in (sum(of) - len(of), len(of))), prompt_tokens - 1, alone
    return CostParts(part("bytes"), part("flops"), part("seconds"), tokens)


def token_ratios(slm: ModelCost, llm: ModelCost) -> list[float | None]:
    """What a token of the LLM costs in tokens of the SLM, in each of `MEASURED`; None where that is not known."""
    large, small = (model.forward(1, 0, 1, 0, 0) for model in (llm, slm))
    pairs = [(getattr(large, unit), getattr(small, unit)) for unit in MEASURED]
    return [significant(of_llm / of_slm, 3) if of_llm > 0 and of_slm > 0 else None for of_llm, of_slm in pairs]


def dial(value: float) -> str:
    """A threshold or an acceptance, with all the digits that a dial has."""
    return f"{value:.7g}"


def visible(events: Sequence[TokenEvent]) -> Sequence[TokenEvent]:
    """The tokens that a person counts: the end of a text, which has no characters, is none."""
    ends = bool(events) and events[-1].finish_reason == "eos" and not events[-1].text
    return events[:-1] if ends else events


def tokens_of_all(done: int, expected: float, sure: bool, seconds: float) -> str:
    """How far something is, in tokens, and what is left: "640 of about 2,480 tokens, about 20 s left".

    Args:
        done, expected: Tokens so far, and of all texts together.
        sure: Whether `expected` goes by texts that have ended; else it is the most there can be.
        seconds: Since the first token.
    """
    total = max(done, round(expected))
    if sure and total == done:
        return counted(done, "token")
    left = f", about {duration(seconds / done * (total - done))} left" if sure and done else ""
    return f"{done:,} of {'about' if sure else 'at most'} {counted(total, 'token')}{left}"


def duration(seconds: float) -> str:
    """Seconds for people, no more exact than a guess is: "20 s", "3 min", "2.5 h"."""
    if seconds < 50:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
