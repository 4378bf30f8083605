"""A KV cache whose rows have lengths of their own.

Rows of a batch lag by different amounts, so one preallocated block per layer holds every row, each with its own length:
new keys go to a row's own next slots, position = slot, and what a token sees follows from the lengths. Rolling a row
back is `truncate`, branching is `fork`. Knows nothing of tokens, roles or routing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PretrainedConfig


class RaggedCache:
    """Keys and values of one model for a fixed number of rows.

    Attributes:
        keys, values: Per layer a tensor [rows, kv_heads, capacity, head_dim].
        lengths: Tokens stored per row.
        capacity: Tokens a row can hold.
    """

    def __init__(
        self, config: PretrainedConfig, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Allocates the cache.

        Args:
            config: The model's configuration (layers, heads).
            rows: Rows of the batch.
            capacity: Tokens per row.
            dtype: Of the keys and values; the model's compute type.
            device: Where the model runs.
        """
        heads = config.num_key_value_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (rows, heads, capacity, head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [_zeros(shape, dtype, device) for _ in layers]
        self.values = [_zeros(shape, dtype, device) for _ in layers]
        self.lengths = [0] * rows
        self.capacity = capacity

    def truncate(self, row: int, length: int) -> None:
        """Rolls a row back to its first `length` tokens; what lies beyond is overwritten later."""
        assert 0 <= length <= self.lengths[row], (length, self.lengths[row])
        self.lengths[row] = length

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        """Makes row `target` a copy of row `source`, or of its first `length` tokens."""
        length = self.lengths[source] if length is None else length
        assert length <= self.lengths[source], (length, self.lengths[source])
        for block in (*self.keys, *self.values):
            block[target, :, :length] = block[source, :, :length]
        self.lengths[target] = length


@dataclass(frozen=True)
class _Run:
    """Rows that attend in one call: they follow each other in the cache and have as many new tokens each.

    Attributes:
        rows: In the cache.
        tokens: Of the pass, row after row.
        chunk: New tokens per row.
        end: The longest row's new length.
        mask: Added to the products [rows, 1, chunk, end], where rows differ or see some of the others' tokens only.
        causal: Nothing was cached before, so a token sees those up to itself.
    """

    rows: slice
    tokens: slice
    chunk: int
    end: int
    mask: torch.Tensor | None
    causal: bool


class Pass:
    """One forward pass over some rows of a `RaggedCache`: where its tokens stand, and what each of them sees.

    Attributes:
        positions: int64 [tokens], position in the row, which is also the slot.
        end: The longest row's new length.
    """

    def __init__(self, cache: RaggedCache, rows: Sequence[int], chunks: Sequence[int]) -> None:
        """Prepares the pass.

        Args:
            cache: Where new keys and values go.
            rows: Rows that take part, each once; their tokens follow each other in this order.
            chunks: New tokens of each of them, at least 1.
        """
        starts = [cache.lengths[row] for row in rows]
        ends = [start + chunk for start, chunk in zip(starts, chunks, strict=True)]
        assert max(ends) <= cache.capacity, (max(ends), cache.capacity)
        self._cache, self.end = cache, max(ends)
        device = cache.keys[0].device
        at = [range(start, end) for start, end in zip(starts, ends, strict=True)]
        self.positions = torch.tensor([position for each in at for position in each], device=device)
        self._row = torch.tensor([row for row, each in zip(rows, at, strict=True) for _ in each], device=device)
        self._single = (rows[0], starts[0], ends[0]) if len(rows) == 1 else None
        self._runs = [self._run(rows, starts, chunks, *bounds) for bounds in _runs(rows, chunks)]

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
        """What the tokens take from all they see: queries [tokens, heads, head_dim] → [tokens, heads · head_dim]."""
        found = [self._attend(run, self._cache.keys[layer], self._cache.values[layer], queries) for run in self._runs]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _attend(self, run: _Run, keys: torch.Tensor, values: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        keys, values = keys[run.rows, :, : run.end], values[run.rows, :, : run.end]
        rows, kv_heads, _, head_dim = keys.shape
        mine = queries[run.tokens]
        if run.chunk == 1:
            # The heads that share keys are to them as tokens are: nothing is repeated.
            grouped = mine.view(rows, kv_heads, -1, head_dim)
            return scaled_dot_product_attention(grouped, keys, values, run.mask).reshape(rows, -1)
        by_head = mine.view(rows, run.chunk, -1, head_dim).transpose(1, 2)
        seen = scaled_dot_product_attention(by_head, keys, values, run.mask, is_causal=run.causal, enable_gqa=True)
        return seen.transpose(1, 2).reshape(rows * run.chunk, -1)

    def _run(self, rows: Sequence[int], starts: Sequence[int], chunks: Sequence[int], first: int, last: int) -> _Run:
        """The run of rows `first` to `last` (exclusive) of the pass."""
        chunk, begins = chunks[first], starts[first:last]
        end, before = max(begins) + chunk, sum(chunks[:first])
        tokens = slice(before, before + chunk * (last - first))
        even = min(begins) == max(begins)
        causal = chunk > 1 and max(begins) == 0
        mask = None
        if not causal and (chunk > 1 or not even):
            positions = self.positions[tokens].view(last - first, chunk, 1)
            hidden = torch.arange(end, device=positions.device) > positions
            kind = self._cache.keys[0].dtype
            mask = torch.zeros(hidden.shape, dtype=kind, device=hidden.device).masked_fill_(hidden, -math.inf)[:, None]
        return _Run(slice(rows[first], rows[first] + last - first), tokens, chunk, end, mask, causal)


def _runs(rows: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bounds of the longest stretches of a pass whose rows follow each other and have chunks of the same length."""
    first = 0
    for n in range(1, len(rows) + 1):
        if n == len(rows) or rows[n] != rows[n - 1] + 1 or chunks[n] != chunks[first]:
            yield first, n
            first = n


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros, not empty: a masked slot still enters the product with weight 0, and 0 × NaN would be NaN.

    On a CPU they come from numpy, which leaves it to the system to map a page when it is first written: a sweep has a
    row for every threshold and uses few of them, while torch would write all of their zeros.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    flat = torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8))
    return flat.view(dtype).view(*shape)
