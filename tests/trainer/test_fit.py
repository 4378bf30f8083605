"""From labels and rollouts to routers: preferences and weights, a signal found, scores that are probabilities."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import Role, RouterError
from engine.model.logits import logit_features
from engine.policy import ConfidencePolicy, QueryPolicy, State
from engine.router import WEIGHTS, Router
from tests.support.fake_labels import FITTING as SETTINGS
from tests.support.fake_labels import WIDTH, biased, planted, quiet, rollout, write_labels, write_rollouts
from trainer import TrainerError
from trainer.evaluation.methods import scores_of, thresholds_for
from trainer.fit.baselines import co_llm, marginal_losses, query
from trainer.fit.fit_router import auc, best_threshold, fit, learn_preferences, preferences
from trainer.fit.gradient_loop import logits_of
from trainer.fit.labelled_tokens import check_splits, held_out_tokens, load_tokens, split_of
from trainer.labels.labels import labels_about
from trainer.preference import Case
from trainer.settings import FitSettings


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Labels with a planted signal."""
    return write_labels(tmp_path_factory.mktemp("labels"), planted())


@pytest.fixture(scope="module")
def fitted(labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("routers") / "first"
    return fit(preferences(labels, SETTINGS), out, "A test.", report=quiet), out


def with_cases(folder, cases, **settings):
    """Labels of one question whose tokens have these cases."""
    columns = planted(questions=1, length=len(cases))
    columns["case"][:] = cases
    return write_labels(folder, columns, **settings)


NO, NAN = Case.ONLY_LLM_RIGHT, np.nan


@pytest.mark.parametrize(
    ("case", "reference", "preference", "weight"),
    [(Case.NEITHER, "data", [1, 0, 1, NAN], [1, 1, 2, 0]), (NO, "llm", [1, NAN, 1, NAN], [1, 0, 3, 0])],
)
def test_what_is_rolled_out_stands_for_what_is_not(tmp_path, case, reference, preference, weight):
    """Only with the LLM's references is what only the LLM wrote a candidate."""
    labels = with_cases(tmp_path / "labels", [Case.SLM_RIGHT, NO, case, case], reference=reference)
    rolled = rollout("q0000", 2, True, candidates=3 if reference == "llm" else 2)
    tokens = load_tokens(labels, write_rollouts(tmp_path / "rollouts", [rolled]))
    np.testing.assert_array_equal(tokens.preference, preference)
    np.testing.assert_allclose(tokens.weight, weight)
    by_shortcut = load_tokens(labels).preference.tolist()
    assert by_shortcut == pytest.approx([1, 0] + [0 if case == NO else NAN] * 2, nan_ok=True)


def test_a_token_whose_state_is_not_stored_is_stood_for_by_those_that_are(tmp_path):
    columns = planted(questions=3, length=4)
    columns["stands_for"] = np.tile([1, 0, 2, 1], 3).astype(np.float32)
    tokens = load_tokens(write_labels(tmp_path / "l", columns))
    assert tokens.position.tolist() == [0, 2, 3] * 3 and tokens.weight.tolist() == [1, 2, 1] * 3
    stored = columns["hidden"][columns["stands_for"] > 0]
    np.testing.assert_array_equal(tokens.hidden().numpy(), stored)
    np.testing.assert_array_equal(tokens.where(tokens.position == 2).features([2, 0], True)[:, :WIDTH], stored[[7, 1]])


def test_a_cost_weight_prefers_the_llm_where_the_slm_wastes_bytes(tmp_path):
    labels = with_cases(tmp_path / "labels", [Case.NEITHER] * 2)
    both = [rollout("q0000", n, True, 2, role, cost) for n in (0, 1) for role, cost in ((Role.SLM, 90), (Role.LLM, 30))]
    rollouts = write_rollouts(tmp_path / "rollouts", [replace(both[0], bytes=10.0), *both[1:]])
    assert load_tokens(labels, rollouts).preference.tolist() == [1, 1]
    assert load_tokens(labels, rollouts, cost_weight=0.5).preference.tolist() == [1, 0]


def test_references_with_a_wrong_answer_are_dropped(tmp_path):
    columns = planted(questions=2, length=4)
    columns["correct"][:4] = False
    assert set(load_tokens(write_labels(tmp_path / "l", columns, reference="llm")).decided().question) == {"q0001"}


def test_with_weights_the_scores_have_the_true_rate_and_without_they_do_not(tmp_path):
    labels, rollouts, rate = biased(tmp_path)
    tokens = load_tokens(labels, rollouts)
    assert np.average(tokens.decided().preference, weights=tokens.decided().weight) == pytest.approx(rate, abs=0.02)
    alike = replace(tokens, weight=(tokens.weight > 0).astype(np.float32))
    settings = FitSettings(epochs=6, batch=64, learning_rate=1e-3, logit_features=False)
    networks = (learn_preferences(each, settings, quiet)[0] for each in (tokens, alike))
    means = [(1 / (1 + np.exp(-logits_of(each, tokens, False)))).mean() for each in networks]
    assert means[0] == pytest.approx(rate, abs=0.04) and means[1] > rate + 0.15


@pytest.mark.parametrize(
    ("rollouts", "settings", "cost_weight", "named"),
    [
        ([rollout("other", 0, True)], {}, 0.0, "question other"),
        ([rollout("q0000", 0, True)], {}, 0.1, "LLM's"),
        ([rollout("q0000", 0, True, role=Role.LLM)], {}, 0.0, "SLM's"),
        ([rollout("q0000", 0, True)], {"labels": {"data": "else"}}, 0.0, "other labels"),
    ],
)
def test_rollouts_that_do_not_fit_the_labels_are_refused(tmp_path, rollouts, settings, cost_weight, named):
    labels = write_labels(tmp_path / "labels", planted(questions=1, length=4))
    with pytest.raises(TrainerError, match=named):
        load_tokens(labels, write_rollouts(tmp_path / "rollouts", rollouts, **settings), cost_weight)


def test_one_router_learns_from_several_labels_each_with_its_own_rollouts(tmp_path):
    several = []
    for n, name in enumerate(("", "two-", "plain-")):
        columns = planted(questions=100, seed=n)
        columns["question"] = np.char.add(name, columns["question"])
        several.append(write_labels(tmp_path / f"labels-{n}", columns))
    rollouts = [
        # Made from labels with log-probabilities under the LLM, which these may lack.
        write_rollouts(tmp_path / f"of-{n}", [rollout(name, 2, n == 0)], labels={**labels_about(own), "run_llm": True})
        for n, (own, name) in enumerate(zip(several, ("q0000", "two-q0000", "plain-q0000"), strict=True))
    ]
    router = fit(preferences(several, SETTINGS.but(epochs=1), rollouts), tmp_path / "router", report=quiet)
    assert [done["slm_right"] for done in router.card.training["rollouts"]] == [1.0, 0.0, 0.0]
    assert sum(router.card.training["questions"].values()) == 300
    for wrong, named in ((rollouts[1::-1], "other labels"), (rollouts[:1], "2 folders of labels and 1 of rollouts")):
        with pytest.raises(TrainerError, match=named):
            fit(preferences(several[:2], SETTINGS, wrong), tmp_path / "no", report=quiet)
    with pytest.raises(TrainerError, match=r"q\d+.* two folders"):
        fit(preferences([several[0], several[0]], SETTINGS), tmp_path / "router", report=quiet)
    alien = write_labels(tmp_path / "alien", planted(questions=2), slm="another")
    with pytest.raises(TrainerError, match="'small' and 'another'"):
        fit(preferences([several[1], alien], SETTINGS), tmp_path / "router", report=quiet)


def test_a_question_is_in_one_split_only_and_all_splits_are_used(labels):
    splits = [split_of(f"q{n}") for n in range(2000)]
    assert 0.77 < splits.count("train") / 2000 < 0.83 and min(splits.count("stop"), splits.count("test")) > 150
    held_out = held_out_tokens(labels)
    assert {split_of(name) for name in held_out.question} == {"stop", "test"}
    assert len(held_out) + len(load_tokens(labels).split("train")) == 4000
    check_splits([f"q{n}" for n in range(200)], "give more")
    with pytest.raises(TrainerError, match=r"10 questions.*give more"):
        check_splits([f"q{n}" for n in range(10)], "give more")


def test_scores_from_stored_features_are_those_of_the_engines_policies(fitted, labels):
    logits = 3 * torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    tokens = replace(load_tokens(labels).where(np.arange(4000) < 50), logit_features=logit_features(logits).numpy())
    state = State(range(50), range(50), logit_features=logit_features(logits))
    np.testing.assert_allclose(scores_of("confidence", tokens), ConfidencePolicy().score(state).numpy(), atol=1e-5)
    router = fitted[0]
    expected = router.score(tokens.features(slice(0, 10), with_logits=True)).numpy()
    np.testing.assert_allclose(scores_of(router, tokens)[:10], expected, atol=1e-6)
    with pytest.raises(TrainerError, match="'random'"):
        scores_of("random", tokens)
    with pytest.raises(RouterError, match="tokenizer"):
        scores_of(router, replace(tokens, about={**tokens.about, "tokenizer": "1" * 64}))


def test_thresholds_send_the_wanted_shares_to_the_llm_as_nearly_as_ties_allow():
    scores = np.random.default_rng(0).random(1000).astype(np.float32)
    shares = [0.0, 0.1, 0.25, 0.9, 1.0]
    assert [float((scores < t).mean()) for t in thresholds_for(scores, shares)] == pytest.approx(shares, abs=0.0006)
    assert thresholds_for(np.array([0.5] * 50 + [1.0] * 50), [0.4, 0.6]) == [0.75]
    assert 0.3 < best_threshold(np.array([0.2, 0.3, 0.8, 0.9]), np.array([0, 0, 1, 1]), np.ones(4)) <= 0.8
    with pytest.raises(TrainerError, match="1 are finite"):
        thresholds_for(np.array([0.5, np.nan]), [0.1])


def test_a_planted_signal_is_found_and_the_card_has_what_was_measured(fitted):
    router, out = fitted
    metrics = router.card.metrics
    assert metrics["auc"] > 0.95 and metrics["auc_top_probability"] < 0.6
    assert json.loads((out / "router.json").read_text())["metrics"] == metrics
    assert Router.load(out).card == router.card
    text = (out / "README.md").read_text()
    assert f"{metrics['auc']:.3f}" in text and "python -m trainer" in text


def test_the_same_labels_give_the_same_router_bit_for_bit(fitted, tmp_path):
    fit(preferences(write_labels(tmp_path / "labels", planted()), SETTINGS), tmp_path / "router", report=quiet)
    assert (tmp_path / "router" / WEIGHTS).read_bytes() == (fitted[1] / WEIGHTS).read_bytes()


def test_the_best_weights_are_kept_not_the_last_and_training_stops_where_nothing_improves(tmp_path):
    """A few tokens of a weak signal are soon learned by heart."""
    columns = planted(questions=120, length=2, strength=0.5)
    settings = SETTINGS.but(epochs=60, patience=60, batch=16, dropout=0.0)
    labels, told = write_labels(tmp_path / "labels", columns), []
    fit(preferences(labels, settings), tmp_path / "best", report=told.append)
    losses = [float(line.split()[3]) for line in told if line.startswith("epoch ")]
    best = int(np.argmin(losses)) + 1
    assert losses[-1] > min(losses) + 0.05, "it did overfit"
    fit(preferences(labels, settings.but(epochs=best)), tmp_path / "until", report=quiet)
    assert (tmp_path / "best" / WEIGHTS).read_bytes() == (tmp_path / "until" / WEIGHTS).read_bytes()
    soon = fit(preferences(labels, settings.but(patience=2)), tmp_path / "soon", report=quiet)
    assert soon.card.training["epochs_run"] < 60


def test_a_narrow_network_and_one_with_a_skip_connection_score_the_same_from_their_files(labels, fitted, tmp_path):
    tokens = load_tokens(labels)
    for name, changes in (("narrow", {"width": 4}), ("skip", {"skip": True})):
        router = fit(preferences(labels, SETTINGS.but(**changes)), tmp_path / name, report=quiet)
        assert router.card.metrics["auc"] > 0.95
        np.testing.assert_array_equal(scores_of(Router.load(tmp_path / name), tokens), scores_of(router, tokens))
    assert Router.load(tmp_path / "narrow").network.bytes < fitted[0].network.bytes / 3, (
        "which a routed token pays for it"
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"cost_weight": -1.0}, r"cost_weight -1\.0"),
        ({"width": 17}, "17.* 16"),
        ({"skip": True, "logit_features": False}, "skip"),
        ({"learning_rate": 1e8}, r"1e\+08"),
    ],
)
def test_settings_that_make_no_sense_are_refused(labels, tmp_path, settings, named):
    with pytest.raises(TrainerError, match=named):
        fit(preferences(labels, SETTINGS.but(**settings)), tmp_path / "router", report=quiet)


def test_a_split_without_both_preferences_is_named(tmp_path):
    lesson = preferences(write_labels(tmp_path / "l", planted(questions=3)), SETTINGS)
    with pytest.raises(TrainerError, match=r"the \w+ split .* label more"):
        fit(lesson, tmp_path / "router", report=quiet)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(1, 3)), min_size=2, max_size=40))
def test_auc_is_the_chance_to_score_above_another_token_and_a_weight_of_two_is_the_token_twice(tokens):
    tenths, wanted, weights = (np.array(values) for values in zip(*tokens, strict=True))
    if not 0 < wanted.sum() < len(wanted):
        return
    scores = tenths / 10
    often, preferred = np.repeat(scores, weights), np.repeat(wanted, weights).astype(bool)
    pairs = [(s > t) + (s == t) / 2 for s in often[preferred] for t in often[~preferred]]
    assert auc(scores, wanted, weights) == pytest.approx(np.mean(pairs))


def test_the_loss_of_co_llm_is_the_marginal_likelihood_however_unlikely_the_token():
    logits, logprobs = torch.tensor([0.0, 2.0, -2.0]), torch.tensor([[-1.0, -3.0], [-0.5, -0.1], [-2.0, -4.0]])
    score = logits.sigmoid()
    expected = -(score * logprobs[:, 0].exp() + (1 - score) * logprobs[:, 1].exp()).log()
    torch.testing.assert_close(marginal_losses(logits, logprobs), expected)
    losses = marginal_losses(torch.tensor([50.0, -200.0]), torch.tensor([[-500.0, -400.0], [-300.0, -1000.0]]))
    assert losses.tolist() == pytest.approx([450.0, 500.0])


def likelihoods():
    """The first hidden value says under which model the reference token is likelier."""
    columns = planted()
    slm_better = columns["hidden"][:, 0] > 0
    columns["slm_logprob"][:] = np.where(slm_better, -0.1, -6.0)
    columns["llm_logprob"][:] = np.where(slm_better, -6.0, -0.1)
    return columns


def test_co_llm_writes_with_the_model_under_which_the_token_is_likelier_and_needs_no_preferences(tmp_path):
    columns = likelihoods()
    router = fit(co_llm(write_labels(tmp_path / "l", columns), SETTINGS), tmp_path / "one", report=quiet)
    tokens = load_tokens(tmp_path / "l").split("test")
    scores, better = scores_of(router, tokens), tokens.slm_logprob > tokens.llm_logprob
    clear = np.abs(tokens.hidden()[:, 0].numpy()) > 0.3
    assert scores[better & clear].min() > 0.8 and scores[~better & clear].max() < 0.2
    columns["case"][np.arange(4000) % 3 > 0] = Case.NEITHER
    fit(co_llm(write_labels(tmp_path / "m", columns), SETTINGS), tmp_path / "two", report=quiet)
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()
    columns["llm_logprob"][:] = np.nan
    with pytest.raises(TrainerError, match="--with-llm"):
        fit(co_llm(write_labels(tmp_path / "bare", columns), SETTINGS), tmp_path / "no", report=quiet)


def test_the_query_router_learns_which_prompts_the_slm_answers(tmp_path):
    """The LLM is right in four of five questions, the SLM where the first value after the prompt is positive."""
    columns = planted(questions=300, length=4)
    columns["correct"] = np.repeat(np.random.default_rng(1).random(300) < 0.8, 4)
    slm_right = {f"q{n:04d}": bool(value > 0) for n, value in enumerate(columns["hidden"][::4, 0])}
    labels = write_labels(tmp_path / "labels", columns, reference="llm")
    router = fit(query(labels, slm_right), tmp_path / "query", report=quiet)
    hidden = torch.randn(2000, WIDTH, generator=torch.Generator().manual_seed(0))
    scores = QueryPolicy(router).score(State(range(2000), [0] * 2000, prompt_hidden=hidden)).numpy()
    assert auc(scores, (hidden[:, 0] > 0).numpy(), np.ones(2000)) > 0.9, "on fresh prompts"
    first = load_tokens(labels).split("test").where(load_tokens(labels).split("test").position == 0)
    alone = [right and not slm_right[name] for name, right in zip(first.question, first.correct, strict=True)]
    assert router.card.metrics["preferred_slm"] == pytest.approx(1 - np.mean(alone), abs=1e-3)
    with pytest.raises(TrainerError, match="none of the 1 "):
        fit(query(labels, {"other": True}), tmp_path / "router", report=quiet)
    data = write_labels(tmp_path / "data", planted(questions=2))
    with pytest.raises(TrainerError, match="label --answers"):
        fit(query(data, slm_right), tmp_path / "router", report=quiet)
