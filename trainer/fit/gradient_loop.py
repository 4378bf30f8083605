"""The gradient loop in which CITER's router and the baselines are trained; they differ in the loss.

The same tokens and seed give the same weights, to the bit on one machine. From labels to a router with its card:
`trainer.fit.fit_router`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from engine.router import RouterNetwork
from trainer import Report, TrainerError
from trainer.fit.labelled_tokens import LabelledTokens
from trainer.settings import FitSettings

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits of the score [b] and targets [b, ...] → the loss of each token [b]."""


@dataclass(frozen=True)
class Examples:
    """Tokens with what a loss needs of them: float32 targets [n, ...] and weights [n]."""

    tokens: LabelledTokens
    targets: torch.Tensor
    weights: torch.Tensor


def train(
    examples: Examples, stop: Examples, losses: Losses, settings: FitSettings, report: Report = print
) -> tuple[RouterNetwork, int]:
    """Minimises the weighted mean loss with AdamW, and stops early.

    Args:
        stop: Of other questions; the weights are those of the epoch with the least loss here.

    Returns:
        The network, ready to score, and the epochs it ran.

    Raises:
        TrainerError: The network is wider than its file allows; the loss is not finite from the first epoch on.
    """
    tokens, hidden = examples.tokens, examples.tokens.hidden_size
    width = settings.width or hidden
    if width > hidden:
        raise TrainerError(
            f"width {width}: a router's file holds at most {hidden}, the width of the SLM's hidden state"
        )
    torch.manual_seed(settings.seed)
    certainty = tokens.logit_features.shape[1]
    inputs = hidden + certainty * settings.logit_features
    network = RouterNetwork(inputs, width, settings.dropout, certainty * settings.skip)
    _standardise(network, tokens, settings.logit_features)
    weights = examples.weights / examples.weights.mean()  # the learning rate means the same whatever they are
    best, best_loss, best_epoch = network.state_dict(), math.inf, 0
    if network.skip is not None:
        _fit_skip(network, replace(examples, weights=weights), losses)
        best, best_loss = deepcopy(network.state_dict()), _mean_loss(network, stop, losses, settings.logit_features)
        report(f"logit features alone: loss {best_loss:.4f} on the stopping questions")
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    order = torch.Generator().manual_seed(settings.seed)
    epoch = 0
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for rows in torch.randperm(len(tokens), generator=order).split(settings.batch):
            logits = network(tokens.features(rows.numpy(), settings.logit_features))
            loss = (losses(logits, examples.targets[rows]) * weights[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        loss = _mean_loss(network, stop, losses, settings.logit_features)
        report(f"epoch {epoch}: loss {loss:.4f} on the stopping questions")
        if loss < best_loss:
            best, best_loss, best_epoch = deepcopy(network.state_dict()), loss, epoch
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
    return np.concatenate([network(features).numpy() for features in tokens.chunks(with_logits)])


def _standardise(network: RouterNetwork, tokens: LabelledTokens, with_logits: bool) -> None:
    """Sets the network's mean and scale to those of the tokens, in one pass over them."""
    total, squares = (torch.zeros(len(network.mean), dtype=torch.float64) for _ in range(2))
    for features in tokens.chunks(with_logits):
        total += features.double().sum(0)
        squares += features.double().square().sum(0)
    mean = total / len(tokens)
    variance = (squares - len(tokens) * mean.square()) / max(1, len(tokens) - 1)
    network.mean.copy_(mean)
    network.scale.copy_(variance.clamp_min(0).sqrt().clamp_min(1e-3))


def _fit_skip(network: RouterNetwork, examples: Examples, losses: Losses) -> None:
    """Fits the skip connection alone, in one batch, and freezes it; the layers add nothing yet."""
    skip, last = network.skip, network.layers[-1]
    assert skip is not None and isinstance(last, nn.Linear)
    mean, scale = (values[-skip.in_features :] for values in (network.mean, network.scale))
    inputs = (torch.from_numpy(examples.tokens.logit_features) - mean) / scale
    optimiser = torch.optim.LBFGS(skip.parameters(), max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (losses(skip(inputs).squeeze(-1), examples.targets) * examples.weights).mean()
        loss.backward()
        return loss

    optimiser.step(step)
    skip.requires_grad_(False)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _mean_loss(network: RouterNetwork, examples: Examples, losses: Losses, with_logits: bool) -> float:
    logits = torch.from_numpy(logits_of(network, examples.tokens, with_logits))
    values = losses(logits, examples.targets).double() * examples.weights
    return float(values.sum() / examples.weights.double().sum())
