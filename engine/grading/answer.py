r"""Where an answer stands in a text, and whether it is the right one.

Where a text answers more than once, its last answer decides, also when that one cannot be read: "the answer is 41. No,
the answer is unknown." is wrong. Texts are whatever a model wrote, up to 100 kB, and all patterns take linear time.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import Literal, Protocol

from engine.grading import number
from engine.grading.formula import last_boxed, same_formula, spelling
from engine.grading.number import last_match

Choices = tuple[tuple[str, str], ...]
"""(label, text) pairs."""

Family = Literal["choice", "number", "latex", "arithmetic"]
"""How a question's answer is graded; "arithmetic" is the tiny pair's, a number that must be stated."""

RULE = (
    "A number is compared by value (1,234 = 1234.0): the one in the last \\boxed{}, else the one after the last “the "
    "answer is” or ####, else the last of the text. A choice letter (A to H) must be stated (“the answer is B”), or "
    "else marked as one: (B), **B**, or alone on its line. LaTeX must stand in the last \\boxed{}, or else after “the "
    "answer is”; any other answer there, or anywhere as whole words, whatever the case."
)
"""The rule of `is_right`, for people."""


class Gradable(Protocol):
    """A question; one of multiple choice has `choices`."""

    @property
    def family(self) -> Family: ...
    @property
    def answer(self) -> str: ...
    @property
    def choices(self) -> Choices: ...


_STATED = re.compile(
    r"\b(?:answer|(?:correct|right|best) (?:choice|option))[\s*_]{0,4}(?:is\b|:)|####(?=\s{0,3}[-$]?[0-9])",
    re.IGNORECASE,
)
_STATED_OR_BOXED = re.compile(_STATED.pattern + r"|\\boxed(?![a-z])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_FORMULA = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LETTER = re.compile(r"[(\[]?([A-H])[)\].:]?", re.IGNORECASE)
_LETTERS = tuple((letter, "") for letter in "ABCDEFGH")
_EDGES = " .,;:!?\"'“”‘’`*_"
_LONGEST = 1_000  # characters that are read of a statement


def grade(question: Gradable, text: str) -> bool:
    """Whether a text of any length gives the question's answer; False also where it gives none."""
    match question.family:
        case "choice":
            return _choice(question.choices, text) == question.answer
        case "latex":
            formula = _formula(text)
            return formula is not None and same_formula(formula, question.answer)
        case family:
            value = _number(text) if family == "number" or "answer is" in text else None
            return value is not None and value == number.parse(question.answer)


def is_right(text: str, expected: str) -> bool:
    """Whether a text gives an answer of an unknown family, by `RULE`."""
    if (value := number.parse(expected)) is not None:
        return _number(text) == value
    if letter := _LETTER.fullmatch(expected.strip()):
        return _choice(_LETTERS, text) == letter[1].upper()
    if (formula := _formula(text)) is not None and spelling(formula) == spelling(expected):
        return True
    return "\\" not in expected and _stands_in(expected, text)


def _after_last(pattern: re.Pattern[str], text: str) -> str | None:
    """What follows the last match, without the colons, spaces and emphasis before it; None where there is no match."""
    found = last_match(pattern, text)
    return None if found is None else text[found.end() :][:_LONGEST].lstrip(" \t\r\n:*_")


def _sentence(text: str) -> str:
    return _SENTENCE_END.split(text, maxsplit=1)[0]


def _choice(choices: Choices, text: str) -> str | None:
    r"""The choice after the last "answer is" or \boxed; else the last one that is marked as one, as "(C)" or "**C**".

    After "answer is" that is a label, or the one choice whose text stands there. Where nothing is marked, it is the
    label of the only line that begins with one.
    """
    first, named, line, hedged = _patterns(tuple(label for label, _ in choices))
    if (rest := _after_last(_STATED_OR_BOXED, text)) is None:
        lines = list(line.finditer(text))  # several are the choices, told again
        found = last_match(named, text) or (lines[0] if len(lines) == 1 else None)
    else:
        sentence = _sentence(rest)
        found = first.match(rest) or named.search(sentence)
        if found is None:
            return _choice_by_text(choices, sentence.casefold())
    if found is None or hedged.match(found.string, found.end()):
        return None
    label = next(filter(None, found.groups())).casefold()
    return next(each for each, _ in choices if each.casefold() == label)


def _choice_by_text(choices: Choices, sentence: str) -> str | None:
    """The one choice whose text is in a sentence; texts that are part of another such choice's text do not count."""
    own = [(label, text.casefold().strip(" .")) for label, text in choices]
    there = [each for each in own if each[1] and re.search(rf"(?<!\w){re.escape(each[1])}(?!\w)", sentence)]
    longest = [label for label, text in there if not any(text != other and text in other for _, other in there)]
    return longest[0] if len(longest) == 1 else None


@lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Patterns for a label at a text's start, a marked label, a line that begins with a label, and a further label."""
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


def _number(text: str) -> Fraction | None:
    r"""The last \boxed; else the number after the last "answer is" or ####; else the last number."""
    if (boxed := last_boxed(text)) is not None:
        return number.stated(boxed)
    rest = _after_last(_STATED, text)
    return number.last(text) if rest is None else number.stated(_sentence(rest))


def _formula(text: str) -> str | None:
    r"""The last \boxed; else the formula, or else the sentence, after the last "answer is"."""
    if (boxed := last_boxed(text)) is not None:
        return boxed
    if (rest := _after_last(_STATED, text)) is None:
        return None
    sentence = _sentence(rest).rstrip(" *_")  # emphasis that began before it: **The answer is 72**
    math = _FORMULA.match(rest) or _FORMULA.search(sentence)  # a formula may hold what looks like a sentence's end
    return next(filter(None, math.groups())) if math else sentence


def _stands_in(wanted: str, text: str) -> bool:
    """Whether a text has the wanted answer as whole words; in a script without spaces any place counts."""
    wanted, text = (
        " ".join(unicodedata.normalize("NFKC", each).casefold().split()).strip(_EDGES) for each in (wanted, text)
    )
    if not wanted:
        return False
    first, last = (each.isalnum() and ord(each) < 0x0E00 for each in (wanted[0], wanted[-1]))
    pattern = (r"(?<!\w)" if first else "") + re.escape(wanted) + (r"(?!\w)" if last else "")
    return re.search(pattern, text) is not None
