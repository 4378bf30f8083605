"""Claims about the synthetic language and about the tokenizer that ships with the tiny pair."""

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from engine.grading import grade_arithmetic as grade
from trainer.tiny.arithmetic import make_problem, questions, tell

TINY = Path(__file__).parent.parent.parent / "assets" / "tiny"
EQUATION = re.compile(r"\$?(\d+) ([-+*/]) \$?(\d+) = \$?(\d+)")
COMPUTE = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(TINY / "tokenizer", local_files_only=True)


def test_a_problem_belongs_to_one_split_whatever_its_story():
    rng, splits = random.Random(1), set()
    for _ in range(200):
        problem = make_problem(rng)
        splits.add(problem.split())
        stories = [tell(problem, rng) for _ in range(3)]
        assert {_numbers(story.reference) for story in stories} == {_numbers(stories[0].reference)}
    assert splits == {"train", "dev"}


def test_no_problem_of_the_dev_split_is_met_in_training():
    seen = {split: {_numbers(q.reference) for q in questions(split, 3000, 0)} for split in ("train", "dev")}
    assert not seen["train"] & seen["dev"]


def test_no_question_of_the_dev_split_is_met_in_training_under_another_seed():
    dev = {q.question for seed in range(3) for q in questions("dev", 1000, seed)}
    train = {q.question for seed in range(3) for q in questions("train", 1000, seed)}
    assert not dev & train


def test_every_step_of_a_reference_is_right_and_continues_the_one_before():
    for question in questions("dev", 1000, 3):
        equations = EQUATION.findall(question.reference)
        assert 2 <= len(equations) <= 4
        for left, symbol, right, result in equations:
            assert COMPUTE[symbol](int(left), int(right)) == int(result)
        for before, after in pairwise(equations):
            assert before[3] == after[0]
        assert question.answer in {equations[-1][3], equations[-1][3] + "000"}


def test_every_reference_earns_its_own_grade():
    assert all(grade(question.reference, question.answer) for question in questions("dev", 1000, 4))


def test_the_same_seed_gives_the_same_questions_and_another_seed_others():
    assert list(questions("dev", 50, 5)) == list(questions("dev", 50, 5))
    assert list(questions("dev", 50, 5)) == list(questions("dev", 80, 5))[:50]
    assert list(questions("dev", 50, 5)) != list(questions("dev", 50, 6))
    one, two = random.Random(7), random.Random(7)
    assert tell(make_problem(one), one) == tell(make_problem(two), two)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 41.", "41"),
        ("The answer is $41.", "41"),
        ("The answer is 41,000.", "41000"),
        ("The answer is: 41\n", "41"),
        ("The answer is 40. No, the answer is 41", "41"),
        ("The answer is 41.<|im_end|>", "41"),
        ("the answer is 41 apples, not 40", "41"),
    ],
)
def test_the_grader_accepts(text: str, answer: str):
    assert grade(text, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "41"),
        ("41", "41"),
        ("The answer is", "41"),
        ("The answer is unknown.", "41"),
        ("The answer is 4 1.", "41"),
        ("The answer is 414.", "41"),
        ("The answer is 141.", "41"),
        ("The answer is -41.", "41"),
        ("The answer is 41.5.", "41"),
        ("The answer is 41/2.", "41"),
        ("The answer is 41%.", "41"),
        ("The answer is 41,00.", "41"),
        ("The answer is 41,000.", "41"),
        ("The answer is 41.", "41000"),
        ("The answer is 41. No, the answer is 40.", "41"),
        ("The answer is 41. No, the answer is unknown.", "41"),
        ("The answer is ４１.", "41"),
    ],
)
def test_the_grader_rejects(text: str, answer: str):
    assert not grade(text, answer)


def test_every_digit_is_a_token_of_its_own(tokenizer):
    assert not [token for token in tokenizer.get_vocab() if len(token) > 1 and re.search(r"[0-9]", token)]
    pieces = tokenizer.tokenize("It is 1,234 or $56.")
    assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == list("123456")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Tab\tand\r\nlines \n\n end ",
        "日本語のテキスト、数字は１２３と456。",
        "emoji 👩‍🔬🇯🇵 and é / e\u0301",
        "عربي हिन्दी \u200b\ufeff",
        "code: def f(x):\n    return {'a': [1, 2]}",
        "\x00\x7f\u0085\U0010ffff",
        "12 o'clock , isn't it ? 3 .",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_random_text_survives_the_tokenizer(tokenizer):
    rng = random.Random(0)
    for _ in range(100):
        codes = [rng.randrange(0x110000) for _ in range(20)]
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_chat_template_takes_an_optional_system_message(tokenizer):
    user = {"role": "user", "content": "Add 2."}
    plain = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert plain == "<|im_start|>user\nAdd 2.<|im_end|>\n<|im_start|>assistant\n"
    with_system = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, user], tokenize=False)
    assert with_system == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAdd 2.<|im_end|>\n"


def test_references_have_forty_to_a_hundred_tokens(tokenizer):
    lengths = [len(tokenizer.encode(question.reference)) + 1 for question in questions("dev", 500, 1)]
    assert min(lengths) >= 35
    assert max(lengths) <= 100


def test_the_shipped_files_are_at_most_twelve_megabytes():
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) <= 12_000_000


def _numbers(reference: str) -> tuple[tuple[str, ...], ...]:
    """The equations of a reference, which stand for its problem."""
    return tuple(EQUATION.findall(reference))
