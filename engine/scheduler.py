"""One scheduler for all texts: a single thread steps one `Decoding`, and texts enter and leave between steps.

So one pass reads the weights for all texts. Each text has the same tokens, and is charged the same, as if it were
written alone. Before each step:

1. Cancelled texts end, and free rows are given to the texts that are first in line (`engine.batch.line`): interactive
   ones before batches, and a fair share for each owner. If no row is free, a batch's text gives its row to an
   interactive text, or an owner with two rows more than the waiting owner gives one up. The text that lost its row is
   later written on as if it had stayed.
2. All interactive texts take part in the step, with batches in a few more slots. If there are none, all batches do.
3. A long prompt is read in pieces that take about half a step, so that no other text waits long for it.

If a text fails, only that text ends. The slot of an interactive text that has ended keeps its content until the slot is
needed, so that texts that go on from it or begin alike need not read it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from queue import SimpleQueue
from typing import Any

from engine.batch.line import Line
from engine.batch.text import State, Text
from engine.errors import EngineError, log_fault
from engine.events import TokenEvent
from engine.events.cost import modelled_seconds
from engine.model.memory import rows_that_fit
from engine.pair import Pair
from engine.request import Request
from engine.settings import DEFAULT_ROWS

_ALONE = 512  # tokens of a prompt read in a step in which no other slot takes part; few enough for a stop to work soon
_READ, _LEAST = 64, 16  # tokens of prompts read in a step: until step times are measured, and the minimum
_NEW = 0.1  # weight of a new figure in a running mean
_BESIDE = 4  # slots of batches in a step beside interactive texts

_QUIET = 10.0  # seconds in which nothing is written, before passes are timed
_TRIES = 3  # how often timing passes is tried
_COMPARED = 60.0  # seconds of single-text steps that are compared with the timed passes
_OFF = 4 / 3  # the factor by which these steps and the timed passes may differ

_SLOW_SECONDS = 5.0  # a longer wait for a first token is explained to people
_OF_LATE = 60.0  # seconds after a first token in which its wait still counts as recent

logger = logging.getLogger(__name__)


class Scheduler:
    """Writes texts for all owners at once.

    Attributes:
        bound: Texts that are written at once, at most.
        rows, waiting: Texts that are written now, and that wait.
        tokens, steps, texts: Totals since the start: tokens (those taken back included), steps, texts that ended.
        text_seconds: How long a text was written, in the mean of those that ended last; 0 before the first.
    """

    def __init__(self, pair: Pair, rows: int = DEFAULT_ROWS) -> None:
        """Starts its thread. `rows` are fewer where memory holds no more; raises as `rows_that_fit`."""
        self.bound = rows_that_fit(pair, rows)
        self.rows = self.waiting = self.tokens = self.steps = self.texts = 0
        self._pair, self._decoding = pair, pair.open(self.bound)
        self._running: list[Text] = []
        self._line, self._changed, self._closed = Line(), threading.Condition(), False
        self._gone: set[Hashable] = set()  # owners whose texts are to be forgotten
        self._arrived = 0
        self.text_seconds = self._mean_step = self._mean_first = self._first_at = 0.0
        self._took = self._modelled = 0.0  # seconds of steps of one text, by the clock and by the pair's passes
        self._tries = _TRIES
        self._thread = threading.Thread(target=self._work, name="citer-scheduler", daemon=True)
        self._thread.start()

    def submit(self, request: Request, owner: Hashable, *, interactive: bool = True, **options: Any) -> Text:
        """Asks for one text; `options` as for `submit_all`."""
        (text,) = self.submit_all([request], owner, interactive=interactive, **options)
        return text

    def submit_all(
        self,
        requests: Sequence[Request],
        owner: Hashable,
        *,
        interactive: bool = False,
        events: Sequence[TokenEvent] = (),
        listener: Callable[[Text], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> list[Text]:
        """Queues several texts, e.g. those of a sweep. If one request cannot be served, none is queued.

        Args:
            requests: One for each text. An InvalidRequest is raised here, before any model runs.
            owner: Anything hashable; the same for all texts of one visitor or client.
            interactive: Whether a person watches the texts.
            events: The events with which each text begins, from a text with the same prompt.
            listener: Called in the scheduler's thread after each event and at the end. If it raises, the text stops.
            stopped: Called in that thread before each step, so it must be quick. If it returns True or raises, the text
                ends.
        """
        texts = self._pair.texts(requests)
        if events:
            for text in texts:
                text.go_on(text.request, events)
        news: SimpleQueue[TokenEvent | None] = SimpleQueue()
        with self._changed:
            if self._closed:
                raise EngineError("The models are being shut down, or replaced: ask again once they are back.")
            for text in texts:
                self._arrived += 1
                text.owner, text.interactive, text.arrived = owner, interactive, self._arrived
                text.listener, text.stopped, text.news, text.asked = listener, stopped, news, time.monotonic()
            self._line.waiting += texts
            self.waiting = len(self._line.waiting)
            self._changed.notify()
        return texts

    def leave(self, owner: Hashable) -> None:
        """An owner is gone: all that is written for it ends within a step, and nothing of it is kept."""
        with self._changed:
            for text in (*self._line.waiting, *self._running):
                if text.owner == owner:
                    text.forgotten = True
                    text.cancel()
            self._gone.add(owner)
            self._changed.notify()

    def place(self, text: Text) -> int:
        """A text's place in line: 1 is the next to be written; 0 once it is, or is with the next step."""
        with self._changed:
            if text not in self._line.waiting:
                return 0
            running = self._running
            # Batches give way to an interactive text.
            free = self.bound - sum(each.interactive or not text.interactive for each in running)
            return max(0, self._line.ahead(text, running) + 1 - free)

    def estimate(self, text: Text) -> float | None:
        """In how many seconds a text may begin; None while no text has ended yet to go by."""
        place = self.place(text)
        return place * self.text_seconds / self.bound if self.text_seconds or not place else None

    @property
    def slow(self) -> str:
        """A message for people if watched texts wait, or lately waited, long for a first token; else empty."""
        now = time.monotonic()
        waits = [
            now - text.asked for text in (*self._line.waiting, *self._running) if text.interactive and not text.begun
        ]
        seconds = max([*waits, self._mean_first if now - self._first_at < _OF_LATE else 0.0])
        if seconds < _SLOW_SECONDS:
            return ""
        why = f"{self.rows} texts are being written" if self.rows > 1 else "the machine has other work, or is slow"
        return f"{seconds:.0f} s for a first token: {why}."

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # The scheduler's thread

    def _work(self) -> None:
        try:
            while self._wait():
                try:
                    self._arrange()
                    if self._running:
                        self._step()
                except Exception as error:  # no text's own fault: all end, and later ones may still be served
                    log_fault(logger, "the scheduler failed", error)
                    self._end_all("failed", error)
        finally:
            with self._changed:
                self._closed = True
            self._end_all("stopped")
            self._decoding = self._pair.open(self.bound)  # the caches are freed

    def _end_all(self, state: State, error: Exception | None = None) -> None:
        with self._changed:
            texts = [*self._running, *self._line.waiting]
            self._line.waiting.clear()
        for text in texts:
            try:
                self._end(text, state, error)
            except Exception as fault:  # its slot could not be freed either: the others' end as well
                log_fault(logger, "a slot was not freed", fault)

    def _wait(self) -> bool:
        """Waits for work; returns False once closed. Meanwhile it times passes, where that is still to be done."""
        while True:
            with self._changed:
                untimed = not self._pair.timed and self._tries > 0
                if self._changed.wait_for(self._has_work, _QUIET if untimed else None):
                    return not self._closed
            self._tries -= 1
            try:
                self._pair.calibrate()  # without the lock: whoever asks for a text meanwhile is not held up
            except Exception as error:  # texts can do without
                log_fault(logger, "passes were not timed", error)

    def _has_work(self) -> bool:
        return bool(self._closed or self._line.waiting or self._running or self._gone)

    def _compare(self, event: TokenEvent, seconds: float) -> None:
        """Has passes timed anew if a minute of single-text steps took clearly more or less time than they predict."""
        self._took += seconds
        self._modelled += modelled_seconds([event], self._pair.slm_cost, self._pair.llm_cost)
        if self._took > _COMPARED:
            if not 1 / _OFF < self._took / max(self._modelled, 1e-9) < _OFF:
                self._pair.timed, self._tries = False, _TRIES
            self._took = self._modelled = 0.0

    def _arrange(self) -> None:
        """Ends what was cancelled, and begins those that are next in line."""
        with self._changed:
            gone, self._gone = self._gone, set()
        if gone:
            self._decoding.forget(lambda text: text.owner in gone)
        waiting = [text for text in [*self._line.waiting] if text.unwanted]
        with self._changed:
            for text in waiting:
                self._line.waiting.remove(text)
        for text in [*waiting, *(text for text in self._running if text.unwanted)]:
            self._end(text, "stopped")
        new: list[Text] = []
        while (text := self._next()) is not None:
            new.append(text)
        entering = [text for text in new if text in self._running]
        for text, error in _apart(self._decoding.add, entering) if entering else ():
            self._end(text, "failed", error)
        for text in [*self._running]:
            if text.finish_reason is not None:
                self._end(text, "done")  # there was nothing to write
        self.rows, self.waiting = len(self._running), len(self._line.waiting)

    def _next(self) -> Text | None:
        """Takes the next out of the line if there is a row for it, or one that another gives up for it."""
        with self._changed:
            text = self._line.first(self._running)
            if text is None:
                return None
            if len(self._running) >= self.bound:
                other = self._line.gives_way(text, self._running)
                if other is None:
                    return None
                self._free_slot(other, keep=other.interactive and not other.forgotten)
                other.state = "waiting"
                self._line.waiting.append(other)
            self._line.serve(text)
            text.state, text.since = "running", time.monotonic()
            self._running.append(text)
            return text

    def _free_slot(self, text: Text, clear: bool = False, keep: bool = False) -> None:
        """Takes a text's slot away; with `keep` others may go on from what it holds."""
        if text in self._running:
            self._running.remove(text)
        if text.slot >= 0:
            self._decoding.remove(text, clear, keep)

    def _step(self) -> None:
        """One step of those who take part; their events go to who waits for them."""
        chosen, written = self._chosen(), list[Text]()
        reading, started = self._reading(chosen), time.monotonic()
        failed = _apart(lambda part: written.extend(self._decoding.step(part, reading)), chosen)
        seconds = time.monotonic() - started
        self.steps += 1
        if len(chosen) > 1:
            self._mean_step += (seconds - self._mean_step) * (_NEW if self._mean_step else 1.0)
        if len(chosen) == len(written) == 1:
            self._compare(written[0].events[-1], seconds)
        for text in written:
            event = text.events[-1]
            # A draft that is refused in the step that drafted it has no event of its own, and no seconds.
            self.tokens += 1 + sum(not draft.seconds for draft in event.taken_back)
            if text.interactive and not text.begun:
                self._first_at = time.monotonic()
                new = self._first_at - text.asked
                self._mean_first += (new - self._mean_first) * (3 * _NEW if self._mean_first else 1.0)
            text.tell(event)
            if event.finish_reason is not None:
                self._end(text, "done")
        for text, error in failed:
            self._end(text, "failed", error)

    def _chosen(self) -> list[Text]:
        """Who takes part in a step: interactive texts, and of others beside them those of a few slots."""
        watched = [text for text in self._running if text.interactive]
        others = [text for text in self._running if not text.interactive]
        if watched:
            few = list(dict.fromkeys(text.slot for text in others))[:_BESIDE]
            others = [text for text in others if text.slot in few]
        return watched + others

    def _reading(self, texts: Sequence[Text]) -> int:
        """How many tokens of long texts are read in a step."""
        slots = len({text.slot for text in texts})
        if slots == 1:
            return _ALONE
        most = self._mean_step / 2
        model = self._pair.llm_cost if self._pair.llm.local else self._pair.slm_cost  # the largest that reads here
        if not most or not model.pass_seconds:
            return _READ
        lengths = range(_LEAST, _ALONE + 1, _LEAST)
        return max((n for n in lengths if model.seconds(slots + n) - model.seconds(slots) <= most), default=_LEAST)

    def _end(self, text: Text, state: State, error: Exception | None = None) -> None:
        """A text has ended, and its slot is free."""
        try:
            with self._changed:
                if text in self._running:
                    took = time.monotonic() - text.since
                    self.text_seconds += (took - self.text_seconds) * (_NEW if self.text_seconds else 1.0)
                keep = text.interactive and state != "failed" and not text.forgotten
                self._free_slot(text, clear=state == "failed", keep=keep)
        finally:  # whoever waits for it hears of its end even if its slot cannot be freed
            self.texts += 1
            self.rows = len(self._running)
            text.state, text.error = state, error
            text.tell()


def _apart(do: Callable[[Sequence[Text]], None], texts: Sequence[Text]) -> list[tuple[Text, Exception]]:
    """Calls `do` with texts. If it fails, calls it with each half, down to single texts; returns those that fail."""
    try:
        do(texts)
    except Exception as error:
        if len(texts) == 1:
            return [(texts[0], error)]
        middle = len(texts) // 2
        return _apart(do, texts[:middle]) + _apart(do, texts[middle:])
    return []
