"""A KV cache whose rows have lengths of their own.

Rows of a batch lag by different amounts, so one preallocated block per layer holds every row, each with its own length:
new keys go to a row's own next slots, position = slot, and the mask is built from the lengths. Rolling a row back is
`truncate`, branching is `fork`. Knows nothing of tokens, roles or routing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import Cache, PretrainedConfig


class RaggedCache:
    """Keys and values of one model for a fixed number of rows.

    Attributes:
        keys, values: Per layer a tensor [rows, kv_heads, capacity + 1, head_dim]; the last slot is scratch, where the
            padding of uneven chunks is written.
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
        shape = (rows, heads, capacity + 1, head_dim)
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


class Pass(Cache):
    """One forward pass over some rows of a `RaggedCache`, in the shape that transformers' attention layers expect.

    Attributes:
        positions: int64 [rows, chunk], the slot and position of each new token.
        mask: bool [rows, 1, chunk, keys]; True = attend. transformers takes a 4-D mask as it is.
    """

    def __init__(self, cache: RaggedCache, rows: Sequence[int], chunks: Sequence[int]) -> None:
        """Prepares the pass.

        Args:
            cache: Where new keys and values go.
            rows: Rows that take part, each once.
            chunks: New tokens of each of them, at least 1.
        """
        super().__init__(layers=[])
        starts = [cache.lengths[row] for row in rows]
        ends = [start + chunk for start, chunk in zip(starts, chunks, strict=True)]
        assert max(ends) <= cache.capacity, (max(ends), cache.capacity)
        self._cache, self._start, self._end = cache, starts[0], max(ends)
        widest = max(chunks)
        even = min(chunks) == widest and min(starts) == max(starts)
        # Rows in order and in step need no gather: their keys are a slice of the block, read in place.
        self._whole = list(rows) == list(range(len(cache.lengths)))
        self._in_step = even and self._whole
        device = cache.keys[0].device
        start = torch.tensor(starts, device=device)[:, None]
        offset = torch.arange(widest, device=device)[None]
        self.positions = start + offset
        slots = torch.arange(self._end, device=device)
        self.mask = (slots[None, None] <= self.positions[:, :, None])[:, None]
        if not self._in_step:
            self._rows = torch.tensor(list(rows), device=device)
            real = offset < torch.tensor(list(chunks), device=device)[:, None]
            self._slots = torch.where(real, self.positions, cache.capacity)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores one layer's new keys and values [rows, kv_heads, chunk, head_dim] and returns all that are visible.

        Returns:
            Keys and values [rows, kv_heads, keys, head_dim], where `keys` is the longest row's new length.
        """
        return (
            self._store(self._cache.keys[layer_idx], key_states),
            self._store(self._cache.values[layer_idx], value_states),
        )

    def _store(self, block: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if self._in_step:
            block[:, :, self._start : self._end] = new
            return block[:, :, : self._end]
        # Index tensors on both sides of a slice: the result's dimensions are [rows, chunk, heads, head_dim].
        block[self._rows[:, None], :, self._slots] = new.transpose(1, 2)
        return block[:, :, : self._end] if self._whole else block[self._rows, :, : self._end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Keys stored before this pass; transformers asks only where positions are missing."""
        return self._start


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros, not empty: a masked slot still enters the product with weight 0, and 0 × NaN would be NaN.

    On a CPU they come from numpy, which leaves it to the system to map a page when it is first written: a sweep has a
    row for every threshold and uses few of them, while torch would write all of their zeros.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    flat = torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8))
    return flat.view(dtype).view(*shape)
