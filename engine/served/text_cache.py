"""The texts that a server reads, and which question about each is on its way.

The server has the keys and values; a row here is only its text, so that rolling back and copying cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

Asked = tuple[tuple[int, ...], int]
"""A text, and after how many of its last tokens the answer is wanted."""


class TextCache:
    """The texts of a number of rows, which may grow; used as `engine.model.kv_cache.RaggedCache` is.

    Attributes:
        lengths: Tokens per row that the server was asked about, or will read with the next question.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.lengths = [0] * rows
        self.capacity = capacity
        self._texts: list[list[int]] = [[] for _ in range(rows)]
        self._pending: dict[int, tuple[Asked, Future[Any]]] = {}

    def grow(self, rows: int, capacity: int) -> None:
        """Makes room for more rows."""
        self._texts += [[] for _ in range(rows - len(self.lengths))]
        self.lengths += [0] * (rows - len(self.lengths))
        self.capacity = capacity

    def clear(self, row: int) -> None:
        """Empties a row after a failure; its question is forgotten as well."""
        self.leave(row)
        self.truncate(row, 0)

    def leave(self, row: int) -> None:
        """Gives the row's question up; the next one is sent anew, also where this one has failed."""
        _, future = self._pending.pop(row, (None, None))
        if future is not None:
            future.cancel()

    def truncate(self, row: int, length: int) -> None:
        """Rolls a row back to its first `length` tokens; a question on its way may still be the right one."""
        assert 0 <= length <= self.lengths[row], (length, self.lengths[row])
        self.lengths[row] = length

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        """Makes row `target` a copy of row `source`, or of its first `length` tokens."""
        length = self.lengths[source] if length is None else length
        assert length <= self.lengths[source], (length, self.lengths[source])
        self._texts[target] = self._texts[source][:length]
        self.lengths[target] = length

    def text(self, row: int, chunk: Sequence[int]) -> list[int]:
        """A row's text with new tokens behind it."""
        return [*self._texts[row][: self.lengths[row]], *chunk]

    def add(self, row: int, chunk: Sequence[int]) -> None:
        """The row's text has grown."""
        self._texts[row] = self.text(row, chunk)
        self.lengths[row] = len(self._texts[row])

    def pending(self, row: int, asked: Asked) -> Future[Any] | None:
        """The answer that this question will have, if it is on its way; another question of the row is given up."""
        known, future = self._pending.get(row, (asked, None))
        if future is not None and known != asked:
            self.leave(row)
            return None
        return future

    def wait_for(self, row: int, asked: Asked, future: Future[Any]) -> None:
        """A question is on its way."""
        self._pending[row] = asked, future

    def settle(self, row: int) -> None:
        """The row's question was answered, or its answer is wanted no more."""
        self._pending.pop(row, None)
