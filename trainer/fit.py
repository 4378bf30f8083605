"""Fits a router to labels: early stopping on whole held-out questions, and metrics on others it never saw.

Knows labels and the engine's router; knows no models. The same labels and seed give the same weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from engine.router import Router, RouterCard, RouterNetwork, input_size
from trainer.card import write_card
from trainer.errors import TrainerError
from trainer.label import load_labels
from trainer.preference import CASE_NAMES, PREFERENCES, Case


@dataclass(frozen=True)
class FitSettings:
    """How a router is fitted; stored in its card.

    Attributes:
        logit_features: Whether it also sees the SLM's logit features.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        dropout: After each hidden layer.
        batch: Tokens per update.
        epochs: At most.
        patience: Epochs without a better loss on the stopping questions before it ends.
        seed: Of the weights, the order and the dropout.
    """

    logit_features: bool = True
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    dropout: float = 0.1
    batch: int = 512
    epochs: int = 40
    patience: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Tokens:
    """Decided tokens of some questions: features [n, inputs], preferences [n] in {0, 1}, top probabilities [n]."""

    features: torch.Tensor
    preferences: torch.Tensor
    top_probability: torch.Tensor


def fit(
    labels: Path, out: Path, settings: FitSettings, description: str = "", report: Callable[[str], None] = print
) -> Router:
    """Fits a router to a folder of labels and writes it with its card.

    Args:
        labels: Written by `trainer.label`.
        out: The router's folder; its name is the router's name.
        settings: How.
        description: One line for people.
        report: Told of progress.

    Returns:
        The router with its best weights.

    Raises:
        TrainerError: Labels are missing, or a split has only one preference.
    """
    data, about = load_labels(labels)
    columns = {name: _array(data, name) for name in data.column_names}
    splits = {name: split_of(name) for name in about["questions"]}
    token_split = np.array([splits[name] for name in columns["question"]])
    sets = {name: _tokens(columns, token_split == name, settings.logit_features) for name in ("train", "stop", "test")}
    for name, tokens in sets.items():
        if len(set(tokens.preferences.tolist())) < 2:
            raise TrainerError(f"{labels}: the {name} questions hold one preference only; label more questions")
    network, epochs = train(sets["train"], sets["stop"], about["hidden_size"], settings, report)
    counts = {name: sum(split == name for split in splits.values()) for name in sets}
    router = Router(
        network,
        RouterCard(
            name=out.name,
            slm=about["slm"],
            llm=about["llm"],
            hidden_size=about["hidden_size"],
            tokenizer=about["tokenizer"],
            logit_features=settings.logit_features,
            dropout=settings.dropout,
            training={
                **asdict(settings),
                "reference": about["reference"],
                "quantisation": about["quantisation"],
                "data": about["data"],
                "questions": counts,
                "tokens": {name: len(tokens.preferences) for name, tokens in sets.items()},
                "epochs_run": epochs,
            },
            threshold=best_threshold(network, sets["stop"]),
            metrics=measure(network, sets["test"], columns, token_split == "test"),
            description=description,
        ),
    )
    router.save(out)
    write_card(router.card, out)
    report(
        f"{out}: AUC {router.card.metrics['auc']:.3f}, top probability {router.card.metrics['auc_top_probability']:.3f}"
    )
    return router


def split_of(question: str) -> str:
    """The split of a question id: "train", "stop" (early stopping) or "test" (metrics); 80, 10 and 10 of a hundred.

    Read off a hash, so that it is the same in every run and every round, and all of a question is on one side.
    """
    bucket = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 100
    return "train" if bucket < 80 else "stop" if bucket < 90 else "test"


def train(
    tokens: Tokens, stop: Tokens, hidden_size: int, settings: FitSettings, report: Callable[[str], None] = print
) -> tuple[RouterNetwork, int]:
    """Trains on the cross-entropy of the preferences, without class weights: the score stays a probability.

    Returns:
        The network with the weights of its best epoch on the stopping questions, and the epochs it ran.
    """
    torch.manual_seed(settings.seed)
    network = RouterNetwork(input_size(hidden_size, settings.logit_features), hidden_size, settings.dropout)
    network.mean.copy_(tokens.features.mean(0))
    network.scale.copy_(tokens.features.std(0).clamp_min(1e-3))
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    order = torch.Generator().manual_seed(settings.seed)
    best, best_loss, best_epoch = network.state_dict(), math.inf, 0
    epoch = 0
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for chosen in torch.randperm(len(tokens.preferences), generator=order).split(settings.batch):
            loss = binary_cross_entropy_with_logits(network(tokens.features[chosen]), tokens.preferences[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        loss = _loss(network, stop)
        report(f"epoch {epoch}: loss {loss:.4f} on the stopping questions")
        if loss < best_loss:
            # Copies: a state_dict shares its tensors with the network, which goes on training.
            best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            best_loss, best_epoch = loss, epoch
        elif epoch - best_epoch >= settings.patience:
            break
    network.load_state_dict(best)
    return network.eval(), epoch


def measure(network: RouterNetwork, tokens: Tokens, columns: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Metrics on the test questions: AUCs against the preference, and the share of tokens per case."""
    with torch.inference_mode():
        scores = torch.sigmoid(network(tokens.features)).numpy()
    wanted = tokens.preferences.numpy()
    cases = columns["case"][mask]
    return {
        "auc": round(auc(scores, wanted), 4),
        "auc_top_probability": round(auc(tokens.top_probability.numpy(), wanted), 4),
        "loss": round(_loss(network, tokens), 4),
        "preferred_slm": round(float(wanted.mean()), 4),
        "cases": {CASE_NAMES[case]: round(float((cases == case).mean()), 4) for case in Case},
        "tokens": len(cases),
        "questions": len(set(columns["question"][mask])),
    }


@torch.inference_mode()
def best_threshold(network: RouterNetwork, tokens: Tokens) -> float:
    """The threshold, in hundredths, that sends most LLM-preferred tokens to the LLM for the fewest SLM-preferred ones.

    Youden's J, the difference of the two shares, is largest there. It is where a person may start turning the dial, not
    an operating point: what it is worth in answers has to be measured in answers.
    """
    scores, wanted = torch.sigmoid(network(tokens.features)).numpy(), tokens.preferences.numpy()
    grid = np.arange(1, 100) / 100
    gains = [float((scores[wanted == 0] < t).mean() - (scores[wanted == 1] < t).mean()) for t in grid]
    return float(grid[int(np.argmax(gains))])


def auc(scores: np.ndarray, wanted: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a token with preference 1 scores above one with 0; ties count half.

    Args:
        scores: float [n].
        wanted: 0 or 1 [n], both present.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = wanted == 1
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def _array(data: datasets.Dataset, name: str) -> np.ndarray:
    """A column as an array [tokens] or [tokens, width], straight from Arrow: row by row it would take minutes."""
    column = data.data.column(name).combine_chunks()
    if isinstance(column, pyarrow.FixedSizeListArray):
        return column.flatten().to_numpy().reshape(len(data), -1)
    return column.to_numpy(zero_copy_only=False)


def _tokens(columns: dict[str, Any], mask: np.ndarray, with_logits: bool) -> Tokens:
    """The decided tokens of a split."""
    mask = mask & (columns["case"] != Case.NEITHER)
    parts = [columns["hidden"][mask].astype(np.float32)]
    if with_logits:
        parts.append(columns["logit_features"][mask])
    wanted = np.array([PREFERENCES[Case(case)] for case in columns["case"][mask]], dtype=np.float32)
    return Tokens(
        torch.from_numpy(np.concatenate(parts, axis=1)),
        torch.from_numpy(wanted),
        torch.from_numpy(columns["top_probability"][mask].copy()),
    )


@torch.inference_mode()
def _loss(network: RouterNetwork, tokens: Tokens) -> float:
    network.eval()
    return float(binary_cross_entropy_with_logits(network(tokens.features), tokens.preferences))
