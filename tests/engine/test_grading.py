"""What each family's grader reads as the answer, and that no text makes it slow."""

import time
from dataclasses import replace

import pytest

from engine.grading import final_answer, grade
from engine.grading.latex import last_boxed, normalise
from engine.grading.number import parse
from trainer.questions.question import Question
from trainer.tiny.arithmetic import questions

FABRICS = (("A", "wool"), ("B", "silk"), ("C", "raw silk"), ("D", "a bank note"), ("E", "i don't know"))
CHOICE = Question("c", "Which?", "", "C", FABRICS)


def number(answer):
    return Question("n", "How many?", "", answer, stated_family="number")


def latex(answer):
    return Question("l", "Solve.", "", answer, stated_family="latex")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It shines. The answer is (C).", "C"),
        ("The answer is not (B) but (C).", "C"),
        ("The answer is not A, but C", "C"),
        ("The answer is not C.", None),
        ("The correct choice is C.", "C"),
        ("The answer is most likely C.", "C"),
        ("Therefore, C is correct.", "C"),
        ("The answer is (c).", "C"),
        ("THE ANSWER IS (C)", "C"),
        ("the answer is: (C) raw silk", "C"),
        ("**Answer:** C", "C"),
        ("Answer: **C**", "C"),
        ("The answer is **(C)**.", "C"),
        ("The answer is **C. raw silk**", "C"),
        ("The answer is C.", "C"),
        ("The answer is C. wool is warmer.", "C"),
        ("The answer is C because it shines.", "C"),
        ("The answer is C raw silk", "C"),
        ("The answer is option C.", "C"),
        ("The correct answer is option (C), not (A).", "C"),
        ("the answer is c", "C"),
        ('The answer is "C".', "C"),
        ("The answer is [C]", "C"),
        ("The answer is:\n\n(C)", "C"),
        ("The answer is \\boxed{C}.", "C"),
        ("So \\boxed{\\text{C}}", "C"),
        ("So $\\boxed{(C)}$", "C"),
        ("The answer is \\(C\\).", "C"),
        ("The answer is $C$.", "C"),
        ("The answer is (C. raw silk)", "C"),
        ("The answer is wool.", "A"),
        ("The answer is raw silk.", "C"),
        ("The answer is Raw Silk, which shines.", "C"),
        ("The answer is a bank note.", "D"),
        ("The answer is wool. Silk is finer.", "A"),
        ("The answer is something soft. Therefore it must be raw silk (c).", "C"),
        ("The answer must be soft. One possibility is raw silk (c).", "C"),
        ("It could be raw silk (c), as it shines", "C"),
        ("So option C is right.", "C"),
        ("So I take choice (c)", "C"),
        ("This is **C**", "C"),
        ("C", "C"),
        ("c.", "C"),
        ("C. raw silk", "C"),
        ("It shines.\nC", "C"),
        ("It shines.\n**C. raw silk**", "C"),
        ("The answer is (A). No, wait: the answer is (C).", "C"),
        ("The answer is (A). In the end \\boxed{C}", "C"),
        ("\\boxed{A}. No: the answer is (C)", "C"),
        ("(a) is warm, (b) is fine, so I choose (c)", "C"),
        ("", None),
        ("I think a sheep has a coat.", None),
        ("The answer is a matter of taste.", None),
        ("The answer is I think unclear.", None),
        ("A sheep has it", None),
        ("Option a sheep would take", None),
        ("The answer is (F).", None),
        ("The answer is wool or a bank note.", None),
        ("The answer is (A) or (C).", None),
        ("The answer is A or C.", None),
        ("The answer is both (a) and (c)", None),
        ("It is woollen, and the answer is woollen", None),
        ("The answer is (C). No, the answer is unknown.", None),
        ("A. wool\nB. silk\nC. raw silk", None),
        ("raw silk", None),
    ],
)
def test_a_choice_is_read_where_it_is_stated_and_never_out_of_running_text(text, expected):
    assert final_answer(CHOICE, text) == expected
    assert grade(CHOICE, text) == (expected == "C")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The answer is (2).", "2"), ("the answer is 2", "2"), ("The answer is 2.5", None), ("\\boxed{3}", "3")],
)
def test_labels_may_be_numbers(text, expected):
    assert final_answer(Question("c", "Which?", "", "2", (("1", "x"), ("2", "y"), ("3", "z"))), text) == expected


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("72", "So \\boxed{72}", True),
        ("36", "The answer is 3 * $12 = $36.", True),
        ("11", "So the answer is $5 + $6 = $11.", True),
        ("5", "So the answer is $5 + $6 = $11.", False),
        ("7", "\\boxed{\\$12 - \\$5 = \\$7}", True),
        ("93", "The answer is 100 - (3 + 4) = 93", True),
        ("-1", "The answer is 5 + -6 = -1", True),
        ("72", "The answer is not 72.", False),
        ("72", "The answer is 72 or 73.", False),
        ("72", "The answer is 72 to 73.", False),
        ("72", "The answer is between 72 and 73.", False),
        ("72", "The answer is at least 72.", False),
        ("72", "\\boxed{72 \\text{ or } 73}", False),
        ("72", "\\boxed{72 \\text{ and } 73}", False),
        ("72", "\\boxed{x \\neq 72}", False),
        ("72", "\\boxed{\\pm 72}", False),
        ("72", "\\boxed{\\sin 72}", False),
        ("72", "\\boxed{\\mathbf{72}}", True),
        ("72", "The answer is:\n- 72", True),
        ("-72", "The answer is - 72", True),
        ("-72", "The answer is negative 72.", True),
        ("2", "The answer is 5 minus 3 = 2", True),
        ("2000000", "The answer is 2 million dollars.", True),
        ("72", "\\boxed{71}, no: \\boxed{72}.", True),
        ("72", "\\boxed{72}. The answer is 71", True),
        ("72", "The answer is \\boxed{72 \\text{ apples}}", True),
        ("72", "\\boxed{\\text{72}}", True),
        ("72", "\\boxed{x = 72}", True),
        ("72", "\\boxed{8 \\times 9 = 72}", True),
        ("72", "\\boxed{\\$72}", True),
        ("72", "\\boxed{72\\%}", True),
        ("72", "\\boxed{72^\\circ}", True),
        ("72", "\\boxed{\\boxed{72}}", True),
        ("72", "\\boxed{\\left(72\\right)}", True),
        ("72", "\\boxed{72", True),
        ("72", "The answer is 72.", True),
        ("72", "The final answer is: $72$", True),
        ("72", "The answer is **72**.", True),
        ("72", "**Answer**: 72 apples, not 71", True),
        ("72", "The answer is:\n\\[\n72\n\\]", True),
        ("72", "The answer is $72.00.", True),
        ("72", "the answer is 8 * 9 = 72 clips", True),
        ("72", "The answer is 60 + 12 = $72, as said", True),
        ("7", "The answer is 12 red apples - 5 apples = 7 apples", True),
        ("12", "The answer is 12 apples, for 7 + 5 = 12 and 12 - 5 = 7", True),
        ("72", "The answer is 3x = 216, so x = 72.", True),
        ("72", "The answer is 71. No, the answer is 72", True),
        ("72", "#### 72", True),
        ("72", "Eight nines.\n#### 72.0", True),
        ("72", "#### 2. The total\nIt is 72", True),
        ("72", "He has 70 + 2 = 72 of them left.", True),
        ("72", "so 72km", True),
        ("72", "The total is US$72.", True),
        ("72", "答案是72", True),
        ("7200", "The answer is 7,200", True),
        ("7,200", "The answer is 7200", True),
        ("7200", "The answer is 7 200 people", True),
        ("7200", "\\boxed{7{,}200}", True),
        ("7200", "\\boxed{7\\,200}", True),
        ("7200", "\\boxed{7,\\!200}", True),
        ("7200", "The answer is 7\N{NARROW NO-BREAK SPACE}200", True),
        ("1000000", "The answer is 1 000 000.", True),
        ("1000000", "\\boxed{10^6 = 1,000,000}", True),
        ("300", "In 2020 300 came", True),
        ("-7", "The answer is -7.", True),
        ("-7", "The answer is \N{MINUS SIGN}7 degrees", True),
        ("-7", "\\boxed{- 7}", True),
        ("-7", "The answer is -$7", True),
        ("-7", "The answer is $-7$", True),
        ("0.75", "The answer is 3/4", True),
        ("3/4", "The answer is .75", True),
        ("0.75", "\\boxed{\\frac{3}{4}}", True),
        ("-0.75", "\\boxed{-\\dfrac{3}{4}}", True),
        ("-0.75", "\\boxed{\\frac{-3}{4}}", True),
        ("0.5", "\\boxed{\\frac12}", True),
        ("0.5", "½ of it", True),
        ("2.5", "The answer is 2 1/2 cups", True),
        ("2.5", "\\boxed{2\\frac{1}{2}}", True),
        ("-2.5", "The answer is -2 1/2", True),
        ("1500", "The answer is 1.5e3", True),
        ("1500", "The answer is 1.5 × 10^3", True),
        ("0.0015", "\\boxed{1.5 \\times 10^{-3}}", True),
        ("0.1", "The answer is 0.10", True),
        ("72", "", False),
        ("72", "The answer is seventy-two.", False),
        ("72", "The answer is 72. No, the answer is unknown.", False),
        ("72", "The answer is 72 or so, \\boxed{71}", False),
        ("72", "72 \\boxed{}", False),
        ("72", "\\boxed{72, 73}", False),
        ("72", "\\boxed{72\\sqrt{2}}", False),
        ("72", "\\boxed{72\\pi}", False),
        ("72", "\\boxed{72^2}", False),
        ("72", "The answer is 72/2.", False),
        ("72", "The answer is 72,5", False),
        ("72", "The answer is 72 - 5", False),
        ("72", "The answer is 72:30", False),
        ("72", "The answer is 72.5.1", False),
        ("72", "The answer is 7 2.", False),
        ("72", "The answer is 172, 72 more than before", False),
        ("72", "The answer is -72", False),
        ("72", "It is 72, or 73", False),
        ("5", "x5", False),
        ("25", "y^25", False),
        ("30", "at 7:30", False),
        ("0", "The answer is 3/0", False),
        ("1e9", "The answer is 1e999999", False),
        ("1", "The answer is " + "1" * 5000, False),
        ("0.3", "The answer is 0.30000000000000004", False),
    ],
)
def test_a_number_is_the_same_however_it_is_written(answer, text, right):
    assert grade(number(answer), text) is right


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("\\frac{1}{2}", "\\boxed{\\dfrac{1}{2}}", True),
        ("\\frac{1}{2}", "\\boxed{\\frac12}", True),
        ("\\frac{1}{2}", "\\boxed{\\frac 1 2}", True),
        ("2\\cos\\theta", "\\boxed{2\\sin\\theta}", False),
        ("\\log 5", "\\boxed{\\sin 5}", False),
        ("\\ln 2", "\\boxed{2}", False),
        ("2\\pi r", "\\boxed{2}", False),
        ("2\\pi r", "\\boxed{2 \\pi  r}", True),
        ("\\pm 3", "\\boxed{3}", False),
        ("16", "\\boxed{16\\pi \\text{ square units}}", False),
        ("7:30\\text{ p.m.}", "\\boxed{7:30\\text{ a.m.}}", False),
        ("7:30\\text{ p.m.}", "\\boxed{7:30\\text{ p.m.}}", True),
        ("5\\text{ east}", "\\boxed{5\\text{ west}}", False),
        ("16\\pi", "\\boxed{16\\pi\\text{ cm}^2}", True),
        ("5\\mathbf{i}", "\\boxed{5\\mathbf{j}}", False),
        ("5", "\\boxed{\\mathbf{5}}", True),
        ("\\frac{1}{2}", "\\boxed{0.5}", True),
        ("\\frac{1}{2}", "\\boxed{1/2}", True),
        ("0.5", "\\boxed{\\tfrac 1 2}", True),
        ("-\\frac{1}{2}", "\\boxed{\\frac{-1}{2}}", True),
        ("\\frac{\\sqrt{3}}{2}", "\\boxed{\\dfrac{\\sqrt3}{2}}", True),
        ("\\frac{x}{2}", "\\boxed{x/2}", True),
        ("\\frac{a}{b}", "\\boxed{\\frac ab}", True),
        ("5", "\\boxed{x = 5}", True),
        ("x=5", "\\boxed{5}", True),
        ("[1,2]", "\\boxed{x \\in [1, 2]}", True),
        ("2x+1", "\\boxed{f(x) = 2x + 1.}", True),
        ("(3, \\pi)", "\\boxed{\\left( 3,\\, π \\right)}", True),
        ("(-\\infty, 2]", "\\boxed{(\N{MINUS SIGN}∞, 2]}", True),
        ("90^\\circ", "\\boxed{90}", True),
        ("90", "\\boxed{90^{\\circ}}", True),
        ("90", "\\boxed{90°}", True),
        ("\\text{Evelyn}", "\\boxed{Evelyn}", True),
        ("even", "\\boxed{\\mbox{even}}", True),
        ("5", "\\boxed{5\\text{ cm}^2}", True),
        ("10\\%", "\\boxed{10}", True),
        ("1,000", "\\boxed{1000}", True),
        ("x^2", "\\boxed{x^{2}}", True),
        ("\\{1,2\\}", "\\boxed{\\left\\{1, 2\\right\\}}", True),
        ("5", "\\fbox{5}", True),
        ("5", "$\\boxed 5$", True),
        ("\\frac{1}{2}", "The answer is $\\frac{1}{2}$.", True),
        ("x+1", "The answer is: \\[ x + 1. \\]", True),
        ("x+1", "The final answer is x + 1.", True),
        ("3", "\\boxed{2}\n Wait: \\boxed{3}", True),
        ("\\frac{3}{4}", "\\boxed{\\frac{3}{4}} and then {", True),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}", True),
        ("3\\frac12", "\\boxed{3 1/2}", True),
        ("\\frac{31}{2}", "\\boxed{3 1/2}", False),
        ("72", "The answer is **72**.", True),
        ("\\frac12", "**The answer is \\frac{1}{2}**", True),
        ("5", "\\boxed{+5}", True),
        ("5", "\\boxed{x = +5}", True),
        ("(1,2)", "\\boxed{(2,1)}", False),
        ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", False),
        ("(1,2)", "\\boxed{[1,2]}", False),
        ("(1,2)", "\\boxed{(1,2]}", False),
        ("2x", "\\boxed{2}", False),
        ("\\sqrt{2}", "\\boxed{2}", False),
        ("\\frac{1}{2}", "\\boxed{0.51}", False),
        ("5", "\\boxed{5x}", False),
        ("5", "so it is 5", False),
        ("5", "\\boxed{5} but then \\boxed{6}", False),
        ("5", "\\boxed{}", False),
        ("5", "\\boxed{5", False),
        ("5", "", False),
        ("x", "\\boxed{__import__('os')}", False),
    ],
)
def test_latex_is_the_same_where_only_the_writing_differs(answer, text, right):
    assert grade(latex(answer), text) is right


def test_arithmetic_is_graded_by_its_own_grader():
    for question in questions("dev", 50, 0):
        assert final_answer(question, question.reference) == question.answer
        assert grade(question, question.reference)
        assert not grade(replace(question, answer="1" + question.answer), question.reference)
        assert not grade(question, f"\\boxed{{{question.answer}}}")
        assert final_answer(question, "The answer is 41.5.") is None
        assert final_answer(question, "The answer is 41. No, the answer is unknown.") is None


def test_two_texts_with_the_same_answer_are_read_alike():
    texts = ["\\boxed{0.75}", "The answer is 3/4.", "so $\\frac{3}{4}$"]
    assert {final_answer(number("1"), text) for text in texts} == {"3/4"}
    assert final_answer(latex("1"), "\\boxed{x = \\dfrac34}") == final_answer(latex("1"), "\\boxed{.75}") == "3/4"


@pytest.mark.parametrize(
    "text", ["", "x", "1,2", "\\log 5", "\\pm 3", "3 4", "12:30", "1/0", "1e999", "\\sqrt{2}", "2x", "3 apples", "٣"]
)
def test_what_is_more_or_less_than_a_number_does_not_parse(text):
    assert parse(text) is None


def test_the_last_box_is_found_with_its_braces_balanced():
    assert last_boxed("\\boxed{\\frac{1}{2}} and \\boxed{\\{1, {2}\\}}.") == "\\{1, {2}\\}"
    assert last_boxed("\\boxed{a} \\boxed{b") == "a"
    assert last_boxed("} \\boxed{3 \\text{ or } \\boxed{5}}") == "5"
    assert last_boxed("a \\boxed notation, \\boxedx{3}") is None


def test_nothing_is_longer_than_an_answer():
    assert normalise("x" * 1_001) is None
    assert normalise("\\left. \\,$") is None


AWKWARD = [
    "1,111,111," * 10_000,
    "1,111" * 20_000,
    "1 111 111 " * 10_000,
    "1" * 100_000,
    "1.1" * 33_000,
    "1/1" * 33_000,
    "-" * 100_000,
    "- 7 " * 25_000,
    "=" * 100_000,
    "1e" * 50_000,
    " " * 100_000,
    "\n" * 100_000,
    "(a" * 50_000,
    "**" * 50_000,
    "{" * 100_000,
    "}" * 100_000,
    "\\" * 100_000,
    "$" * 99_999,
    "#" * 100_000,
    "a" * 100_000,
    "wool" * 25_000,
    "raw silk " * 11_000,
    "\\boxed" * 16_000,
    "\\boxed{" * 14_000,
    "\\boxed{1" * 12_000 + "}" * 4_000,
    "\\boxed{" + "1" * 100_000 + "}",
    "\\boxed{" + "\\frac{" * 16_000 + "}" * 16_001,
    "\\frac{1" * 14_000,
    "\\frac{   " * 10_000,
    "\\text{" * 16_000,
    "\\(" * 50_000,
    "answer is " * 10_000,
    "answer" + " " * 100_000,
    "answer is" + " " * 100_000 + "x",
    "answer is" + ":" * 100_000,
    "answer is" + "*" * 100_000,
    "answer is " + "1,111," * 16_000,
    "answer is " + "(a) or " * 14_000,
    "answer is " + "9" * 100_000,
    "answer is " + "x = " * 25_000,
    "option " * 14_000,
    "option" + " " * 100_000,
    "a.\n" * 33_000,
    "é\ud800\0" * 33_000,
]


def least_time(question, text: str) -> float:
    """Seconds of this thread's own work, the least of three: other threads and a collection of garbage do not count."""

    def once() -> float:
        started = time.thread_time()
        assert not grade(question, text) or question is not CHOICE
        return time.thread_time() - started

    return min(once() for _ in range(3))


@pytest.mark.parametrize("question", [CHOICE, number("1"), latex("1"), next(questions("dev", 1, 0))])
@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_a_text_four_times_as_long_takes_no_more_than_linear_time(text, question):
    a_quarter = least_time(question, text[: len(text) // 4])
    assert least_time(question, text) < 10 * a_quarter + 0.02  # quadratic time would be 16 times
