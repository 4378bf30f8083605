"""How certain a model is, and its likeliest tokens, from its logits, in a fraction of the time of plain operators.

A vocabulary is long, and after a forward pass neither logits nor operators are in the processor's caches. So every
pass over the vocabulary counts, and every operator, however small. On a CPU torch makes the passes, and numpy and
Python do what is small. The highest logits are found by blocks, since the maximum of a block is a vector operation: the
k highest lie in the k blocks with the highest maxima.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

LOGIT_FEATURES = 8  # width of `logit_features`: five log-probabilities, the margin, the entropy, the log-sum-exp
ENTROPY, LOG_SUM_EXP = 6, 7  # columns of them
ROWS = 8  # looked at together
BLOCK = 128
_TOP = 5
_FEW = 16 * BLOCK  # a vocabulary so short is looked at as a whole
_IN_BLOCK = np.arange(BLOCK)


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
    tops, likeliest = _highest(logits)
    highest = logits.new_tensor([[values[0]] for values in tops]) if len(tops) > 1 else tops[0][0]
    shifted = logits - highest  # so that no large numbers are subtracted from each other
    weights = shifted.exp()
    masses = weights.sum(-1).tolist()
    sums = [torch.dot(weights[0], shifted[0]).item()] if len(tops) == 1 else shifted.mul_(weights).sum(-1).tolist()
    found = zip(tops, masses, sums, likeliest, strict=True)
    return [Certainty(_features(top, mass, weighted), best) for top, mass, weighted, best in found]


def _highest(logits: torch.Tensor) -> tuple[list[list[float]], list[int]]:
    """Per row of [n, vocabulary] the five highest logits in order, and the index of the first."""
    if _is_short(logits, _TOP):
        return logits.topk(_TOP, dim=-1).values.tolist(), logits.argmax(-1).tolist()
    pairs = list(zip(logits.numpy(), _maxima(logits), strict=True))
    return [_top_of(*pair, _TOP)[0] for pair in pairs], [_first_of_highest(*pair) for pair in pairs]


def _features(top: Sequence[float], mass: float, weighted: float) -> tuple[float, ...]:
    """From the highest logits, the sum of exp(logit − highest), and the sum of the same times its exponent."""
    total = math.log(mass)
    return (*(each - top[0] - total for each in top), top[0] - top[1], total - weighted / mass, total + top[0])


def probability(logits: torch.Tensor, token: int) -> float:
    """A token's share, in [0, 1], by float32 logits [vocabulary]."""
    return min(1.0, math.exp(float(logits[token] - logits.logsumexp(-1))))


def top_k(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k highest of each row of float32 [n, vocabulary], in order: values [n, k] and int64 indices [n, k]."""
    if _is_short(values, k):
        top, places = values.topk(k, dim=-1)
        return top, places
    found = [_top_of(*pair, k) for pair in zip(values.numpy(), _maxima(values), strict=True)]
    return torch.tensor([top for top, _ in found]), torch.tensor([places for _, places in found])


def argmax(values: torch.Tensor) -> int:
    """Index of the highest of float32 [vocabulary], the first of several: on a CPU, as `torch.argmax` has it."""
    if _is_short(values, 1):
        return int(values.argmax())
    return _first_of_highest(values.numpy(), _maxima(values[None])[0])


def _is_short(values: torch.Tensor, k: int) -> bool:
    """Whether plain operators are as good: of few values, and on a GPU."""
    return not values.is_cpu or values.shape[-1] < max(_FEW, k * BLOCK)


def _maxima(values: torch.Tensor) -> np.ndarray:
    """The maximum of each block of each row, [n, blocks]; the last block may be shorter."""
    width = values.shape[-1] // BLOCK * BLOCK
    whole = values[:, :width].unflatten(-1, (-1, BLOCK)).amax(-1).numpy()
    if width == values.shape[-1]:
        return whole
    return np.concatenate([whole, values.numpy()[:, width:].max(-1, keepdims=True)], axis=-1)


def _top_of(row: np.ndarray, maxima: np.ndarray, k: int) -> tuple[list[float], list[int]]:
    """The k highest of a row [vocabulary] with these maxima of its blocks [blocks], and their indices."""
    blocks = np.argpartition(maxima, -k)[-k:]
    places = (blocks[:, None] * BLOCK + _IN_BLOCK).ravel()
    places = places[places < len(row)]
    best = places[np.argpartition(row[places], -k)[-k:]].tolist()
    found = sorted((-value, place) for value, place in zip(row[best].tolist(), best, strict=True))
    return [-value for value, _ in found], [place for _, place in found]


def _first_of_highest(row: np.ndarray, maxima: np.ndarray) -> int:
    start = int(maxima.argmax()) * BLOCK
    return start + int(row[start : start + BLOCK].argmax())
