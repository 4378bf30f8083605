"""A trace as short as a link needs it. The browser deflates it and puts it behind the address's `#`.

What stands there goes to no server; whoever opens the link sends it to the page that they open, as a trace's file.
"""

from __future__ import annotations

import json

from app.components import to_json
from app.figures import significant
from engine import Trace
from engine.events.trace import trace_adapter

MAX_LINK_TOKENS = 5_000
"""A longer text is not even tried: deflated, a token takes some eight bytes, and a link has room for 24,000."""

_DIGITS = 7  # of scores and ratios, as many as the browser is sent
_LOOKED_AT = {"probability", "seconds", "slm_alternatives", "llm_alternatives", "slm_entropy", "llm_entropy"}
_LEFT_OUT = {"__all__": {**dict.fromkeys(_LOOKED_AT, True), "taken_back": {"__all__": _LOOKED_AT}}}
"""Of tokens: what is only looked at, and takes four fifths of the room. A file has it."""


def link_json(trace: Trace) -> str:
    """The trace as JSON that `Trace.from_json` reads, without defaults and candidates, and with few digits.

    Empty where it is far too long.
    """
    if len(trace.events) > MAX_LINK_TOKENS:
        return ""
    short = trace_adapter().dump_json(trace, exclude={"events": _LEFT_OUT}, exclude_defaults=True)
    return to_json(json.loads(short, parse_float=lambda digits: significant(float(digits), _DIGITS)))
