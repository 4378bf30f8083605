"""Prefix caching: what a model has read of a text is not read again for another that begins alike.

Texts of one prompt at many settings are the same for long, but not at the same time: where the LLM takes drafts back,
some fall behind. A text that comes to where another has been copies its keys and values, and takes the hidden states
that were looked at there (as vLLM and SGLang do by blocks, which keep no hidden states: Kwon et al., SOSP 2023; Zheng
et al., NeurIPS 2024). What is charged does not change: each text pays for what it would read alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

import torch

from engine.model.kv_cache import RaggedCache, Span, prefix_keys
from engine.model.language_model import LENGTHS, LanguageModel

MOST = 2**16
"""Prefixes that are remembered; with the `cpu` pair their hidden states take 5 kB each."""

BEHIND = LENGTHS[-1]
"""New tokens, at most, that a row does without where all is known that is looked at: a draft that is taken back as it
was in another text is never read."""

MOST_LOGITS = 2**9
"""Prefixes whose logits are remembered, of each model; with the `cpu` pair they take 0.6 MB each."""


class PrefixCache:
    """A model and its KV cache, of which `feed` reads only what no row has read before."""

    def __init__(self, model: LanguageModel, cache: RaggedCache) -> None:
        self._model, self._cache = model, cache
        self._rows: dict[int, int] = {}  # by prefix, the row that held it last
        self._hidden: dict[int, torch.Tensor] = {}  # [d], where somebody looked
        self._logits: dict[int, torch.Tensor] = {}  # float32 [vocabulary]

    def feed(self, rows: Sequence[int], chunks: Sequence[Sequence[int]], looks: Sequence[int]) -> list[torch.Tensor]:
        """As `LanguageModel.feed`; of texts with the same new tokens one is read, and the others copy."""
        before = self._cache.prefixes
        keys = {row: prefix_keys(before[row], chunk) for row, chunk in zip(rows, chunks, strict=True)}
        left = {row: list(chunk) for row, chunk in zip(rows, chunks, strict=True)}
        seen = {row: own[len(own) - look :] for (row, own), look in zip(keys.items(), looks, strict=True)}
        for row in [row for row, chunk in left.items() if len(chunk) <= BEHIND and seen[row]]:
            if self._hidden.keys() >= set(seen[row]):
                del left[row]  # it is read with what follows, if that is unknown
        while left:
            self._take_over(left, keys, seen)
            left = {row: chunk for row, chunk in left.items() if chunk}
            reading = self._first_of_each(left, keys)
            self._read({row: left.pop(row) for row in reading}, keys, seen)
        found = [[self._hidden[key] for key in seen[row]] for row in rows]
        _forget(self._rows, MOST)
        _forget(self._hidden, MOST)
        return [torch.stack(own) if own else torch.empty(0, self._model.hidden_size) for own in found]

    def logits(self, ends: Sequence[tuple[int, Sequence[int], int]], hidden: torch.Tensor) -> torch.Tensor:
        """As `LanguageModel.logits`, of hidden states [n, d]; each is asked for once.

        Args:
            ends: Of each its row, the text of that, and after how many tokens of it the state is.
            hidden: As `feed` gave them.
        """
        keys = [self._key(*end) for end in ends]
        new = {key: n for n, key in enumerate(keys) if key not in self._logits}
        if new:
            made = self._model.logits(hidden[[*new.values()]])
            self._logits |= zip(new, made, strict=True)
        found = torch.stack([self._logits[key] for key in keys])
        _forget(self._logits, MOST_LOGITS)
        return found

    def _key(self, row: int, tokens: Sequence[int], end: int) -> int:
        stored = self._cache.prefixes[row]
        return stored[end - 1] if end <= len(stored) else prefix_keys(stored, tokens[len(stored) : end])[-1]

    def _take_over(
        self, left: dict[int, list[int]], keys: Mapping[int, Sequence[int]], seen: Mapping[int, Sequence[int]]
    ) -> None:
        """Copies what other rows hold of the chunks that are left, and takes it off these."""
        spans = []
        for row, chunk in left.items():
            new = keys[row][len(keys[row]) - len(chunk) :]
            unknown = {key for key in seen[row] if key not in self._hidden}
            usable = next((n for n, key in enumerate(new) if key in unknown), len(new))
            start = self._cache.lengths[row]
            for length in range(usable, 0, -1):
                source = self._holder(new[length - 1], start + length - 1)
                if source is not None:
                    spans.append(Span(source, row, start, start + length))
                    left[row] = chunk[length:]
                    break
        if spans:
            self._cache.copy(spans)
            for _, row, start, stop in spans:
                self._rows |= dict.fromkeys(self._cache.prefixes[row][start:stop], row)

    def _holder(self, key: int, place: int) -> int | None:
        """A row that holds a prefix whose last token is at a place: the one that held it last, or any other."""
        last, stored = self._rows.get(key), self._cache.prefixes
        if last is None:
            return None
        rows = chain([last], range(len(stored)))
        return next((row for row in rows if len(stored[row]) > place and stored[row][place] == key), None)

    def _first_of_each(self, left: Mapping[int, Sequence[int]], keys: Mapping[int, Sequence[int]]) -> list[int]:
        """The rows to be read now: those that begin as another does wait for what they can copy of it."""
        claimed: set[int] = set()
        first = []
        for row, chunk in left.items():
            new = keys[row][len(keys[row]) - len(chunk) :]
            if new[0] not in claimed:
                first.append(row)
                claimed |= set(new)
        return first

    def _read(
        self,
        chunks: Mapping[int, Sequence[int]],
        keys: Mapping[int, Sequence[int]],
        seen: Mapping[int, Sequence[int]],
    ) -> None:
        if not chunks:
            return
        looks = [min(len(seen[row]), len(chunk)) for row, chunk in chunks.items()]
        states = self._model.feed(self._cache, list(chunks), list(chunks.values()), looks)
        for (row, chunk), look, hidden in zip(chunks.items(), looks, states, strict=True):
            self._rows |= dict.fromkeys(keys[row][len(keys[row]) - len(chunk) :], row)
            own = hidden if look == len(chunk) else hidden.clone()  # else all of a prompt's states would stay
            self._hidden |= dict(zip(seen[row][len(seen[row]) - look :], own, strict=True))


def _forget(known: dict[int, Any], most: int) -> None:
    """Drops what was noted first."""
    for key in list(islice(known, max(0, len(known) - most))):
        del known[key]
