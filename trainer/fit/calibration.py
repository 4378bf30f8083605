"""What scores are worth against preferences: how well they rank, whether 0.9 means nine in ten, and how to mend that.

Throughout, logits and scores are float [n], preferences 0 or 1 [n], and weights float [n]; None counts all alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from engine.router import RouterNetwork

FOLDS = 5
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Logits become slope × logit + bias: temperature scaling with a bias (Platt, 1999; temperature = 1 / slope).

    Attributes:
        slope, bias: As fitted on all stopping tokens.
        loss_before: Cross-entropy there, as it was.
        loss_after: The same with slope and bias from other questions (cross-validated): on their own questions two
            free numbers could only ever improve it.
    """

    slope: float
    bias: float
    loss_before: float
    loss_after: float

    @property
    def kept(self) -> bool:
        """Whether it helps; a slope that is not positive would turn the ranking round and is never kept."""
        return self.slope > 0 and self.loss_after < self.loss_before


def calibrate(
    logits: np.ndarray, preferences: np.ndarray, weights: np.ndarray, questions: np.ndarray
) -> Calibration | None:
    """Fits slope and bias, and measures them on questions they were not fitted on; None with fewer than two questions.

    The folds are cut between questions (ids [n]), because a question's tokens are alike.
    """
    names = {name: n % FOLDS for n, name in enumerate(sorted(set(questions)))}
    if len(names) < 2:
        return None
    fold = np.array([names[name] for name in questions])
    calibrated = np.empty(len(logits))
    for number in range(min(FOLDS, len(names))):
        own, others = fold == number, fold != number
        slope, bias = _platt(logits[others], preferences[others], weights[others])
        calibrated[own] = slope * logits[own] + bias
    slope, bias = _platt(logits, preferences, weights)
    before, after = (cross_entropy(each, preferences, weights) for each in (logits, calibrated))
    return Calibration(slope, bias, before, after)


@torch.no_grad()
def fold_into(network: RouterNetwork, slope: float, bias: float) -> None:
    """Makes a network's logits slope × logit + bias by its last weights alone, so its file stays as it is."""
    last = network.layers[-1]
    assert isinstance(last, nn.Linear)
    for part in (last, network.skip) if network.skip is not None else (last,):
        part.weight.mul_(slope)
        part.bias.mul_(slope)
    last.bias.add_(bias)


def cross_entropy(logits: np.ndarray, preferences: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean cross-entropy in nats, in float64."""
    z = np.asarray(logits, dtype=np.float64)
    return float(np.average(np.logaddexp(0, z) - preferences * z, weights=weights))


def calibration_error(scores: np.ndarray, preferences: np.ndarray, weights: np.ndarray | None = None) -> float:
    """ECE: the mean distance of score and observed share over bins of equal weight (Guo et al., 2017).

    Most tokens score above 0.9, and bins of equal width would put those into one bin. Tokens of the same score share a
    bin: that which the middle of their weight falls into.
    """
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    _, inverse = np.unique(scores, return_inverse=True)
    mass = np.bincount(inverse, weights)
    bins = np.minimum(((np.cumsum(mass) - mass / 2) / mass.sum() * BINS).astype(int), BINS - 1)[inverse]
    gaps = np.bincount(bins, weights * (np.asarray(scores, dtype=np.float64) - preferences))
    return float(np.abs(gaps).sum() / weights.sum())


def auc(scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the chance that a token with preference 1 scores above one with 0; ties count half."""
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    _, inverse = np.unique(scores, return_inverse=True)
    slm, llm = (np.bincount(inverse, weights * (wanted == value), inverse.max() + 1) for value in (1, 0))
    return float((slm * (np.cumsum(llm) - llm / 2)).sum() / (slm.sum() * llm.sum()))


def best_threshold(scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The threshold, in hundredths, that sends most LLM-preferred tokens to the LLM for the fewest SLM-preferred ones.

    Youden's J, the difference of the two shares, is largest there. It is where a person may start turning the dial, not
    an operating point: what it is worth in answers has to be measured in answers.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    slm = wanted == 1
    grid = np.arange(1, 100) / 100
    gains = [
        np.average(scores[~slm] < t, weights=weights[~slm]) - np.average(scores[slm] < t, weights=weights[slm])
        for t in grid
    ]
    return float(grid[int(np.argmax(gains))])


def _platt(logits: np.ndarray, preferences: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope and bias of least cross-entropy, by L-BFGS in float64 on a convex function of two numbers.

    The targets are Platt's, a little inside 0 and 1: where the preferences can be told apart without a mistake, the
    slope would else grow without end.
    """
    ones = float((preferences == 1).sum())
    zeros = len(preferences) - ones
    targets = torch.from_numpy(np.where(preferences == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2)))
    z = torch.from_numpy(np.asarray(logits, dtype=np.float64))
    shares = torch.from_numpy(np.asarray(weights, dtype=np.float64) / np.sum(weights))
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(line[0] * z + line[1], targets, shares, reduction="sum")
        value.backward()
        return value

    optimiser.step(loss)
    slope, bias = line.detach().tolist()
    return slope, bias
