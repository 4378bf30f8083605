"""Numbers as people and models write them, read exactly.

The texts are whatever a model wrote, up to 100 kB: quantifiers are possessive (`++`) or bounded, and what follows one
never fails in a way that would make it start again one character on, so that every pattern takes linear time.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

MAX_LENGTH = 200  # characters of one number; longer is noise, and quadratic to convert
MAX_EXPONENT = 400  # 1e999999 would be a megabyte of zeros

_INTEGER = r"[0-9]++(?:,[0-9]++)*+"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z0-9_^])(?<![0-9][.,:/])                          # not within a word, a power, or 7:30
    (?P<sign>(?<![)\]])-(?=\.?[0-9]))?
    (?P<number>
        (?:[0-9]{{1,3}}(?![0-9])(?:[ ][0-9]{{3}}(?![0-9]))++    # 1 000 000
        |{_INTEGER})(?:\.[0-9]++)?                              # 1,000,000.50
        |(?<!\.)\.[0-9]++                                       # .5
    )
    (?:[eE](?P<exponent>[-+]?[0-9]++)(?![A-Za-z])|[ ]?[*x][ ]?10\^(?P<power>-?[0-9]++))?
    (?:[ ]{{1,2}}(?P<numerator>[0-9]++)[ ]?/[ ]?(?P<parts>[0-9]++)  # 2 1/2
    |[ ]?/[ ]?(?P<denominator>{_INTEGER}))?
    """,
    re.VERBOSE,
)
# What makes a number a part of something that is not one: 3 + 4, a power, 3,5 (no thousand), 7:30, 1.2.3, 2(3 + 4).
# A "$" has left spaces behind: 5 +  6.
_CONTINUED = re.compile(r"%?(?:[ ]?(?:\^|[-+*/x][ ]{0,3}[-(]?[ ]{0,2}\.?[0-9])|[,.:(][0-9])")
_VARIABLE = re.compile(r"[A-Za-z]")
_UNIT_IN_SUM = re.compile(r"(?:[ ][A-Za-z]{1,20}){1,3}[ ][-+*/x][ ][(]?\.?[0-9]")  # 12 apples - 5 apples
_LISTED = re.compile(r"[ ]?[,;][ ]?(?:(?:and|or)[ ])?-?\.?[0-9]|[ ]{1,4}(?:and|or|to)[ ]{1,4}-?\.?[0-9]")
_OR = re.compile(r"[ ]{1,4}(?:or|to)[ ]{1,4}-?\.?[0-9]")
# What stands before a number that is not the value, or not the only one.
_UNSAID = re.compile(
    r"[±≠≤≥]|\^ *$|\b(?:not|isn't|between|either|neither|at least|at most|less than|more than)\b", re.IGNORECASE
)
_NEGATIVE = re.compile(r"\b(?:negative|minus) (?=\.?[0-9])", re.IGNORECASE)
_SCALE = re.compile(r"[ ](hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{NON-BREAKING HYPHEN}", "-"),
        **dict.fromkeys("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}", " "),
        **dict.fromkeys("×⋅·", "*"),
        **dict.fromkeys("÷⁄∕", "/"),
        **dict.fromkeys("√π", "^"),
        "≈": "=",
        "½": " 1/2",
        "¼": " 1/4",
        "¾": " 3/4",
    }
)
_DEGREES = re.compile(r"\^\{?\\circ\}?")
_ARGUMENT = r"\s*+(?:\{{\s*+(?P<{0}>-?[0-9.,]++)\s*+\}}|(?P<{0}_digit>[0-9]))"
_FRACTION = re.compile(r"\\[dtc]?frac" + _ARGUMENT.format("top") + _ARGUMENT.format("bottom"))
_COMMAND = re.compile(r"\\([A-Za-z]++|.)", re.DOTALL)
# A root, pi, a function or a fraction of more than numbers is no number, nor is what it multiplies: "^" says so. Of a
# command that is not here the name is dropped and its argument kept; \$ and \% keep their sign.
_SYMBOLS = (
    "sqrt pi frac dfrac tfrac cfrac binom infty log ln lg exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh "
    "tanh alpha beta gamma delta epsilon theta lambda mu sigma phi varphi omega sum prod int lim max min gcd lcm det"
)
_COMMANDS = {
    **dict.fromkeys(_SYMBOLS.split(), "^"),
    **{"times": "*", "cdot": "*", "div": "/", "approx": "=", "degree": ""},
    **{"pm": "±", "mp": "±", "ne": "≠", "neq": "≠", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥"},
    **{"$": "$", "%": "%", "!": ""},
}


def parse(text: str) -> Fraction | None:
    r"""The value of a text that is a number and nothing else; "$", "%", LaTeX and a full stop do not count.

    Numbers are "-7", "1,800", "1 000", "72.0", "3/4", "2 1/2", "1.5e3" and "\frac{3}{4}"; None for anything else.
    """
    if len(text) > MAX_LENGTH:
        return None
    match = _NUMBER.fullmatch(_unsigned_space(_clean(text).strip().rstrip(".% ")))
    return _value(match) if match else None


def first(text: str, alone: bool = False) -> Fraction | None:
    r"""The number that a statement such as "8 * 9 = 72 apples" or "x = 5" makes.

    It is the first number; where that one is a part of a sum or an equation, the one after the last "=". None where
    there is no number, where the text does not commit itself ("not 5", "5 or 6", "at least 5"; if `alone`, also a list
    such as "3, 5"), or where it is only an expression whose value is not written.
    """
    text = _NEGATIVE.sub("-", _unsigned_space(_clean(text).strip()))
    match = _NUMBER.search(text)
    if match and "=" in text and any(each.match(text, match.end()) for each in (_CONTINUED, _VARIABLE, _UNIT_IN_SUM)):
        text = _unsigned_space(text.rpartition("=")[2].strip())
        match = _NUMBER.search(text)
    if match is None or _CONTINUED.match(text, match.end()) or _UNSAID.search(text, 0, match.start()):
        return None
    if (_LISTED if alone else _OR).match(text, match.end()):
        return None
    return _value(match)


def last(text: str) -> Fraction | None:
    """The last number of a text; None where there is none, or where it is a part of an expression."""
    text = _clean(text)
    match = last_match(_NUMBER, text)
    if match is None or _CONTINUED.match(text, match.end()):
        return None
    return _value(match)


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last place in a text where a pattern matches."""
    matches = deque(pattern.finditer(text), maxlen=1)
    return matches[0] if matches else None


def _clean(text: str) -> str:
    """A text with its LaTeX and its typographic characters written plainly; "$" is gone."""
    text = text.translate(_CHARACTERS).replace("{,}", ",").replace("\\!", "")
    text = _DEGREES.sub("", _FRACTION.sub(_plain_fraction, text))
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], " "), text)
    return text.replace("{", "").replace("}", " ").replace("-$", "-").replace("$", " ")


def _plain_fraction(match: re.Match[str]) -> str:
    top, bottom = (match[name] or match[f"{name}_digit"] for name in ("top", "bottom"))
    mixed = match.start() > 0 and match.string[match.start() - 1].isdigit()
    return f"{' ' if mixed else ''}{top}/{bottom}"


def _unsigned_space(text: str) -> str:
    """Makes -7 of "- 7" at the very start; within a text it would be a difference or a list."""
    return "-" + text[1:].lstrip() if text.startswith("- ") else text


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > MAX_LENGTH:
        return None
    number = _ungrouped(match["number"])
    exponent = int(match["exponent"] or match["power"] or 0)
    below = _ungrouped(match["denominator"] or match["parts"] or "1")
    if number is None or below is None or int(below) == 0 or abs(exponent) > MAX_EXPONENT:
        return None
    value = Fraction(number) * Fraction(10) ** exponent
    value = value + Fraction(int(match["numerator"]), int(below)) if match["numerator"] else value / int(below)
    scale = _SCALE.match(match.string, match.end())
    value *= _SCALES[scale[1].lower()] if scale else 1
    return -value if match["sign"] else value


def _ungrouped(number: str) -> str | None:
    """Digits without thousands separators; None for "3,5", which is not one number."""
    groups = number.partition(".")[0].split(",")
    if len(groups) > 1 and not (len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
        return None
    return number.replace(",", "").replace(" ", "")
