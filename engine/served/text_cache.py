"""The texts that a server reads, and the question about each that is on its way. The server has the keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from engine.model.kv_cache import Span

Asked = tuple[tuple[int, ...], int]
"""A text, and after how many of its last tokens the answer is wanted."""


class TextCache:
    """The texts of some rows, with the interface of `engine.model.kv_cache.RaggedCache`."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.lengths = [0] * rows
        self.capacity = capacity
        self._texts: list[list[int]] = [[] for _ in range(rows)]
        self._pending: dict[int, tuple[Asked, Future[Any]]] = {}

    def grow(self, rows: int, capacity: int) -> None:
        self._texts += [[] for _ in range(rows - len(self.lengths))]
        self.lengths += [0] * (rows - len(self.lengths))
        self.capacity = capacity

    def clear(self, row: int) -> None:
        """Empties a row after a failure; its question is forgotten as well."""
        self.leave(row)
        self.truncate(row, 0)

    def leave(self, row: int) -> None:
        """Forgets the row's question, and cancels it if it is on its way; the next one is sent anew."""
        _, future = self._pending.pop(row, (None, None))
        if future is not None:
            future.cancel()

    def truncate(self, row: int, length: int) -> None:
        """Rolls a row back to its first `length` tokens; a question on its way may still be the right one."""
        assert 0 <= length <= self.lengths[row], (length, self.lengths[row])
        self.lengths[row] = length

    def copy(self, spans: Sequence[Span]) -> None:
        """Adds to each target's text what a source's has at the same places."""
        for source, target, start, stop in spans:
            self._texts[target] = [*self._texts[target][:start], *self._texts[source][start:stop]]
            self.lengths[target] = stop

    def text(self, row: int, chunk: Sequence[int]) -> list[int]:
        return [*self._texts[row][: self.lengths[row]], *chunk]

    def add(self, row: int, chunk: Sequence[int]) -> None:
        self._texts[row] = self.text(row, chunk)
        self.lengths[row] = len(self._texts[row])

    def ask(self, row: int, asked: Asked, send: Callable[[tuple[int, ...], int], Future[Any]]) -> Future[Any]:
        """The answer to a question about a row, sent unless it is on its way; another about the row is given up."""
        known, future = self._pending.get(row, (None, None))
        if future is None or known != asked:
            self.leave(row)
            future = send(*asked)
            self._pending[row] = asked, future
        return future
