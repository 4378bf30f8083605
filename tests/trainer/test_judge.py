"""A judge is fitted to what rollouts say, on the states that the engine shows it, and measured on other questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import Role
from tests.engine.test_judge import random_judge
from tests.support.fake_labels import quiet
from trainer import TrainerError
from trainer.__main__ import main
from trainer.fit.fit_judge import JUDGE, fit_judge, harmless_tokens
from trainer.labels.answers import answer, load_answers
from trainer.labels.labels import label
from trainer.labels.refused import gather, load_refused
from trainer.labels.rollouts import load_rollouts, roll_out
from trainer.questions.question import prompt
from trainer.questions.sources import load_questions
from trainer.settings import RolloutSettings

QUESTIONS = load_questions(["arithmetic"], 24)


@pytest.fixture(scope="module")
def folder(tiny_pair, tmp_path_factory):
    """The LLM's answers, refused drafts, and rollouts of both tokens."""
    folder = tmp_path_factory.mktemp("judge")
    answer(tiny_pair, Role.LLM, QUESTIONS, folder / "answers", 120, quiet)
    answers = load_answers(folder / "answers", Role.LLM)
    label(tiny_pair, QUESTIONS, folder / "labels", answers, report=quiet)
    settings = RolloutSettings(budget=3, both=True, max_new_tokens=120)
    roll_out(tiny_pair, QUESTIONS, folder / "labels", folder / "rollouts", settings, report=quiet)
    gather(tiny_pair, QUESTIONS, answers, folder / "refused", quiet)
    return folder


def test_every_token_that_was_rolled_out_is_a_refused_draft_with_its_outcome(folder):
    tokens = harmless_tokens(folder / "refused", [folder / "rollouts"])
    right = {(each.question, each.position, each.role): each.correct for each in load_rollouts(folder / "rollouts")[0]}
    assert 2 * len(tokens) == len(right)
    for question, position, harmless in zip(tokens.question, tokens.position, tokens.preference, strict=True):
        slm, llm = (right[question, position, role] for role in (Role.SLM, Role.LLM))
        assert harmless == (slm >= llm)
    assert (tokens.logit_features < 0).all()


class Recorder:
    """Notes what the engine shows a judge, and keeps nothing."""

    def __init__(self):
        self.shown = []

    def harmless(self, hidden, log_ratio):
        self.shown.append((hidden, float(log_ratio)))
        return 0.0


def test_what_a_judge_learns_from_is_what_the_engine_shows_it(tiny_pair, folder):
    """With acceptance 1 the text is the LLM's answer, and each draft that differs from it is shown once."""
    question = QUESTIONS[0]
    places, arrays, _ = load_refused(folder / "refused")
    rows = [row for row, (name, _) in enumerate(places) if name == question.id]
    recorder = Recorder()
    tiny_pair.judge = recorder
    asked = {"policy": "confidence", "threshold": 0.0, "acceptance": 1.0, "max_draft": 1, "judge": "learned"}
    tiny_pair.generate(prompt(question), max_new_tokens=120, **asked)
    tiny_pair.judge = None
    assert [ratio for _, ratio in recorder.shown] == pytest.approx(arrays["log_ratio"][rows].tolist(), abs=1e-3)
    assert torch.allclose(torch.stack([h for h, _ in recorder.shown]), arrays["hidden"][rows].float(), atol=2e-2)


def planted(tokens, questions=60, each=12):
    """Tokens of which those with a positive first value do no harm; their ratio says nothing."""
    count, chance = questions * each, np.random.default_rng(0)
    hidden = chance.normal(size=(count, 16)).astype(np.float16)
    arrays = {name: np.resize(values, (count, *values.shape[1:])) for name, values in tokens.arrays.items()}
    arrays |= {"question": np.repeat([f"q{n}" for n in range(questions)], each), "hidden": hidden}
    arrays["logit_features"] = -chance.exponential(size=(count, 1)).astype(np.float32)
    return replace(tokens, **{**arrays, "preference": (hidden[:, 0] > 0).astype(np.float32)})


def test_what_the_state_says_and_the_ratio_does_not_is_found(folder, tmp_path):
    tokens = planted(harmless_tokens(folder / "refused", [folder / "rollouts"]))
    metrics = fit_judge(tokens, tmp_path / "judge", replace(JUDGE, learning_rate=1e-2), quiet).card.metrics
    assert metrics["auc_judge"][0] > 0.9
    assert metrics["auc_ratio"][1] < 0.55
    assert metrics["auc_difference"][1] > 0.3
    assert metrics["questions"] == 60


def test_a_fitted_judge_is_for_its_pair(tiny_pair, folder, tmp_path):
    tokens = harmless_tokens(folder / "refused", [folder / "rollouts"])
    tiny_pair.use_judge(fit_judge(tokens, tmp_path / "judge", replace(JUDGE, epochs=1), quiet))
    assert tiny_pair.judge.card.width == JUDGE.width
    tiny_pair.use_judge(None)
    assert random_judge(tiny_pair).card.hidden_size == tokens.hidden.shape[1]


def test_rollouts_of_one_token_or_other_questions_are_refused(tiny_pair, folder, tmp_path):
    with pytest.raises(TrainerError, match="24 of 24 questions have no answer"):
        gather(tiny_pair, QUESTIONS, {}, tmp_path, quiet)
    settings = RolloutSettings(budget=1, max_new_tokens=120)
    roll_out(tiny_pair, QUESTIONS, folder / "labels", tmp_path / "one", settings, report=quiet)
    with pytest.raises(TrainerError, match="was rolled out both ways: use `rollout --both`"):
        harmless_tokens(folder / "refused", [tmp_path / "one"])


def test_too_few_questions_or_outcomes_are_refused_before_anything_is_fitted(folder, tmp_path):
    tokens = planted(harmless_tokens(folder / "refused", [folder / "rollouts"]), questions=9)
    with pytest.raises(TrainerError, match="9 questions with 2 of both outcomes"):
        fit_judge(tokens, tmp_path / "judge", JUDGE, quiet)
    alike = planted(tokens, questions=12)
    with pytest.raises(TrainerError, match="12 questions with 1 of both outcomes"):
        fit_judge(replace(alike, preference=np.ones_like(alike.preference)), tmp_path / "judge", JUDGE, quiet)


@pytest.mark.parametrize(
    "asked",
    [
        ["seconds", "--questions", "1", "--points", "confidence+judge@0.3:0.5"],
        ["transfer", "--prompts", "texts.json", "--methods", "confidence+judge@0.3", "--thresholds", "0.5"],
    ],
    ids=["seconds", "transfer"],
)
def test_the_commands_that_measure_take_a_judge(tiny_pair, tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    Path("texts.json").write_text('["Start with 12. Add 30."]')
    random_judge(tiny_pair).save(Path("judge"))
    rest = ["--preset", "tiny", "--max-new-tokens", "8", "--judge", "judge", "--out", "o", "--results", "r"]
    assert main([*asked, *rest]) == 0
    (shard,) = Path("o").glob("*.jsonl")
    assert '"confidence+judge"' in shard.read_text()
