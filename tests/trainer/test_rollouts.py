"""Rollouts: what is tried, what becomes of it, and that the same is made again."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from engine import Request, Role
from engine.grading import grade
from engine.tokenizer import render
from tests.engine.test_router import make_router
from tests.support.fake_labels import quiet
from trainer import TrainerError
from trainer.labels import rollouts as rollouts_module
from trainer.labels.answers import answer, load_answers
from trainer.labels.labels import label, load_labels
from trainer.labels.rollouts import Rollout, load_rollouts, roll_out
from trainer.preference import Case, rollout_preference
from trainer.questions.question import prompt
from trainer.questions.sources import load_questions
from trainer.settings import RolloutSettings

QUESTIONS = load_questions(["arithmetic"], 30)
SETTINGS = RolloutSettings(budget=3, both=True, max_new_tokens=120, threshold=0.5)


@pytest.fixture(scope="module")
def labels(tiny_pair, tmp_path_factory):
    """Labels on the LLM's own answers."""
    folder = tmp_path_factory.mktemp("own")
    answer(tiny_pair, Role.LLM, QUESTIONS, folder / "answers", 120, quiet)
    label(tiny_pair, QUESTIONS, folder / "labels", load_answers(folder / "answers", Role.LLM), report=quiet)
    return folder / "labels"


@pytest.fixture(scope="module")
def rollouts(tiny_pair, labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rollouts")
    roll_out(tiny_pair, QUESTIONS, labels, folder, SETTINGS, report=quiet)
    return folder


def test_on_the_llms_own_answers_the_shortcut_decides_every_token(labels):
    data, settings = load_labels(labels)
    assert settings["reference"] == "llm"
    assert Counter(data["case"])[Case.NEITHER] == 0
    assert all(
        (s == t) == (c == Case.SLM_RIGHT)
        for s, t, c in zip(data["slm_token"], data["token"], data["case"], strict=True)
    )


def test_only_tokens_where_the_models_differ_are_rolled_out_and_never_more_than_the_budget(labels, rollouts):
    data, _ = load_labels(labels)
    rows = {
        (q, p): (c, k)
        for q, p, c, k in zip(data["question"], data["position"], data["case"], data["correct"], strict=True)
    }
    found, _ = load_rollouts(rollouts)
    assert found
    assert all(rows[r.question, r.position] == (Case.ONLY_LLM_RIGHT, True) for r in found)
    tried = Counter(r.question for r in found if r.role is Role.SLM)
    for name, count in tried.items():
        candidates = sum(c == Case.ONLY_LLM_RIGHT for (q, _), (c, _) in rows.items() if q == name)
        assert count == min(SETTINGS.budget, candidates)
        assert {r.candidates for r in found if r.question == name} == {candidates}


def test_a_rollout_is_the_reference_up_to_the_token_and_then_the_policys_own_text(tiny_pair, labels, rollouts):
    data, _ = load_labels(labels)
    found, _ = load_rollouts(rollouts)
    by_id = {question.id: question for question in QUESTIONS}
    for tried in found[:8]:
        question = by_id[tried.question]
        rows = data.filter(lambda name, wanted=tried.question: name == wanted, input_columns="question")
        column = "slm_token" if tried.role is Role.SLM else "llm_token"
        written = [*rows["token"][: tried.position], rows[column][tried.position]]
        start = render(tiny_pair.tokenizer, Request(prompt(question)))
        asked = Request(prompt(question), policy="slm", max_new_tokens=120 - len(written))
        decoding = tiny_pair.start([asked], prompts=[start + written])
        while decoding.active:
            decoding.step()
        text = tiny_pair.tokenizer.decode(written, skip_special_tokens=True)
        text += "".join(event.text for event in decoding.rows[0].events)
        assert tried.correct == grade(question, text)
        assert tried.tokens == 1 + len(decoding.rows[0].events)


def test_a_token_is_rolled_out_only_where_it_ends_the_text_or_leaves_room_to_finish_it(
    tiny_pair, labels, tmp_path, monkeypatch
):
    short = RolloutSettings(budget=100, max_new_tokens=30)
    roll_out(tiny_pair, QUESTIONS, labels, tmp_path / "short", short, report=quiet)
    found, _ = load_rollouts(tmp_path / "short")
    assert found and all(each.position + 1 < 30 for each in found)

    data, about = load_labels(labels)
    ended = data.remove_columns("slm_token").add_column("slm_token", [tiny_pair.end_id] * len(data))
    monkeypatch.setattr(rollouts_module, "load_labels", lambda folder: (ended, about))
    for both in (False, True):  # the LLM's own token does not end it there
        roll_out(tiny_pair, QUESTIONS, labels, tmp_path / f"ended-{both}", replace(short, both=both), report=quiet)
        found, _ = load_rollouts(tmp_path / f"ended-{both}")
        late = [each for each in found if each.position + 1 >= 30]
        assert bool(late) != both and all(each.tokens == 1 for each in late)


def test_the_llm_finishes_more_answers_right_than_the_slm_does(tiny_pair, labels, tmp_path):
    """The policy that finishes the text is what the label is about."""
    everything = make_router(tiny_pair)
    shares = []
    for number, threshold in enumerate((0.0, 1.01)):
        settings = RolloutSettings(budget=3, both=True, max_new_tokens=120, threshold=threshold)
        roll_out(tiny_pair, QUESTIONS, labels, tmp_path / str(number), settings, everything, quiet)
        after_llm = [r.correct for r in load_rollouts(tmp_path / str(number))[0] if r.role is Role.LLM]
        shares.append(sum(after_llm) / len(after_llm))
    assert shares[1] == 1.0  # its own text, which was right
    assert shares[0] < 0.7


def test_questions_of_the_same_ids_with_other_texts_are_refused(tiny_pair, labels, tmp_path):
    others = [replace(question, question=f"{question.question} Why?") for question in QUESTIONS]
    with pytest.raises(TrainerError, match="holds labels of other questions"):
        roll_out(tiny_pair, others, labels, tmp_path / "r", RolloutSettings(budget=1, max_new_tokens=30), report=quiet)


def test_without_a_router_no_threshold_is_part_of_them_nor_whether_the_llm_was_run(
    tiny_pair, labels, rollouts, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(shutil.copytree(rollouts, tmp_path / "rollouts"))
    data, about = load_labels(labels)
    monkeypatch.setattr(rollouts_module, "load_labels", lambda _: (data, {**about, "run_llm": False}))
    roll_out(tiny_pair, QUESTIONS, labels, folder, replace(SETTINGS, threshold=0.0), report=quiet)
    assert load_rollouts(folder)[1]["threshold"] is None and load_rollouts(folder) == load_rollouts(rollouts)


def test_a_deleted_shard_is_made_again_byte_for_byte(tiny_pair, labels, rollouts):
    shard = rollouts / "rollouts-00000.jsonl"
    before = shard.read_bytes()
    shard.unlink()
    with pytest.raises(TrainerError, match=r"1 of 1 shards are missing"):
        load_rollouts(rollouts)
    roll_out(tiny_pair, QUESTIONS, labels, rollouts, SETTINGS, report=quiet)
    assert shard.read_bytes() == before


def test_rollouts_of_another_policy_are_not_mixed_in(tiny_pair, labels, rollouts):
    with pytest.raises(TrainerError, match="other settings"):
        roll_out(tiny_pair, QUESTIONS, labels, rollouts, SETTINGS, make_router(tiny_pair), quiet)


def test_questions_other_than_the_labels_are_refused(tiny_pair, labels, tmp_path):
    with pytest.raises(TrainerError, match="other questions"):
        roll_out(tiny_pair, QUESTIONS[:5], labels, tmp_path, SETTINGS, report=quiet)


def test_settings_are_kept_with_the_unit_of_cost(rollouts):
    about = json.loads((rollouts / "rollouts.json").read_text())
    assert about["policy"] == "slm"
    assert about["llm_bytes"] > 0


def outcome(correct, cost):
    return Rollout("q", 0, Role.SLM, correct, cost, 1, 1)


@pytest.mark.parametrize(
    ("slm", "llm", "weight", "expected"),
    [
        (outcome(True, 5.0), None, 0.0, 1.0),
        (outcome(False, 5.0), None, 0.0, 0.0),
        (outcome(True, 5.0), outcome(True, 9.0), 0.1, 1.0),  # both right: the cheaper
        (outcome(True, 9.0), outcome(True, 5.0), 0.1, 0.0),  # the SLM's token makes the rest dearer
        (outcome(False, 1.0), outcome(True, 9.0), 0.1, 0.0),  # right is worth 0.08 of cost
        (outcome(False, 1.0), outcome(True, 9.0), 2.0, 1.0),  # and is not worth 1.6
        (outcome(False, 5.0), outcome(False, 5.0), 0.1, 1.0),  # nothing to choose: the SLM
    ],
)
def test_a_preference_weighs_quality_against_cost(slm, llm, weight, expected):
    assert rollout_preference(slm, llm, weight, unit=10.0) == expected
