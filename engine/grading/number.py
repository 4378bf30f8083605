"""Numbers as people and models write them, read exactly. Texts may be hostile: every pattern takes linear time."""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

_LONGEST = 100  # characters of one number: longer is noise, and slow to convert
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,:^])(?P<sign>(?<![)\]])-)?"
    r"(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++)(?:/(?P<below>[0-9]++))?"
)
# What makes a number a part of something else: 3 + 4, 7:30, 2(3 + 4), 5 or 6, 1 000, 2 million.
_GOES_ON = re.compile(
    r"%?\s{0,3}(?:\^|(?:[-+*/x×]\s{0,3}[-(]?|[,.;:(]|\b(?:or|to)\b|\s)\s{0,3}-?\.?[0-9]|(?:thousand|[mb]illion)\b)"
)
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s?\{?(-?[0-9]++)\}?\s?\{?([0-9]++)\}?")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
_COMMANDS = {r"\$": "", r"\!": "", r"\,": "", r"\frac": "^", r"\sqrt": "^", r"\pi": "^"}


def parse(text: str) -> Fraction | None:
    r"""The value of a text that is a number and nothing else, as "-7", "$1,800", "72.0%", "3/4" or "\frac{3}{4}"."""
    match = _NUMBER.fullmatch(_plain(text).strip().rstrip(".% "))
    return _value(match) if match else None


def stated(text: str) -> Fraction | None:
    """The number that a statement such as "8 * 9 = 72 apples" makes: the first after the last "=".

    None where there is none, or where it is a part of an expression.
    """
    text = _plain(text).rpartition("=")[2]
    return _alone(_NUMBER.search(text))


def last(text: str) -> Fraction | None:
    """The last number of a text; None where it is a part of an expression."""
    return _alone(last_match(_NUMBER, _plain(text)))


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _alone(match: re.Match[str] | None) -> Fraction | None:
    return None if match is None or _GOES_ON.match(match.string, match.end()) else _value(match)


def _plain(text: str) -> str:
    """A text with its LaTeX written plainly."""
    text = _FRACTION.sub(r" \1\2/\3", text.replace("{,}", ",").replace("\N{MINUS SIGN}", "-"))
    text = _COMMAND.sub(lambda found: _COMMANDS.get(found[0], " "), text)
    return text.replace("{", "").replace("}", " ").replace("-$", "-").replace("$", " ")


def _value(match: re.Match[str]) -> Fraction | None:
    below = int(match["below"] or 1) if len(match[0]) <= _LONGEST else 0
    if not below:
        return None
    value = Fraction(match["number"].replace(",", "")) / below
    return -value if match["sign"] else value
