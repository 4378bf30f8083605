"""A pass of one token per row with nothing in it that depends on a text's length: CUDA records it once, as a graph.

On a GPU the CPU needs longer to launch the hundreds of kernels of such a pass than they take, and a recorded graph is
launched as one. Tokens, rows and positions are in tensors that are filled before each run, and attention looks at all
of the cache up to a round length (`round_end`), what is not there yet masked. Chosen by `CITER_CUDA_GRAPHS`. The pass
was tested on a processor, where nothing is recorded; the recording was not run, since no GPU was at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from engine.model.forward import Trunk
from engine.model.kv_cache import RaggedCache

MOST_ROWS = 8
"""Rows of a pass that is recorded, at most: each number of rows has graphs of its own."""

_SHORTEST = 256  # tokens
_WARM = 3  # runs before recording, in which libraries choose their kernels


def round_end(length: int, capacity: int) -> int:
    """How many tokens of the cache a pass looks at whose longest row has `length`: few different numbers."""
    return min(capacity, max(_SHORTEST, 1 << (length - 1).bit_length()))


class StaticAttention:
    """The `Attention` of a pass over one new token of each row.

    Attributes:
        positions: int64 [rows], in each row's text.
        end: Tokens of the cache that are looked at.
    """

    def __init__(self, cache: RaggedCache, rows: int, end: int) -> None:
        """Prepares passes over so many rows of a cache, which must not grow while this is used."""
        device = cache.keys[0].device
        self._keys, self._values, self.end = list(cache.keys), list(cache.values), end
        self.positions = torch.zeros(rows, dtype=torch.int64, device=device)
        self.rows = torch.zeros(rows, dtype=torch.int64, device=device)
        self._places = torch.arange(end, device=device)
        self._mask = torch.zeros(rows, 1, 1, end, dtype=cache.keys[0].dtype, device=device)

    def begin(self) -> None:
        """Masks what lies behind each row's new token; first in every pass."""
        self._mask.zero_().masked_fill_((self._places > self.positions[:, None])[:, None, None], -math.inf)

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Stores one layer's new keys and values, each [rows, kv_heads, head_dim]."""
        self._keys[layer][self.rows, :, self.positions] = keys
        self._values[layer][self.rows, :, self.positions] = values

    def attend(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """What the tokens take from all they see: queries [rows, heads, head_dim] → [rows, heads · head_dim]."""
        keys, values = (
            blocks[layer][:, :, : self.end].index_select(0, self.rows) for blocks in (self._keys, self._values)
        )
        # The heads that share keys are to them as tokens are: nothing is repeated.
        grouped = queries.view(len(queries), keys.shape[1], -1, keys.shape[3])
        return scaled_dot_product_attention(grouped, keys, values, self._mask).reshape(len(queries), -1)


class StaticStep:
    """Passes of a trunk over one token of each of some rows of a cache; recorded on a GPU, run on a processor."""

    def __init__(self, trunk: Trunk, cache: RaggedCache, rows: int, end: int) -> None:
        self._trunk, self._attention = trunk, StaticAttention(cache, rows, end)
        self._ids = torch.zeros(rows, dtype=torch.int64, device=cache.keys[0].device)
        self._graph: Any = None
        self._hidden = self._tables = None

    def __call__(self, ids: Sequence[int], rows: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Reads a token of each row at its position → hidden states after the final norm [rows, d]."""
        filled = ((self._ids, ids), (self._attention.rows, rows), (self._attention.positions, positions))
        for tensor, values in filled:
            tensor.copy_(torch.tensor(values))
        if not self._ids.is_cuda:
            return self._run()
        if self._graph is None:
            self._record()
        assert self._graph is not None and self._hidden is not None
        self._graph.replay()
        return self._hidden.clone()  # the next run overwrites it

    def _run(self) -> torch.Tensor:
        self._attention.begin()
        return self._trunk(self._ids, self._attention)

    def _record(self) -> None:
        """Records the pass as PyTorch's documentation has it; each of these runs stores the same keys and values."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._tables = self._trunk.rotary_tables  # the graph reads these, also when longer ones have taken their place
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._hidden = self._run()
