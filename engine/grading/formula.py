r"""Formulas in LaTeX: the one in a text's \boxed, and whether two are the same.

math-verify compares formulas whose writing differs. Its parser takes exponential time in the depth of brackets, sympy
evaluates 9^{99999}, and both limit their time by signals, which only a main thread can have. So only short and flat
formulas reach them; others are the same if their writing is. No text is ever evaluated as code.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from itertools import accumulate
from typing import Any

_LONGEST = 100  # characters; the longest answer of the MATH data set that the project uses has 65
_DEEPEST = 4  # brackets within brackets
_HEAVY = re.compile(
    r"\^[^A-Za-z]{0,3}[0-9]{3}|\^\{[^}]*\^|!|\\(?:sum|prod|int|lim|binom)"  # 9^{999}, 9^{9^9}
    r"|\\(?:sin|cos|tan|cot|sec|csc|log|ln).*\^\{?[0-9]{2}"
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?P<open>\{)|\\.|[{}]", re.DOTALL)
_SAME = [
    (re.compile(r"\\(?:left|right|displaystyle|[,!;: ])|[\s$]"), ""),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\(?:text|mbox|mathbf|mathrm|bm)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\{([0-9A-Za-z])\}"), r"\1"),
    (re.compile(r"[.,;:]+$"), ""),
]


def last_boxed(text: str) -> str | None:
    r"""The content of a text's last \boxed{...}, with balanced braces; None where there is none."""
    last, opened = (-1, -1), []  # where the best box's content is; where each open brace's content starts, -1: no box
    for match in _BOXED.finditer(text):
        if match[0].endswith("{") and match[0] != r"\{":
            opened.append(match.end() if match["open"] else -1)
        elif match[0] == "}" and opened:
            last = max(last, (opened.pop(), match.start()))
    return None if last[0] < 0 else text[slice(*last)]


def spelling(latex: str) -> str:
    r"""A formula without spaces, sizes, "$" and a last full stop; "\dfrac" is "\frac"."""
    for pattern, plain in _SAME:
        latex = pattern.sub(plain, latex)
    return latex


def same_formula(given: str, expected: str) -> bool:
    """Whether two formulas in LaTeX have the same value, or the same writing where their values cannot be compared."""
    if spelling(given) == spelling(expected):
        return bool(spelling(given))
    if not (_is_light(given) and _is_light(expected)):
        return False
    from math_verify import verify  # late: sympy takes a second to import

    return verify(_parsed(expected), _parsed(given), timeout_seconds=None)


def _is_light(latex: str) -> bool:
    depths = accumulate((each in "([{") - (each in ")]}") for each in latex[: _LONGEST + 1])
    return len(latex) <= _LONGEST and max(depths, default=0) <= _DEEPEST and not _HEAVY.search(latex)


@lru_cache(maxsize=4096)
def _parsed(latex: str) -> list[Any]:
    """A list of one sympy expression, or of none. Without patterns for plain text, whose parser would call `eval`."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no limit of time
    formula = " ".join(latex.replace("$", "").split()).rstrip(".,;: ")
    return parse(f"${formula}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)  # pyright: ignore
