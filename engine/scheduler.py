"""One scheduler for all who want text: a single thread steps one `Decoding`, whose rows come and go between steps.

So the weights are read once for all texts that are being written, and every text is token for token what it would be
alone. It is charged for what it would read alone, too. Before each step:

1. What was cancelled ends, and what the line says gets a row (`engine.batch.line`): interactive texts before batches,
   and for each owner a fair share. Where no row is free, a batch's text gives its own up, or that of an owner who has
   two more than the one in line; it goes on later as if it had stayed.
2. Interactive texts take part in the step, of batches beside them a few: those fill what is left.
3. Of a long prompt a piece is read that takes about half a step, so that nobody waits for it, and a few tokens
   of one text that is audited.

A row that fails ends alone. The text of an interactive row that has ended rests: what the caches hold of it serves the
texts that go on from it or begin alike, until its slot is needed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from itertools import zip_longest

import torch

from engine.batch.handle import Batch, Handle, Order, State
from engine.batch.held_rows import HeldRows
from engine.batch.line import Line
from engine.errors import EngineError, log_fault
from engine.events import TokenEvent
from engine.model.memory import memory_bytes
from engine.pair import Pair
from engine.request import Request, same_prompt
from engine.setting import Setting
from engine.settings import DEFAULT_ROWS

_MEMORY_SHARE = 0.25  # of the memory, at most, for KV caches
_ALONE = 512  # tokens of a prompt that are read at once where nobody waits for the step: a stop still works within one
_READ, _LEAST = 64, 16  # tokens of prompts in a step before steps were measured, and at least
_NEW = 0.1  # weight of a new figure in a running mean
_SLOW_SECONDS = 5.0  # for a first token, before people are told why
_OF_LATE = 60.0  # seconds for which a first token's wait is news

logger = logging.getLogger(__name__)


class Scheduler:
    """Writes texts for all owners at once.

    Attributes:
        bound: Rows at most.
        rows, waiting: Texts that have a row now, and that wait for one.
        tokens, steps, texts, failures, seconds: Totals since the start: tokens written (those taken back included),
            steps, texts that ended, those of them that failed, and seconds spent in steps.
    """

    def __init__(self, pair: Pair, rows: int = DEFAULT_ROWS) -> None:
        """Starts its thread; `rows` are fewer where their KV caches would take over a quarter of the memory."""
        self.bound = fitting_rows(pair, rows)
        self.rows = self.waiting = self.tokens = self.steps = self.texts = self.failures = 0
        self.seconds = 0.0
        self._pair, self._held = pair, HeldRows(pair, self.bound)
        self._line, self._changed, self._closed = Line(), threading.Condition(), False
        self._arrived = 0
        self._mean_step = self._mean_text = self._mean_first = self._first_at = 0.0
        self._thread = threading.Thread(target=self._work, name="citer-scheduler", daemon=True)
        self._thread.start()

    def submit(
        self,
        request: Request,
        owner: Hashable,
        *,
        interactive: bool = True,
        setting: Setting | None = None,
        after: Handle | None = None,
        events: Sequence[TokenEvent] = (),
        reveal: bool = False,
        write: bool = True,
        listener: Callable[[Handle], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Handle:
        """Asks for one text.

        Args:
            request: Raises InvalidRequest here, before anything is run, if it cannot be served.
            owner: Anything hashable, the same for all that one visitor or client asks for.
            interactive: Whether somebody watches.
            setting: Instead of the request's, where it has changed since; `Handle.setting` may be replaced later, too.
            after: A text that has ended and that this one goes on from. Its caches become this one's.
            events: What stays of that text, or of one from elsewhere with the same prompt, as for `Decoding.resume`.
            reveal: Both models read `events` to their end first, for candidates: `Handle.revealed`.
            write: Whether to write on from there at all.
            listener, stopped: See `Batch`.
        """
        batch = self._batch(listener, stopped)
        handle = Handle(self._order(request, events, reveal, write), owner, interactive, batch, setting, after)
        self._put_in_line(batch)
        return handle

    def submit_all(
        self,
        requests: Sequence[Request],
        owner: Hashable,
        *,
        prompts: Sequence[Sequence[int] | None] = (),
        interactive: bool = False,
        listener: Callable[[Handle], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Batch:
        """Asks for several texts, as for a sweep; if one cannot be served, for none: an InvalidRequest.

        `prompts`: Per text token ids to go on from, or None for the rendered prompt, as are those that are left out.
        """
        batch = self._batch(listener, stopped)
        orders: list[Order] = []
        rendered: Order | None = None  # the last whose prompt was encoded: texts of one prompt follow each other
        for request, ids in zip_longest(requests, prompts):
            if ids is not None:
                order = self._order(request, prompt=ids)
            elif rendered is not None and same_prompt(rendered.request, request):
                order = self._order(request, prompt=rendered.prompt)
            else:
                order = rendered = self._order(request)
            orders.append(order)
        for order in orders:
            Handle(order, owner, interactive, batch)
        self._put_in_line(batch)
        return batch

    def leave(self, owner: Hashable) -> None:
        """An owner is gone: all that is written for it ends within a step, and nothing of it is kept.

        But the caches of a text that was interrupted stay until its slot is used again.
        """
        with self._changed:
            for handle in (*self._line.waiting, *self._held.running, *self._held.resting):
                if handle.owner == owner:
                    handle.forgotten = True
                    handle.cancel()
            self._changed.notify()

    @property
    def text_seconds(self) -> float:
        """How long a text had its row, in the mean of those that ended last; 0 before the first."""
        return self._mean_text

    @property
    def first_seconds(self) -> float:
        """Seconds for which a watched text waits for its first token: the mean of late, or the longest wait now."""
        now = time.monotonic()
        watched = [each for each in (*self._line.waiting, *self._held.running) if each.interactive and each.order.write]
        mean = self._mean_first if now - self._first_at < _OF_LATE else 0.0
        return max([mean, *(now - each.asked for each in watched if not each.stream)])

    @property
    def slow(self) -> str:
        """That a first token takes long, and why, for people; empty where it does not."""
        if (seconds := self.first_seconds) < _SLOW_SECONDS:
            return ""
        why = f"{self.rows} texts are being written" if self.rows > 1 else "the machine has other work, or is slow"
        return f"{seconds:.0f} s for a first token: {why}."

    def close(self) -> None:
        """Ends all texts and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _order(
        self,
        request: Request,
        events: Sequence[TokenEvent] = (),
        reveal: bool = False,
        write: bool = True,
        prompt: Sequence[int] | None = None,
    ) -> Order:
        policy, ids = self._pair.prepare(request, prompt)
        return Order(request, policy, ids, tuple(events), reveal and bool(events), write)

    def _batch(self, listener: Callable[[Handle], None] | None, stopped: Callable[[], bool] | None) -> Batch:
        return Batch(self._wake, self._place, self._estimate, listener, stopped)

    def _put_in_line(self, batch: Batch) -> None:
        with self._changed:
            if self._closed:
                raise EngineError("The models are being shut down, or replaced: ask again once they are back.")
            for handle in batch.handles:
                self._arrived += 1
                handle.arrived = self._arrived
            self._line.waiting += batch.handles
            self.waiting = len(self._line.waiting)
            self._changed.notify()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _place(self, handle: Handle) -> int:
        with self._changed:
            if handle not in self._line.waiting:
                return 0
            running = self._held.running  # of which batches give way to an interactive text
            free = self.bound - sum(each.interactive or not handle.interactive for each in running)
            return max(0, self._line.ahead(handle, running) + 1 - free)

    def _estimate(self, handle: Handle) -> float | None:
        place = self._place(handle)
        return place * self._mean_text / self.bound if self._mean_text or not place else None

    # The scheduler's thread

    def _work(self) -> None:
        try:
            while self._wait():
                try:
                    self._arrange()
                    if self._held.running:
                        self._step()
                except Exception as error:  # no text's own fault: all end, and later ones may still be served
                    log_fault(logger, "the scheduler failed", error)
                    self._end_all("failed", error)
        finally:
            with self._changed:
                self._closed = True
            self._end_all("stopped")
            self._held = HeldRows(self._pair, self.bound)  # the caches are freed

    def _end_all(self, state: State, error: Exception | None = None) -> None:
        with self._changed:
            handles = [*self._held.running, *self._line.waiting]
            self._line.waiting.clear()
        for handle in handles:
            try:
                self._end(handle, state, error)
            except Exception as fault:  # its row could not be freed either: the others' end as well
                log_fault(logger, "a row was not freed", fault)

    def _wait(self) -> bool:
        """Waits until there is something to do; whether there is."""

        def due() -> bool:
            return bool(
                self._closed or self._line.waiting or self._held.running or any(h.forgotten for h in self._held.resting)
            )

        with self._changed:
            self._changed.wait_for(due)
            return not self._closed

    def _arrange(self) -> None:
        """Ends what was cancelled, and gives rows to those that are next in line."""
        for handle in [handle for handle in self._held.resting if handle.forgotten]:
            self._held.forget(handle)
        waiting = [handle for handle in [*self._line.waiting] if handle.cancelled]
        with self._changed:
            for handle in waiting:
                self._line.waiting.remove(handle)
        for handle in [handle for handle in (*waiting, *self._held.running) if handle.cancelled]:
            self._end(handle, "stopped")
        new: list[Handle] = []
        while (handle := self._next()) is not None:
            new.append(handle)
        for handle, error in self._held.enter([handle for handle in new if handle in self._held.running]):
            self._end(handle, "failed", error)
        for handle in [*self._held.running]:
            writes = handle.order.write and handle.row is not None and handle.row.unfinished
            if not (writes or handle.unread):
                self._end(handle, "done")  # there was nothing to write
        self.rows, self.waiting = len(self._held.running), len(self._line.waiting)

    def _next(self) -> Handle | None:
        """Takes the next out of the line if there is a row for it, or one that another gives up for it."""
        with self._changed:
            handle = self._line.first(self._held.running)
            if handle is None:
                return None
            if len(self._held.running) >= self.bound:
                other = self._line.gives_way(handle, self._held.running)
                if other is None:
                    return None
                self._held.leave(other)
                other.state = "waiting"
                self._line.waiting.append(other)
            self._line.serve(handle)
            handle.state = "running"
            self._held.running.append(handle)
            return handle

    def _step(self) -> None:
        """One step of those who take part; their events go to who waits for them."""
        chosen = self._held.chosen()
        handles = {handle.number: handle for handle in chosen}
        started = time.monotonic()
        events, failed = self._held.step(chosen, self._reading(chosen))
        seconds = time.monotonic() - started
        self.steps += 1
        self.seconds += seconds
        # A draft that is refused in the step that drafted it has no event of its own, and no seconds.
        self.tokens += len(events) + sum(not draft.seconds for event in events for draft in event.taken_back)
        if len(chosen) > 1:
            self._mean_step += (seconds - self._mean_step) * (_NEW if self._mean_step else 1.0)
        for event in events:
            handle = handles[event.row]
            if handle.interactive and not handle.stream:
                self._first_at = time.monotonic()
                new = self._first_at - handle.asked
                self._mean_first += (new - self._mean_first) * (3 * _NEW if self._mean_first else 1.0)
            handle.tell(event)
            if event.finish_reason is not None:
                self._end(handle, "done")
        for handle, error in failed:
            self._end(handle, "failed", error)

    def _reading(self, handles: Sequence[Handle]) -> int:
        """How many tokens of long texts are read in a step."""
        slots = len({handle.slot for handle in handles})
        if slots == 1:
            return _ALONE
        most = self._mean_step / 2
        model = self._pair.llm_cost if self._pair.llm.local else self._pair.slm_cost  # the largest that reads here
        if not most or not model.pass_seconds:
            return _READ
        lengths = range(_LEAST, _ALONE + 1, _LEAST)
        return max((n for n in lengths if model.seconds(slots + n) - model.seconds(slots) <= most), default=_LEAST)

    def _end(self, handle: Handle, state: State, error: Exception | None = None) -> None:
        """A text has ended; its row rests or is free."""
        try:
            with self._changed:
                if handle in self._held.running:
                    took = time.monotonic() - handle.since
                    self._mean_text += (took - self._mean_text) * (_NEW if self._mean_text else 1.0)
                self._held.leave(handle, rest=handle.interactive and state != "failed", clear=state == "failed")
        finally:  # whoever waits for it hears of its end even if its row cannot be freed
            self.texts += 1
            self.failures += state == "failed"
            self.rows = len(self._held.running)
            handle.end(state, error)


def fitting_rows(pair: Pair, rows: int) -> int:
    """So many rows, or as many as have room for their KV caches in a quarter of the memory; at least one."""
    device = pair.llm.device
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else memory_bytes()
    each = (pair.slm_cost.kv_bytes + pair.llm_cost.kv_bytes) * pair.context
    return max(1, min(rows, int(_MEMORY_SHARE * memory) // each)) if memory else rows
