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
from engine import Alternative, Trace

MAX_LINK_TOKENS = 5_000
"""A longer text is not even tried: deflated, a token takes some eight bytes, and a link has room for 24,000."""

_DIGITS = 9  # scores and ratios are 32-bit numbers: decisions stay as they are
_FEW_DIGITS = 4  # of what is only looked at
_LOOKED_AT = ("seconds", "slm_entropy", "llm_entropy", "pass_table", "head_table")


def link_json(trace: Trace, sweep: dict[str, Any] | None = None) -> str:
    """The trace as JSON that `Trace.parse` reads, without defaults, and with few digits of what was measured.

    Empty where it is far too long. `sweep` is what stands beside it (`app.share.swept`).
    """
    if len(trace.events) > MAX_LINK_TOKENS:
        return ""
    return to_json({**_short(trace), **({"sweep": _short(sweep)} if sweep else {})})


def _short(value: Any, digits: int = _DIGITS) -> Any:
    if isinstance(value, float):
        return significant(value, digits)
    if isinstance(value, Alternative):
        return [value.id, value.text, round(value.probability, _FEW_DIGITS)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_short(each, digits) for each in value]
    if isinstance(value, dict):
        return {name: _short(each, digits) for name, each in value.items()}
    if not is_dataclass(value):
        return value
    given = {name: getattr(value, name) for name, default in _defaults(type(value)) if getattr(value, name) != default}
    return {name: _short(own, _FEW_DIGITS if name in _LOOKED_AT else digits) for name, own in given.items()}


@cache
def _defaults(kind: type) -> list[tuple[str, Any]]:
    """A dataclass's fields with their defaults; `MISSING` where one must be given."""
    return [(each.name, _default(each)) for each in fields(kind)]


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
