"""The page's fields, as the engine's request, from a trace, and from a link's query. Pure functions.

The engine says what is valid. A link or a trace may be a stranger's: its values are checked one by one, and those that
will not do are left out by name.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine import InvalidRequest, Request, Sampling, build_request
from engine.errors import check_text, first_fault
from engine.events.parsing import Many
from engine.request import MAX_PROMPT_CHARACTERS, MAX_STOP_CHARACTERS, MAX_STOPS, MAX_TURNS, Turn

ALTERNATIVES = 5
"""Candidates per model and token that the page asks for."""

DIALS = ("threshold", "acceptance")
"""Fields that a router has a start of its own for."""

_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
_WHOLE = ("top_k", "max_draft", "seed", "max_new_tokens")
_TEXTS = ("turns", "prompt", "system", "stop")
_YES_NO = {"1": True, "true": True, "0": False, "false": False}
LARGEST_SEED = 2**53 - 1  # a browser's numbers are exact up to here
_SHOWN = 160  # characters of a refusal
_MAX_STOP_TEXT = MAX_STOPS * (2 * MAX_STOP_CHARACTERS + 1)  # each character may be written as two
_MAX_TURNS_TEXT = 2 * MAX_PROMPT_CHARACTERS  # as JSON, and with who wrote what
_ESCAPES = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def page_request(
    prompt: str,
    threshold: float,
    acceptance: float,
    policy: str,
    system: str,
    raw: bool,
    temperature: float,
    top_p: float,
    top_k: float,
    repetition_penalty: float,
    seed: float,
    max_new_tokens: float,
    stop: str,
    max_draft: float,
    turns: str,
) -> Request:
    """The request of the page's fields, in their order; number fields may be empty and give floats.

    Raises:
        InvalidRequest: A value is missing or out of range; the message names it.
    """
    return build_request(
        prompt=prompt or "",
        threshold=threshold,
        acceptance=acceptance,
        max_draft=draft_limit(max_draft),
        policy=policy,
        system=None if system is None or (isinstance(system, str) and not system.strip()) else system,
        raw=False if raw is None else raw,
        sampling=Sampling(temperature, top_p, whole(top_k), repetition_penalty),
        max_new_tokens=whole(max_new_tokens),
        stop=stop_strings(stop),
        seed=whole(seed),
        alternatives=ALTERNATIVES,
        turns=read_turns(turns),
    )


def greedy_request(prompt: str, policy: str, max_draft: float, limit: float, **dials: float) -> Request:
    """The request of the fields of Compare and Tune, which write greedily; raises InvalidRequest as `page_request`."""
    draft, limit = draft_limit(max_draft), whole(limit)
    return build_request(prompt or "", policy=policy, max_draft=draft, max_new_tokens=limit, **dials)


FIELDS = tuple(inspect.signature(page_request).parameters)
"""Names of the page's fields in their order; a link's parameters have the same names."""


def draft_limit(value: Any) -> Any:
    """What the page's field of the longest draft says, where 0 stands for "auto"."""
    return "auto" if value == 0 else whole(value)


def whole(value: Any) -> Any:
    """A float that is whole as an int; anything else as it is, for the engine to refuse by name."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def stop_strings(text: str | None) -> tuple[str, ...]:
    r"""One stop string per line; ``\n``, ``\r`` and ``\t`` stand for line breaks and a tab, ``\\`` for a backslash."""
    check_text("stop", text or "", _MAX_STOP_TEXT)
    lines = (text or "").replace("\r\n", "\n").split("\n")
    meant = [re.sub(r"\\([nrt\\])", lambda sign: _ESCAPES[sign[1]], line) for line in lines]
    return tuple(filter(None, meant))


def stop_text(stop: Iterable[str]) -> str:
    """Stop strings as the page's field has them; the inverse of `stop_strings`."""
    letters = {meant: letter for letter, meant in _ESCAPES.items()}
    return "\n".join(re.sub(r"[\n\r\t\\]", lambda sign: f"\\{letters[sign[0]]}", line) for line in stop)


def read_turns(text: Any) -> tuple[Turn, ...]:
    """The conversation before the prompt, as `turns_text` writes it, or none; raises InvalidRequest."""
    if text is None or text == "":
        return ()
    check_text("The conversation before the prompt", text, _MAX_TURNS_TEXT)
    try:
        said = json.loads(text)
        # One too many is refused by the request, in its own words.
        return _turns().validate_python(said[: MAX_TURNS + 1] if isinstance(said, list) else said)
    except ValidationError as error:
        fault = first_fault(error, "all of it")
    except (ValueError, RecursionError):
        fault = "it is no JSON"
    raise InvalidRequest(f"The conversation before the prompt is not in this page's format: {fault}.")


def turns_text(turns: Sequence[Turn]) -> str:
    """A conversation as the page's field has it: JSON, as in a trace; empty where there is none."""
    told = [{name: value for name, value in asdict(turn).items() if value or name != "authors"} for turn in turns]
    return json.dumps(told, ensure_ascii=False) if told else ""


@cache
def _turns() -> TypeAdapter[tuple[Turn, ...]]:
    return TypeAdapter(Many[Turn])


def request_fields(asked: Request) -> dict[str, Any]:
    """What the page's fields hold for a request; the inverse of `page_request`."""
    return {
        "prompt": asked.prompt,
        "threshold": asked.setting.threshold,
        "acceptance": asked.setting.acceptance,
        "policy": asked.setting.policy,
        "system": asked.system or "",
        "raw": asked.raw,
        **{name: getattr(asked.sampling, name) for name in _SAMPLING},
        "seed": asked.seed,
        "max_new_tokens": asked.max_new_tokens,
        "stop": stop_text(asked.stop),
        "max_draft": 0 if asked.setting.max_draft == "auto" else asked.setting.max_draft,
        "turns": turns_text(asked.turns),
    }


def held_fields(asked: Request, policies: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """`fitting` for what was asked, where the page's pair has these policies."""
    return fitting(request_fields(asked), policies)


def read_query(query: Mapping[str, str], policies: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields that a link's query fills in, by name, and why others of `FIELDS` were refused, as sentences.

    `policies` are those of the page's pair.
    """
    values: dict[str, Any] = {}
    refused: list[str] = []
    for name in FIELDS:
        if name in query:
            try:
                values[name] = _parsed(name, query[name])
            except InvalidRequest as error:
                refused.append(str(error))
    good, bad = fitting(values, policies)
    return good, [*refused, *bad]


def fitting(values: Mapping[str, Any], policies: Iterable[str] | None = None) -> tuple[dict[str, Any], list[str]]:
    """The values, by field, that the page can hold and the engine accepts, and why the others will not do.

    `policies` are those of the page's pair, where that matters.
    """
    good: dict[str, Any] = {}
    bad: list[str] = []
    for name, value in values.items():
        try:
            _check(name, value, policies)
            good[name] = value
        except InvalidRequest as error:
            text = str(error)
            bad.append(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
    return good, bad


def _check(name: str, value: Any, policies: Iterable[str] | None) -> None:
    if name in _SAMPLING:
        Sampling(**{name: value})
    elif name == "turns":
        Request("any", turns=read_turns(value))
    elif name == "stop":
        Request("any", stop=stop_strings(value))
    else:
        build_request(**{"prompt": "any", name: draft_limit(value) if name == "max_draft" else value})
    if name == "seed" and value > LARGEST_SEED:
        raise InvalidRequest(f"seed = {value} is more than a browser's number field holds exactly (2^53 − 1)")
    if name == "policy" and policies is not None and value not in policies:
        raise InvalidRequest(f"policy = {value!r} is not available with these models: choose {', '.join(policies)}")


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
