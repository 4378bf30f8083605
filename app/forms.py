"""Turns what was entered on the page or through the API into the engine's requests. Refusals are the engine's.

Knows that a page's number fields may be empty and give floats; not what ranges are valid.
"""

from __future__ import annotations

from typing import Any

from engine import DEFAULT_THRESHOLD, Prices, Request, Sampling, Settings

ALTERNATIVES = 5
"""Candidates per model and token that the page asks for."""


def page_request(
    prompt: str,
    threshold: float,
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
) -> Request:
    """The request of the page's fields, in their order.

    Raises:
        InvalidRequest: A value is missing or out of range; the message names it.
    """
    return Request(
        prompt=prompt or "",
        threshold=threshold,
        policy=policy,
        system=system if (system or "").strip() else None,
        raw=bool(raw),
        sampling=Sampling(temperature, top_p, whole(top_k), repetition_penalty),
        max_new_tokens=whole(max_new_tokens),
        stop=stop_strings(stop),
        seed=whole(seed),
        alternatives=ALTERNATIVES,
    )


def page_prices(slm: float, llm: float, reading_ratio: float) -> Prices:
    """The prices of the page's sliders, and the settings' share for tokens that are only read.

    Raises:
        InvalidRequest: A price is missing, negative or not finite.
    """
    return Prices(slm, llm, reading_ratio)


def stop_strings(text: str | None) -> tuple[str, ...]:
    r"""One stop string per line; ``\n`` and ``\t`` stand for a newline and a tab, ``\\`` for a backslash."""
    escapes = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
    found: list[str] = []
    for line in (text or "").splitlines():
        parts, at = [], 0
        while at < len(line):
            pair = line[at : at + 2]
            parts.append(escapes.get(pair, line[at]))
            at += 2 if pair in escapes else 1
        if parts:
            found.append("".join(parts))
    return tuple(found)


def untouched(settings: Settings, threshold: float, touched: bool) -> bool:
    """Whether a threshold is nobody's choice, neither the settings' nor the visitor's.

    Args:
        settings: May name one.
        threshold: On the page.
        touched: Whether the visitor has moved it.
    """
    return settings.threshold is None and threshold == DEFAULT_THRESHOLD and not touched


def whole(value: Any) -> Any:
    """A float that is whole as an int; anything else as it is, for the engine to refuse by name."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
