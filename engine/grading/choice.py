"""The label that a text chooses, of a multiple-choice question."""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache

Choices = tuple[tuple[str, str], ...]
"""(label, text) pairs."""


def stated(choices: Choices, rest: str, sentence: str) -> str | None:
    """The label after "the answer is", or the one choice whose text stands there; `rest` begins with `sentence`."""
    first, named, _, hedged = _patterns(tuple(label for label, _ in choices))
    if found := first.match(rest) or named.search(sentence):
        return None if hedged.match(found.string, found.end()) else _label(choices, found)
    own = [(label, text.casefold().strip(" .")) for label, text in choices]
    there = [
        (label, text)
        for label, text in own
        if text and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", sentence.casefold())
    ]
    longest = [label for label, text in there if not any(text != other and text in other for _, other in there)]
    return longest[0] if len(longest) == 1 else None


def marked(choices: Choices, text: str) -> str | None:
    """The last label that is marked as one, as "(C)" or "**C**"; else that of the only line that begins with one."""
    _, named, line, hedged = _patterns(tuple(label for label, _ in choices))
    lines = list(line.finditer(text))  # several are the choices, told again
    found = deque(named.finditer(text), maxlen=1) or lines * (len(lines) == 1)
    return None if not found or hedged.match(text, found[0].end()) else _label(choices, found[0])


def _label(choices: Choices, found: re.Match[str]) -> str:
    named = next(filter(None, found.groups())).casefold()
    return next(label for label, _ in choices if label.casefold() == named)


@lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Of a text that begins with a label, a marked label, a line with a label, and one more label."""
    label = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    # "a" and "I" are words: such a label needs a mark, an end or a conjunction behind it.
    capital = "|".join(re.escape(each) for each in labels if each.isupper() and each not in "AI") or r"(?!)"
    mark = r"[\s:=*_\"'`“$({\[]{0,12}"
    end = r"(?=\s{0,5}(?:$|\n)|[.,;:!?)\]}*_\"'`”$](?![0-9])|\s(?:because|since|as|and|or|is)\b)"
    plain = rf"(?:({label}){end}|((?-i:{capital}))(?=\s))"
    word = r"\b(?:option|choice|letter)\s"
    written = (
        rf"{mark}(?:{word})?{mark}{plain}",
        rf"(?:[(\[{{][*_$]{{0,3}}|\*\*\(?)({label})(?:[*_$]{{0,3}}[)\]}}]|\*\*|[.:]\s)|{word}{mark}{plain}",
        rf"^[ *_]{{0,6}}({label})(?:[.:)][*_]{{0,3}}(?=\s|$)|[*_]{{0,3}}[ ]{{0,3}}$)",
        rf"\W{{0,6}}(?:or|and|/|&|,)\s?(?:\(\s?(?:{label})\s?\)|(?-i:{capital})(?![\w'’]))",
    )
    return tuple(re.compile(each, re.IGNORECASE | re.MULTILINE) for each in written)
