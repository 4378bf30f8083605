"""Fitting: a signal that is found, weights that repeat, a calibrated score, a card that states what was measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.router import Router
from tests.support.fake_labels import FITTING as SETTINGS
from tests.support.fake_labels import WIDTH, biased, planted, quiet, write_labels
from trainer import TrainerError
from trainer.evaluation.methods import scores_of
from trainer.fit.calibration import auc, calibration_error, reliability
from trainer.fit.card import render_card
from trainer.fit.fit_router import fit
from trainer.fit.gradient_loop import Examples, train
from trainer.fit.labelled_tokens import load_tokens
from trainer.settings import FitSettings


@pytest.fixture(scope="module")
def fitted(labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("routers") / "first"
    return fit(labels, out, SETTINGS, "A test.", report=quiet, command="python -m trainer fit"), out


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
        ({"target": "good"}, r"target 'good': choose 'preferred' or 'kept'"),
        ({"class_balance": "equal"}, r"class balance 'equal': choose 'none' or 'balanced'"),
        ({"cost_weight": -1.0}, r"cost weight -1.0: give a number from 0 .*λ"),
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


# --- the target "kept"


@pytest.fixture(scope="module")
def disputed(tmp_path_factory):
    """Labels on which the LLM writes the SLM's token by the second hidden value, whoever is right by the first."""
    columns = planted()
    columns["correct"][:2000] = False
    agreed = columns["hidden"][:, 1] > 0.3
    columns["llm_token"] = np.where(agreed, columns["slm_token"], columns["slm_token"] + 10).astype(np.int32)
    return write_labels(tmp_path_factory.mktemp("disputed") / "labels", columns), agreed


def test_a_router_can_predict_what_the_llm_keeps_on_all_tokens_of_all_references(disputed, tmp_path):
    labels, agreed = disputed
    router = fit(labels, tmp_path / "kept", replace(SETTINGS, target="kept"), report=quiet)
    assert router.card.metrics["auc"] > 0.95
    assert router.card.metrics["preferred_slm"] == pytest.approx(agreed.mean(), abs=0.05)
    assert sum(router.card.training["tokens"].values()) == len(agreed), "the wrong references are learned from, too"
    assert auc(scores_of(router, load_tokens(labels)), agreed) > 0.95
    other = fit(labels, tmp_path / "preferred", SETTINGS, report=quiet)
    assert auc(scores_of(other, load_tokens(labels)), agreed) < 0.6, "the shortcut's preferences are something else"


def test_the_card_says_which_target_a_router_has(disputed, tmp_path, fitted):
    fit(disputed[0], tmp_path / "kept", replace(SETTINGS, target="kept", epochs=1), report=quiet)
    text = (tmp_path / "kept" / "README.md").read_text()
    assert "| method | for verified routing: whether the LLM will keep the SLM's token |" in text
    assert "| target | whether the LLM's likeliest token is the SLM's" in text
    assert "| target |" not in (fitted[1] / "README.md").read_text()


@pytest.mark.parametrize("more", [{"rollouts": ["somewhere"]}, {"cost_weight": 0.1}, {"shortcut_weight": 0.1}])
def test_the_target_kept_needs_no_rollouts_and_takes_none(labels, tmp_path, more):
    weights = {name: value for name, value in more.items() if name != "rollouts"}
    with pytest.raises(TrainerError, match="takes no rollouts, cost weight or shortcut weight"):
        settings = replace(SETTINGS, target="kept", **weights)
        fit(labels, tmp_path / "router", settings, rollouts=more.get("rollouts", ()), report=quiet)


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
