r"""LaTeX answers: what stands in a \boxed, and one spelling for those that differ in writing only.

Made for the commands of competition answers (the MATH data set). There is no algebra: `2x + 1` and `1 + 2x` stay
different, and so do the elements of a set in another order. Text is never evaluated.
"""

from __future__ import annotations

import re
from itertools import pairwise

from engine.grading.number import parse

MAX_LENGTH = 1_000  # characters of an answer; the longest of MATH has about 150

_BRACES = re.compile(
    r"\\(?:boxed|fbox)(?![A-Z_a-z])\s*+(?P<single>-?[0-9][0-9.,]*+|[A-Za-z](?![A-Za-z]))?+(?P<open>\{)?|\\.|[{}]",
    re.DOTALL,
)

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{NON-BREAKING HYPHEN}", "-"),
        **{"π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "≤": r"\leq ", "≥": r"\geq ", "∪": r"\cup "},
        **{"°": "", "~": " "},
    }
)
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
# Spacing, sizes, math delimiters and signs of currency and per cent say nothing about the value.
_COMMANDS = {
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac"),
    **dict.fromkeys(["mbox", "textbf", "textit", "textrm", "mathrm", "operatorname"], r"\text"),
    **dict.fromkeys(["left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "displaystyle"], ""),
    **dict.fromkeys(["quad", "qquad", "degree", *",!;: ()[]$%"], ""),
    **{"le": r"\leq", "ge": r"\geq", "neq": r"\ne", "lbrace": r"\{", "rbrace": r"\}"},
}
_NO_UNITS = r"(?:[ap]\.?m\b|north|east|south|west|odd|even)"
_REWRITES = [
    (re.compile(r"\^\{?\\circ\}?"), ""),
    (re.compile(r"\\(?:mathbf|boldsymbol|bm)\{([^{}]*+)\}"), r"\1"),
    # A unit after a number: 5\text{ cm}^2; not what makes it another answer.
    (re.compile(rf"(?<=[0-9A-Za-z}})])[ ]?\\text\{{(?!{_NO_UNITS})[^{{}}]*+\}}(?:\^\{{?[0-9]\}}?)?[.,]*$"), ""),
    (re.compile(r"\\text\{([^{}]*+)\}"), r"\1"),
    (re.compile(r"\\frac[ ]?([0-9A-Za-z])"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\{[^{}]*+\})([0-9A-Za-z])"), r"\1{\2}"),
    (re.compile(r"\\sqrt[ ]?([0-9A-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"([_^])\{([0-9A-Za-z])\}"), r"\1\2"),
    (re.compile(r"[.,;:]+$"), ""),
    # "x =", "f(x) =" and "x \in" before the answer, where no other equation follows.
    (re.compile(r"^[A-Za-z](?:_\w|\([A-Za-z]\))?(?:=|\\in(?![A-Za-z]))(?=[^=]+$)"), ""),
    (re.compile(r"^\+(?=[0-9.])"), ""),
    (re.compile(r"^(-?)([0-9A-Za-z]+)/([0-9A-Za-z]+)$"), r"\1\\frac{\2}{\3}"),
]
_MIXED = re.compile(r"\s*[-+]?[0-9]+\s+[0-9]+/[0-9]+\s*")  # 3 1/2, of which 31/2 would be left without spaces
_TOKEN = re.compile(r"\\[A-Za-z]++|\\.|\S", re.DOTALL)
_NO_NUMBER = re.compile(r"\\(?!(?:frac|times|cdot)(?![A-Za-z]))")  # a command that says more than a number does


def last_boxed(text: str) -> str | None:
    r"""What the last \boxed{...}, \fbox{...} or "\boxed 5" of a text holds; of nested ones the inner.

    Braces are balanced, and the text is read once. None where no \boxed is closed.
    """
    last, opened = (-1, -1), []  # where the content of the best box starts and ends; of each open brace, or -1
    for match in _BRACES.finditer(text):
        if match["single"]:
            last = max(last, match.span("single"))
        if match["open"] and not match["single"]:
            opened.append(match.end())
        elif match["open"] or match[0] == "{":
            opened.append(-1)
        elif match[0] == "}" and opened:
            last = max(last, (opened.pop(), match.start()))
    return None if last[0] < 0 else text[slice(*last)]


def normalise(latex: str) -> str | None:
    r"""One spelling of an answer such as "x = \dfrac12": two answers are the same if their spellings are.

    For a number its exact value, as "1/2"; for anything else the LaTeX without spaces, sizes, units and the like; None
    where nothing is left or it is too long for an answer.
    """
    if len(latex) > MAX_LENGTH:
        return None
    text = latex.translate(_CHARACTERS).replace("{,}", ",").replace("\\!", "")
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[0]), text)
    text = text.replace("$", "").replace("%", "")
    if _MIXED.fullmatch(text) and (mixed := parse(text)) is not None:
        return str(mixed)
    text = _unspaced(text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    value = None if _NO_NUMBER.search(text) else parse(text)
    return (text or None) if value is None else str(value)


def _unspaced(latex: str) -> str:
    r"""Without spaces, but for the one that ends a command before a letter: \pi r is not \pir."""
    tokens = _TOKEN.findall(latex)
    spaced = [
        f"{one} " if one[0] == "\\" and one[-1].isalpha() and two[0].isalpha() else one
        for one, two in pairwise([*tokens, "."])
    ]
    return "".join(spaced)
