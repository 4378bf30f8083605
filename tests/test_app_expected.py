"""Whether a text gives the expected answer, by the rule that the page states."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from app.expected import is_right, last_number, number_of

RIGHT = [
    ("The answer is 26.", "26"),
    ("1,234", "1234.0"),
    ("1234.00", "1,234"),
    ("20 + 15 = 35. 35 - 9 = 26", "26"),
    ("It costs $26", "26"),
    ("It costs 26", "$26"),
    ("26 dollars", "26."),
    ("= -7", "-7"),
    ("x = \N{MINUS SIGN}7", "-7"),
    ("You lose -$7", "-7"),
    ("You lose $-7", "-7"),
    ("10-7", "7"),
    ("half of it, 50%", "50 %"),
    ("1/2", "0.5"),
    ("0.5", "1/2"),
    ("½", "0.5"),
    (r"\frac{3}{4}", "0.75"),
    (r"\boxed{26}", "26"),
    (r"\(1{,}234\)", "1234"),
    ("**72**", "72"),
    ("72km", "72"),
    ("1.5e3 m", "1500"),
    ("14 000 people", "14,000"),
    ("14\N{NARROW NO-BREAK SPACE}000 people", "14,000"),
    (".5", "0.50"),
    ("1, 2, 3", "3"),
    ("1,2,3", "3"),
    ("٢٦", "26"),
    ("5² = 25", "25"),
    ("The answer is (B).", "B"),
    ("B is right: A dog barks", "B"),
    ("A is correct", "(a)"),
    ("First A, no: **C**", "c."),
    ("D) water", "D"),
    ("It is Paris!", "paris"),
    ("The  New\nYork of today", "new york"),
    ("Die Straße", "STRASSE"),
    ("答案是东京。", "东京"),
    ("at 7:30 sharp", "7:30"),
    ("so x^2+1 = y", "x^2+1"),
    ("Yes.", "yes"),
    ("“To be”", "to be"),
]
WRONG = [
    ("", "26"),
    ("no number", "26"),
    ("26 or 27", "26"),
    ("The 26 of us ate 3", "26"),
    ("10-7", "-7"),
    ("7", "-7"),
    ("126", "26"),
    ("2.6", "26"),
    ("H2O", "2"),
    ("5²", "52"),
    ("5^2", "2"),
    ("1.2.3", "3"),
    ("10/0", "10"),
    ("9" * 1000, "9"),
    ("I pick b", "B"),
    ("ABBA", "A"),
    ("A dog barks", "A"),
    ("B, or rather C", "B"),
    ("Parisian", "Paris"),
    ("eyes", "yes"),
    ("17:30", "7:30"),
    ("x^2+12", "x^2+1"),
    ("anything", "..."),
]


@pytest.mark.parametrize(("text", "expected"), RIGHT)
def test_it_is_right(text, expected):
    assert is_right(text, expected)


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_it_is_wrong(text, expected):
    assert not is_right(text, expected)


def test_a_number_is_exact():
    assert number_of("0.1") == Fraction(1, 10) and number_of("1/3") == Fraction(1, 3)
    assert number_of("0.30000000000000001") != number_of("0.3")
    assert number_of("26 apples") is None and number_of("7:30") is None and number_of("") is None


def test_a_number_that_cannot_be_read_does_not_hide_the_one_before():
    assert last_number("It is 12. 1/0") == 12


@pytest.mark.parametrize(
    "piece", ["1,", "1 ", "9", "1/", "-", "1,234", "1e", r"\frac{", "A ", " ", "1.1", "123 ", "½", "²"]
)
def test_a_long_text_takes_linear_time(piece: str):
    text = piece * (100_000 // len(piece))
    started = time.perf_counter()
    for expected in ("3", "B", "not there"):
        is_right(text, expected)
    assert time.perf_counter() - started < 3
