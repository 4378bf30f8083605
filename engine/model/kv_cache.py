"""A KV cache whose rows have lengths of their own: new keys go behind a row's last ones, at their place in the text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

PLACES = 32
"""Cache lengths are padded to a multiple of this, so that a token's attention sums in the same order in every batch."""


def head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


class RaggedCache:
    """Keys and values of one model for a number of rows, which may grow.

    Attributes:
        keys, values: Per layer a tensor [rows, kv_heads, capacity or some more, head_dim].
        lengths: Tokens stored per row, at most `capacity`.
    """

    def __init__(self, config: Any, rows: int, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (rows, config.num_key_value_heads, _whole(capacity), head_dim(config))
        layers = range(config.num_hidden_layers)
        self.keys = [_zeros(shape, dtype, device) for _ in layers]
        self.values = [_zeros(shape, dtype, device) for _ in layers]
        self.lengths = [0] * rows
        self.capacity = capacity

    def grow(self, rows: int, capacity: int) -> None:
        """Makes it a cache of so many rows of so many tokens, neither fewer than now; what is stored stays."""
        assert rows >= len(self.lengths) and capacity >= self.capacity, (rows, capacity)
        for blocks in (self.keys, self.values):
            for layer, old in enumerate(blocks):  # one after the other: never is all of it in memory twice
                new = _zeros((rows, old.shape[1], _whole(capacity), old.shape[3]), old.dtype, old.device)
                for row, length in enumerate(self.lengths):
                    new[row, :, :length] = old[row, :, :length]
                blocks[layer] = new
        self.lengths += [0] * (rows - len(self.lengths))
        self.capacity = capacity

    def clear(self, row: int) -> None:
        """Empties a row and zeroes it: values that are no numbers would spoil the next text there."""
        for block in (*self.keys, *self.values):
            block[row] = 0
        self.lengths[row] = 0

    def leave(self, row: int) -> None:
        """No-op: only a served cache has requests in flight."""

    def truncate(self, row: int, length: int) -> None:
        """Rolls a row back to its first `length` tokens; what lies beyond is overwritten later."""
        assert 0 <= length <= self.lengths[row], (length, self.lengths[row])
        self.lengths[row] = length

    def copy(self, spans: Sequence[Span]) -> None:
        """Stores behind each target's last token what a source holds at the same places."""
        for source, target, start, stop in spans:
            assert self.lengths[target] == start and stop <= self.lengths[source], (source, target, start, stop)
            for block in (*self.keys, *self.values):
                block[target, :, start:stop] = block[source, :, start:stop]
        for span in spans:
            self.lengths[span.target] = span.stop


class Span(NamedTuple):
    """The tokens from `start` to before `stop` that `target`, which ends at `start`, copies from `source`."""

    source: int
    target: int
    start: int
    stop: int


class RaggedAttention:
    """The attention of a pass over some rows of a `RaggedCache`, with any number of new tokens each.

    Attributes:
        positions: int64 [tokens]; where each new token stands in its row's text and in the row's part of the cache.
        end: The longest row's new length.
    """

    def __init__(
        self, cache: RaggedCache, rows: Sequence[int], chunks: Sequence[int], together: Sequence[range] | None = None
    ) -> None:
        """Prepares a pass over so many new tokens (`chunks`, at least 1) of each of these rows, in this order.

        `together` says per row which of its new tokens, numbered from 0, attend in one call. Each of the others attends
        as if it were read alone, to the bit. None: all attend in one call, with other rows where they can.
        """
        starts = [cache.lengths[row] for row in rows]
        spans = [range(start, start + chunk) for start, chunk in zip(starts, chunks, strict=True)]
        self._cache, self.end = cache, max(span.stop for span in spans)
        assert self.end <= cache.capacity, (self.end, cache.capacity)
        device = cache.keys[0].device
        self.positions = torch.tensor([position for span in spans for position in span], device=device)
        self._row = torch.tensor([row for row, span in zip(rows, spans, strict=True) for _ in span], device=device)
        self._single = (rows[0], spans[0].start, spans[0].stop) if len(rows) == 1 else None
        self._groups: list[_Group] = []
        if together is not None:
            self._group_alone(rows, spans, together)
            return
        # Stretches of rows that follow each other and have chunks of one length.
        at = 0
        for (_, chunk), stretch in groupby(range(len(rows)), lambda n: (rows[n] - n, chunks[n])):
            members = [*stretch]
            lengths, row = [starts[n] for n in members], rows[members[0]]
            most, after = max(lengths), at + chunk * len(members)
            masked = most > 0 and (chunk > 1 or min(lengths) < most)
            self._group(slice(row, row + len(members)), slice(at, after), chunk, most + chunk, masked)
            at = after

    def _group_alone(self, rows: Sequence[int], spans: Sequence[range], together: Sequence[range]) -> None:
        at = 0
        places: list[tuple[int, int, int]] = []  # of each token alone: index in the pass, row, number of places
        for row, span, several in zip(rows, spans, together, strict=True):
            if several:
                start, chunk = span[several.start], len(several)
                tokens = slice(at + several.start, at + several.stop)
                self._group(slice(row, row + 1), tokens, chunk, start + chunk, start > 0 and chunk > 1)
            places += [(at + n, row, _whole(place + 1)) for n, place in enumerate(span) if n not in several]
            at += len(span)
        # A group has tokens of one row, or one token of each of neighbouring rows, all with the same number of places.
        # The places after a token are masked. So each sum has as many numbers, in the same order, as when the token is
        # read alone.
        for _, stretch in groupby(places, lambda place: (place[1] - place[0] * (len(rows) == at), place[2])):
            (first, row, end), *others = stretch
            last_row = others[-1][1] if others else row
            self._group(slice(row, last_row + 1), slice(first, first + len(others) + 1), 1, end, masked=True)

    def _group(self, rows: slice, tokens: slice, chunk: int, end: int, masked: bool) -> None:
        mask = None
        if masked:
            hidden = torch.arange(end, device=self.positions.device) > self.positions[tokens].view(-1, chunk, 1)
            mask = torch.zeros(hidden.shape, dtype=self._cache.keys[0].dtype, device=hidden.device)
            mask = mask.masked_fill_(hidden, -math.inf)[:, None]
        self._groups.append(_Group(rows, tokens, chunk, end, mask))

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Stores one layer's new keys and values, each [tokens, kv_heads, head_dim]."""
        for block, new in ((self._cache.keys[layer], keys), (self._cache.values[layer], values)):
            if self._single:
                row, start, end = self._single
                block[row, :, start:end] = new.transpose(0, 1)
            else:
                # Index tensors on both sides of a slice: the result's dimensions are [tokens, kv_heads, head_dim].
                block[self._row, :, self.positions] = new

    def attend(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """Attention over all that the tokens see: queries [tokens, heads, head_dim] → [tokens, heads · head_dim]."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        if len(self._groups) == 1:
            return self._groups[0].attend(queries, keys, values)
        taken = queries.new_empty(len(queries), queries.shape[1] * queries.shape[2])
        for group in self._groups:
            taken[group.tokens] = group.attend(queries[group.tokens], keys, values)
        return taken


class _Group(NamedTuple):
    """Tokens that attend in one call: `chunk` of each of some rows, or with `chunk` 1 any number of one row.

    They attend to the cache's first `end` places. The mask [tokens / chunk, 1, chunk, end] is added to the products.
    Without a mask, each token attends up to itself if `chunk` is above 1, and to all places if `chunk` is 1.
    """

    rows: slice
    tokens: slice
    chunk: int
    end: int
    mask: torch.Tensor | None

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        keys, values = keys[self.rows, :, : self.end], values[self.rows, :, : self.end]
        count, width = len(queries), keys.shape[-1]
        if self.chunk == 1:
            if len(keys) < count:
                keys, values = keys.expand(count, -1, -1, -1), values.expand(count, -1, -1, -1)
            # Query heads that share keys are passed in the place of tokens, so that the keys need not be repeated.
            grouped = queries.view(count, keys.shape[1], -1, width)
            return scaled_dot_product_attention(grouped, keys, values, self.mask).reshape(count, -1)
        by_head, causal = queries.view(len(keys), self.chunk, -1, width).transpose(1, 2), self.mask is None
        seen = scaled_dot_product_attention(by_head, keys, values, self.mask, is_causal=causal, enable_gqa=True)
        return seen.transpose(1, 2).reshape(count, -1)


def _whole(length: int) -> int:
    return -(-length // PLACES) * PLACES


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros, since a masked position enters the product with weight 0, and 0 × NaN would be NaN.

    On a CPU they come from numpy, where the system maps a page when it is first written; torch would write them all.
    """
    if device.type != "cpu" or not math.prod(shape):
        return torch.zeros(shape, dtype=dtype, device=device)
    flat = torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8))
    return flat.view(dtype).view(*shape)
