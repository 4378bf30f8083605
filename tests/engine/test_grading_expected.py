"""Whether a text gives the expected answer, by the rule that the page states."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from engine.grading import grade, is_right
from engine.grading.number import last, parse
from trainer.questions.question import Question

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
    ("٢٦", "٢٦"),
    ("5² = 25", "25"),
    ("The answer is (B).", "B"),
    ("B is right: A dog barks", "B"),
    ("A is correct", "(a)"),
    ("First A, no: **C**", "c."),
    ("D) water", "D"),
    ("The answer is 26, that is 2 more", "26"),
    ("The answer is (C), not (B).", "C"),
    (r"\boxed{\dfrac{\sqrt3}{2}}", r"\frac{\sqrt{3}}{2}"),
    (r"\boxed{x^{2}}", "x^2"),
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
    ("1,2,3", "3"),
    ("٢٦", "26"),
    ("It is 12. 1/0", "12"),
    ("The answer is 26 or 27.", "26"),
    ("The answer is 26. No, the answer is unknown.", "26"),
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
    (r"2\pi, or more", r"2\pi"),
    (r"The answer is $2\pi r$.", r"2\pi"),
]


@pytest.mark.parametrize(("text", "expected"), RIGHT)
def test_it_is_right(text, expected):
    assert is_right(text, expected)


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_it_is_wrong(text, expected):
    assert not is_right(text, expected)


def test_a_number_is_exact():
    assert parse("0.1") == Fraction(1, 10) and parse("1/3") == Fraction(1, 3)
    assert parse("0.30000000000000001") != parse("0.3")
    assert parse("26 apples") is None and parse("7:30") is None and parse("") is None


def test_the_last_number_decides_also_where_it_cannot_be_read():
    assert last("It is 12.") == 12 and last("It is 12. 1/0") is None


STATEMENTS = [
    "{}",
    "so it is {}",
    "{} it is",
    "The answer is {}.",
    "**Answer:** {}",
    "The answer is ({})",
    "The answer is not {}.",
    "The answer is {} or 5.",
    "The answer is {}. No, the answer is unknown.",
    "The answer is 1. No, the answer is ${}$.",
    "So **{}**, of course",
    "#### {}",
    r"\boxed{{{}}}",
    r"\boxed{{{}}} or \boxed{{5}}",
    r"\[ x = {} \]",
]
NUMBERS = ["26", "-7", "1,234", "$0.75", "3/4", r"\frac{3}{4}", "1.5e3", "50 %", "2 1/2"]
LETTERS = ["A", "c", "(H)"]
LATEX = [r"\frac{\sqrt{3}}{2}", r"2\pi r", r"\text{even}", r"\{1, 2\}", r"(-\infty, 2]"]
PLAIN = ["x^2", "x/2", "even", "Paris", "7:30"]
ALL = [*NUMBERS, *LETTERS, *LATEX, *PLAIN]
TEXTS = [text for text, _ in RIGHT + WRONG] + [each.format(answer) for each in STATEMENTS for answer in ALL]
CHOICES = tuple((label, "") for label in "ABCDEFGH")


@pytest.mark.parametrize("expected", ALL)
def test_the_page_grades_as_the_trainer_does(expected):
    """But for words of a running text, which the trainer never takes for an answer."""
    letter = expected.strip("()").upper() if expected in LETTERS else None
    question = Question("q", "?", "", letter, CHOICES) if letter else Question("q", "?", "", expected)
    grades = [(is_right(text, expected), grade(question, text)) for text in TEXTS]
    assert any(trainer for _, trainer in grades) and not all(trainer for _, trainer in grades)
    if expected in PLAIN:
        assert all(page or not trainer for page, trainer in grades)
    else:
        assert all(page == trainer for page, trainer in grades)


@pytest.mark.parametrize(
    "piece", ["1,", "1 ", "9", "1/", "-", "1,234", "1e", r"\frac{", "A ", " ", "1.1", "123 ", "½", "²"]
)
def test_a_long_text_takes_linear_time(piece: str):
    text = piece * (100_000 // len(piece))
    started = time.thread_time()
    for expected in ("3", "B", "not there", r"\pi"):
        is_right(text, expected)
    assert time.thread_time() - started < 3
