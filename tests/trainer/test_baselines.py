"""Learned baselines: what they learn from, and that they run as routers of the same file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.policy import QueryPolicy, State
from engine.router import Router
from tests.support.fake_labels import WIDTH, planted, quiet, write_labels
from trainer import TrainerError
from trainer.evaluation.methods import scores_of
from trainer.fit.baselines import CO_LLM, QUERY, fit_co_llm, fit_query, marginal_losses
from trainer.fit.calibration import auc
from trainer.fit.labelled_tokens import load_tokens

SETTINGS = replace(CO_LLM, epochs=6, batch=64, learning_rate=2e-3)


def test_the_loss_is_the_marginal_likelihood_however_unlikely_the_token():
    logits = torch.tensor([0.0, 2.0, -2.0])
    logprobs = torch.tensor([[-1.0, -3.0], [-0.5, -0.1], [-2.0, -4.0]])
    score = logits.sigmoid()
    expected = -(score * logprobs[:, 0].exp() + (1 - score) * logprobs[:, 1].exp()).log()
    torch.testing.assert_close(marginal_losses(logits, logprobs), expected)
    logits = torch.tensor([50.0, -200.0], requires_grad=True)
    losses = marginal_losses(logits, torch.tensor([[-500.0, -400.0], [-300.0, -1000.0]]))
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([450.0, 500.0])
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


@pytest.fixture(scope="module")
def likelihoods(tmp_path_factory):
    """Labels where the first hidden value says under which model the reference token is likelier."""
    columns = planted()
    slm_better = columns["hidden"][:, 0] > 0
    columns["slm_logprob"][:] = np.where(slm_better, -0.1, -6.0)
    columns["llm_logprob"][:] = np.where(slm_better, -6.0, -0.1)
    return write_labels(tmp_path_factory.mktemp("labels"), columns)


def test_co_llm_writes_with_the_model_under_which_the_token_is_likelier(likelihoods, tmp_path):
    router = fit_co_llm(likelihoods, tmp_path / "co-llm", SETTINGS, report=quiet, command="fit --co-llm")
    tokens = load_tokens(likelihoods).split("test")
    scores, better = scores_of(router, tokens), tokens.slm_logprob > tokens.llm_logprob
    clear = np.abs(tokens.hidden[:, 0]) > 0.3
    assert scores[better & clear].min() > 0.8
    assert scores[~better & clear].max() < 0.2


def test_co_llm_needs_no_preferences_and_learns_from_undecided_tokens(likelihoods, tmp_path):
    """With most tokens undecided in training, the same weights come out: they are read in no loss."""
    columns = planted()
    tokens = load_tokens(likelihoods)
    columns["slm_logprob"], columns["llm_logprob"] = tokens.slm_logprob.copy(), tokens.llm_logprob.copy()
    columns["case"][np.arange(4000) % 3 > 0] = 2
    write_labels(tmp_path / "labels", columns)
    for labels, name in ((likelihoods, "one"), (tmp_path / "labels", "two")):
        router = fit_co_llm(labels, tmp_path / name, SETTINGS, report=quiet)
        assert router.card.training["learned_from"] == len(tokens.split("train"))
    one, two = ((tmp_path / name / "router.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_co_llm_drops_wrong_references_and_the_card_says_how_it_was_made(tmp_path):
    columns = planted()
    columns["correct"][:2000] = False
    labels = write_labels(tmp_path / "labels", columns, reference="llm")
    router = fit_co_llm(labels, tmp_path / "router", SETTINGS, "Another.", quiet, command="fit --co-llm")
    training, text = router.card.training, (tmp_path / "router" / "README.md").read_text()
    assert training["learned_from"] < 2000
    assert training["method"] == "co-llm"
    assert (training["calibrate"], training["class_balance"]) == (False, "none")
    for said in (
        "Co-LLM style",
        "trained without",
        "| calibration | none |",
        "fit --co-llm",
        "where they are right",
        "only its order",
    ):
        assert said in text
    assert Router.load(tmp_path / "router").card == router.card


def test_co_llm_without_the_llms_log_probabilities_says_which_labels_to_make(tmp_path):
    columns = planted(questions=2)
    columns["llm_logprob"][:] = np.nan
    labels = write_labels(tmp_path / "labels", columns, reference="llm")
    with pytest.raises(TrainerError, match=r"40 of 40 tokens have no log-probability under the LLM.*--skip-llm"):
        fit_co_llm(labels, tmp_path / "router", SETTINGS, report=quiet)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """300 questions, the LLM right in four of five, the SLM where the first value after the prompt is positive."""
    columns = planted(questions=300, length=4)
    chance = np.random.default_rng(1)
    columns["correct"] = np.repeat(chance.random(300) < 0.8, 4)
    first = columns["hidden"][::4, 0]
    slm_right = {f"q{n:04d}": bool(value > 0) for n, value in enumerate(first)}
    return write_labels(tmp_path_factory.mktemp("labels"), columns, reference="llm"), slm_right


def test_the_query_router_learns_which_prompts_the_slm_answers(answered, tmp_path):
    labels, slm_right = answered
    router = fit_query(labels, slm_right, tmp_path / "query", report=quiet)
    hidden = torch.randn(2000, WIDTH, generator=torch.Generator().manual_seed(0))
    scores = QueryPolicy(router).score(State(range(2000), [0] * 2000, prompt_hidden=hidden)).numpy()
    # Among its 30 held-out questions an AUC is hardly a figure; these prompts are fresh.
    assert auc(scores, (hidden[:, 0] > 0).numpy()) > 0.9
    assert router.card.metrics["tokens"] == router.card.metrics["questions"]
    text = (tmp_path / "query" / "README.md").read_text()
    for said in ("RouteLLM style", "weight decay 1.0", "32 → 16 → 1", "share of questions"):
        assert said in text


def test_the_llm_is_preferred_only_where_it_alone_is_right(answered, tmp_path):
    labels, slm_right = answered
    router = fit_query(labels, slm_right, tmp_path / "query", report=quiet)
    tokens = load_tokens(labels).split("test")
    first = tokens.where(tokens.position == 0)
    alone = [right and not slm_right[name] for name, right in zip(first.question, first.correct, strict=True)]
    assert router.card.metrics["cases"]["only LLM right"] == pytest.approx(np.mean(alone), abs=1e-3)
    assert router.card.metrics["preferred_slm"] == pytest.approx(1 - np.mean(alone), abs=1e-3)


def test_questions_that_the_slm_did_not_answer_are_left_out(answered, tmp_path):
    labels, slm_right = answered
    some = dict(list(slm_right.items())[:200])
    router = fit_query(labels, some, tmp_path / "query", report=quiet)
    assert sum(router.card.training["questions"].values()) == 200


def test_a_query_router_is_the_same_bit_for_bit_and_never_sees_logit_features(answered, tmp_path):
    labels, slm_right = answered
    settings = replace(QUERY, epochs=5, logit_features=True)
    for name in ("one", "two"):
        assert not fit_query(labels, slm_right, tmp_path / name, settings, report=quiet).card.logit_features
    one, two = ((tmp_path / name / "router.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_labels_that_cannot_teach_a_query_router_are_refused(answered, tmp_path):
    labels, slm_right = answered
    with pytest.raises(TrainerError, match=r"none of the 1 questions that the SLM answered is in"):
        fit_query(labels, {"other": True}, tmp_path / "router", report=quiet)
    data = write_labels(tmp_path / "data", planted(questions=2))
    with pytest.raises(TrainerError, match=r"references from the data.*--reference llm"):
        fit_query(data, slm_right, tmp_path / "router", report=quiet)
