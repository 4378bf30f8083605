r"""Where an answer stands in a text, how each family of answers is read, and whether it is the right one.

Where a text answers more than once, its last answer decides, also when that one cannot be read: "the answer is 41. No,
the answer is unknown." is wrong. Texts are whatever a model wrote, up to 100 kB, and all patterns take linear time.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from engine.grading import number
from engine.grading.latex import MAX_LENGTH, last_boxed, normalise

Family = Literal["choice", "number", "latex", "arithmetic"]
"""What kind of answer a question has, which decides how it is graded."""

RULE = (
    "A number is compared by value (1,234 = 1234.0): the one in the last \\boxed{}, else the one after the last “the "
    "answer is” or ####, else the last of the text. A choice letter (A to H) must be stated (“the answer is B”), or "
    "else marked as one: (B), **B**, or alone on its line. LaTeX must stand in the last \\boxed{}, or else after “the "
    "answer is”; any other answer there, or anywhere as whole words, whatever the case."
)
"""What `is_right` does, in words for people."""


class Gradable(Protocol):
    """What the grader must know of a question; a multiple-choice question has `choices`, (label, text) pairs."""

    @property
    def family(self) -> Family: ...  # noqa: D102
    @property
    def answer(self) -> str: ...  # noqa: D102
    @property
    def choices(self) -> tuple[tuple[str, str], ...]: ...  # noqa: D102


@dataclass(frozen=True)
class _Expected:
    """An answer of whose question nothing is known."""

    answer: str
    family: Family
    choices: tuple[tuple[str, str], ...] = ()


# GSM8K's "#### 72", not a heading such as "#### 2. The total".
_HASHES = r"####(?=\s{0,3}[-+$\\]{0,3}\.?[0-9])(?!\s{0,3}[0-9]{1,2}\.[ \t]+\S)"
_STATED = re.compile(
    rf"\b(?:answer|(?:correct|right|best) (?:choice|option))[\s*_]{{0,4}}(?:is\b|:)|{_HASHES}", re.IGNORECASE
)
_STATED_OR_BOXED = re.compile(_STATED.pattern + r"|\\boxed(?![a-z])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_MATH = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]+|\\(?=[()\[\]])")
_ARITHMETIC = re.compile(r":?\s*(-?)\$?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?![0-9])(?!\.[0-9])(?!,[0-9])(?![\w/%])")
_ARITHMETIC_LENGTH = 200  # characters; the numbers of that language have five digits at most
_ONE_LETTER = re.compile(r"[(\[]?([A-H])[)\].:]?", re.IGNORECASE)
_LETTERS = tuple((letter, "") for letter in "ABCDEFGH")
_EDGES = " .,;:!?\"'“”‘’`*_"


def grade(question: Gradable, text: str) -> bool:
    """Whether a text of any length gives the question's answer; False also where it gives none."""
    given = final_answer(question, text)
    return given is not None and given == _wanted(question)


def is_right(text: str, expected: str) -> bool:
    """Whether a text gives an answer that is known by its writing only; `RULE` says how."""
    if number.parse(expected) is not None:
        return grade(_Expected(expected, "number"), text)
    if letter := _ONE_LETTER.fullmatch(expected.strip()):
        return grade(_Expected(letter[1].upper(), "choice", _LETTERS), text)
    return grade(_Expected(expected, "latex"), text) or ("\\" not in expected and _stands_in(expected, text))


def grade_arithmetic(text: str, answer: str) -> bool:
    """Whether a text of the tiny pair has the right whole number, `answer`, after its last "answer is".

    "$41", "41." and "41,000" (for "41000") are read as numbers; "41.5", "4 1", "41/2" and "forty-one" are not 41.
    """
    return _arithmetic(text) == str(int(answer))


def final_answer(question: Gradable, text: str) -> str | None:
    """What a text's answer is read as: the same for two texts that give the same answer.

    Returns:
        A label as in the question's choices; a number in lowest terms ("72", "3/4"); LaTeX in one spelling; or None
        where the text gives no answer.
    """
    match question.family:
        case "choice":
            return _choice(question, text)
        case "number":
            return _number(text)
        case "latex":
            return _latex(text)
        case "arithmetic":
            return _arithmetic(text)


def _wanted(question: Gradable) -> str | None:
    """The question's own answer, spelt as `final_answer` does."""
    match question.family:
        case "choice":
            return question.answer
        case "latex":
            return normalise(question.answer)
        case "number" | "arithmetic":
            value = number.parse(question.answer)
            return None if value is None else str(value)


def _after_last(pattern: re.Pattern[str], text: str) -> str | None:
    """What follows the last match, without the colons, spaces and emphasis before it; None where there is no match."""
    match = number.last_match(pattern, text)
    if match is None:
        return None
    rest = text[match.end() :].lstrip(" \t\r\n:*_")
    after_a_line = "\n" in text[match.end() : len(text) - len(rest)]
    return rest[2:] if after_a_line and rest.startswith("- ") else rest  # a list's dash is no minus


def _sentence(text: str) -> str:
    """A text up to the end of its first sentence."""
    return _SENTENCE_END.split(text, maxsplit=1)[0]


def _number(text: str) -> str | None:
    r"""The last \boxed; else the number after the last "answer is" or ####; else the last number."""
    if (boxed := last_boxed(text)) is not None:
        value = number.first(boxed, alone=True)
    elif (rest := _after_last(_STATED, text)) is not None:
        value = number.first(_sentence(rest))
    else:
        value = number.last(text)
    return None if value is None else str(value)


def _latex(text: str) -> str | None:
    r"""The last \boxed; else the formula, or else the sentence, after the last "answer is"."""
    if (boxed := last_boxed(text)) is not None:
        return normalise(boxed)
    if (rest := _after_last(_STATED, text)) is None:
        return None
    rest = rest[:MAX_LENGTH]
    sentence = _sentence(rest).rstrip(" *_")  # emphasis that began before it: **The answer is 72**
    # A formula may hold what looks like the end of a sentence.
    math = _MATH.match(rest) or _MATH.search(sentence)
    return normalise(next(filter(None, math.groups())) if math else sentence)


def _arithmetic(text: str) -> str | None:
    """The whole number after the last "answer is"; what follows is cut, for `int` fails on thousands of digits."""
    _, stated, rest = text.rpartition("answer is")
    match = _ARITHMETIC.match(rest.lstrip()[:_ARITHMETIC_LENGTH]) if stated else None
    return str(int(match[1] + match[2].replace(",", ""))) if match else None


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


@dataclass(frozen=True)
class _Marks:
    """How a choice is named in a text, for one set of labels; each pattern's one group that matched is the label.

    Attributes:
        begins: The text begins with a label that nothing else follows: "C.", "**C**", "option C because".
        named: A label that is marked as one: "(C)", "**C**", "option C".
        alone: A line that begins with a label: "C", "C. garments".
        hedged: Another label follows at once: "(a) or (b)" is no answer.
        denied: A label that is said not to be it: "not (B) but".
    """

    begins: re.Pattern[str]
    named: re.Pattern[str]
    alone: re.Pattern[str]
    hedged: re.Pattern[str]
    denied: re.Pattern[str]


@lru_cache(maxsize=64)
def _marks(labels: tuple[str, ...]) -> _Marks:
    label = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    # "a" and "I" are words: a label with no mark of its own is one only before punctuation, an end or a conjunction, or
    # where it is a capital other than these two.
    closed = r"(?=[.,;:!?)\]}*_\"'`”$](?![0-9])|\s{0,5}(?:$|\n)|\s{1,3}(?:[-–—]|(?:because|since|as|and|or|is)\b))"
    capitals = "|".join(re.escape(each) for each in labels if each.isupper() and each not in "AI") or r"(?!)"
    plain = rf"(?:({label}){closed}|((?-i:{capitals}))(?=\s))"
    enclosed = rf"[(\[{{]\s{{0,2}}[*_$]{{0,3}}({label})[*_$]{{0,3}}(?:\s{{0,2}}[)\]}}]|[.:]\s)"
    bold = rf"\*\*\s{{0,2}}\(?({label})\)?(?:\*\*|[.:)]\s)"
    option = rf"\b(?:option|choice|letter)\s{{1,3}}[(\"'*$]{{0,3}}{plain}"
    upper = "|".join(re.escape(each) for each in labels if each.isupper()) or r"(?!)"
    correct = rf"(?<![\w'’])((?-i:{upper}))[)*_\"']{{0,3}} is (?:the )?(?:correct|right|best)\b"
    lead = (
        r"[\s:=*_\"'`“$({\[]{0,12}(?:(?:most )?(?:likely|probably|clearly)\s)?"
        r"(?:(?:option|choice|letter)\s{1,3})?[*_\"'`“$({\[]{0,6}"
    )
    return _Marks(
        begins=re.compile(lead + plain, re.IGNORECASE),
        named=re.compile(f"{enclosed}|{bold}|{option}|{correct}", re.IGNORECASE),
        alone=re.compile(
            rf"^[ ]{{0,3}}[*_]{{0,3}}({label})(?:[.:)][*_]{{0,3}}(?=\s|$)|[*_]{{0,3}}[ ]{{0,3}}$)",
            re.IGNORECASE | re.MULTILINE,
        ),
        hedged=re.compile(
            rf"[)\]}}*_\"']{{0,4}}\s?(?:,\s?)?(?:or|and|/|&|,)\s?(?:option\s|choice\s)?"
            rf"(?:\(\s?(?:{label})\s?\)|(?-i:{capitals})(?![\w'’]))",
            re.IGNORECASE,
        ),
        denied=re.compile(
            rf"\bnot\s(?:option\s|choice\s)?[(\[*_\"']{{0,3}}(?-i:{label})[)\]*_\"']{{0,3}}(?![\w'’])[,;]?\s?(?:but\s)?",
            re.IGNORECASE,
        ),
    )


def _choice(question: Gradable, text: str) -> str | None:
    r"""The label, or the one choice, that follows the last "answer is" or \boxed; else the last label named as one."""
    marks = _marks(tuple(label for label, _ in question.choices))
    rest = _after_last(_STATED_OR_BOXED, text)
    if rest is None:
        lines = list(marks.alone.finditer(text))  # several are the choices, told again
        only = lines[0] if len(lines) == 1 else None
        return _label(question, marks, number.last_match(marks.named, text) or only)
    rest = marks.denied.sub("", _LATEX_COMMAND.sub(" ", rest))
    sentence = _sentence(rest)
    stated = marks.begins.match(rest) or marks.named.search(sentence)
    if stated:
        return _label(question, marks, stated)
    by_text = _only_choice(question, sentence) or _only_choice(question, rest.partition("\n")[0])
    return by_text or _label(question, marks, number.last_match(marks.named, rest))


def _label(question: Gradable, marks: _Marks, match: re.Match[str] | None) -> str | None:
    """A match's label as the question spells it; None where another label follows at once."""
    if match is None or marks.hedged.match(match.string, match.end()):
        return None
    named = next(filter(None, match.groups())).casefold()
    return next(label for label, _ in question.choices if label.casefold() == named)


def _only_choice(question: Gradable, text: str) -> str | None:
    """The label of the one choice whose text in full stands in `text`; a choice within a longer one does not count."""
    text = text.casefold()
    choices = [(label, choice.casefold().strip()) for label, choice in question.choices]
    there = [
        (label, choice) for label, choice in choices if choice and re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text)
    ]
    longest = [label for label, own in there if not any(own != other and own in other for _, other in there)]
    return longest[0] if len(longest) == 1 else None
