r"""What each family's grader reads as the answer, what the page makes of an answer it is given, and that no text makes
either slow.

In the tables a case is a text, an arrow, and what is read in it, or what it is compared with; "¦" parts two cases.
"⏎" begins a new line, "none" is no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest

from engine.grading import grade, is_right
from engine.grading.answer import Family


@dataclass(frozen=True)
class Question:
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


def either(right: str, wrong: str) -> list[tuple[str, str, bool]]:
    return [(*row, True) for row in lines(right)] + [(*row, False) for row in lines(wrong)]


READ = """
It shines. The answer is (C). → C ¦ The answer is:⏎⏎(C) → C
The correct choice is C. → C ¦ THE ANSWER IS (c) → C ¦ **Answer:** C → C
The answer is **C. raw silk** → C ¦ The correct answer is option (C), not (A). → C
So $\\boxed{(C)}$ → C ¦ The answer is $C$. → C ¦ The answer is wool. → A ¦ It shines.⏎**C. raw silk** → C
The answer is Raw Silk, which shines. → C ¦ The answer is a bank note. → D ¦ c. → C
It could be raw silk (c), as it shines → C ¦ The answer is (A). No, wait: the answer is (C). → C
The answer is (A). In the end \\boxed{C} → C ¦ (a) is warm, (b) is fine, so I choose (c) → C
I think a sheep has a coat. → none ¦ The answer is a matter of taste. → none ¦ raw silk → none
The answer is I think unclear. → none ¦ A sheep has it → none ¦ Option a sheep would take → none
The answer is (F). → none ¦ The answer is wool or a bank note. → none ¦ The answer is A or C. → none
The answer is both (a) and (c) → none ¦ It is woollen, and the answer is woollen → none
The answer is (C). No, the answer is unknown. → none ¦ A. wool⏎B. silk⏎C. raw silk → none
"""


@pytest.mark.parametrize(("text", "read"), lines(READ))
def test_a_choice_is_read_where_it_is_stated_and_never_out_of_running_text(text, read):
    assert [grade(replace(CHOICE, answer=label), text) for label, _ in FABRICS] == [
        label == read for label, _ in FABRICS
    ]


NUMBERS = """
So \\boxed{72} → 72 ¦ The answer is 3 * $12 = $36. → 36 ¦ So the answer is $5 + $6 = $11. → 11
The answer is:⏎- 72 → 72 ¦ The answer is −7 degrees → -7 ¦ The answer is 3/4 → 0.75
\\boxed{71}, no: \\boxed{72}. The answer is 71 → 72 ¦ The answer is 12 red apples - 5 apples = 7 apples → 7
\\boxed{72 \\text{ apples}} → 72 ¦ \\boxed{x = 72} → 72 ¦ \\boxed{8 \\times 9 = 72} → 72 ¦ \\boxed{72\\%} → 72
The answer is:⏎\\[⏎72⏎\\] → 72 ¦ The answer is 3x = 216, so x = 72. → 72 ¦ \\boxed{-\\dfrac{3}{4}} → -0.75
Eight nines.⏎#### 72.0 → 72 ¦ so 72km → 72 ¦ The total is US$72. → 72 ¦ 答案是72 → 72
The answer is 7,200 → 7200 ¦ \\boxed{7{,}200} → 7200
"""
NO_NUMBERS = """
So the answer is $5 + $6 = $11. → 5 ¦ The answer is 72 or 73. → 72
\\boxed{72 \\text{ or } 73} → 72
→ 72
The answer is seventy-two. → 72 ¦ The answer is 72. No, the answer is unknown. → 72
The answer is 72 or so, \\boxed{71} → 72 ¦ 72 \\boxed{} → 72 ¦ \\boxed{72, 73} → 72 ¦ \\boxed{72\\pi} → 72
\\boxed{72^2} → 72 ¦ The answer is 72/2. → 72 ¦ The answer is 72,5 → 72 ¦ The answer is 72 - 5 → 72
The answer is 72.5.1 → 72 ¦ x5 → 5 ¦ The answer is 3/0 → 0 ¦ at 72:30 → 30 ¦ x = 72 ^2 → 2 ¦ x = 72 ^2 → 72
It is 72, or 73 → 72 ¦ The answer is 0.30000000000000004 → 0.3 ¦ The answer is 72 million → 72
\\boxed{2\\frac{1}{2}} → 2 ¦ The answer is 2 1/2 → 2 ¦ \\boxed{1.5 \\times 10^{-3}} → 1.5
"""


@pytest.mark.parametrize(("text", "answer", "right"), either(NUMBERS, NO_NUMBERS))
def test_a_number_is_read_however_it_is_written_where_it_is_the_whole_answer(text, answer, right):
    assert grade(number(answer), text) is is_right(text, answer) is right


LATEX = r"""
\boxed{\frac 1 2} → \frac{1}{2} ¦ \boxed{2 \pi  r} → 2\pi r ¦ \boxed{16\pi\text{ cm}^2} → 16\pi
\boxed{0.5} → \frac{1}{2} ¦ \boxed{\frac{-1}{2}} → -\frac{1}{2} ¦ \boxed{\dfrac{\sqrt3}{2}} → \frac{\sqrt{3}}{2}
\boxed{x/2} → \frac{x}{2} ¦ \boxed{5} → x=5 ¦ \boxed{x \in [1, 2]} → [1,2] ¦ \boxed{f(x) = 2x + 1.} → 2x+1
\boxed{\left( 3,\, π \right)} → (3, \pi) ¦ \boxed{Evelyn} → \text{Evelyn} ¦ \boxed{10} → 10\% ¦ \boxed{1000} → 1,000
\boxed{\left\{1, 2\right\}} → \{1,2\} ¦ The answer is: \[ x + 1. \] → x+1
\boxed{\frac{3}{4}} and then { → \frac{3}{4} ¦ **The answer is \frac{1}{2}** → \frac12 ¦ \boxed{x^{2}} → x^2
\boxed{7i - 2} → -2 + 7i ¦ \boxed{\frac{1}{\sqrt{3}}} → \frac{\sqrt{3}}{3} ¦ \boxed{(b + 2)(a + 5)} → (a+5)(b+2)
\boxed{9^{999999999}} → 9^{999999999}
"""
OTHER_LATEX = r"""
\boxed{2\sin\theta} → 2\cos\theta ¦ \boxed{2} → \ln 2 ¦ \boxed{3} → \pm 3 ¦ \boxed{2} → 2x
\boxed{16\pi \text{ square units}} → 16
\boxed{3 1/2} → \frac{31}{2}
\boxed{(2,1)} → (1,2) ¦ \boxed{(1,2]} → (1,2) ¦ \boxed{0.51} → \frac{1}{2} ¦ so it is 5 → 5
\boxed{5} but then \boxed{6} → 5 ¦ \boxed{} → 5 ¦ \boxed{5 → 5 ¦ \boxed{__import__('os')} → x
\boxed{9^{999999999}} → 1 ¦ \boxed{9^{9^{9^9}}} → 1 ¦ \boxed{999999999!} → 1 ¦ \boxed{\sin^{99} x} → x^2-3x+2
\boxed{((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))} → 2
"""


@pytest.mark.parametrize(("text", "answer", "right"), either(LATEX, OTHER_LATEX))
def test_formulas_are_the_same_where_their_values_are_and_none_takes_long(text, answer, right):
    assert grade(latex(answer), text) is right


RIGHT = """
1,234 → 1234.0 ¦ It costs $26 → 26 ¦ x = −7 → -7 ¦ 10-7 → 7 ¦ half of it, 50% → 50 %
1, 2, 3 → 3 ¦ ٢٦ → ٢٦ ¦ 5² = 25 → 25 ¦ The answer is (B). → B ¦ First A, no: **C** → c.
\\boxed{x^{2}} → x^2 ¦ It is Paris! → paris ¦ The  New⏎York of today → new york ¦ Die Straße → STRASSE
答案是东京。 → 东京 ¦ at 7:30 sharp → 7:30 ¦ so x^2+1 = y → x^2+1 ¦ “To be” → to be
"""
WRONG = """
The 26 of us ate 3 → 26 ¦ 10-7 → -7 ¦ 7 → -7 ¦ H2O → 2 ¦ 5² → 52 ¦ 1.2.3 → 3 ¦ ٢٦ → 26 ¦ It is 12. 1/0 → 12
I pick b → B ¦ ABBA → A ¦ A dog barks → A ¦ B, or rather C → B ¦ Parisian → Paris ¦ eyes → yes ¦ 17:30 → 7:30
x^2+12 → x^2+1 ¦ anything → ... ¦ 2\\pi, or more → 2\\pi ¦ The answer is $2\\pi r$. → 2\\pi
"""


@pytest.mark.parametrize(("text", "answer", "right"), either(RIGHT, WRONG))
def test_the_page_knows_an_answer_by_its_writing(text, answer, right):
    assert is_right(text, answer) is right


ARITHMETIC = """
It is 40 + 1. The answer is 41. → 41 ¦ The answer is $41 → 41 ¦ answer is 7. No: the answer is 41 → 41
The answer is 41,000. → 41000 ¦ the answer is 41 apples, not 40 → 41
"""
OTHER_ARITHMETIC = """
41 → 41 ¦ \\boxed{41} → 41 ¦ The answer is 4 1. → 41 ¦ The answer is 414. → 41 ¦ The answer is -41. → 41
The answer is 41.5. → 41 ¦ The answer is 41,00. → 41 ¦ The answer is 41. No, the answer is unknown. → 41
"""


@pytest.mark.parametrize(("text", "answer", "right"), either(ARITHMETIC, OTHER_ARITHMETIC))
def test_the_tiny_pair_must_state_its_answer(text, answer, right):
    assert grade(Question("arithmetic", answer), text) is right


# What takes quadratic time ends at pytest's own limit of time, which says where it was.

PIECES = ["1,111,111,", "1,111", "1 111 111 ", "1", "1.1", "1/1", "-", "- 7 ", "=", "1e", " ", "\n", "(a", "**", "{"]
PIECES += ["}", "\\", "$", "#", "a", "wool", "raw silk ", "\\boxed", "\\boxed{", "\\frac{1", "\\frac{   ", "\\text{"]
PIECES += ["\\(", "answer is ", "option ", "a.\n", "é\ud800\0", "½", "²", "A "]
BEHIND = [" ", ":", "*", "1,111,", "(a) or ", "9", "x = "]
LENGTH = 200_000
"""Characters, twice as many as a text may have: in linear time less than a second."""


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
