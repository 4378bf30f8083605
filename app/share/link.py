"""A trace as short as a link needs it. The browser deflates it and puts it behind the address's `#`.

What stands there goes to no server; whoever opens the link sends it to the page that they open, as a trace's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any

from app.components import to_json
from app.figures import significant
from engine import TokenEvent, Trace

MAX_LINK_TOKENS = 5_000
"""A longer text is not even tried: deflated, a token takes some eight bytes, and a link has room for 24,000."""

_DIGITS = 7  # of scores and ratios, as many as the browser is sent
_LEFT_OUT = {"probability", "seconds", "slm_alternatives", "llm_alternatives", "slm_entropy", "llm_entropy"}
"""Of a token: what is only looked at, and takes four fifths of the room. A file has it."""


def link_json(trace: Trace) -> str:
    """The trace as JSON that `Trace.parse` reads, without defaults and candidates, and with few digits.

    Empty where it is far too long.
    """
    if len(trace.events) > MAX_LINK_TOKENS:
        return ""
    return to_json(_short(trace))


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return significant(value, _DIGITS)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_short(each) for each in value]
    if not is_dataclass(value):
        return value
    left_out = _LEFT_OUT if isinstance(value, TokenEvent) else set()
    given = {
        name: getattr(value, name)
        for name, default in _defaults(type(value))
        if name not in left_out and getattr(value, name) != default
    }
    return {**{name: _short(own) for name, own in given.items()}, **({"seconds": 0} if left_out else {})}


@cache
def _defaults(kind: type) -> list[tuple[str, Any]]:
    """A dataclass's fields with their defaults; `MISSING` where one must be given."""
    return [(each.name, _default(each)) for each in fields(kind)]


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
