r"""What each family's grader reads as the answer, what the page makes of an answer it is given, and that no text makes
either slow.

In the tables a case is a text, an arrow, and what is read in it, or what it is compared with; "¦" parts two cases.
"⏎" begins a new line, "none" is no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import pytest

from engine.grading import final_answer, grade, is_right
from engine.grading.answer import Family
from engine.grading.latex import last_boxed, normalise
from engine.grading.number import last, parse


@dataclass(frozen=True)
class Question:
    """What the grader must know of one."""

    family: Family
    answer: str
    choices: tuple[tuple[str, str], ...] = ()


FABRICS = (("A", "wool"), ("B", "silk"), ("C", "raw silk"), ("D", "a bank note"), ("E", "i don't know"))
CHOICE = Question("choice", "C", FABRICS)


def number(answer: str) -> Question:
    return Question("number", answer)


def latex(answer: str) -> Question:
    return Question("latex", answer)


def lines(table: str) -> Iterator[tuple[str, str]]:
    for case in table.strip().replace("\n", " ¦ ").split(" ¦ "):
        text, _, answer = case.rpartition("→ ")
        yield text.strip().replace("⏎", "\n"), answer


READ = """
It shines. The answer is (C). → C ¦ The answer is not (B) but (C). → C ¦ The answer is not C. → none
The correct choice is C. → C ¦ Therefore, C is correct. → C ¦ THE ANSWER IS (c) → C ¦ **Answer:** C → C
The answer is **C. raw silk** → C ¦ The answer is C because it shines. → C
The correct answer is option (C), not (A). → C ¦ The answer is "C". → C ¦ The answer is:⏎⏎(C) → C
The answer is \\boxed{C}. → C ¦ So $\\boxed{(C)}$ → C ¦ The answer is $C$. → C ¦ The answer is wool. → A
The answer is Raw Silk, which shines. → C ¦ The answer is a bank note. → D
The answer is something soft. Therefore it must be raw silk (c). → C
It could be raw silk (c), as it shines → C ¦ So I take choice (c) → C ¦ This is **C** → C ¦ c. → C
It shines.⏎**C. raw silk** → C ¦ The answer is (A). No, wait: the answer is (C). → C
The answer is (A). In the end \\boxed{C} → C ¦ (a) is warm, (b) is fine, so I choose (c) → C
I think a sheep has a coat. → none ¦ The answer is a matter of taste. → none
The answer is I think unclear. → none ¦ A sheep has it → none ¦ Option a sheep would take → none
The answer is (F). → none ¦ The answer is wool or a bank note. → none ¦ The answer is A or C. → none
The answer is both (a) and (c) → none ¦ It is woollen, and the answer is woollen → none
The answer is (C). No, the answer is unknown. → none ¦ A. wool⏎B. silk⏎C. raw silk → none ¦ raw silk → none
"""


@pytest.mark.parametrize(("text", "read"), lines(READ))
def test_a_choice_is_read_where_it_is_stated_and_never_out_of_running_text(text, read):
    assert final_answer(CHOICE, text) == (None if read == "none" else read)
    assert grade(CHOICE, text) == (read == "C")


def test_labels_may_be_numbers():
    question = Question("choice", "2", (("1", "x"), ("2", "y"), ("3", "z")))
    found = [final_answer(question, text) for text in ("The answer is (2).", "The answer is 2.5", "\\boxed{3}")]
    assert found == ["2", None, "3"]


NUMBERS = """
So \\boxed{72} → 72 ¦ The answer is 3 * $12 = $36. → 36 ¦ So the answer is $5 + $6 = $11. → 11
The answer is 100 - (3 + 4) = 93 → 93 ¦ The answer is 5 + -6 = -1 → -1 ¦ \\boxed{\\mathbf{72}} → 72
The answer is:⏎- 72 → 72 ¦ The answer is - 72 → -72 ¦ The answer is negative 72. → -72
The answer is 2 million dollars. → 2000000 ¦ \\boxed{71}, no: \\boxed{72}. The answer is 71 → 72
\\boxed{72 \\text{ apples}} → 72 ¦ \\boxed{x = 72} → 72 ¦ \\boxed{8 \\times 9 = 72} → 72 ¦ \\boxed{72\\%} → 72
\\boxed{72^\\circ} → 72 ¦ \\boxed{72 → 72 ¦ The answer is:⏎\\[⏎72⏎\\] → 72
The answer is 12 red apples - 5 apples = 7 apples → 7
The answer is 12 apples, for 7 + 5 = 12 and 12 - 5 = 7 → 12 ¦ The answer is 3x = 216, so x = 72. → 72
Eight nines.⏎#### 72.0 → 72 ¦ #### 2. The total⏎It is 72 → 72 ¦ so 72km → 72 ¦ The total is US$72. → 72
答案是72 → 72 ¦ The answer is 7,200 → 7200 ¦ The answer is 7 200 people → 7,200 ¦ \\boxed{7{,}200} → 7200
\\boxed{7,\\!200} → 7200 ¦ The answer is 1 000 000. → 1000000 ¦ In 2020 300 came → 300
The answer is −7 degrees → -7 ¦ The answer is -$7 → -7 ¦ The answer is 3/4 → 0.75 ¦ The answer is .75 → 3/4
\\boxed{-\\dfrac{3}{4}} → -0.75 ¦ \\boxed{\\frac12} → 0.5 ¦ ½ of it → 0.5 ¦ The answer is -2 1/2 → -2.5
\\boxed{2\\frac{1}{2}} → 2.5 ¦ The answer is 1.5 × 10^3 → 1500 ¦ \\boxed{1.5 \\times 10^{-3}} → 0.0015
"""
NO_NUMBERS = """
So the answer is $5 + $6 = $11. → 5 ¦ The answer is not 72. → 72 ¦ The answer is 72 or 73. → 72
The answer is between 72 and 73. → 72 ¦ The answer is at least 72. → 72 ¦ \\boxed{72 \\text{ or } 73} → 72
\\boxed{x \\neq 72} → 72 ¦ \\boxed{\\pm 72} → 72 ¦ \\boxed{\\sin 72} → 72 ¦ → 72
The answer is seventy-two. → 72 ¦ The answer is 72. No, the answer is unknown. → 72
The answer is 72 or so, \\boxed{71} → 72 ¦ 72 \\boxed{} → 72 ¦ \\boxed{72, 73} → 72 ¦ \\boxed{72\\pi} → 72
\\boxed{72^2} → 72 ¦ The answer is 72/2. → 72 ¦ The answer is 72,5 → 72 ¦ The answer is 72 - 5 → 72
The answer is 72:30 → 72 ¦ The answer is 72.5.1 → 72 ¦ The answer is 172, 72 more than before → 72
It is 72, or 73 → 72 ¦ x5 → 5 ¦ y^25 → 25 ¦ at 7:30 → 30 ¦ The answer is 3/0 → 0 ¦ The answer is 1e999999 → 1e9
The answer is 0.30000000000000004 → 0.3
"""


@pytest.mark.parametrize(("text", "answer"), lines(NUMBERS))
def test_a_number_is_the_same_however_it_is_written(text, answer):
    assert grade(number(answer), text) and is_right(text, answer)


@pytest.mark.parametrize(("text", "answer"), lines(NO_NUMBERS))
def test_a_number_that_is_not_stated_or_is_a_part_of_something_is_none(text, answer):
    assert not grade(number(answer), text) and not is_right(text, answer)


LATEX = r"""
\boxed{\frac 1 2} → \frac{1}{2} ¦ \boxed{2 \pi  r} → 2\pi r ¦ \boxed{16\pi\text{ cm}^2} → 16\pi
\boxed{0.5} → \frac{1}{2} ¦ \boxed{\frac{-1}{2}} → -\frac{1}{2} ¦ \boxed{\dfrac{\sqrt3}{2}} → \frac{\sqrt{3}}{2}
\boxed{x/2} → \frac{x}{2} ¦ \boxed{\frac ab} → \frac{a}{b} ¦ \boxed{5} → x=5 ¦ \boxed{x \in [1, 2]} → [1,2]
\boxed{f(x) = 2x + 1.} → 2x+1 ¦ \boxed{\left( 3,\, π \right)} → (3, \pi) ¦ \boxed{(−∞, 2]} → (-\infty, 2]
\boxed{90°} → 90^\circ ¦ \boxed{Evelyn} → \text{Evelyn} ¦ \boxed{10} → 10\% ¦ \boxed{1000} → 1,000
\boxed{x^{2}} → x^2 ¦ \boxed{\left\{1, 2\right\}} → \{1,2\} ¦ $\boxed 5$ → 5 ¦ The answer is: \[ x + 1. \] → x+1
The final answer is x + 1. → x+1 ¦ \boxed{\frac{3}{4}} and then { → \frac{3}{4} ¦ \boxed{3 1/2} → 3\frac12
**The answer is \frac{1}{2}** → \frac12 ¦ \boxed{+5} → 5
"""
OTHER_LATEX = r"""
\boxed{2\sin\theta} → 2\cos\theta ¦ \boxed{2} → \ln 2 ¦ \boxed{3} → \pm 3
\boxed{16\pi \text{ square units}} → 16 ¦ \boxed{7:30\text{ a.m.}} → 7:30\text{ p.m.}
\boxed{5\text{ west}} → 5\text{ east} ¦ \boxed{5\mathbf{j}} → 5\mathbf{i} ¦ \boxed{3 1/2} → \frac{31}{2}
\boxed{(2,1)} → (1,2) ¦ \boxed{(1,2]} → (1,2) ¦ \boxed{2} → 2x ¦ \boxed{0.51} → \frac{1}{2} ¦ so it is 5 → 5
\boxed{5} but then \boxed{6} → 5 ¦ \boxed{} → 5 ¦ \boxed{5 → 5 ¦ \boxed{__import__('os')} → x
"""


@pytest.mark.parametrize(
    ("text", "answer", "right"), [(*row, True) for row in lines(LATEX)] + [(*row, False) for row in lines(OTHER_LATEX)]
)
def test_latex_is_the_same_where_only_the_writing_differs(text, answer, right):
    assert grade(latex(answer), text) is right


# The page, which knows an answer by its writing alone

RIGHT = """
1,234 → 1234.0 ¦ It costs $26 → 26 ¦ x = −7 → -7 ¦ 10-7 → 7 ¦ half of it, 50% → 50 % ¦ 14 000 people → 14,000
1, 2, 3 → 3 ¦ ٢٦ → ٢٦ ¦ 5² = 25 → 25 ¦ The answer is (B). → B ¦ A is correct → (a) ¦ First A, no: **C** → c.
\\boxed{x^{2}} → x^2 ¦ It is Paris! → paris ¦ The  New⏎York of today → new york ¦ Die Straße → STRASSE
答案是东京。 → 东京 ¦ at 7:30 sharp → 7:30 ¦ so x^2+1 = y → x^2+1 ¦ “To be” → to be
"""
WRONG = """
The 26 of us ate 3 → 26 ¦ 10-7 → -7 ¦ 7 → -7 ¦ H2O → 2 ¦ 5² → 52 ¦ 1.2.3 → 3 ¦ ٢٦ → 26 ¦ It is 12. 1/0 → 12
I pick b → B ¦ ABBA → A ¦ A dog barks → A ¦ B, or rather C → B ¦ Parisian → Paris ¦ eyes → yes ¦ 17:30 → 7:30
x^2+12 → x^2+1 ¦ anything → ... ¦ 2\\pi, or more → 2\\pi ¦ The answer is $2\\pi r$. → 2\\pi
"""


@pytest.mark.parametrize(
    ("text", "answer", "right"), [(*row, True) for row in lines(RIGHT)] + [(*row, False) for row in lines(WRONG)]
)
def test_the_page_knows_an_answer_by_its_writing(text, answer, right):
    assert is_right(text, answer) is right


STATEMENTS = ["so it is {}", "{} it is", "The answer is {}.", "**Answer:** {}", "The answer is ({})", "#### {}"]
STATEMENTS += ["The answer is not {}.", "The answer is {} or 5.", "The answer is {}. No, the answer is unknown."]
STATEMENTS += [r"\boxed{{{}}}", r"\boxed{{{}}} or \boxed{{5}}", r"\[ x = {} \]", "So **{}**, of course"]
LETTERS, PLAIN = ["A", "c", "(H)"], ["x^2", "x/2", "even", "Paris", "7:30"]
ANSWERS = ["26", "-7", "1,234", "$0.75", r"\frac{3}{4}", "1.5e3", "2 1/2", *LETTERS, *PLAIN]
ANSWERS += [r"\frac{\sqrt{3}}{2}", r"2\pi r", r"\{1, 2\}", r"(-\infty, 2]"]
TEXTS = [text for table in (NUMBERS, NO_NUMBERS, RIGHT, WRONG, LATEX) for text, _ in lines(table)]
TEXTS += [statement.format(answer) for statement in STATEMENTS for answer in ANSWERS]


@pytest.mark.parametrize("expected", ANSWERS)
def test_the_page_grades_as_the_trainer_does(expected):
    """But for words of a running text, which the trainer never takes for an answer."""
    question = number(expected) if parse(expected) is not None else latex(expected)
    if expected in LETTERS:
        question = Question("choice", expected.strip("()").upper(), tuple((label, "") for label in "ABCDEFGH"))
    grades = [(is_right(text, expected), grade(question, text)) for text in TEXTS]
    assert {trainer for _, trainer in grades} == {True, False}
    assert all(page == trainer or (page and expected in PLAIN) for page, trainer in grades)


# The parts


def test_arithmetic_is_graded_by_its_own_grader():
    question = Question("arithmetic", "41")
    for text in ("It is 40 + 1. The answer is 41.", "The answer is $41", "answer is 7. No: the answer is 41"):
        assert final_answer(question, text) == "41" and grade(question, text)
    for text in ("\\boxed{41}", "The answer is 41.5.", "The answer is 4 1", "The answer is 41. The answer is unknown."):
        assert not grade(question, text)
    assert grade(replace(question, answer="41000"), "The answer is 41,000.") and not grade(
        replace(question, answer="141"), "The answer is 41."
    )


def test_two_texts_with_the_same_answer_are_read_alike():
    texts = ["\\boxed{0.75}", "The answer is 3/4.", "so $\\frac{3}{4}$"]
    assert {final_answer(number("1"), text) for text in texts} == {"3/4"}
    assert final_answer(latex("1"), "\\boxed{x = \\dfrac34}") == final_answer(latex("1"), "\\boxed{.75}") == "3/4"


def test_a_number_is_exact_and_nothing_more_or_less():
    assert parse("0.1") == Fraction(1, 10) and parse("0.30000000000000001") != parse("0.3")
    for text in ("", "x", "1,2", "\\log 5", "\\pm 3", "3 4", "12:30", "1/0", "1e999", "\\sqrt{2}", "2x", "3 apples"):
        assert parse(text) is None
    assert last("It is 12.") == 12 and last("It is 12. 1/0") is None, "the last decides, also if it cannot be read"
    assert last("at 72:30") is None and last("x = 72 ^2") is None, "a part of an expression is no number"


def test_the_last_box_is_found_with_its_braces_balanced():
    assert last_boxed("\\boxed{\\frac{1}{2}} and \\boxed{\\{1, {2}\\}}.") == "\\{1, {2}\\}"
    assert last_boxed("\\boxed{a} \\boxed{b") == "a"
    assert last_boxed("} \\boxed{3 \\text{ or } \\boxed{5}}") == "5"
    assert last_boxed("a \\boxed notation, \\boxedx{3}") is None
    assert normalise("x" * 1_001) is None and normalise("\\left. \\,$") is None, "nothing is longer than an answer"


# Whatever a model writes. What takes quadratic time ends at pytest's own limit of time, which says where it was.

PIECES = ["1,111,111,", "1,111", "1 111 111 ", "1", "1.1", "1/1", "-", "- 7 ", "=", "1e", " ", "\n", "(a", "**", "{"]
PIECES += ["}", "\\", "$", "#", "a", "wool", "raw silk ", "\\boxed", "\\boxed{", "\\frac{1", "\\frac{   ", "\\text{"]
PIECES += ["\\(", "answer is ", "option ", "a.\n", "é\ud800\0", "½", "²", "A "]
BEHIND = [" ", ":", "*", "1,111,", "(a) or ", "9", "x = "]
LENGTH = 400_000
"""Characters, four times as many as a text may have: in linear time less than a second."""


@pytest.mark.parametrize(
    "graded",
    [
        *(partial(grade, each) for each in (replace(CHOICE, answer="B"), number("3"), latex("\\pi"))),
        partial(grade, Question("arithmetic", "3")),
        lambda text: is_right(text, "not there"),
    ],
    ids=["choice", "number", "latex", "arithmetic", "page"],
)
def test_no_text_takes_more_than_linear_time(graded):
    texts = [piece * (LENGTH // len(piece)) for piece in PIECES]
    texts += [f"answer is {piece * (LENGTH // len(piece))}x" for piece in BEHIND]
    texts += ["\\boxed{" + "\\frac{" * 60_000 + "}" * 60_001, "\\boxed{1" * 40_000 + "}" * 10_000]
    assert not any(graded(text) for text in texts)
