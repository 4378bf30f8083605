"""Prefill without repetition: texts that begin alike read their common beginning once and copy it.

What texts have in common is the system's message, or a reference and the rollouts that leave it at some token. Knows a
model and its cache; knows nothing of rows, roles or routing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from engine.cache import RaggedCache
from engine.models import LanguageModel

SHORTEST = 16
"""Tokens that two texts must have in common before a copy is worth a pass of its own."""


def read_beginnings(model: LanguageModel, cache: RaggedCache, texts: Mapping[int, Sequence[int]]) -> None:
    """Reads what new texts have in common; at least the last token of each is left to be read.

    Longest first, each text takes a copy of the beginning that it shares with one before it.

    Args:
        model: Reads.
        cache: Of the model.
        texts: Token ids by row of the cache. Only rows of which nothing is cached yet are looked at.
    """
    fresh = sorted((row for row in texts if cache.lengths[row] == 0), key=lambda row: -len(texts[row]))
    takers = _takers([texts[row] for row in fresh])
    depths = [0] * len(fresh)
    for donor, taken in takers.items():  # in the order of the donors, so a donor's own depth is known
        for taker, _ in taken:
            depths[taker] = depths[donor] + 1
    for level in sorted({depths[donor] for donor in takers}):
        donors = [donor for donor in takers if depths[donor] == level]
        chunks = [texts[fresh[donor]][cache.lengths[fresh[donor]] : -1] for donor in donors]
        model.feed(cache, [fresh[donor] for donor in donors], chunks)
        for donor in donors:
            for taker, length in takers[donor]:
                cache.fork(fresh[donor], fresh[taker], length)


def _takers(texts: Sequence[Sequence[int]]) -> dict[int, list[tuple[int, int]]]:
    """For each text that others copy from, in order: the later texts that do, and how many tokens they take."""
    takers: dict[int, list[tuple[int, int]]] = defaultdict(list)
    if len(texts) > 1:
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(t) for t in texts], batch_first=True, padding_value=-1)
        for taker in range(1, len(texts)):
            common = (ids[:taker] == ids[taker]).cumprod(1).sum(1)
            donor = int(common.argmax())  # the first of the best, which is the longest
            length = min(int(common[donor]), len(texts[taker]) - 1, len(texts[donor]) - 1)
            if length >= SHORTEST:
                takers[donor].append((taker, length))
    return dict(sorted(takers.items()))
