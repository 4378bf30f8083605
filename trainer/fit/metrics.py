"""What scores are worth against preferences.

Everywhere logits and scores are float [n], preferences 0 or 1 [n], and weights float [n].
"""

from __future__ import annotations

import numpy as np


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
