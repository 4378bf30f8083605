"""What a caller holds of texts that the scheduler writes: events as they come, settings, and a place in line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from engine.batch.rows import NOWHERE, Row
from engine.errors import log_fault
from engine.events import Revealed, TokenEvent, in_row
from engine.policy import Policy
from engine.request import Request
from engine.setting import Setting

State = Literal["waiting", "running", "done", "stopped", "failed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A text that is asked for, checked.

    Attributes:
        prompt: Token ids.
        events: Of the text that it goes on from; see `Decoding.resume`.
        reveal: Whether both models read those to their end first, for candidates that are not known.
        write: Whether anything is to be written at all.
    """

    request: Request
    policy: Policy
    prompt: list[int]
    events: Sequence[TokenEvent] = ()
    reveal: bool = False
    write: bool = True


class Handle:
    """One text.

    Attributes:
        order: What was asked for.
        owner: Whose it is: rows are shared out evenly among owners.
        interactive: Whether somebody watches it being written; it goes before those of which that is not so.
        setting: In force; replacing it applies to the next token that is drafted.
        batch_row: Its number in its batch, which its events carry as `row`.
        after: A text that it goes on from; if that one's caches are still there, they become its own.
        state: "waiting" until it has a row, and again where that was given to another; then one of the three ends.
        error: Why it failed.
        stream: All events in the order in which they came; `engine.extend` folds them into the text.
        unread: Whether what `Order.reveal` asks for is still being read.
        revealed: What was found there so far.
        number, row: In the decoding; a row without a number has left it, and can enter again. For the scheduler.
        forgotten: Whether nothing of it is to be kept once it has ended.
    """

    def __init__(
        self,
        order: Order,
        owner: Hashable,
        interactive: bool,
        batch: Batch,
        setting: Setting | None = None,
        after: Handle | None = None,
    ) -> None:
        self.order, self.owner, self.interactive, self.batch = order, owner, interactive, batch
        self.setting = setting or order.request.setting
        self.after = after
        self.batch_row = len(batch.handles)
        self.state: State = "waiting"
        self.error: Exception | None = None
        self.stream: list[TokenEvent] = []
        self.unread = order.reveal
        self.revealed: list[Revealed] = []
        self.number: int | None = None
        self.row: Row | None = None
        self.forgotten = False
        self._cancelled = False
        self.arrived = 0  # in which order it came, counted over all
        self.asked = self.since = time.monotonic()  # when it came, and when it got its row
        self._ended = threading.Event()
        batch.handles.append(self)

    @property
    def events(self) -> list[TokenEvent]:
        """The text's so far, those that it goes on from included."""
        return list(self.row.events if self.row is not None else self.order.events)

    @property
    def slot(self) -> int:
        """The slot of the KV caches that it is in."""
        return NOWHERE if self.row is None else self.row.slot

    @property
    def cancelled(self) -> bool:
        """Whether it is to end within a step."""
        return self._cancelled or self.batch.stopped()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended.is_set()

    @property
    def place(self) -> int:
        """Its place in line: 1 is the next to get a row; 0 once it has one, or gets one with the next step."""
        return self.batch.place(self)

    @property
    def estimate(self) -> float | None:
        """In how many seconds it may get a row; None while no text has ended yet to go by."""
        return self.batch.estimate(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end; returns whether it has come."""
        return self._ended.wait(timeout)

    def cancel(self) -> None:
        """Ends it within one step, or at once if it waits."""
        self._cancelled = True
        self.batch.wake()

    def __iter__(self) -> Iterator[TokenEvent]:
        """Events as they come, until the text ends; raises why it failed. A loop that is left early cancels it."""
        try:
            yield from self.batch.read(self.stream, lambda: self.ended)
        finally:
            if not self.ended:
                self.cancel()
        if self.error is not None:
            raise self.error

    def tell(self, event: TokenEvent) -> None:
        """Passes an event on."""
        self.batch.tell(self, in_row(event, self.batch_row))

    def end(self, state: State, error: Exception | None = None) -> None:
        """Says that it has ended."""
        self.state, self.error = state, error
        self._ended.set()
        self.batch.tell(self)


class Batch:
    """Texts that were asked for together: rows of them with the same text so far share their passes.

    Attributes:
        handles: One per text, in order.
        stream: The events of all, in the order in which they came.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        place: Callable[[Handle], int],
        estimate: Callable[[Handle], float | None],
        listener: Callable[[Handle], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        """A batch without texts, which `Handle` adds.

        Args:
            wake, place, estimate: Of the scheduler.
            listener: Hears from the scheduler's thread of each event and each end; if it raises, its text is stopped.
            stopped: Is asked by that thread before each step, so it must be quick; once it says so, or raises, all
                texts end.
        """
        self.handles: list[Handle] = []
        self.stream: list[TokenEvent] = []
        self.wake, self.place, self.estimate = wake, place, estimate
        self._listener, self._stopped = listener, stopped
        self._news = threading.Condition()

    def __iter__(self) -> Iterator[TokenEvent]:
        """Events of all texts as they come; why one failed, its handle says. A loop that is left early cancels them."""
        try:
            yield from self.read(self.stream, lambda: all(handle.ended for handle in self.handles))
        finally:
            self.cancel()

    def stopped(self) -> bool:
        """Whether all of them are to end within a step."""
        try:
            return self._stopped is not None and self._stopped()
        except Exception as error:
            log_fault(logger, "who asked for a text is gone", error)
            return True

    def cancel(self) -> None:
        """Ends all of them within one step."""
        for handle in self.handles:
            if not handle.ended:
                handle.cancel()

    def read(self, stream: Sequence[TokenEvent], ended: Callable[[], bool]) -> Iterator[TokenEvent]:
        """Yields from a stream what is there, and waits for what comes, until it has ended."""
        count = 0
        while True:
            with self._news:
                while len(stream) == count and not ended():
                    self._news.wait()
                new = stream[count:]
            if not new:
                return
            count += len(new)
            yield from new

    def tell(self, handle: Handle, event: TokenEvent | None = None) -> None:
        """Passes on an event of one of them, or that it has ended."""
        with self._news:
            if event is not None:
                handle.stream.append(event)
                self.stream.append(event)
            self._news.notify_all()
        if self._listener is not None:
            try:
                self._listener(handle)
            except Exception as error:
                handle.cancel()
                with suppress(Exception):
                    log_fault(logger, "the listener of a text is gone", error)
