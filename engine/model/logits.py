"""How certain a model is, and its likeliest tokens, from its logits, in few passes over the long vocabulary.

The highest logits are found by blocks, since the maximum of a block is a vector operation: the k highest lie in the k
blocks with the highest maxima.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

LOGIT_FEATURES = 8  # width of `logit_features`: five log-probabilities, the margin, the entropy, the log-sum-exp
ENTROPY, LOG_SUM_EXP = 6, 7  # columns of them
ROWS = 8  # looked at together
BLOCK = 128
_TOP = 5
_FEW = 16 * BLOCK  # a vocabulary so short is looked at as a whole


@dataclass(frozen=True, slots=True)
class Certainty:
    """How certain a model is of its token at one position.

    Attributes:
        features: The five highest log-probabilities, the margin between the first two, the entropy in nats, and
            the log-sum-exp.
        likeliest: The highest token, the first of several.
    """

    features: tuple[float, ...]
    likeliest: int


def logit_features(logits: torch.Tensor) -> torch.Tensor:
    """The features of `Certainty` by row: float32 logits [n, vocabulary] → float32 [n, LOGIT_FEATURES]."""
    rows = [each.features for each in certainties(logits)]
    return torch.tensor(rows, dtype=torch.float32, device=logits.device).view(-1, LOGIT_FEATURES)


def certainties(logits: torch.Tensor) -> list[Certainty]:
    """How certain a model is, by float32 logits [n, vocabulary]."""
    return [each for rows in logits.split(ROWS) for each in _certainties(rows)]


def _certainties(logits: torch.Tensor) -> list[Certainty]:
    """Those of a few rows, in passes over what the processor's cache holds."""
    if not len(logits):
        return []
    tops, places = top_k(logits, _TOP)
    shifted = logits - tops[:, :1]  # so that no large numbers are subtracted from each other
    weights = shifted.exp()
    masses = weights.sum(-1).tolist()
    sums = [torch.dot(weights[0], shifted[0]).item()] if len(tops) == 1 else shifted.mul_(weights).sum(-1).tolist()
    found = zip(tops.tolist(), masses, sums, places[:, 0].tolist(), strict=True)
    return [Certainty(_features(top, mass, weighted), best) for top, mass, weighted, best in found]


def _features(top: Sequence[float], mass: float, weighted: float) -> tuple[float, ...]:
    """From the highest logits, the sum of exp(logit − highest), and the sum of the same times its exponent."""
    total = math.log(mass)
    return (*(each - top[0] - total for each in top), top[0] - top[1], total - weighted / mass, total + top[0])


def probability(logits: torch.Tensor, token: int) -> float:
    """A token's share, in [0, 1], by float32 logits [vocabulary]."""
    return min(1.0, math.exp(float(logits[token] - logits.logsumexp(-1))))


def top_k(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k highest of each row of float32 [n, vocabulary], of equal ones the first: values and indices [n, k]."""
    if values.shape[-1] < max(_FEW, k * BLOCK):
        top, places = values.sort(dim=-1, descending=True, stable=True)
        return top[:, :k], places[:, :k]
    rest = -values.shape[-1] % BLOCK
    blocks = torch.nn.functional.pad(values, (0, rest), value=-math.inf).unflatten(-1, (-1, BLOCK))
    best = blocks.amax(-1).topk(k, dim=-1).indices.sort(dim=-1).values[..., None]
    places = (best * BLOCK + torch.arange(BLOCK, device=values.device)).flatten(1)
    top, order = blocks.gather(1, best.expand(-1, -1, BLOCK)).flatten(1).sort(dim=-1, descending=True, stable=True)
    return top[:, :k], places.gather(1, order[:, :k])
