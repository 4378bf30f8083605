"""Draws one token from logits. Randomness is a pure function of (seed, position), so a replay is the same by any path.

The processors follow transformers' `generate` in kind and order: repetition penalty, temperature, top-k, top-p.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from engine.request import Sampling

_COLDEST = 1e-6  # temperature below which the likeliest token has all the mass, and logits would leave float32
_HEAD = 1024  # candidates sorted first; the whole vocabulary is sorted only if these do not decide


def uniform(seed: int, position: int, stream: int = 0) -> float:
    """A number in [0, 1) that depends on its arguments alone (splitmix64, Steele et al., OOPSLA 2014).

    `stream` is 0 for tokens and 1 for the random policy's score.
    """
    mask = (1 << 64) - 1
    z = seed & mask
    for salt in (position, stream):
        z = (z + (salt + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
    return (z >> 11) / (1 << 53)


def sample(
    logits: torch.Tensor, sampling: Sampling, seen: Iterable[int], draw: float, likeliest: int | None = None
) -> int:
    """Chooses the id of the next token from float32 logits [vocabulary], whose highest may be known as `likeliest`.

    Args:
        seen: Token ids already in prompt and text, for the repetition penalty.
        draw: A uniform number in [0, 1); where it falls in the distribution, sorted by probability, is the token. Both
            models share it at a position, so they part only where their distributions do.
    """
    if sampling.repetition_penalty != 1.0:
        logits, likeliest = penalise(logits, sampling.repetition_penalty, seen), None
    if sampling.temperature < _COLDEST or sampling.top_k == 1:
        return int(logits.argmax()) if likeliest is None else likeliest
    logits = logits / sampling.temperature
    kept, ids = logits.topk(min(sampling.top_k, logits.shape[-1])) if sampling.top_k else (logits, None)
    total, top_p = kept.logsumexp(-1), sampling.top_p
    for width in (min(_HEAD, kept.shape[-1]), kept.shape[-1]):
        top, order = kept.topk(width)
        cumulative = (top - total).double().exp().cumsum(-1)
        if cumulative[-1] >= top_p or (top_p == 1.0 and draw < cumulative[-1]):
            break
    # A token stays if the mass before it is below top_p: the smallest set that reaches it, never empty.
    inside = min(int(torch.searchsorted(cumulative, top_p)) + 1, width)
    mass = 1.0 if top_p == 1.0 else float(cumulative[inside - 1])
    chosen = min(int(torch.searchsorted(cumulative[:inside], draw * mass, right=True)), inside - 1)
    index = int(order[chosen])
    return index if ids is None else int(ids[index])


def penalise(logits: torch.Tensor, penalty: float, seen: Iterable[int]) -> torch.Tensor:
    """Repetition penalty (Keskar et al. 2019, CTRL): a copy with seen tokens' logits moved towards unlikely."""
    ids = torch.tensor(sorted(set(seen)), device=logits.device)
    values = logits[ids]
    return logits.index_put((ids,), torch.where(values > 0, values / penalty, values * penalty))
