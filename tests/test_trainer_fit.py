"""Fitting: preferences and weights from labels and rollouts, a signal that is found, weights that repeat, a card."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_labels import WIDTH, planted, write_labels, write_rollouts

from engine import Role, RouterError
from engine.logits import logit_features
from engine.policy import ConfidencePolicy, EntropyPolicy, MarginPolicy, State
from engine.router import Router
from trainer.calibration import calibration_error, reliability
from trainer.card import render_card
from trainer.errors import TrainerError
from trainer.fit import FitSettings, fit, fit_preferences
from trainer.label import load_labels
from trainer.preference import Case
from trainer.rollout import Rollout
from trainer.tokens import (
    held_out_tokens,
    join,
    load_tokens,
    rollouts_by_labels,
    scores_of,
    split_of,
    thresholds_for,
)
from trainer.training import Examples, train

SETTINGS = FitSettings(epochs=6, batch=64, learning_rate=2e-3)
STATED = {"method": "citer", "round": 1, "command": "test"}


def quiet(_):
    pass


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return write_labels(tmp_path_factory.mktemp("labels"), planted())


@pytest.fixture(scope="module")
def fitted(labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("routers") / "first"
    return fit(labels, out, SETTINGS, "A test.", report=quiet, command="python -m trainer fit"), out


def rollout(question, position, correct, candidates=1, role=Role.SLM, bytes_=50.0):
    return Rollout(question, position, role, correct, bytes_, 5, candidates)


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
    with pytest.raises(TrainerError, match="other labels: name the folder of its labels as well"):
        fit(labels[:2], tmp_path / "router", SETTINGS, rollouts=[rollouts[0], write_rollouts(tmp_path / "x", [])])
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


def test_references_with_a_wrong_answer_are_dropped_unless_wanted(tmp_path):
    columns = planted(questions=2, length=4)
    columns["correct"][:4] = False
    labels = write_labels(tmp_path, columns, reference="llm")
    assert set(load_tokens(labels).decided().question) == {"q0001"}
    assert len(load_tokens(labels, wrong_references=True).decided()) == 8


def biased(tmp_path):
    """Questions with many candidates, two in ten harmless, and with few, nine in ten; two of each are rolled out.

    Returns labels, rollouts, and the rate at which the SLM is preferred if every candidate were rolled out.
    """
    chance = np.random.default_rng(0)
    columns, drawn, wanted = planted(questions=300, length=20), [], []
    for number in range(300):
        name, candidates = f"q{number:04d}", 16 if number % 2 else 4
        columns["case"][columns["question"] == name] = [Case.NEITHER] * candidates + [Case.SLM_RIGHT] * (
            20 - candidates
        )
        harmless = chance.random(candidates) < (0.2 if number % 2 else 0.9)
        wanted += [*harmless, *[True] * (20 - candidates)]
        drawn += [rollout(name, n, bool(harmless[n]), candidates) for n in chance.choice(candidates, 2, replace=False)]
    drawn = [replace(each, position=int(each.position)) for each in drawn]
    columns["hidden"][:] = chance.normal(size=columns["hidden"].shape)
    rollouts = write_rollouts(tmp_path / "rollouts", drawn)
    return write_labels(tmp_path / "labels", columns), rollouts, float(np.mean(wanted))


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


def test_a_router_scores_tokens_as_it_scores_features(fitted, labels):
    tokens = load_tokens(labels)
    expected = fitted[0].score(tokens.features(slice(0, 10), with_logits=True)).numpy()
    np.testing.assert_allclose(scores_of(fitted[0], tokens)[:10], expected, atol=1e-6)


def test_a_method_without_scores_and_a_router_of_another_slm_are_refused(fitted, labels):
    tokens = load_tokens(labels)
    with pytest.raises(TrainerError, match="'random' has no scores"):
        scores_of("random", tokens)
    with pytest.raises(RouterError, match="tokenizer"):
        scores_of(fitted[0], replace(tokens, about={**tokens.about, "tokenizer": "1" * 64}))


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


# --- training


def test_a_planted_signal_is_found(fitted):
    metrics = fitted[0].card.metrics
    assert metrics["auc"] > 0.95
    assert metrics["auc_top_probability"] < 0.6
    assert metrics["ece"] < 0.05


def test_deleted_and_written_again_the_labels_give_the_same_router_bit_for_bit(fitted, tmp_path):
    write_labels(tmp_path / "labels", planted())
    shutil.rmtree(tmp_path / "labels" / "labels-00003")
    with pytest.raises(TrainerError, match="1 of 10 shards are missing"):
        fit(tmp_path / "labels", tmp_path / "router", SETTINGS, report=quiet)
    write_labels(tmp_path / "labels", planted())
    fit(tmp_path / "labels", tmp_path / "router", SETTINGS, report=quiet)
    file = "router.safetensors"
    assert (tmp_path / "router" / file).read_bytes() == (fitted[1] / file).read_bytes()


def separable(count, noise, seed, labels):
    """Examples of a signal that drowns in noise; the labels only lend their other columns."""
    chance = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, WIDTH, generator=chance)
    wanted = (hidden[:, 0] + noise * torch.randn(count, generator=chance) > 0).float()
    tokens = replace(load_tokens(labels).where(np.arange(4000) < count), hidden=hidden.numpy())
    return Examples(tokens, wanted, torch.ones(count))


def cross_entropies(logits, wanted):
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def test_the_best_weights_are_kept_not_the_last(labels):
    """Overfitting on noise makes later epochs worse; what is returned is as good as the best loss that was reported."""
    losses = []
    small, stop = separable(60, 2.0, 0, labels), separable(500, 2.0, 1, labels)
    settings = FitSettings(logit_features=False, epochs=60, patience=60, learning_rate=3e-3, batch=16, dropout=0.0)
    network, _ = train(small, stop, cross_entropies, settings, lambda line: losses.append(float(line.split()[3])))
    with torch.inference_mode():
        found = cross_entropies(network(stop.tokens.features(slice(None), False)), stop.targets).mean()
    assert losses[-1] > min(losses) + 0.05
    assert float(found) == pytest.approx(min(losses), abs=1e-3)


def test_training_stops_early_when_nothing_improves(labels):
    settings = FitSettings(logit_features=False, epochs=60, patience=2, learning_rate=3e-3, batch=16)
    small, stop = separable(60, 2.0, 0, labels), separable(500, 2.0, 1, labels)
    assert train(small, stop, cross_entropies, settings, quiet)[1] < 60


def test_a_narrow_network_scores_the_same_from_its_file(labels, tmp_path):
    router = fit(labels, tmp_path / "narrow", replace(SETTINGS, width=4), report=quiet)
    assert router.card.metrics["auc"] > 0.95
    wide = fit(labels, tmp_path / "wide", SETTINGS, report=quiet)
    assert router.bytes < wide.bytes / 3  # which is what a routed token pays for it
    tokens = load_tokens(labels)
    np.testing.assert_array_equal(scores_of(Router.load(tmp_path / "narrow"), tokens), scores_of(router, tokens))
    assert "8 → 4 → 1" in render_card(router.card)


def test_a_skip_connection_starts_from_the_logit_features_and_the_layers_correct_it(labels, tmp_path):
    settings = replace(SETTINGS, skip=True)
    router = fit(labels, tmp_path / "router", settings, report=quiet)
    assert router.card.metrics["auc"] > 0.95
    assert router.flops == 2 * (24 * 32 + 32 * 16 + 16 + 8)
    tokens = load_tokens(labels)
    np.testing.assert_array_equal(scores_of(Router.load(tmp_path / "router"), tokens), scores_of(router, tokens))
    assert "and a linear score of the logit features" in render_card(router.card)
    ruined = fit(labels, tmp_path / "ruined", replace(settings, learning_rate=1e6), report=quiet)
    assert not ruined.network.state_dict()["layers.6.weight"].any()  # no epoch was better than the start


def test_balanced_classes_are_learned_from_and_the_score_stays_a_probability(tmp_path):
    labels = write_labels(tmp_path / "labels", planted(base=4.0, strength=2.0))
    settings = replace(SETTINGS, class_balance="balanced", calibrate=False)
    tokens = load_tokens(labels)
    router = fit(labels, tmp_path / "balanced", settings, report=quiet)
    factors = router.card.training["class_factors"]
    learned = tokens.split("train").preference
    assert factors["slm"] == 1
    assert factors["llm"] == pytest.approx((learned == 1).sum() / (learned == 0).sum())
    # Without the correction the mean would be near a half.
    assert scores_of(router, tokens).mean() == pytest.approx(tokens.preference.mean(), abs=0.03)
    assert f"LLM's weighed {factors['llm']:.2f} times" in (tmp_path / "balanced" / "README.md").read_text()


def test_timid_scores_are_mended_in_the_same_file_and_in_the_same_order(labels, tmp_path):
    """After one epoch with small steps the scores are near a half: the slope is far above 1."""
    timid = replace(SETTINGS, epochs=1, batch=512, learning_rate=3e-4)
    plain, mended = (
        fit(labels, tmp_path / f"router-{on}", replace(timid, calibrate=on), report=quiet) for on in (False, True)
    )
    calibration = mended.card.training["calibration"]
    assert calibration["kept"]
    assert calibration["slope"] > 2
    tokens = load_tokens(labels)
    before, after = (scores_of(Router.load(tmp_path / f"router-{on}"), tokens) for on in (False, True))
    errors = [calibration_error(reliability(each, tokens.preference)) for each in (before, after)]
    assert errors[0] > 0.12
    assert errors[1] < 0.06
    assert mended.card.metrics["ece"] < plain.card.metrics["ece"]
    order = np.argsort(before)
    apart = np.diff(before[order]) > 1e-5
    assert (np.diff(after[order])[apart] > 0).all()


def test_calibration_is_stated_whether_it_was_kept_or_not(fitted):
    card = fitted[0].card
    tried = {"slope": 1.5, "bias": -0.25, "loss_before": 0.4, "loss_after": 0.3, "kept": True}
    for calibration, said in (
        (None, "| calibration | none |"),
        (tried, "logit × 1.500 -0.250, part of the last layer (loss 0.4000 → 0.3000"),
        ({**tried, "kept": False}, "none: slope and bias were tried and did not help"),
    ):
        assert said in render_card(replace(card, training={**card.training, "calibration": calibration}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_balance": "equal"}, r"class balance 'equal': choose 'none' or 'balanced'"),
        ({"cost_weight": -1.0}, r"cost weight -1.0: λ is 0"),
        ({"shortcut_weight": 1.5}, r"shortcut weight 1.5: give a number from 0 to 1"),
        ({"width": 17}, r"width 17: a router's file holds at most 16"),
        ({"skip": True, "logit_features": False}, r"a skip connection is for the logit features"),
        ({"learning_rate": 1e30}, r"no epoch had a finite loss.*learning rate 1e\+30"),
    ],
)
def test_settings_that_make_no_sense_are_refused(labels, tmp_path, settings, message):
    with pytest.raises(TrainerError, match=message):
        fit(labels, tmp_path / "router", replace(SETTINGS, **settings), report=quiet)


def test_a_split_without_both_preferences_is_named(tmp_path):
    labels = write_labels(tmp_path / "labels", planted(questions=3))
    with pytest.raises(TrainerError, match=r"the \w+ split \(\d+ decided tokens of \d questions\).*label more"):
        fit(labels, tmp_path / "router", SETTINGS, report=quiet)


# --- the card


def test_the_card_states_what_was_measured(fitted):
    router, out = fitted
    metrics, text = router.card.metrics, (out / "README.md").read_text()
    for figure in (metrics["auc"], metrics["auc_top_probability"], metrics["ece"]):
        assert f"{figure:.3f}" in text
    for line in metrics["reliability"]:
        assert f"| {line['tokens']:,} | {line['share']:.1%} | {line['score']:.3f} | {line['observed']:.3f} |" in text
    assert set(metrics["cases"]) == {"SLM right", "only LLM right", "neither"}
    assert sum(metrics["cases"].values()) == pytest.approx(1, abs=0.001)
    assert json.loads((out / "router.json").read_text())["metrics"] == metrics
    assert Router.load(out).card == router.card


def test_the_card_states_how_it_was_made(fitted):
    text = (fitted[1] / "README.md").read_text()
    for said in (
        "without rollouts",
        "| rollouts | none |",
        "| references | the data set's |",
        "no class weights",
        "```\npython -m trainer fit\n```",
        "separates the preferences of the early-stopping questions best",
    ):
        assert said in text
    moved = replace(fitted[0].card, threshold=0.42)
    assert "| starting threshold | 0.42, chosen on the measured curve" in render_card(moved)


def test_the_card_states_the_rollouts_and_their_outcomes(tmp_path):
    labels, rollouts, _ = biased(tmp_path)
    router = fit(labels, tmp_path / "router", FitSettings(epochs=1), rollouts=rollouts, report=quiet, round_number=1)
    (done,) = router.card.training["rollouts"]
    assert done["tokens"] == 600
    assert done["slm_right"] == pytest.approx(0.55, abs=0.06)
    text = (tmp_path / "router" / "README.md").read_text()
    assert "round 1: finished by the SLM alone, at most 2 tokens per question, 600 in all" in text
    assert f"right after {done['slm_right']:.1%} of the SLM's tokens" in text
    older = replace(router.card, training={**router.card.training, "rollouts": done})
    assert render_card(older) == render_card(router.card)
    assert "λ = 0" in text
