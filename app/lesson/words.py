"""Sentences about a text as words: plain, a figure, or a token, which the page writes as such.

Tokens are a model's, so they travel as JSON and are written with `textContent`.
"""

from __future__ import annotations

from engine import TokenEvent

Words = list[str | list[str]]
"""Plain text, or [kind, text] with kind "b" (a figure), "slm" or "llm" (a token)."""


def apart(score: float, threshold: float) -> tuple[str, str]:
    """Both with as many decimals, two to seven, as it takes to tell them apart."""
    texts = [(f"{score:.{digits}f}", f"{threshold:.{digits}f}") for digits in range(2, 8)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])


def ratio_text(ratio: float, acceptance: float) -> tuple[str, str]:
    """`apart`, without a zero for what is only small."""
    if ratio < 0.001:
        return "less than 0.001", f"{acceptance:g}"
    return (f"{ratio:.3f}", f"{acceptance:g}") if ratio < 0.01 else apart(ratio, acceptance)


def chip(event: TokenEvent, last: bool) -> list[str]:
    """A token as a word; `last`: of the text."""
    return [event.role.value, spelled(event, last)]


def spelled(event: TokenEvent, last: bool) -> str:
    """A token's text with everything in it visible, as in the token stream."""
    if not event.text:
        return "end" if last and event.finish_reason == "eos" else "part of a character"
    seen = event.text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(
        c if c.isprintable() else chr(0x2400 + ord(c)) if ord(c) < 32 else "\N{REPLACEMENT CHARACTER}" for c in seen
    )
