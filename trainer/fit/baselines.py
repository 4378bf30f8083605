"""Learned rivals of CITER's router, in the same file format: Co-LLM-style by token, RouteLLM-style by query.

Network, optimiser, early stopping, card and arguments are those of `trainer.fit.fit_router`, so that the methods differ
in what they learn from (and the query router, which has one example per question, in its width). Training-free
baselines are policies of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from engine.router import Router
from trainer import TrainerError
from trainer.fit.fit_router import decided_splits, digest_of, fit_preferences, fitted_once, write_router
from trainer.fit.gradient_loop import Examples, train
from trainer.fit.labelled_tokens import LabelledTokens, load_tokens
from trainer.labels.labels import labels_about
from trainer.preference import Case
from trainer.settings import FitSettings

CO_LLM = FitSettings(logit_features=False)
"""Co-LLM's router sees hidden states only."""

QUERY = FitSettings(
    logit_features=False, width=32, weight_decay=1.0, dropout=0.5, batch=32, learning_rate=1e-3, epochs=200, patience=20
)
"""For hundreds of examples instead of tens of thousands: a narrow network, much decay and dropout, small batches."""


def fit_co_llm(
    labels: Path,
    out: Path,
    settings: FitSettings = CO_LLM,
    description: str = "",
    report: Callable[[str], None] = print,
    *,
    command: str = "",
) -> Router:
    """Fits a Co-LLM-style router: who writes is a hidden choice, summed over in the likelihood of the reference.

    Shen et al., "Learning to Decode Collaboratively with Multiple Language Models", ACL 2024, section 2: with σ the
    score, −log(σ · p_SLM(token) + (1 − σ) · p_LLM(token)) is minimised over all tokens. No preferences; the metrics in
    the card are against the shortcut's, as for CITER. Two departures: both models stay frozen (there the small one is
    trained along), and the network is CITER's instead of one linear layer, which needs no first guess of its weights.

    Args:
        labels: With log-probabilities under both models.
        settings: Logit features are possible, but not in the paper; λ and calibration have no meaning here.

    Raises:
        TrainerError: No log-probabilities under the LLM; a split has only one preference.
    """
    settings = replace(settings, cost_weight=0.0, calibrate=False)
    made_of = digest_of(settings, [labels_about(labels)], [{"method": "co-llm"}])

    def make() -> Router:
        tokens = load_tokens(labels)
        usable = tokens.where(tokens.correct)
        if missing := int(np.isnan(usable.llm_logprob).sum()):
            raise TrainerError(
                f"{labels}: {missing:,} of {len(usable):,} tokens have no log-probability under the LLM, which a "
                "Co-LLM router learns from: label again without --skip-llm"
            )
        sets = decided_splits(tokens)
        examples, stop = (_likelihoods(usable.split(name)) for name in ("train", "stop"))
        network, epochs = train(examples, stop, marginal_losses, settings, report)
        stated = {"method": "co-llm", "command": command, "epochs_run": epochs, "made_of": made_of}
        return write_router(network, tokens, sets, out, settings, description, stated, report)

    return fitted_once(out, made_of, make, report)


def marginal_losses(logits: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    """−log(σ · p_SLM + (1 − σ) · p_LLM), in logarithms throughout: tokens may be as unlikely as they come.

    Of logits of the score [b] and the tokens' log-probabilities under SLM and LLM [b, 2].
    """
    return -torch.logaddexp(logsigmoid(logits) + logprobs[:, 0], logsigmoid(-logits) + logprobs[:, 1])


def fit_query(
    labels: Path,
    slm_right: Mapping[str, bool],
    out: Path,
    settings: FitSettings = QUERY,
    description: str = "",
    report: Callable[[str], None] = print,
    *,
    command: str = "",
) -> Router:
    """Fits a query router: one decision per question, from the SLM's hidden state after the prompt.

    In the style of RouteLLM (Ong et al., 2024), with graded answers in place of human votes: the SLM is preferred where
    it is right, and where the LLM is wrong too. Run it with `engine.policy.QueryPolicy`.

    Args:
        labels: With the LLM's own answers as references: whether they are right is in there.
        slm_right: Whether the SLM's own answer is right, by question id; questions that are not in it are left out.
        settings: Logit features are never used, as the policy has none after the prompt.

    Raises:
        TrainerError: References are not the LLM's; no question has both answers; a split has only one preference.
    """
    tokens = load_tokens(labels)
    width = min(settings.width or tokens.hidden_size, tokens.hidden_size)
    settings = replace(settings, logit_features=False, cost_weight=0.0, width=width)
    if tokens.about["reference"] != "llm":
        raise TrainerError(
            f"{labels} has references from the data, which do not say whether the LLM answers right: "
            "label with the LLM's own answers (--reference llm)"
        )
    questions = tokens.where((tokens.position == 0) & np.isin(tokens.question, list(slm_right)))
    if not len(questions):
        raise TrainerError(
            f"none of the {len(slm_right)} questions that the SLM answered is in {labels}: answer the labelled ones"
        )
    made_of = digest_of(settings, [tokens.about], [slm_right])
    stated = {"method": "query", "command": command, "made_of": made_of}
    decided = _by_answers(questions, slm_right)
    return fitted_once(
        out, made_of, lambda: fit_preferences(decided, out, settings, description, stated, report), report
    )


def _likelihoods(tokens: LabelledTokens) -> Examples:
    targets = np.stack([tokens.slm_logprob, tokens.llm_logprob], axis=1)
    return Examples(tokens, torch.from_numpy(targets), torch.from_numpy(tokens.stands_for))


def _by_answers(questions: LabelledTokens, slm_right: Mapping[str, bool]) -> LabelledTokens:
    """The tokens after the prompts, with cases and preferences of the whole answers instead of their own."""
    slm = np.array([slm_right[name] for name in questions.question], dtype=bool)
    case = np.where(slm, Case.SLM_RIGHT, np.where(questions.correct, Case.ONLY_LLM_RIGHT, Case.NEITHER))
    preference = (case != Case.ONLY_LLM_RIGHT).astype(np.float32)
    return replace(questions, case=case.astype(np.int8), preference=preference, weight=np.ones_like(preference))
