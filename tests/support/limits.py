"""The one table of limits: what may stand in each field of a request, and what may not, wherever it is given.

`tests/app/test_limits.py` walks it through every surface: `Request`, the page's fields, a link, `/v1`
and the command line. A field without a row fails there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.request import Turn

NAN, INFINITY = float("nan"), float("inf")
HALF = "caf\udce9"
"""Half a surrogate pair: what Python makes of a byte that is no UTF-8."""


@dataclass(frozen=True)
class Limit:
    """A field, the ends of what it takes, and values just beyond them or of another kind."""

    field: str
    good: tuple[Any, ...]
    bad: tuple[Any, ...]


LIMITS = (
    Limit("prompt", ("x", "x" * 1_000_000), ("", " \n\t", None, 5, "x" * 1_000_001, HALF)),
    Limit("system", ("Be brief.", "x" * 100_000), (5, "x" * 100_001, HALF)),
    Limit(
        "turns",
        ((), (Turn("user", "x" * 500_000),) * 2, (Turn("user", "x"),) * 999),
        ((Turn("user", "x"),) * 1_001, (Turn("user", "x" * 500_001),) * 2),
    ),
    Limit("raw", (True, False), ("perhaps", 2)),
    Limit("threshold", (0, 0.5, 2), (NAN, INFINITY, -0.01, 2.1, "much", None, True)),
    Limit("acceptance", (0, 0.5, 1), (NAN, INFINITY, -0.01, 1.5, "some", None, True)),
    Limit("max_draft", (1, 1_024, "auto"), (0, -1, 1_025, 2.5, "never", "9" * 4_000, None)),
    Limit("policy", ("router", "confidence", "random", "slm", "llm"), ("magic", "x" * 5_000, 5)),
    Limit("temperature", (0, 5), (NAN, INFINITY, -0.1, 5.1, "hot")),
    Limit("top_p", (0.01, 1), (NAN, 0, -0.1, 1.5)),
    Limit("top_k", (0, 1_000_000), (-1, 2.5, 1_000_001)),
    Limit("repetition_penalty", (0.1, 10), (NAN, 0, 0.09, 10.1)),
    Limit("max_new_tokens", (1, 1_000_000), (NAN, 0, -1, 1.5, 1_000_001)),
    Limit("seed", (0, 2**53 - 1), (-1, 1.5, 2**63, 10**5_000, None)),
    Limit("stop", ((), ("x" * 1_000,) * 100), (("",), ("x",) * 101, ("x" * 1_001,), (HALF,), 5)),
    Limit("alternatives", (0, 50), (-1, 51, 2.5)),
)

ELSEWHERE = ("setting", "sampling", "forced")
"""Fields of `Request` that hold others, or that only callers in Python give: see `tests/engine/test_request.py`."""

FORM = {
    **dict.fromkeys(("system", "stop", "turns"), ""),
    **{"prompt": "x", "threshold": 0.5, "acceptance": 0.0, "policy": "router", "raw": False, "temperature": 0.0},
    **{"top_p": 1.0, "top_k": 0.0, "repetition_penalty": 1.0, "seed": 7.0, "max_new_tokens": 20.0, "max_draft": 0.0},
}
"""The page's fields, filled in."""


def spelled(value: Any) -> str:
    """A value as it is typed."""
    return "1" + "0" * 5_000 if value == 10**5_000 else str(value)


def traces(field: str, value: Any) -> tuple[str, ...]:
    """What a refusal says of a value, any of it: the value, its size or the limit, or what is wrong with a text."""
    if field == "turns":
        return f"{len(value):,}", f"{sum(len(turn.text) for turn in value):,}", "1 to 1,000"
    first = value[0] if isinstance(value, tuple) else value
    if first == HALF:
        return ("surrogate",)
    if isinstance(value, tuple) and len(value) > 1:
        return f"{len(value)} entries", f"at most {len(value) - 1}"
    if isinstance(first, str) and first.strip():
        return (first, f"{len(first):,}", first[:15])
    if isinstance(first, str) or field in ("prompt", "system"):
        return "empty", "text"
    start = spelled(value)[:15]
    return (f"= {start}", f"'{start}", f"of type {type(value).__name__}")


def names(message: str, field: str, value: Any, also: str = "") -> bool:
    """Whether a refusal names the field, or what it is `also` called, and says what is wrong with the value."""
    called = field, field.replace("_", "-"), also or field
    return any(each in message for each in called) and any(trace in message for trace in traces(field, value))
