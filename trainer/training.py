"""The training loop of CITER and the baselines, which differ in what they minimise.

Knows the engine's network and arrays of tokens; does not know what targets and losses mean, nor any file. The same
tokens and seed give the same weights, to the bit on one machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from engine.logits import LOGIT_FEATURES
from engine.router import RouterNetwork, input_size
from trainer.errors import TrainerError
from trainer.tokens import CHUNK, LabelledTokens

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits of the score [b] and targets [b, ...] → what is minimised, per token [b]."""


@dataclass(frozen=True)
class FitSettings:
    """How a router is fitted; stored in its card.

    Attributes:
        logit_features: Whether it also sees the SLM's logit features.
        cost_weight: λ, where the rollouts tried both actions: right answers that the LLM's whole cost is worth.
        wrong_references: Whether to learn from references, too, that end in a wrong answer.
        shortcut_weight: Of tokens that only the LLM wrote and that were not rolled out: 0 leaves them undecided, 1
            takes the shortcut's word for them.
        class_balance: "balanced" lets both preferences weigh the same in training; the score is then corrected by the
            logarithm of the factor, so that it is a probability again. "none" leaves them as they are.
        calibrate: Whether to try slope and bias on the stopping questions.
        skip: Whether the logit features have a linear score of their own, fitted first and then left as it is; the
            network starts from it and learns a correction, so that few questions do not make it know less than them.
        width: Units of the second hidden layer, half of the first's; None is the paper's d, the width of the hidden
            state. Less makes a network that learns less by heart; in its file it has the same size.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        dropout: After each hidden layer.
        batch: Tokens per update.
        epochs: At most.
        patience: Epochs without a better loss on the stopping questions before it ends.
        seed: Of the weights, the order and the dropout.

    Raises:
        TrainerError: A value that makes no sense.
    """

    logit_features: bool = True
    cost_weight: float = 0.0
    wrong_references: bool = False
    shortcut_weight: float = 0.0
    class_balance: Literal["none", "balanced"] = "none"
    calibrate: bool = True
    skip: bool = False
    width: int | None = None
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    dropout: float = 0.1
    batch: int = 512
    epochs: int = 40
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.class_balance not in ("none", "balanced"):
            raise TrainerError(f"class balance {self.class_balance!r}: choose 'none' or 'balanced'")
        if not 0 <= self.cost_weight < math.inf:
            raise TrainerError(f"cost weight {self.cost_weight}: λ is 0 (answers only) or more")
        if not 0 <= self.shortcut_weight <= 1:
            raise TrainerError(f"shortcut weight {self.shortcut_weight}: give a number from 0 to 1")
        if self.skip and not self.logit_features:
            raise TrainerError("a skip connection is for the logit features, which this router does not see")


@dataclass(frozen=True)
class Examples:
    """Tokens to learn from, with float32 targets [n, ...] and weights [n]."""

    tokens: LabelledTokens
    targets: torch.Tensor
    weights: torch.Tensor


def train(
    examples: Examples,
    stop: Examples,
    losses: Losses,
    settings: FitSettings,
    report: Callable[[str], None] = print,
) -> tuple[RouterNetwork, int]:
    """Minimises a loss per token, weighted, with AdamW; the one training loop of CITER and the baselines.

    Args:
        examples: To learn from.
        stop: Of other questions; the weights are those of the epoch with the least loss here.
        losses: What is minimised.
        settings: How.
        report: Told of each epoch.

    Returns:
        The network, ready to score, and the epochs it ran.

    Raises:
        TrainerError: The network is wider than its file allows; the loss is not finite from the first epoch on.
    """
    tokens, hidden = examples.tokens, examples.tokens.hidden.shape[1]
    width = settings.width or hidden
    if width > hidden:
        raise TrainerError(
            f"width {width}: a router's file holds at most {hidden}, the width of the SLM's hidden state"
        )
    torch.manual_seed(settings.seed)
    network = RouterNetwork(input_size(hidden, settings.logit_features), width, settings.dropout, settings.skip)
    _standardise(network, tokens, settings.logit_features)
    weights = examples.weights / examples.weights.mean()  # the learning rate means the same whatever they are
    best, best_loss, best_epoch = network.state_dict(), math.inf, 0
    if network.skip is not None:
        _fit_skip(network, replace(examples, weights=weights), losses)
        best_loss = _mean_loss(network, stop, losses, settings.logit_features)
        best = _copied(network)
        report(f"logit features alone: loss {best_loss:.4f} on the stopping questions")
    learned = [each for each in network.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    order = torch.Generator().manual_seed(settings.seed)
    epoch = 0
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for chosen in torch.randperm(len(tokens), generator=order).split(settings.batch):
            logits = network(tokens.features(chosen.numpy(), settings.logit_features))
            loss = (losses(logits, examples.targets[chosen]) * weights[chosen]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        loss = _mean_loss(network, stop, losses, settings.logit_features)
        report(f"epoch {epoch}: loss {loss:.4f} on the stopping questions")
        if loss < best_loss:
            best = _copied(network)
            best_loss, best_epoch = loss, epoch
        elif epoch - best_epoch >= settings.patience:
            break
    if not math.isfinite(best_loss):
        raise TrainerError(
            f"no epoch had a finite loss on the stopping questions (learning rate {settings.learning_rate:g}): "
            "take a lower one, and look for labels that are not finite"
        )
    network.load_state_dict(best)
    return network.eval(), epoch


@torch.inference_mode()
def logits_of(network: RouterNetwork, tokens: LabelledTokens, with_logits: bool) -> np.ndarray:
    """Logits of the routing score, float32 [n]."""
    network.eval()
    chunks = [slice(n, n + CHUNK) for n in range(0, len(tokens), CHUNK)]
    return np.concatenate([network(tokens.features(rows, with_logits)).numpy() for rows in chunks])


def _standardise(network: RouterNetwork, tokens: LabelledTokens, with_logits: bool) -> None:
    """Sets the network's mean and scale to those of the tokens; in chunks, as all at once may not fit into memory."""
    total, squares = (torch.zeros(len(network.mean), dtype=torch.float64) for _ in range(2))
    for n in range(0, len(tokens), CHUNK):
        total += tokens.features(slice(n, n + CHUNK), with_logits).double().sum(0)
    network.mean.copy_(total / len(tokens))
    for n in range(0, len(tokens), CHUNK):
        squares += (tokens.features(slice(n, n + CHUNK), with_logits) - network.mean).double().square().sum(0)
    network.scale.copy_((squares / max(1, len(tokens) - 1)).sqrt().clamp_min(1e-3))


def _copied(network: RouterNetwork) -> dict[str, torch.Tensor]:
    """The weights as they are now: a state_dict shares its tensors with the network, which goes on training."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _fit_skip(network: RouterNetwork, examples: Examples, losses: Losses) -> None:
    """Fits the skip connection alone, in one batch, and sets it fast; the layers add nothing yet."""
    skip, last = network.skip, network.layers[-1]
    assert skip is not None and isinstance(last, nn.Linear)
    mean, scale = (values[-LOGIT_FEATURES:] for values in (network.mean, network.scale))
    inputs = (torch.from_numpy(examples.tokens.logit_features) - mean) / scale
    optimiser = torch.optim.LBFGS(skip.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = (losses(skip(inputs).squeeze(-1), examples.targets) * examples.weights).mean()
        value.backward()
        return value

    optimiser.step(loss)
    skip.requires_grad_(False)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _mean_loss(network: RouterNetwork, examples: Examples, losses: Losses, with_logits: bool) -> float:
    logits = torch.from_numpy(logits_of(network, examples.tokens, with_logits))
    values = losses(logits, examples.targets).double() * examples.weights
    return float(values.sum() / examples.weights.double().sum())
