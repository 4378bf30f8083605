"""The meter's numbers as short texts: tokens, LLM share, cost beside both extremes, speed. Pure functions.

Knows how figures are written for people; costs themselves are the engine's folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Costs, Role, TokenEvent

UNITS = {"bytes": "bytes moved", "flops": "FLOPs", "seconds": "seconds", "price": "price"}
"""What the page calls the engine's units."""

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NO_BREAK = "\N{NARROW NO-BREAK SPACE}"


def amount(value: float, unit: str) -> str:
    """A cost with three significant digits and its unit, as in "12.3 GB"."""
    if unit == "seconds":
        return f"{value:.3g}{_NO_BREAK}s" if value < 100 else f"{value:.0f}{_NO_BREAK}s"
    if unit == "price":
        return f"{value:.3g}" if value == 0 or value >= 1e-4 else f"{value * 1e6:.3g}{_NO_BREAK}millionths"
    suffix = "B" if unit == "bytes" else "FLOP"
    for factor, prefix in _PREFIXES:
        if value >= factor:
            return f"{value / factor:.3g}{_NO_BREAK}{prefix}{suffix}"
    return f"{value:.0f}{_NO_BREAK}{suffix}"


def percent(share: float) -> str:
    """A share as "22 %", with a decimal below ten and "<0.1 %" where that would hide it, as the script has it."""
    text = "<0.1" if 0 < share < 0.0005 else f"{100 * share:.{1 if 0 < share < 0.0995 else 0}f}"
    return f"{text}{_NO_BREAK}%"


def tokens_per_second(events: Sequence[TokenEvent]) -> float | None:
    """Decoding speed: the first token is left out, because it pays for the prompt. None before the second."""
    seconds = sum(event.seconds for event in events[1:])
    return (len(events) - 1) / seconds if len(events) > 1 and seconds > 0 else None


def meter(events: Sequence[TokenEvent], costs: Costs, unit: str) -> dict[str, Any]:
    """What the meter shows.

    Args:
        events: The run's events so far.
        costs: Their cost beside both extremes.
        unit: One of `engine.UNITS`.

    Returns:
        Texts by field name, and under `gauge` the three costs as shares of the largest.
    """
    run, slm, llm = (getattr(getattr(costs, end), unit) for end in ("run", "slm_only", "llm_only"))
    speed = tokens_per_second(events)
    largest = max(run, slm, llm)
    share = sum(event.role is Role.LLM for event in events) / max(1, len(events))
    return {
        "tokens": f"{len(events):,}",
        "share": percent(share) if events else "–",
        "speed": f"{speed:.3g}" if speed else "–",
        "unit": UNITS[unit],
        "run": amount(run, unit) if events else "–",
        "slm": amount(slm, unit) if events else "–",
        "llm": amount(llm, unit) if events else "–",
        "relative": percent(run / llm) if llm > 0 else "–",
        "saves": _saving(run, llm),
        "modelled": "extremes modelled from measured passes" if unit == "seconds" else "",
        "gauge": [round(value / largest, 4) if largest > 0 else 0 for value in (run, slm, llm)],
    }


def _saving(run: float, llm: float) -> str:
    if llm <= 0:
        return "nothing to save"
    return f"saves {percent(1 - run / llm)}" if run <= llm else f"costs {percent(run / llm - 1)} more"
