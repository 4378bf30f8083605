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


@dataclass(frozen=True)
class Bin:
    """Tokens of alike score: their share of the weight, their mean score, and the share that prefers the SLM."""

    tokens: int
    share: float
    score: float
    observed: float


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


def reliability(scores: np.ndarray, preferences: np.ndarray, weights: np.ndarray | None = None) -> list[Bin]:
    """The reliability table: observed share against mean score, in bins of equal weight, by ascending score.

    Of equal weight and not of equal width, because most tokens score above 0.9: equal widths would put those into one
    bin, where all useful thresholds are, and leave the others to a handful of tokens each. Tokens of the same score are
    never parted, so there may be fewer bins.
    """
    scores = np.asarray(scores, dtype=np.float64)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    _, inverse = np.unique(scores, return_inverse=True)
    mass = np.bincount(inverse, weights)
    # A score belongs to the bin that the middle of its mass falls into.
    of_value = np.minimum(((np.cumsum(mass) - mass / 2) / mass.sum() * BINS).astype(int), BINS - 1)
    table = []
    for number in np.unique(of_value):
        own = of_value[inverse] == number
        mean_score, observed = (float(np.average(x[own], weights=weights[own])) for x in (scores, preferences))
        table.append(Bin(int(own.sum()), float(weights[own].sum() / weights.sum()), mean_score, observed))
    return table


def calibration_error(table: list[Bin]) -> float:
    """ECE: the mean distance of score and observed share, each bin by its share of the tokens (Guo et al., 2017)."""
    return float(sum(each.share * abs(each.score - each.observed) for each in table))


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
    """Slope and bias of least cross-entropy, by Newton's method in float64 on a convex function of two numbers.

    The targets are Platt's, a little inside 0 and 1: where the preferences can be told apart without a mistake, the
    slope would else grow without end.
    """
    z = np.stack([np.asarray(logits, dtype=np.float64), np.ones(len(logits))], axis=1)
    weights = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    ones = float((preferences == 1).sum())
    zeros = len(preferences) - ones
    targets = np.where(preferences == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    line = np.array([1.0, 0.0])
    loss = cross_entropy(z @ line, targets, weights)
    for _ in range(100):
        scores = 1 / (1 + np.exp(-np.clip(z @ line, -700, 700)))
        gradient = z.T @ (weights * (scores - targets))
        curvature = (z * (weights * scores * (1 - scores))[:, None]).T @ z + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (new := cross_entropy(z @ (line - step), targets, weights)) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        if new >= loss:
            break
        line, loss = line - step, new
    return float(line[0]), float(line[1])
