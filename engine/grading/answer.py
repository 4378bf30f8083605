r"""Where an answer stands in a text, and whether it is the right one.

Where a text answers more than once, its last answer decides, also when that one cannot be read: "the answer is 41. No,
the answer is unknown." is wrong. Texts are whatever a model wrote, up to 100 kB, and all patterns take linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from fractions import Fraction
from typing import Literal, Protocol

from engine.grading import choice, number
from engine.grading.formula import last_boxed, same_formula, spelling

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
    """A question; one of multiple choice has `choices`, (label, text) pairs."""

    @property
    def family(self) -> Family: ...
    @property
    def answer(self) -> str: ...
    @property
    def choices(self) -> tuple[tuple[str, str], ...]: ...


_STATED = re.compile(
    r"\b(?:answer|(?:correct|right|best) (?:choice|option))[\s*_]{0,4}(?:is\b|:)|####(?=\s{0,3}[-$]?[0-9])",
    re.IGNORECASE,
)
_STATED_OR_BOXED = re.compile(_STATED.pattern + r"|\\boxed(?![a-z])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_FORMULA = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LETTER = re.compile(r"[(\[]?([A-H])[)\].:]?", re.IGNORECASE)
_LETTERS = tuple("ABCDEFGH")
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
        return _choice(tuple((each, "") for each in _LETTERS), text) == letter[1].upper()
    if (formula := _formula(text)) is not None and spelling(formula) == spelling(expected):
        return True
    return "\\" not in expected and _stands_in(expected, text)


def _after_last(pattern: re.Pattern[str], text: str) -> str | None:
    """What follows the last match, without the colons, spaces and emphasis before it; None where there is no match."""
    found = deque(pattern.finditer(text), maxlen=1)
    if not found:
        return None
    return text[found[0].end() :][:_LONGEST].lstrip(" \t\r\n:*_")


def _sentence(text: str) -> str:
    return _SENTENCE_END.split(text, maxsplit=1)[0]


def _choice(choices: choice.Choices, text: str) -> str | None:
    r"""The choice after the last "answer is" or \boxed; else the last one that is marked as one."""
    if (rest := _after_last(_STATED_OR_BOXED, text)) is None:
        return choice.marked(choices, text)
    return choice.stated(choices, rest, _sentence(rest))


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
    """Whether it stands there as whole words; scripts that write without spaces have no such edges."""
    wanted, text = (
        " ".join(unicodedata.normalize("NFKC", each).casefold().split()).strip(_EDGES) for each in (wanted, text)
    )
    if not wanted:
        return False
    first, last = (each.isalnum() and ord(each) < 0x0E00 for each in (wanted[0], wanted[-1]))
    pattern = (r"(?<!\w)" if first else "") + re.escape(wanted) + (r"(?!\w)" if last else "")
    return re.search(pattern, text) is not None
