"""What was asked for a text, as the page's fields and as a link's query. Pure functions, without gradio.

Knows the fields by name and what they can hold; what is valid is the engine's to say. A link may be a stranger's: its
values are checked one by one, and those that will not do are left out by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from app.forms import stop_strings
from engine import InvalidRequest, Request, Sampling, Trace
from engine.replay import same_text

FIELDS = (
    "prompt",
    "threshold",
    "policy",
    "system",
    "raw",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "seed",
    "max_new_tokens",
    "stop",
)
"""In the order of `app.forms.page_request`; a link's parameters have the same names."""

MAX_TEXT = 6_000
"""Encoded characters of a link's texts together: browsers and proxies cut or refuse addresses of about 8,000."""

_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
_WHOLE = ("top_k", "seed", "max_new_tokens")
_TEXTS = ("prompt", "system", "stop")
# Every page starts with these; its threshold, policy, seed and length are its server's, so a link always has those.
_STARTS = {
    "system": "",
    "raw": False,
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "stop": "",
}
_YES_NO = {"1": True, "true": True, "0": False, "false": False}
_LARGEST_SEED = 2**53 - 1  # a browser's numbers are exact up to here
_SHOWN = 160  # characters of a refusal


def trace_fields(trace: Trace) -> dict[str, Any]:
    """What the page's fields hold for a text to be written again; the threshold is the one last in force."""
    last = trace.events[-1].threshold if trace.events else trace.threshold
    return {
        "prompt": trace.prompt,
        "threshold": last,
        "policy": trace.policy,
        "system": trace.system or "",
        "raw": trace.raw,
        **{name: getattr(trace.sampling, name) for name in _SAMPLING},
        "seed": trace.seed,
        "max_new_tokens": trace.max_new_tokens,
        "stop": stop_text(trace.stop),
    }


def stop_text(stop: Iterable[str]) -> str:
    """Stop strings as the page's field has them: one per line, with escapes. See `app.forms.stop_strings`."""
    return "\n".join(text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") for text in stop)


def link_query(trace: Trace) -> tuple[str, list[str]]:
    """The query of a link that fills the page's fields as they were for a text.

    Returns:
        The query, without its question mark, and what the link does not restore, as sentences for people.
    """
    values, missing = fitting(trace_fields(trace), trace.stop)
    given = {name: value for name, value in values.items() if _STARTS.get(name) != value}
    room = MAX_TEXT
    for name in reversed(_TEXTS):  # the prompt last: where there is no room for all, it is the one to be left out
        if name not in given:
            continue
        size = len(quote(given[name], safe="", errors="replace"))
        if size > room:
            del given[name]
            missing.append(f"The {'system prompt' if name == 'system' else name} is too long for a link.")
        else:
            room -= size
    query = urlencode({name: _written(value) for name, value in given.items()}, quote_via=quote, errors="replace")
    return query, [*missing, *_unrestored(trace, values)]


def read_query(query: Mapping[str, str], policies: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields that a link fills in.

    Args:
        query: The address' parameters; others than `FIELDS` are not ours.
        policies: What the page's pair can do.

    Returns:
        Values by field, and why the others were refused, as sentences that name them.
    """
    values: dict[str, Any] = {}
    refused: list[str] = []
    for name in FIELDS:
        if name in query:
            try:
                values[name] = _parsed(name, query[name])
            except InvalidRequest as error:
                refused.append(str(error))
    good, bad = fitting(values, policies=policies)
    return good, [*refused, *bad]


def fitting(
    values: Mapping[str, Any], stop: tuple[str, ...] | None = None, policies: Iterable[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The values that the page's fields can hold and the engine accepts.

    Args:
        values: By field.
        stop: What the field of stop strings must mean, where that is known.
        policies: What the page's pair can do, where that matters.

    Returns:
        Those values, and why the others will not do.
    """
    good: dict[str, Any] = {}
    bad: list[str] = []
    for name, value in values.items():
        try:
            _check(name, value, stop, policies)
            good[name] = value
        except InvalidRequest as error:
            text = str(error)
            bad.append(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
    return good, bad


def _check(name: str, value: Any, stop: tuple[str, ...] | None, policies: Iterable[str] | None) -> None:
    if name in _SAMPLING:
        Sampling(**{name: value})
    elif name == "stop":
        if stop is not None and stop_strings(value) != stop:
            raise InvalidRequest("stop: the page's field cannot hold these stop strings (a line break of another kind)")
    else:
        Request(**{"prompt": "any", name: value})
    if name == "seed" and value > _LARGEST_SEED:
        raise InvalidRequest(f"seed = {value} is more than a browser's number field holds exactly (2^53 − 1)")
    if name == "policy" and policies is not None and value not in policies:
        raise InvalidRequest(f"policy = {value!r} is not there with these models: they can do {', '.join(policies)}")


def _parsed(name: str, text: str) -> Any:
    if name in _TEXTS or name == "policy":
        return text
    short = text if len(text) <= 20 else f"{text[:20]}…"
    if name == "raw":
        if text.lower() not in _YES_NO:
            raise InvalidRequest(f"raw = {short!r} must be 1 or 0")
        return _YES_NO[text.lower()]
    try:
        return int(text) if name in _WHOLE else float(text)
    except ValueError:
        raise InvalidRequest(f"{name} = {short!r} is not a {'whole ' if name in _WHOLE else ''}number") from None


def _unrestored(trace: Trace, values: Mapping[str, Any]) -> list[str]:
    """What no field of the page holds, though the text depends on it."""
    found = []
    if trace.forced:
        found.append("Tokens chosen by hand are not in the link.")
    low, high = same_text(trace.events)
    if "threshold" in values and not low < values["threshold"] <= high:
        found.append("The threshold was turned while this text was written; the link has the last one.")
    return found


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
