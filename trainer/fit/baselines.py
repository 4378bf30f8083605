"""Learned rivals of CITER's router, in the same file format: Co-LLM-style by token, RouteLLM-style by query.

They differ from it in what they learn from; network, optimiser and early stopping are CITER's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from trainer import Report, TrainerError
from trainer.fit.fit_router import Learned, Lesson, decided_splits, learn_preferences
from trainer.fit.gradient_loop import Examples, train
from trainer.fit.labelled_tokens import LabelledTokens, load_tokens
from trainer.labels.labels import labels_about
from trainer.preference import Case
from trainer.settings import FitSettings

QUERY = FitSettings(
    logit_features=False, width=32, weight_decay=1.0, dropout=0.5, batch=32, learning_rate=1e-3, epochs=200, patience=20
)
"""For hundreds of examples instead of tens of thousands: a narrow network, much decay and dropout, small batches."""


def co_llm(labels: Path, settings: FitSettings) -> Lesson:
    """A Co-LLM-style router: the writer is a hidden choice, summed over in the likelihood of the reference.

    Shen et al., "Learning to Decode Collaboratively with Multiple Language Models", ACL 2024, section 2: with σ the
    score, −log(σ · p_SLM(token) + (1 − σ) · p_LLM(token)) is minimised over all tokens. Here both models stay frozen,
    and the network is CITER's instead of one linear layer. The card's metrics are against the shortcut's preferences.

    Args:
        labels: With log-probabilities under both models, else learning raises a TrainerError.
        settings: Logit features, λ and skip connection are left out, as in the paper.
    """
    settings = settings.but(logit_features=False, skip=False, cost_weight=0.0)

    def learn(report: Report) -> Learned:
        tokens = load_tokens(labels)
        usable = tokens.where(tokens.correct)
        if missing := int(np.isnan(usable.llm_logprob).sum()):
            raise TrainerError(
                f"{labels}: {missing:,} of {len(usable):,} tokens have no log-probability under the LLM, which a "
                "Co-LLM router learns from: label again, with --with-llm"
            )
        decided_splits(tokens)  # the card needs both preferences
        examples, stop = (_likelihoods(usable.split(name)) for name in ("train", "stop"))
        network, epochs = train(examples, stop, marginal_losses, settings, report)
        return network, tokens, {"epochs_run": epochs}

    return Lesson(settings, {"method": "co-llm"}, [[labels_about(labels)], ["co-llm"]], learn)


def marginal_losses(logits: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    """−log(σ · p_SLM + (1 − σ) · p_LLM) [b], from logits of the score [b] and both log-probabilities [b, 2]."""
    return -torch.logaddexp(logsigmoid(logits) + logprobs[:, 0], logsigmoid(-logits) + logprobs[:, 1])


def query(labels: Path, slm_right: Mapping[str, bool], seed: int = 0) -> Lesson:
    """A query router: one decision per question, from the SLM's hidden state after the prompt.

    In the style of RouteLLM (Ong et al., 2024), with graded answers in place of human votes: the SLM is preferred where
    it is right, and where both are wrong. Run it with `engine.policy.QueryPolicy`.

    Args:
        labels: Labels of the LLM's own answers, which say whether these are right.
        slm_right: Whether the SLM's own answer is right, by question id; other questions are left out.

    Raises:
        TrainerError: References are not the LLM's, or no question has both answers.
    """
    tokens = load_tokens(labels)
    settings = QUERY.but(seed=seed, width=min(QUERY.width or tokens.hidden_size, tokens.hidden_size))
    if tokens.about["reference"] != "llm":
        raise TrainerError(
            f"{labels} has references from the data, which do not say whether the LLM answers right: label the LLM's "
            "own answers (`label --answers`)"
        )
    questions = tokens.where((tokens.position == 0) & np.isin(tokens.question, list(slm_right)))
    if not len(questions):
        raise TrainerError(
            f"none of the {len(slm_right)} questions that the SLM answered is in {labels}: answer the labelled ones"
        )
    learn = partial(learn_preferences, _by_answers(questions, slm_right), settings)
    return Lesson(settings, {"method": "query"}, [[tokens.about], [dict(slm_right)]], learn)


def _likelihoods(tokens: LabelledTokens) -> Examples:
    targets = np.stack([tokens.slm_logprob, tokens.llm_logprob], axis=1)
    return Examples(tokens, torch.from_numpy(targets), torch.from_numpy(tokens.stands_for))


def _by_answers(questions: LabelledTokens, slm_right: Mapping[str, bool]) -> LabelledTokens:
    """The tokens after the prompts, with cases and preferences of the whole answers instead of their own."""
    slm = np.array([slm_right[name] for name in questions.question], dtype=bool)
    case = np.where(slm, Case.SLM_RIGHT, np.where(questions.correct, Case.ONLY_LLM_RIGHT, Case.NEITHER))
    preference = (case != Case.ONLY_LLM_RIGHT).astype(np.float32)
    return replace(questions, case=case.astype(np.int8), preference=preference, weight=np.ones_like(preference))
