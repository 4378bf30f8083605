"""The rows of the scheduler's decoding: whose they are, who takes part in a step, and what rests until it is needed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.batch.handle import Handle
from engine.decoding import Decoding
from engine.events import TokenEvent
from engine.pair import Pair

Failed = list[tuple[Handle, Exception]]

_BESIDE = 4  # slots of batches in a step beside interactive texts
_AUDITED, _AUDITED_BESIDE = 64, 32
"""Tokens of an audited text that are read in a step, and in one for which others wait. At each of them both models'
`lm_head` is applied: 32 take the `cpu` pair half a second on two threads of an EPYC, and fewer at once take longer
in all."""


class HeldRows:
    """At most so many rows.

    Attributes:
        running: The texts that have a row.
        resting: Those that have ended and still have one, the oldest first: what the caches hold of them serves texts
            that go on from them or begin alike, until the row is needed.
    """

    def __init__(self, pair: Pair, bound: int) -> None:
        self.decoding: Decoding = pair.open(bound)
        self._bound, self._context = bound, pair.context
        self.running: list[Handle] = []
        self.resting: list[Handle] = []

    def enter(self, handles: Sequence[Handle]) -> Failed:
        """Gives rows to texts that are among the running ones; those that begin enter together, so that they share."""
        begin = [handle for handle in handles if not (handle.row or handle.after or handle.order.events)]
        others = sorted((handle for handle in handles if handle not in begin), key=lambda handle: handle.after is None)
        failed: Failed = []
        for group in (*([handle] for handle in others), begin):  # rows that rest are taken over before they are freed
            try:
                self._enter(group)
            except Exception as error:
                if len(group) == 1:
                    failed.append((group[0], error))
                else:
                    for handle in group:
                        failed += self.enter([handle])
        return failed

    def leave(self, handle: Handle, rest: bool = False, clear: bool = False) -> None:
        """Takes a text's row away, or lets it rest; see `Decoding.remove` for `clear`.

        What the caches hold of a watched text that is taken away stays until its slot is used, unless it is forgotten.
        """
        if handle in self.running:
            self.running.remove(handle)
        if rest and handle.number is not None and not handle.forgotten:
            self.resting.append(handle)
        elif handle.number is not None:
            self.decoding.remove(handle.number, clear, keep=handle.interactive and not handle.forgotten)
            handle.number = None

    def forget(self, handle: Handle) -> None:
        """Frees the row of a text that rests."""
        self.resting.remove(handle)
        self.leave(handle)

    def chosen(self) -> list[Handle]:
        """Who takes part in a step: interactive texts, and of others beside them those of a few slots."""
        watched = [handle for handle in self.running if handle.interactive]
        others = [handle for handle in self.running if not handle.interactive]
        if watched:
            few = list(dict.fromkeys(handle.slot for handle in others))[:_BESIDE]
            others = [handle for handle in others if handle.slot in few]
        return watched + others

    def step(self, handles: Sequence[Handle], reading: int) -> tuple[list[TokenEvent], Failed]:
        """Steps rows, and reads a piece of the first text of which both models still have to read what there is."""
        unread = [handle for handle in handles if handle.unread]
        writing = [handle for handle in handles if not handle.unread]
        piece = _AUDITED_BESIDE if writing else _AUDITED
        failed = [each for handle in unread[:1] for each in self._reveal(handle, piece)]
        events, more = self._write(writing, reading) if writing else ([], [])
        return events, failed + more

    def _reveal(self, handle: Handle, piece: int) -> Failed:
        assert handle.number is not None
        try:
            found, whole = self.decoding.reveal(handle.number, piece)
        except Exception as error:
            return [(handle, error)]
        handle.revealed += found
        handle.unread = not whole
        return []

    def _write(self, handles: Sequence[Handle], reading: int) -> tuple[list[TokenEvent], Failed]:
        """Steps rows; where that fails, each half of them apart, until one that fails is alone."""
        for handle in handles:
            if handle.row is not None:
                handle.row.setting = handle.setting
        try:
            return self.decoding.step([h.number for h in handles if h.number is not None], reading), []
        except Exception as error:
            if len(handles) == 1:
                return [], [(handles[0], error)]
        middle = len(handles) // 2
        halves = [self._write(half, reading) for half in (handles[:middle], handles[middle:])]
        return [event for events, _ in halves for event in events], [each for _, failed in halves for each in failed]

    def _enter(self, group: Sequence[Handle]) -> None:
        """All begin a text, or there is one."""
        if not group:
            return
        first = group[0]
        if first.after is None or not self._take_over(first, first.after):
            while len(self.resting) + len(self.running) > self._bound:
                self.forget(self.resting[0])
            known = len(first.order.prompt) - 1 if first.unread else None
            if first.row is not None:
                numbers = self.decoding.enter([first.row], known)
            else:
                orders = [handle.order for handle in group]
                numbers = self.decoding.add(
                    [order.request for order in orders],
                    [order.policy for order in orders],
                    [order.prompt for order in orders],
                    [order.events for order in orders],
                    known,
                )
            for handle, number in zip(group, numbers, strict=True):
                handle.number = number
        for handle in group:
            assert handle.number is not None
            handle.after = None  # the older text need not be held on to
            if handle.unread:
                handle.revealed = []  # read from the beginning, also after it was away
            handle.row, handle.since = self.decoding.rows[handle.number], time.monotonic()

    def _take_over(self, handle: Handle, origin: Handle) -> bool:
        """Goes on in the row of a text that rests, if it does, has the same prompt, and may be as long."""
        order, number = handle.order, origin.number
        if origin not in self.resting or number is None:
            return False
        row = self.decoding.rows[number]
        if row.tokens[: row.prompt_tokens] != order.prompt:
            return False
        limit = min(order.request.max_new_tokens, self._context - row.prompt_tokens)
        if limit > row.limit:  # the caches have room for the older text only
            return False
        self.resting.remove(origin)
        origin.row, origin.number, handle.number = row.copy(), None, number
        row.policy, row.limit = order.policy, limit
        self.decoding.resume(number, order.request, order.events)
        return True
