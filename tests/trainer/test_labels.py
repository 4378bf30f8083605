"""Labels: the shortcut rule, what is teacher-forced on what, and shards that resume."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine import Request, Role
from engine.tokenizer import render
from tests.support.fake_labels import quiet
from trainer import TrainerError
from trainer.labels.answers import Answer, answer, load_answers
from trainer.labels.labels import label, load_labels
from trainer.preference import Case, shortcut
from trainer.questions.question import prompt
from trainer.questions.sources import load_questions

QUESTIONS = load_questions(["arithmetic"], 60)


@pytest.fixture(scope="module")
def labels(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    label(tiny_pair, QUESTIONS, folder, report=quiet)
    return folder


def test_the_shortcut_prefers_the_slm_where_it_is_right_and_the_llm_where_only_it_is():
    assert shortcut([1, 2, 3, 4], [1, 9, 3, 4], [1, 9, 8, 4]) == [
        Case.SLM_RIGHT,
        Case.ONLY_LLM_RIGHT,
        Case.NEITHER,
        Case.SLM_RIGHT,
    ]


def rows_of(labels, question):
    data, _ = load_labels(labels)
    return data.filter(lambda name: name == question.id, input_columns="question")


def test_labels_are_what_both_models_would_write_after_each_reference_prefix(tiny_pair, labels):
    ids = tiny_pair.tokenizer.encode(QUESTIONS[0].reference, add_special_tokens=False)
    first = rows_of(labels, QUESTIONS[0])
    assert list(first["token"]) == [*ids, tiny_pair.tokenizer.eos_token_id]
    start = render(tiny_pair.tokenizer, Request(prompt(QUESTIONS[0])))
    for position in (0, 1, 17, len(ids) - 1):
        tokens = torch.tensor([start + ids[:position]])
        for role, model in ((Role.SLM, tiny_pair.slm), (Role.LLM, tiny_pair.llm)):
            with torch.inference_mode():
                logits = model.model(tokens).logits[0, -1, : len(tiny_pair.tokenizer)]
            assert first[f"{role}_token"][position] == logits.argmax()
            expected = float(logits.log_softmax(-1)[ids[position]])
            assert first[f"{role}_logprob"][position] == pytest.approx(expected, abs=1e-3)


def test_the_llms_own_answers_can_be_the_references_with_their_mistakes_known(tiny_pair, tmp_path):
    answer(tiny_pair, Role.LLM, QUESTIONS[:20], tmp_path / "answers", 120, quiet)
    answers = load_answers(tmp_path / "answers", Role.LLM)
    spoilt = answers[QUESTIONS[3].id]
    tokens = tiny_pair.tokenizer.encode("The answer is 1.", add_special_tokens=False)
    answers[spoilt.question] = Answer(spoilt.question, [*tokens, tiny_pair.end_id], "The answer is 1.", "eos")
    said = []
    label(tiny_pair, QUESTIONS[:20], tmp_path / "labels", answers, run_llm=False, report=said.append)
    for question in QUESTIONS[:20]:
        rows = rows_of(tmp_path / "labels", question)
        assert list(rows["token"]) == answers[question.id].tokens
        assert set(rows["case"]) <= {Case.SLM_RIGHT, Case.ONLY_LLM_RIGHT}
        assert all(math.isnan(value) for value in rows["llm_logprob"])
    assert set(rows_of(tmp_path / "labels", QUESTIONS[3])["correct"]) == {False}
    assert set(rows_of(tmp_path / "labels", QUESTIONS[0])["correct"]) == {True}
    assert "SLM right" in said[-1] and "neither 0.0%" in said[-1]


def test_labels_on_other_answers_are_not_mixed_in_nor_those_on_the_slms(tiny_pair, tmp_path):
    for role in Role:
        answer(tiny_pair, role, QUESTIONS[:2], tmp_path / role.value, 20, quiet)
    answers = load_answers(tmp_path / "llm", Role.LLM)
    label(tiny_pair, QUESTIONS[:2], tmp_path / "labels", answers, report=quiet)
    with pytest.raises(TrainerError, match=r"other settings \(answers\)"):
        label(tiny_pair, QUESTIONS[:2], tmp_path / "labels", load_answers(tmp_path / "slm", Role.SLM), report=quiet)
    with pytest.raises(TrainerError, match="holds answers of the SLM: name those that `answer --role llm` wrote"):
        load_answers(tmp_path / "slm", Role.LLM)


def test_what_other_weights_of_the_same_name_wrote_is_neither_gone_on_with_nor_taken_for_ones_own(
    tiny_pair, tmp_path, monkeypatch
):
    monkeypatch.setattr(tiny_pair, "identity", "before")
    answer(tiny_pair, Role.LLM, QUESTIONS[:1], tmp_path / "a", 4, quiet)
    answers = load_answers(tmp_path / "a", Role.LLM, tiny_pair)
    label(tiny_pair, QUESTIONS[:1], tmp_path / "l", answers, report=quiet)
    monkeypatch.setattr(tiny_pair, "identity", "after")
    with pytest.raises(TrainerError, match=r"other settings \(weights\)"):
        answer(tiny_pair, Role.LLM, QUESTIONS[:1], tmp_path / "a", 4, quiet)
    with pytest.raises(TrainerError, match=r"other settings \(weights\)"):
        label(tiny_pair, QUESTIONS[:1], tmp_path / "l", answers, report=quiet)
    with pytest.raises(TrainerError, match="holds answers of weights 'before', not of"):
        load_answers(tmp_path / "a", Role.LLM, tiny_pair)
    monkeypatch.setattr(tiny_pair, "identity", "")
    monkeypatch.setattr(tiny_pair, "llm_name", "another")
    with pytest.raises(TrainerError, match=r"holds answers of model .*, not of 'another'"):
        load_answers(tmp_path / "a", Role.LLM, tiny_pair)


def test_a_question_without_an_answer_is_named(tiny_pair, tmp_path):
    with pytest.raises(TrainerError, match=QUESTIONS[0].id):
        label(tiny_pair, QUESTIONS[:1], tmp_path, {}, report=quiet)


def test_a_deleted_shard_is_made_again_as_it_was(tiny_pair, labels):
    before = load_labels(labels)[0].to_list()
    shutil.rmtree(labels / "labels-00001")
    with pytest.raises(TrainerError, match=r"1 of 3 shards are missing"):
        load_labels(labels)
    label(tiny_pair, QUESTIONS, labels, report=quiet)
    assert load_labels(labels)[0].to_list() == before


def test_a_folder_of_other_labels_is_not_mixed_with(tiny_pair, labels):
    with pytest.raises(TrainerError, match=r"other settings \(data, questions\)"):
        label(tiny_pair, QUESTIONS[:20], labels, report=quiet)


def test_an_interrupted_shard_is_not_taken_for_a_whole_one(tiny_pair, labels, tmp_path):
    shutil.copytree(labels, tmp_path / "again")
    (tmp_path / "again" / "labels-00002").rename(tmp_path / "again" / "partial-labels-00002")
    (tmp_path / "again" / "partial-labels-00002" / "state.json").unlink()
    label(tiny_pair, QUESTIONS, tmp_path / "again", report=quiet)
    assert load_labels(tmp_path / "again")[0].to_list() == load_labels(labels)[0].to_list()


def test_two_processes_of_accelerate_launch_share_the_questions(labels, tmp_path):
    """Each makes its own shards; together they are what one process makes."""
    root = Path(__file__).resolve().parent.parent.parent
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, "-m", "trainer", "label", "--preset", "tiny", "--questions", "60", "--out", str(tmp_path / "l")]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    made = sorted(line.split()[2] for line in done.stdout.splitlines() if line.startswith("labels: shard"))
    assert made == ["1/3", "2/3", "3/3"]
    assert "labels: shard 2/3 done, about 0 min left" in done.stdout  # the second process had this one only
    assert json.loads((tmp_path / "l" / "labels.json").read_text())["questions"] == [q.id for q in QUESTIONS]
    ours, theirs = load_labels(labels)[0], load_labels(tmp_path / "l")[0]
    for column in ("question", "position", "token", "slm_token", "llm_token", "case"):
        assert list(ours[column]) == list(theirs[column])
