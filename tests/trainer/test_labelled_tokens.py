"""Tokens: the preferences and weights that labels and rollouts give, their splits, scores and thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import Role, RouterError
from engine.model.logits import logit_features
from engine.policy import ConfidencePolicy, EntropyPolicy, MarginPolicy, State
from engine.router import WEIGHTS
from tests.support.fake_labels import FITTING as SETTINGS
from tests.support.fake_labels import biased, planted, quiet, rollout, write_labels, write_rollouts
from trainer import TrainerError
from trainer.evaluation.methods import scores_of, thresholds_for
from trainer.fit.fit_router import fit, fit_preferences
from trainer.fit.labelled_tokens import (
    evened,
    held_out_tokens,
    join,
    load_tokens,
    rollouts_by_labels,
    split_of,
)
from trainer.labels.labels import load_labels
from trainer.preference import Case
from trainer.settings import FitSettings

STATED = {"method": "citer", "round": 1, "command": "test"}


@pytest.fixture(scope="module")
def fitted(labels, tmp_path_factory):
    return fit(labels, tmp_path_factory.mktemp("routers") / "first", SETTINGS, report=quiet)


# --- preferences and weights


def test_without_rollouts_the_shortcut_decides_and_the_rest_is_dropped(tmp_path):
    columns = planted(questions=3, length=4)
    columns["case"][:4] = [Case.SLM_RIGHT, Case.ONLY_LLM_RIGHT, Case.NEITHER, Case.SLM_RIGHT]
    tokens = load_tokens(write_labels(tmp_path, columns))
    np.testing.assert_array_equal(tokens.preference[:4], [1, 0, np.nan, 1])
    np.testing.assert_array_equal(tokens.weight[:4], [1, 1, 0, 1])
    np.testing.assert_array_equal(tokens.hidden, columns["hidden"])
    assert len(tokens.where(tokens.question == "q0000").decided()) == 3


@pytest.mark.parametrize(
    ("reference", "preference", "weight"),
    [("data", [1, 0, 0, np.nan], [1, 1, 3, 0]), ("llm", [1, np.nan, 0, np.nan], [1, 0, 3, 0])],
)
def test_what_is_rolled_out_stands_for_what_is_not(tmp_path, reference, preference, weight):
    """Only with the LLM's references is what only the LLM wrote a candidate."""
    columns = planted(questions=1, length=4)
    columns["case"][:] = [Case.SLM_RIGHT, Case.ONLY_LLM_RIGHT, Case.NEITHER, Case.NEITHER]
    labels = write_labels(tmp_path / "labels", columns, reference=reference)
    rollouts = write_rollouts(tmp_path / "rollouts", [rollout("q0000", 2, False, candidates=3)])
    tokens = load_tokens(labels, rollouts)
    np.testing.assert_array_equal(tokens.preference, preference)
    np.testing.assert_array_equal(tokens.weight, weight)
    (done,) = tokens.rollouts
    assert (done["tokens"], done["slm_right"]) == (1, 0.0)


@pytest.mark.parametrize(("kept", "weight"), [(0.0, [1, 0, 3, 0]), (0.25, [1, 0.25, 2.5, 0.25]), (1.0, [1, 1, 1, 1])])
def test_a_shortcut_weight_divides_what_a_rolled_out_token_stands_for(tmp_path, kept, weight):
    columns = planted(questions=1, length=4)
    columns["case"][:] = [Case.SLM_RIGHT] + [Case.ONLY_LLM_RIGHT] * 3
    labels = write_labels(tmp_path / "labels", columns, reference="llm")
    rollouts = write_rollouts(tmp_path / "rollouts", [rollout("q0000", 2, True, candidates=3)])
    tokens = load_tokens(labels, rollouts, shortcut_weight=kept)
    np.testing.assert_allclose(tokens.weight, weight)
    np.testing.assert_array_equal(tokens.decided().preference, [1, 1] if kept == 0 else [1, 0, 1, 0])


def test_one_router_learns_from_several_labels(tmp_path):
    one, two = planted(questions=150), planted(questions=150, seed=1)
    two["question"] = np.char.add("other-", two["question"])
    folders = [write_labels(tmp_path / "one", one), write_labels(tmp_path / "two", two)]
    tokens = join([load_tokens(folder) for folder in folders])
    np.testing.assert_array_equal(tokens.hidden, np.concatenate([one["hidden"], two["hidden"]]))
    router = fit(folders, tmp_path / "router", replace(SETTINGS, epochs=1), report=quiet)
    assert sum(router.card.training["questions"].values()) == 300
    alone = fit(folders[0], tmp_path / "alone", replace(SETTINGS, epochs=1), report=quiet)
    assert alone.card.training["data"] != router.card.training["data"]


@pytest.mark.parametrize("target", ["preferred", "kept"])
def test_each_of_several_labels_may_count_alike(tmp_path, target):
    few, many = planted(questions=100), planted(questions=300, seed=1)
    many["question"] = np.char.add("other-", many["question"])
    folders = [write_labels(tmp_path / "few", few), write_labels(tmp_path / "many", many)]
    parts = [load_tokens(folder) for folder in folders]
    sums = [each.weight.sum() for each in evened(parts)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
    assert sum(sums) == pytest.approx(sum(each.weight.sum() for each in parts), rel=1e-4)
    settings = replace(SETTINGS, epochs=1, target=target)
    plain, even = (
        fit(folders, tmp_path / str(choice), replace(settings, even=choice), report=quiet) for choice in (False, True)
    )
    assert even.card.training["even"] and not plain.card.training["even"]
    assert (tmp_path / "True" / WEIGHTS).read_bytes() != (tmp_path / "False" / WEIGHTS).read_bytes()


def test_labels_that_do_not_go_together_are_refused(tmp_path):
    columns = planted(questions=2)
    one = write_labels(tmp_path / "one", columns)
    with pytest.raises(TrainerError, match=r"question 'q000[01]' is in two folders"):
        fit([one, one], tmp_path / "router", SETTINGS, report=quiet)
    columns["question"] = np.char.add("other-", columns["question"])
    other = write_labels(tmp_path / "two", columns, slm="another")
    with pytest.raises(TrainerError, match="slm 'small' and 'another' do not go together"):
        fit([one, other], tmp_path / "router", SETTINGS, report=quiet)


def test_rollouts_go_to_the_labels_they_were_made_from(tmp_path):
    one, two, plain = planted(questions=100), planted(questions=100, seed=1), planted(questions=100, seed=2)
    two["question"] = np.char.add("two-", two["question"])
    plain["question"] = np.char.add("plain-", plain["question"])
    labels = [write_labels(tmp_path / name, each) for name, each in (("1", one), ("2", two), ("3", plain))]
    rollouts = [
        # Made from labels with log-probabilities under the LLM, which these may lack.
        write_rollouts(folder, [rollout(name, 2, n == 0)], labels={**load_labels(labels[n])[1], "run_llm": True})
        for folder, n, name in ((tmp_path / "of-2", 1, "two-q0000"), (tmp_path / "of-1", 0, "q0000"))
    ]
    assert rollouts_by_labels(labels, rollouts) == {labels[1]: rollouts[0], labels[0]: rollouts[1]}
    router = fit(labels, tmp_path / "router", replace(SETTINGS, epochs=1), rollouts=rollouts, report=quiet)
    assert [done["slm_right"] for done in router.card.training["rollouts"]] == [1.0, 0.0]
    assert (tmp_path / "router" / "README.md").read_text().count("finished by the SLM alone") == 2
    other = write_rollouts(tmp_path / "x", [rollout("q0000", 2, True)])
    with pytest.raises(TrainerError, match="other labels: name the folder of its labels as well"):
        fit(labels[:2], tmp_path / "router", SETTINGS, rollouts=[rollouts[0], other])
    with pytest.raises(TrainerError, match="were both rolled out from"):
        rollouts_by_labels(labels, [rollouts[0], rollouts[0]])


def test_a_cost_weight_prefers_the_llm_where_the_slm_wastes_bytes(tmp_path):
    columns = planted(questions=1, length=2)
    columns["case"][:] = Case.NEITHER
    labels = write_labels(tmp_path / "labels", columns)
    both = [rollout("q0000", n, True, 2, role, cost) for n in (0, 1) for role, cost in ((Role.SLM, 90), (Role.LLM, 30))]
    both[0] = replace(both[0], bytes=10.0)
    rollouts = write_rollouts(tmp_path / "rollouts", both)
    assert load_tokens(labels, rollouts).preference.tolist() == [1, 1]
    assert load_tokens(labels, rollouts, cost_weight=0.5).preference.tolist() == [1, 0]


def test_wrong_references_beside_rollouts_are_refused(tmp_path):
    labels = write_labels(tmp_path / "labels", planted(questions=1, length=4))
    rollouts = write_rollouts(tmp_path / "rollouts", [rollout("q0000", 2, True)])
    with pytest.raises(TrainerError, match="leave out --wrong-references or --rollouts"):
        load_tokens(labels, rollouts, wrong_references=True)


def test_references_with_a_wrong_answer_are_dropped_unless_wanted(tmp_path):
    columns = planted(questions=2, length=4)
    columns["correct"][:4] = False
    labels = write_labels(tmp_path, columns, reference="llm")
    assert set(load_tokens(labels).decided().question) == {"q0001"}
    assert len(load_tokens(labels, wrong_references=True).decided()) == 8


def test_with_weights_the_scores_have_the_true_rate_and_without_they_do_not(tmp_path):
    labels, rollouts, rate = biased(tmp_path)
    tokens = load_tokens(labels, rollouts)
    assert np.average(tokens.decided().preference, weights=tokens.decided().weight) == pytest.approx(rate, abs=0.02)
    alike = replace(tokens, weight=(tokens.weight > 0).astype(np.float32))
    settings = FitSettings(epochs=6, batch=64, learning_rate=1e-3, calibrate=False, logit_features=False)
    means = [
        scores_of(fit_preferences(each, tmp_path / "router", settings, "", STATED, quiet), tokens).mean()
        for each in (tokens, alike)
    ]
    assert means[0] == pytest.approx(rate, abs=0.04)
    assert means[1] > rate + 0.15


@pytest.mark.parametrize(
    ("rollouts", "settings", "cost_weight", "message"),
    [
        ([rollout("q0000", 9, True)], {}, 0.0, r"position 9 of question q0000, which is not in"),
        ([rollout("other", 0, True)], {}, 0.0, r"position 0 of question other, which is not in"),
        ([rollout("q0000", 0, True)], {}, 0.1, r"1 of 1 tokens were not rolled out with the LLM's token.*both actions"),
        ([rollout("q0000", 0, True, role=Role.LLM)], {}, 0.0, r"1 of 1 tokens were not rolled out with the SLM's"),
        ([rollout("q0000", 0, True)], {"labels": {"data": "else"}}, 0.0, r"rolled out from other labels"),
        ([rollout("q0000", 0, True)], {"answers": "of another machine"}, 0.0, r"rolled out from other labels"),
    ],
)
def test_rollouts_that_do_not_fit_the_labels_are_refused(tmp_path, rollouts, settings, cost_weight, message):
    labels = write_labels(tmp_path / "labels", planted(questions=1, length=4))
    with pytest.raises(TrainerError, match=message):
        load_tokens(labels, write_rollouts(tmp_path / "rollouts", rollouts, **settings), cost_weight)


def test_a_question_is_in_one_split_only_and_all_splits_are_used(labels):
    splits = [split_of(f"q{n}") for n in range(2000)]
    assert splits == [split_of(f"q{n}") for n in range(2000)]
    assert 0.77 < splits.count("train") / 2000 < 0.83
    assert min(splits.count("stop"), splits.count("test")) > 150
    held_out = held_out_tokens(labels)
    assert {split_of(name) for name in held_out.question} == {"stop", "test"}
    assert len(held_out) + len(load_tokens(labels).split("train")) == 4000


# --- scores and thresholds


def test_scores_from_stored_features_are_those_of_the_engines_policies(labels):
    logits = 3 * torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    tokens = replace(load_tokens(labels).where(np.arange(4000) < 50), logit_features=logit_features(logits).numpy())
    state = State(range(50), range(50), logit_features=logit_features(logits))
    for name, policy in (("confidence", ConfidencePolicy()), ("entropy", EntropyPolicy()), ("margin", MarginPolicy())):
        np.testing.assert_allclose(scores_of(name, tokens), policy.score(state).numpy(), atol=1e-5)
    first, second = logits.softmax(-1).topk(2).values.T
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    np.testing.assert_allclose(scores_of("confidence", tokens), first, atol=1e-5)
    np.testing.assert_allclose(scores_of("margin", tokens), first - second, atol=1e-5)
    assert np.array_equal(np.argsort(scores_of("entropy", tokens)), np.argsort(-entropy)), "the less sure, the lower"


def test_a_router_scores_tokens_as_it_scores_features(fitted, labels):
    tokens = load_tokens(labels)
    expected = fitted.score(tokens.features(slice(0, 10), with_logits=True)).numpy()
    np.testing.assert_allclose(scores_of(fitted, tokens)[:10], expected, atol=1e-6)


def test_a_method_without_scores_and_a_router_of_another_slm_are_refused(fitted, labels):
    tokens = load_tokens(labels)
    with pytest.raises(TrainerError, match="'random' has no scores"):
        scores_of("random", tokens)
    with pytest.raises(RouterError, match="tokenizer"):
        scores_of(fitted, replace(tokens, about={**tokens.about, "tokenizer": "1" * 64}))


def test_thresholds_send_the_wanted_shares_to_the_llm():
    scores = np.random.default_rng(0).random(1000).astype(np.float32)
    shares = [0.0, 0.1, 0.25, 0.9, 1.0]
    thresholds = thresholds_for(scores, shares)
    assert [float((scores < t).mean()) for t in thresholds] == pytest.approx(shares, abs=0.0006)


def test_ties_give_fewer_thresholds_and_the_nearest_share():
    scores = np.array([0.5] * 50 + [1.0] * 50)
    assert thresholds_for(scores, [0.4, 0.6]) == [0.75]
    assert thresholds_for(scores, [0.1, 1.0]) == [0.5, pytest.approx(1.0, abs=1e-6)]
    assert thresholds_for(scores, [1.0])[0] > 1


@pytest.mark.parametrize(
    ("scores", "shares", "message"),
    [([], [0.1], "0 scores"), ([0.5, np.nan], [0.1], "1 are finite"), ([0.5], [20], "LLM share 20")],
)
def test_thresholds_of_nonsense_are_refused(scores, shares, message):
    with pytest.raises(TrainerError, match=message):
        thresholds_for(np.array(scores), shares)
