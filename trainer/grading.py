r"""Whether a text gives the right answer, for every family of questions.

Knows where an answer stands in a text ("the answer is", \boxed, ####) and how each family reads it. Knows no models.
Where a text answers more than once, its last answer decides, also when that one cannot be read: "the answer is 41. No,
the answer is unknown." is wrong. The texts are whatever a model wrote, up to 100 kB, and all patterns take linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from trainer import arithmetic, number
from trainer.data import Family, Question
from trainer.latex import MAX_LENGTH, last_boxed, normalise

# GSM8K's "#### 72", not a heading such as "#### 2. The total".
_HASHES = r"####(?=\s{0,3}[-+$\\]{0,3}\.?[0-9])(?!\s{0,3}[0-9]{1,2}\.[ \t]+\S)"
_STATED = re.compile(
    rf"\b(?:answer|(?:correct|right|best) (?:choice|option))[\s*_]{{0,4}}(?:is\b|:)|{_HASHES}", re.IGNORECASE
)
_STATED_OR_BOXED = re.compile(_STATED.pattern + r"|\\boxed(?![a-z])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_MATH = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TAIL = 200  # characters; the arithmetic language's numbers have five digits at most
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]+|\\(?=[()\[\]])")


def grade(question: Question, text: str) -> bool:
    """Whether a generated text gives the question's answer.

    Args:
        question: Its family chooses the grader.
        text: What a model wrote, of any length.

    Returns:
        False also where the text has no answer.
    """
    if question.family == "arithmetic":
        return arithmetic.grade(_arithmetic_tail(text), question.answer)
    found = final_answer(question, text)
    return found is not None and found == _wanted(question)


def final_answer(question: Question, text: str) -> str | None:
    """What a text's answer is read as: the same for two texts that give the same answer.

    Args:
        question: Its family chooses the reader.
        text: What a model wrote, of any length.

    Returns:
        A label as in the question's choices; a number in lowest terms ("72", "3/4"); LaTeX in one spelling; or None
        where the text gives no answer.
    """
    return _READERS[question.family](question, text)


def _wanted(question: Question) -> str | None:
    """The question's own answer, spelt as `final_answer` does."""
    if question.family == "choice":
        return question.answer
    if question.family == "latex":
        return normalise(question.answer)
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
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def _number(_: Question, text: str) -> str | None:
    r"""The last \boxed; else the number after the last "answer is" or ####; else the last number."""
    if (boxed := last_boxed(text)) is not None:
        value = number.first(boxed, alone=True)
    elif (rest := _after_last(_STATED, text)) is not None:
        value = number.first(_sentence(rest))
    else:
        value = number.last(text)
    return None if value is None else str(value)


def _latex(_: Question, text: str) -> str | None:
    r"""The last \boxed; else the formula, or else the sentence, after the last "answer is"."""
    if (boxed := last_boxed(text)) is not None:
        return normalise(boxed)
    if (rest := _after_last(_STATED, text)) is None:
        return None
    rest = rest[:MAX_LENGTH]
    sentence = _sentence(rest)
    # A formula may hold what looks like the end of a sentence.
    math = _MATH.match(rest) or _MATH.search(sentence)
    return normalise(next(filter(None, math.groups())) if math else sentence)


def _arithmetic(question: Question, text: str) -> str | None:
    """The number that `arithmetic.grade` accepts, found by asking it."""
    tail = _arithmetic_tail(text)
    match = re.search(r"-?\$?[0-9][0-9,]*", tail)
    if not match:
        return None
    candidate = str(int(match[0].replace("$", "").replace(",", "")))
    return candidate if arithmetic.grade(tail, candidate) else None


def _arithmetic_tail(text: str) -> str:
    """What `arithmetic.grade` looks at, short: it is quadratic in spaces, and fails on thousands of digits."""
    _, found, rest = text.rpartition("answer is")
    return found + rest.lstrip()[:_TAIL]


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


def _choice(question: Question, text: str) -> str | None:
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


def _label(question: Question, marks: _Marks, match: re.Match[str] | None) -> str | None:
    """A match's label as the question spells it; None where another label follows at once."""
    if match is None or marks.hedged.match(match.string, match.end()):
        return None
    found = next(filter(None, match.groups())).casefold()
    return next(label for label, _ in question.choices if label.casefold() == found)


def _only_choice(question: Question, text: str) -> str | None:
    """The label of the one choice whose text in full stands in `text`; a choice within a longer one does not count."""
    folded = text.casefold()
    texts = {label: choice.casefold().strip() for label, choice in question.choices}
    found = {
        label: choice
        for label, choice in texts.items()
        if choice and re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", folded)
    }
    longest = [label for label, own in found.items() if not any(own != each and own in each for each in found.values())]
    return longest[0] if len(longest) == 1 else None


_READERS: dict[Family, Callable[[Question, str], str | None]] = {
    "choice": _choice,
    "number": _number,
    "latex": _latex,
    "arithmetic": _arithmetic,
}
