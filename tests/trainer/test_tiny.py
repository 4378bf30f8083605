"""The tiny pair: its language of worked arithmetic, its tokenizer, how it is trained, and what ships."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from engine.grading import grade
from tests.support.paths import TINY
from tools import tiny_pair as tiny
from tools.arithmetic import make_problem, questions, tell

EQUATION = re.compile(r"\$?(\d+) ([-+*/]) \$?(\d+) = \$?(\d+)")
COMPUTE = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY / "tokenizer", local_files_only=True)


def test_no_problem_and_no_question_of_the_dev_split_is_met_in_training():
    seen = {}
    for split in ("train", "dev"):
        found = [q for seed in range(3) for q in questions(split, 1000, seed)]
        seen[split] = [{q.question for q in found}, {tuple(EQUATION.findall(q.reference)) for q in found}]
    assert not seen["train"][0] & seen["dev"][0] and not seen["train"][1] & seen["dev"][1]
    rng, splits = random.Random(1), set()
    for _ in range(50):
        problem = make_problem(rng)
        splits.add(problem.split())
        stories = {tuple(EQUATION.findall(tell(problem, rng).reference)) for _ in range(3)}
        assert len(stories) == 1, "a problem has one split, whatever its story"
    assert splits == {"train", "dev"}


def test_every_step_of_a_reference_is_right_goes_on_from_the_one_before_and_earns_its_grade():
    for question in questions("dev", 500, 3):
        equations = EQUATION.findall(question.reference)
        assert 2 <= len(equations) <= 4 and grade(question, question.reference)
        assert all(COMPUTE[symbol](int(left), int(right)) == int(result) for left, symbol, right, result in equations)
        assert all(before[3] == after[0] for before, after in pairwise(equations))
        assert question.answer in {equations[-1][3], equations[-1][3] + "000"}


@given(text=st.text())
def test_any_text_survives_the_tokenizer_and_every_digit_is_a_token(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    digits = [piece for piece in tokenizer.tokenize(text) if any(c in "0123456789" for c in piece)]
    assert all(len(piece.lstrip("Ġ")) == 1 for piece in digits)


def test_the_chat_template_takes_an_optional_system_message(tokenizer):
    user = {"role": "user", "content": "Add 2."}
    plain = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert plain == "<|im_start|>user\nAdd 2.<|im_end|>\n<|im_start|>assistant\n"
    system = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, user], tokenize=False)
    assert system == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAdd 2.<|im_end|>\n"


# --- training


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_trains_the_same_files_to_the_bit_and_they_load_and_write(tmp_path):
    for name in ("first", "again"):
        tiny.build(tmp_path / name, steps=2, seed=3)
    first = files_of(tmp_path / "first")
    assert "llm/model.safetensors" in first and first == files_of(tmp_path / "again")
    pair = tiny.load(tmp_path / "first")
    assert {model.dtype for model in pair.models} == {torch.float32}
    assert len(pair.generate("Hello", policy="random", max_new_tokens=3).events) == 3


def test_the_pair_takes_its_place_when_it_is_whole_and_leaves_other_files_alone(monkeypatch, tmp_path):
    (tmp_path / "slm").mkdir()
    (tmp_path / "slm" / "old.json").write_text("{}")
    (tmp_path / "mine").write_text("mine")

    def measure(folder: Path):
        assert sorted(each.name for each in tmp_path.iterdir() if each.suffix != ".tmp") == ["mine", "slm"]
        return dict.fromkeys(("slm", "llm", "differ"), 0.5)

    monkeypatch.setattr(tiny, "evaluate", measure)
    tiny.main(["--out", str(tmp_path), "--steps", "1"])
    made = files_of(tmp_path)
    assert {"mine", "slm/model.safetensors"} <= made.keys() and "slm/old.json" not in made


def test_no_steps_are_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        tiny.main(["--out", str(tmp_path), "--steps", "0"])
    assert "not 0" in capsys.readouterr().err


# --- the pair that ships


def test_the_shipped_slm_misses_most_unseen_questions_and_the_llm_few():
    found = tiny.evaluate(TINY, count=60)
    assert found["slm"] <= 0.45 and found["llm"] >= 0.9 and found["differ"] <= 0.15
