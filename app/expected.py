"""Whether a text gives the expected answer: numbers by value, choice letters as words, anything else as it is written.

Knows no models, and nothing of benchmarks (the trainer grades those). A visitor sees the rule, so it is short. Texts
are whatever a model wrote: every pattern takes linear time.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

RULE = (
    "A text is right if its last number is the expected number (by value: 1,234 = 1234.0), if the last choice letter "
    "(A to H, standing alone) is the expected letter, or, for any other answer, if the answer stands in it as whole "
    "words, whatever the case."
)
"""What `is_right` does, for people."""

MAX_DIGITS = 400
"""Of one number; longer is noise, and slow to convert."""

_NUMBER = re.compile(
    r"""
    (?<![\w^]) (?<!\d[./]) (?P<sign>(?<![\d)\]])[-+](?=[$€£¥]?[.]?\d))?   # not within a word, a power or 1.2.3
    [$€£¥]?
    (?P<whole>\d{1,3}(?:,\d{3})++(?!\d) | \d{1,3}(?:[ ]\d{3})++(?!\d) | \d++ | (?=[.]\d))
    (?P<part>[.]\d++)?+
    (?:[eE](?P<power>[-+]?\d{1,3})(?![\w.]))?
    (?:[ ]?/[ ]?(?P<below>\d++)(?![\d.,]*\d))?
    """,
    re.VERBOSE,
)
_LETTER = re.compile(r"(?<![\w'’-])([A-H])(?![\w'’-])(?![ ]+(?!(?:is|was|because|since|as|and|or)\b)[a-z])")
_ONE_LETTER = re.compile(r"[(\[]?([A-Ha-h])[)\].:]?")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_SPACE = re.compile(r"\s+")
_EDGES = " \t\n.,;:!?\"'“”‘’`*_"
_MINUS = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{NON-BREAKING HYPHEN}", "-"))


def is_right(text: str, expected: str) -> bool:
    """Whether a text gives the expected answer; `RULE` says how that is told.

    Args:
        text: What was written, up to 100 kB.
        expected: What should come out; not blank.
    """
    wanted = number_of(expected)
    if wanted is not None:
        return last_number(text) == wanted
    if letter := _ONE_LETTER.fullmatch(expected.strip()):
        named = _LETTER.findall(unicodedata.normalize("NFKC", text))
        return bool(named) and named[-1] == letter[1].upper()
    return _stands_in(_plain(expected), _plain(text))


def number_of(text: str) -> Fraction | None:
    """The value of a text that is one number and nothing else, but for a currency sign, "%" or a full stop."""
    match = _NUMBER.fullmatch(_clean(text).strip().rstrip(".% "))
    return _value(match) if match else None


def last_number(text: str) -> Fraction | None:
    """The last number in a text; None where there is none."""
    found = reversed(list(_NUMBER.finditer(_clean(text))))
    return next((value for match in found if (value := _value(match)) is not None), None)


def _clean(text: str) -> str:
    """Typographic variants written plainly. A superscript is no digit: 5² is not 52."""
    text = _SUPERSCRIPT.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text)
    text = unicodedata.normalize("NFKC", text).translate(_MINUS).replace("⁄", "/").replace("{,}", ",")
    text = _LATEX_FRACTION.sub(r"\1/\2", text).replace("\\$", "$")
    return text.replace("$-", "-$").replace("*", " ").replace("_", " ")  # **72** is 72


def _value(match: re.Match[str]) -> Fraction | None:
    whole, below = match["whole"].replace(",", "").replace(" ", ""), match["below"]
    if len(match[0]) > MAX_DIGITS or (below is not None and int(below) == 0):
        return None
    value = Fraction((whole or "0") + (match["part"] or "")) * Fraction(10) ** int(match["power"] or 0)
    value /= int(below or 1)
    return -value if match["sign"] == "-" else value


def _plain(text: str) -> str:
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip(_EDGES)


def _stands_in(wanted: str, text: str) -> bool:
    """Whether it stands there as whole words; scripts that write without spaces have no such edges."""
    if not wanted:
        return False
    before = r"(?<!\w)" if _spaced(wanted[0]) else ""
    after = r"(?!\w)" if _spaced(wanted[-1]) else ""
    return re.search(before + re.escape(wanted) + after, text) is not None


def _spaced(character: str) -> bool:
    return character.isalnum() and ord(character) < 0x0E00
