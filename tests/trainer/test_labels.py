"""Answers, labels and rollouts of the tiny pair: each is what the models would write, and stays with its own."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from engine import Request, Role, build_request
from engine.grading import grade
from engine.router import Router
from engine.tokenizer import render
from tests.support.fake_labels import quiet
from tests.support.fake_llm_server import served
from tests.support.paths import ROOT, TINY
from tests.support.served_endpoint import eventually
from tests.support.served_pair import loaded
from trainer import TrainerError
from trainer.labels.answers import Answer, answer, load_answers
from trainer.labels.labels import label, labels_about, read_labels, read_states, write_labels
from trainer.labels.rollouts import Rollout, load_rollouts, roll_out
from trainer.preference import Case, rollout_preference, shortcut
from trainer.questions import load_questions, prompt
from trainer.settings import RolloutSettings

QUESTIONS = load_questions(["assets/arithmetic/train.jsonl"], 24)
SETTINGS = RolloutSettings(budget=3, both=True, max_new_tokens=120)


@pytest.fixture(scope="module")
def answers(tiny_pair, tmp_path_factory):
    """The LLM's own answers."""
    folder = tmp_path_factory.mktemp("answers")
    answer(tiny_pair, Role.LLM, QUESTIONS, folder, 120, quiet)
    return folder


@pytest.fixture(scope="module")
def own(tiny_pair, answers, tmp_path_factory):
    """Labels on them."""
    folder = tmp_path_factory.mktemp("own")
    label(tiny_pair, QUESTIONS, folder, load_answers(answers, Role.LLM), report=quiet)
    return folder


@pytest.fixture(scope="module")
def rollouts(tiny_pair, own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rollouts")
    roll_out(tiny_pair, QUESTIONS, own, folder, SETTINGS, report=quiet)
    return folder


def columns_of(labels):
    return pa.concat_tables([table for _, table in read_labels(labels)]).to_pydict()


def rows_of(labels, question):
    """The columns of one question."""
    columns = columns_of(labels)
    own = [n for n, name in enumerate(columns["question"]) if name == question.id]
    return {name: [values[n] for n in own] for name, values in columns.items()}


# --- preferences


def test_the_shortcut_prefers_the_slm_where_it_is_right_and_the_llm_where_only_it_is():
    cases = [Case.SLM_RIGHT, Case.ONLY_LLM_RIGHT, Case.NEITHER, Case.SLM_RIGHT]
    assert shortcut([1, 2, 3, 4], [1, 9, 3, 4], [1, 9, 8, 4]) == cases


@pytest.mark.parametrize(
    ("slm", "llm", "weight", "expected"),
    [
        ((True, 5.0), None, 0.0, 1.0),
        ((False, 5.0), None, 0.0, 0.0),
        ((True, 5.0), (True, 9.0), 0.1, 1.0),  # both right: the cheaper
        ((True, 9.0), (True, 5.0), 0.1, 0.0),  # the SLM's token makes the rest more expensive
        ((False, 1.0), (True, 9.0), 0.1, 0.0),  # right is worth 0.08 of cost
        ((False, 1.0), (True, 9.0), 2.0, 1.0),  # and is not worth 1.6
        ((False, 5.0), (False, 5.0), 0.1, 1.0),  # nothing to choose: the SLM
    ],
)
def test_a_rollouts_preference_weighs_quality_against_cost(slm, llm, weight, expected):
    def outcome(correct, cost):
        return Rollout("q", 0, Role.SLM, correct, cost, 1, 1)

    assert rollout_preference(outcome(*slm), llm and outcome(*llm), weight, unit=10.0) == expected


# --- labels


def test_labels_are_what_both_models_would_write_after_each_prefix_of_the_reference(tiny_pair, tmp_path):
    question = QUESTIONS[0]
    label(tiny_pair, QUESTIONS[:5], tmp_path, report=quiet)
    ids = tiny_pair.tokenizer.encode(question.reference, add_special_tokens=False)
    rows = rows_of(tmp_path, question)
    assert list(rows["token"]) == [*ids, tiny_pair.tokenizer.eos_token_id]
    start = render(tiny_pair.tokenizer, Request(prompt(question)))
    for position in (0, 1, 17, len(ids) - 1):
        for role, model in ((Role.SLM, tiny_pair.slm), (Role.LLM, tiny_pair.llm)):
            with torch.inference_mode():
                logits = model.model(torch.tensor([start + ids[:position]])).logits[0, -1, : len(tiny_pair.tokenizer)]
            assert rows[f"{role}_token"][position] == logits.argmax()
            expected = float(logits.log_softmax(-1)[ids[position]])
            assert rows[f"{role}_logprob"][position] == pytest.approx(expected, abs=1e-3)


def test_the_llms_own_answers_can_be_the_references_with_their_mistakes_known(tiny_pair, answers, tmp_path):
    found = dict(load_answers(answers, Role.LLM))
    spoilt = QUESTIONS[3].id
    tokens = tiny_pair.tokenizer.encode("The answer is 1.", add_special_tokens=False)
    found[spoilt] = Answer(spoilt, [*tokens, tiny_pair.end_id], "The answer is 1.", "eos")
    label(tiny_pair, QUESTIONS[:8], tmp_path, found, report=quiet)
    for question in QUESTIONS[:8]:
        rows = rows_of(tmp_path, question)
        assert list(rows["token"]) == found[question.id].tokens
        assert set(rows["case"]) <= {Case.SLM_RIGHT, Case.ONLY_LLM_RIGHT}, "the shortcut decides every token"
        assert all(math.isnan(value) for value in rows["llm_logprob"])
    assert set(rows_of(tmp_path, QUESTIONS[3])["correct"]) == {False}
    assert set(rows_of(tmp_path, QUESTIONS[0])["correct"]) == {True}


def test_what_others_wrote_is_neither_gone_on_with_nor_taken_for_ones_own(tiny_pair, answers, tmp_path, monkeypatch):
    found = load_answers(answers, Role.LLM)
    label(tiny_pair, QUESTIONS[:1], tmp_path / "l", found, report=quiet)
    other = {QUESTIONS[0].id: replace(found[QUESTIONS[0].id], tokens=[1, 2])}
    with pytest.raises(TrainerError, match=r"settings \(answers\)"):
        label(tiny_pair, QUESTIONS[:1], tmp_path / "l", other, report=quiet)
    with pytest.raises(TrainerError, match="data, questions"):
        label(tiny_pair, QUESTIONS[:2], tmp_path / "l", found, report=quiet)
    with pytest.raises(TrainerError, match=QUESTIONS[1].id):
        label(tiny_pair, QUESTIONS[1:2], tmp_path / "m", other, report=quiet)
    with pytest.raises(TrainerError, match=r"LLM.*--role slm"):
        load_answers(answers, Role.SLM)
    monkeypatch.setattr(tiny_pair, "identity", "after")
    with pytest.raises(TrainerError, match=r"settings \(weights\)"):
        answer(tiny_pair, Role.LLM, QUESTIONS, answers, 120, quiet)
    with pytest.raises(TrainerError, match=r"settings \(weights\)"):
        label(tiny_pair, QUESTIONS[:1], tmp_path / "l", found, report=quiet)
    monkeypatch.setattr(tiny_pair, "identity", "")
    monkeypatch.setattr(tiny_pair, "llm_name", "another")
    with pytest.raises(TrainerError, match="'another'"):
        load_answers(answers, Role.LLM, tiny_pair)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def worker(folder):
    command = [sys.executable, "-m", "trainer", "label", "--preset", "tiny", "--questions", "24", "--out", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE)


def test_two_workers_one_of_them_killed_leave_the_bytes_that_one_alone_leaves(tiny_pair, tmp_path):
    killed = worker(tmp_path / "shared")
    eventually(lambda: [*tmp_path.glob("shared/labels-*.lock")] or killed.poll() is not None)
    killed.send_signal(signal.SIGSTOP)  # it holds a shard, and does not finish it
    other = worker(tmp_path / "shared")
    assert other.stdout is not None
    for line in other.stdout:
        if line.startswith(b"waiting"):
            killed.kill()
    assert other.wait(540) == 0 and killed.wait(540) == -signal.SIGKILL
    label(tiny_pair, QUESTIONS, tmp_path / "alone", report=quiet)
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "alone")


def test_states_of_a_share_of_the_tokens_that_both_agree_on_are_stored_and_stand_for_all(tiny_pair, answers, tmp_path):
    found = load_answers(answers, Role.LLM)
    for name, share in (("all", 1.0), ("some", 0.25)):
        label(tiny_pair, QUESTIONS, tmp_path / name, found, report=quiet, keep_states=share)
    every, some = columns_of(tmp_path / "all"), columns_of(tmp_path / "some")
    agreed = np.array([a == b for a, b in zip(every["slm_token"], every["llm_token"], strict=True)])
    weights = np.array(some["stands_for"])
    assert set(every["stands_for"]) == set(weights[~agreed]) == {1} and set(weights) == {0, 1, 4}
    assert 0.7 < weights.sum() / len(weights) < 1.3 and (weights == 0).sum() > len(weights) / 2
    states = [
        np.concatenate([read_states(path, 64).numpy() for path, _ in read_labels(tmp_path / name)])
        for name in ("all", "some")
    ]
    np.testing.assert_array_equal(states[0][weights > 0], states[1])


# --- rollouts


def test_only_tokens_where_the_models_differ_are_rolled_out_and_never_more_than_the_budget(own, rollouts):
    data = columns_of(own)
    rows = {
        (q, p): (c, k)
        for q, p, c, k in zip(data["question"], data["position"], data["case"], data["correct"], strict=True)
    }
    found, about = load_rollouts(rollouts)
    assert found and all(rows[r.question, r.position] == (Case.ONLY_LLM_RIGHT, True) for r in found)
    for name, count in Counter(r.question for r in found if r.role is Role.SLM).items():
        candidates = sum(c == Case.ONLY_LLM_RIGHT for (q, _), (c, _) in rows.items() if q == name)
        assert count == min(SETTINGS.budget, candidates)
        assert {r.candidates for r in found if r.question == name} == {candidates}
    assert about["policy"] == "slm" and about["threshold"] is None and about["llm_bytes"] > 0


def test_a_rollout_is_the_reference_up_to_the_token_and_then_the_policys_own_text(tiny_pair, own, rollouts):
    by_id = {question.id: question for question in QUESTIONS}
    for tried in load_rollouts(rollouts)[0][:8]:
        question = by_id[tried.question]
        rows = rows_of(own, question)
        column = "slm_token" if tried.role is Role.SLM else "llm_token"
        written = [*rows["token"][: tried.position], rows[column][tried.position]]
        start = render(tiny_pair.tokenizer, Request(prompt(question)))
        asked = build_request(prompt(question), policy="slm", max_new_tokens=120 - len(written))
        decoding = tiny_pair.start([asked], prompts=[start + written])
        decoding.finish()
        text = tiny_pair.tokenizer.decode(written, skip_special_tokens=True)
        text += "".join(event.text for event in decoding.texts[0].events)
        assert (tried.correct, tried.tokens) == (grade(question, text), 1 + len(decoding.texts[0].events))


def test_a_token_is_rolled_out_only_where_it_ends_the_text_or_leaves_room_to_finish_it(tiny_pair, own, tmp_path):
    data = columns_of(own)
    rows = zip(data["position"], data["case"], data["correct"], strict=True)
    last = max(p for p, case, correct in rows if correct and case == Case.ONLY_LLM_RIGHT and p < 40)
    short = RolloutSettings(budget=100, max_new_tokens=last + 1)  # so that the token there has no room behind it
    roll_out(tiny_pair, QUESTIONS, own, tmp_path / "short", short, report=quiet)
    found, _ = load_rollouts(tmp_path / "short")
    assert found and all(each.position < last for each in found)
    ended = tmp_path / "ended"
    ended.mkdir()
    (ended / "labels.json").write_bytes((own / "labels.json").read_bytes())
    for path, table in read_labels(own):
        columns = table.to_pydict() | {"slm_token": [tiny_pair.end_id] * len(table)}
        write_labels(ended / path.name, columns, read_states(path, labels_about(own)["hidden_size"]))
    for both in (False, True):  # the LLM's own token does not end it there
        roll_out(tiny_pair, QUESTIONS, ended, tmp_path / str(both), short.but(both=both), report=quiet)
        late = [each for each in load_rollouts(tmp_path / str(both))[0] if each.position >= last]
        assert bool(late) != both and all(each.tokens == 1 for each in late)


def test_a_routers_threshold_says_who_finishes_the_text(tiny_pair, own, tmp_path):
    shares, shipped = [], tiny_pair.router
    for threshold in (0.0, 1.01):
        settings = RolloutSettings(budget=1, both=True, max_new_tokens=120)
        router = Router(shipped.network, replace(shipped.card, threshold=threshold))
        roll_out(tiny_pair, QUESTIONS, own, tmp_path / str(threshold), settings, router, quiet)
        after_llm = [r.correct for r in load_rollouts(tmp_path / str(threshold))[0] if r.role is Role.LLM]
        shares.append(sum(after_llm) / len(after_llm))
    assert shares[0] < 0.7 and shares[1] == 1.0, "the LLM's own text was right"


def test_rollouts_of_another_policy_or_of_other_questions_are_not_mixed_in(tiny_pair, own, rollouts, tmp_path):
    with pytest.raises(TrainerError, match="settings"):
        roll_out(tiny_pair, QUESTIONS, own, rollouts, SETTINGS, tiny_pair.router, quiet)
    for others in (QUESTIONS[:5], [replace(q, question=f"{q.question} Why?") for q in QUESTIONS]):
        with pytest.raises(TrainerError, match="other questions"):
            roll_out(tiny_pair, others, own, tmp_path / "r", SETTINGS, report=quiet)


# --- an LLM on a server


def test_with_the_llm_on_vllm_answers_labels_and_rollouts_are_those_of_an_llm_here(
    tiny_pair, answers, own, rollouts, tmp_path
):
    """The server is busy once in three times, and breaks replies off: nothing is labelled from half an answer."""
    some = QUESTIONS[:6]
    with served(tiny_pair) as server, loaded(server, llm_config=TINY / "llm" / "config.json") as pair:
        before, server.fault = server.asked, lambda number: {0: "503", 1: "cut"}.get(number % 6)
        answer(pair, Role.LLM, some, tmp_path / "a", 120, quiet)
        requests = server.asked - before - server.faults["503"] - server.faults["cut"]
        assert requests == len(some), "one for each answer"
        found = load_answers(tmp_path / "a", Role.LLM)
        assert dict(found) == {q.id: load_answers(answers, Role.LLM)[q.id] for q in some}
        for name, given in (("own", found), ("data", None)):
            label(pair, some, tmp_path / name, given, run_llm=True, report=quiet)
            label(tiny_pair, some, tmp_path / f"{name} here", given, run_llm=True, report=quiet)
            theirs, ours = (columns_of(tmp_path / each) for each in (name, f"{name} here"))
            assert theirs.pop("llm_logprob") == pytest.approx(ours.pop("llm_logprob"), abs=1e-4)
            assert theirs == ours
        settings = SETTINGS.but(budget=1, both=False)
        roll_out(pair, some[:2], relabelled(tmp_path, pair, some[:2], found), tmp_path / "r", settings, report=quiet)
    ours = relabelled(tmp_path / "ours", tiny_pair, some[:2], found)
    roll_out(tiny_pair, some[:2], ours, tmp_path / "r here", settings, report=quiet)
    assert load_rollouts(tmp_path / "r")[0] == load_rollouts(tmp_path / "r here")[0]


def relabelled(folder, pair, questions, answers):
    label(pair, questions, folder / "few", answers, report=quiet)
    return folder / "few"


def test_without_its_configuration_a_served_llms_rollouts_are_refused_as_its_bytes_are_not_known(
    tiny_pair, own, tmp_path
):
    with served(tiny_pair) as server, loaded(server) as pair, pytest.raises(TrainerError, match="LLM_CONFIG"):
        roll_out(pair, QUESTIONS, own, tmp_path / "r", SETTINGS, report=quiet)
