"""What scores are worth against preferences: how well they rank, and whether 0.9 means nine in ten.

Everywhere logits and scores are float [n], preferences 0 or 1 [n], and weights float [n].
"""

from __future__ import annotations

import numpy as np

BINS = 10


def calibration_error(scores: np.ndarray, preferences: np.ndarray, weights: np.ndarray) -> float:
    """ECE: the mean distance of score and observed share over bins of equal weight (Guo et al., 2017).

    Most tokens score above 0.9, and bins of equal width would put those into one bin. Tokens of the same score share
    the bin that the middle of their weight falls into.
    """
    _, inverse = np.unique(scores, return_inverse=True)
    mass = np.bincount(inverse, weights)
    bins = np.minimum(((np.cumsum(mass) - mass / 2) / mass.sum() * BINS).astype(int), BINS - 1)[inverse]
    gaps = np.bincount(bins, weights * (np.asarray(scores, dtype=np.float64) - preferences))
    return float(np.abs(gaps).sum() / np.sum(weights))


def auc(scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a token with preference 1 scores above one with 0; ties count half."""
    _, inverse = np.unique(scores, return_inverse=True)
    slm, llm = (np.bincount(inverse, weights * (wanted == value), inverse.max() + 1) for value in (1, 0))
    return float((slm * (np.cumsum(llm) - llm / 2)).sum() / (slm.sum() * llm.sum()))


def best_threshold(scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """The threshold, in hundredths, that sends most LLM-preferred tokens to the LLM for the fewest SLM-preferred ones.

    Youden's J, the difference of the two shares, is largest there. A person may start turning the dial there; answers
    have to be measured before it is an operating point.
    """
    slm, grid = wanted == 1, np.arange(1, 100) / 100
    below = [scores < threshold for threshold in grid]
    gains = [np.average(b[~slm], weights=weights[~slm]) - np.average(b[slm], weights=weights[slm]) for b in below]
    return float(grid[int(np.argmax(gains))])
