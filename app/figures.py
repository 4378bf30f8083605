"""Figures as people read them: costs, shares, counts, the pair's name, and the meter's numbers. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from engine import Costs, TokenEvent
from engine.events import charged, llm_passes, llm_share, taken_back
from engine.events.cost import ModelCost
from engine.models.sources import base_title
from engine.operating_points import MEASURED_UNITS

UNITS = {"bytes": "bytes moved", "flops": "FLOPs", "seconds": "seconds", "price": "price"}
"""What the page calls the engine's units."""

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_MODELLED = "modelled from measured passes"
_TIMED = 8  # tokens: the seconds of fewer are those of the prompt, and of whatever else the machine did then
_ROUNDING = 6e-8  # of a score with seven decimals
_OF_SLM = "of the SLM alone: the LLM's server does not tell (CITER_LLM_CONFIG)"
_NO_BREAK = "\N{NARROW NO-BREAK SPACE}"


def amount(value: float, unit: str) -> str:
    """A cost with three significant digits and its unit, as in "12.3 GB"."""
    if unit == "seconds":
        return f"{value:.3g}{_NO_BREAK}s" if value < 100 else f"{value:.0f}{_NO_BREAK}s"
    if unit == "price":
        return f"{Decimal(f'{value:.3g}'):f}"  # 0.0000053: what one text costs is little
    suffix = "B" if unit == "bytes" else "FLOP"
    for factor, prefix in _PREFIXES:
        if value >= factor:
            return f"{value / factor:.3g}{_NO_BREAK}{prefix}{suffix}"
    return f"{value:.0f}{_NO_BREAK}{suffix}"


def percent(share: float) -> str:
    """A share as "22 %", with a decimal below ten and "<0.1 %" where that would hide it, as the script has it."""
    text = "<0.1" if 0 < share < 0.0005 else _half_up(100 * share, 1 if 0 < share < 0.0995 else 0)
    return f"{text}{_NO_BREAK}%"


def whole_percent(share: float) -> str:
    """A share as "20 %", as the script writes it: measured on some hundred questions, it has no decimals to show."""
    text = "<1" if 0 < share < 0.005 else ">99" if 0.995 < share < 1 else _half_up(100 * share)
    return f"{text}{_NO_BREAK}%"


def _half_up(value: float, digits: int = 0) -> str:
    """A number with so many decimals, a tie rounded up as a browser does; a format specification rounds it to even."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def counted(count: int, noun: str) -> str:
    """A count with its noun, as in "1 token" or "1,200 tokens"."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def significant(value: float, digits: int = 5) -> float:
    """A number without the digits that no plot can show, so that they are not sent."""
    return float(f"{value:.{digits}g}")


def rounded(threshold: float) -> float:
    """To three digits of its distance from 0 and 1: scores crowd just below 1. The page shows what was used."""
    distance = min(threshold, 1 - threshold)
    if distance <= 0:
        return round(threshold, 2)
    return round(threshold, min(9, max(3, 2 - math.floor(math.log10(distance)))))


def simplest(low: float, high: float) -> float | None:
    """The threshold of fewest decimals above one score and at most another; None where seven do not tell them apart.

    As `between` in the browser: the ends are as sent, with seven decimals, so that a rounding is kept away from them.
    """
    for digits in range(1, 8):
        value = math.floor((high - _ROUNDING) * 10**digits) / 10**digits if high < 1 else 1.0
        if value > low + _ROUNDING:
            return value
    return None


def machines(hardware: str) -> str:
    """What something was measured on, as one phrase: "1 or 2 threads of AMD EPYC or Intel Xeon".

    `hardware` is "2 threads of AMD EPYC; 1 thread of Intel(R) Xeon(R) Processor"; anything else stays as it is.
    """
    plain = re.sub(r"\((R|TM)\)| Processor\b| CPU\b", "", hardware)
    each = [re.fullmatch(r"(\d{1,4}) threads? of (.+)", part) for part in plain.split("; ")]
    if not all(each):
        return plain
    counts, names = (list(dict.fromkeys(found[group] for found in each if found)) for group in (1, 2))
    counts.sort(key=int)
    return f"{' or '.join(counts)} thread{'' if counts == ['1'] else 's'} of {' or '.join(names)}"


def pair_name(slm: str, llm: str) -> str:
    """Both models' names, without the words they begin with in common: "Qwen2.5-Coder 0.5B ⇄ 1.5B".

    Of an aligned SLM it says so, without the digest of its adapter.
    """
    if (base := base_title(slm)) != slm:
        slm = f"{base} (aligned)"
    first, second = slm.split(), llm.split()
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    return f"{slm} ⇄ {' '.join(second[shared:])}"


def tokens_per_second(events: Sequence[TokenEvent]) -> float | None:
    """Decoding speed: the first step is left out, because it pays for the prompt. None before the second token."""
    seconds = sum([event.seconds for event in charged(events)][1:])
    return (len(events) - 1) / seconds if len(events) > 1 and seconds > 0 else None


def times_llm(costs: Costs, unit: str) -> float | None:
    """What a run costs as a multiple of LLM-only, in one of `engine.UNITS`; None where that is free."""
    run, llm = getattr(costs.run, unit), getattr(costs.llm_only, unit)
    return significant(run / llm) if llm > 0 else None  # more digits than are shown, or it would be rounded twice


def reading_along(slm: ModelCost, llm: ModelCost) -> dict[str, float]:
    """What a token of the LLM's costs that the SLM reads as well, as a multiple of it alone, by unit of measured cost.

    Modelled: without a context, and without what a score takes beside the SLM's pass.
    """
    alone, along = llm.forward(1, 0, 1, 0, 0), slm.forward(1, 0, 0, 0, 0)
    costs = {unit: (getattr(alone, unit), getattr(along, unit)) for unit in MEASURED_UNITS}
    return {unit: significant(1 + more / own, 3) for unit, (own, more) in costs.items() if own > 0}


def meter(events: Sequence[TokenEvent], costs: Costs, unit: str, served: bool = False) -> dict[str, Any]:
    """What the meter shows of the events so far and of their costs in one of `engine.UNITS`.

    Args:
        served: Whether the LLM is on a server, which is asked once for each of its passes.

    Returns:
        Texts by field name, and under `gauge` the three costs as shares of the largest.
    """
    run, slm, llm = (getattr(getattr(costs, end), unit) for end in ("run", "slm_only", "llm_only"))
    speed = tokens_per_second(events)
    largest = max(run, slm, llm)
    about = _MODELLED if unit == "seconds" else ""
    unknown = unit in costs.unknown
    if unknown:
        about = _OF_SLM
    return {
        "tokens": f"{len(events):,}",
        "share": percent(llm_share(events)) if events else "–",
        "speed": f"{speed:.3g}" if speed else "–",
        "unit": UNITS[unit],
        "run": amount(run, unit) if events else "–",
        "slm": amount(slm, unit) if events else "–",
        "llm": "not known" if unknown else amount(llm, unit) if events else "–",
        "relative": percent(run / llm) if llm > 0 else "–",
        "saves": "the LLM's are not known" if unknown else _saving(run, llm),
        "faster": _faster(costs) if len(events) >= _TIMED or (events and events[-1].finish_reason) else "–",
        "modelled": "; ".join(filter(None, (_charged(events), _requests(events, served), about))),
        "gauge": [round(value / largest, 4) if largest > 0 else 0 for value in (run, slm, llm)],
    }


def dial(value: float) -> str:
    """A threshold or an acceptance, with all the digits that a dial has."""
    return f"{value:.7g}"


def _faster(costs: Costs) -> str:
    """How many times as fast as LLM-only, by measured passes: so with two digits."""
    run, llm = costs.run.seconds, costs.llm_only.seconds
    if run <= 0 or llm <= 0:
        return "–"
    ratio = llm / run
    return (f"{ratio:.1f}" if 0.995 <= ratio < 9.95 else f"{significant(ratio, 2):g}") + " times"


def _charged(events: Sequence[TokenEvent]) -> str:
    count = taken_back(events)
    return f"with {counted(count, 'token')} that {'was' if count == 1 else 'were'} taken back" if count else ""


def _requests(events: Sequence[TokenEvent], served: bool) -> str:
    return f"{counted(llm_passes(events), 'request')} to the LLM's server" if served else ""


def _saving(run: float, llm: float) -> str:
    if llm <= 0:
        return "nothing to save"
    return f"saves {percent(1 - run / llm)}" if run <= llm else f"costs {percent(run / llm - 1)} more"


def tokens_of_all(done: int, expected: float, sure: bool, seconds: float) -> str:
    """How far something is, in tokens, and what is left: "640 of about 2,480 tokens, about 20 s left".

    Args:
        done, expected: Tokens so far, and of all texts together.
        sure: Whether `expected` goes by texts that have ended; else it is the most there can be.
        seconds: Since the first token.
    """
    total = max(done, round(expected))
    left = f", about {duration(seconds / done * (total - done))} left" if sure and done and total > done else ""
    return f"{done:,} of {'about' if sure else 'at most'} {counted(total, 'token')}{left}"


def duration(seconds: float) -> str:
    """Seconds for people, no more exact than a guess is: "20 s", "3 min", "2.5 h"."""
    if seconds < 50:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
