"""Keeps the pair of models for all visitors: loads it in the background and lets one job hold it at a time.

Where the weights cannot be had, the tiny pair is loaded instead.
On ZeroGPU a decorated function runs in a forked process with pickled arguments, so neither this queue nor a live dial
would reach it; such a Space would wrap `Run.work` and apply the threshold after the run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from app.running.places import TurnTimes
from engine import EngineError, WeightsError
from engine.weights.progress import Progress

FALLBACK = "tiny"
_POLL_SECONDS = 0.1  # a cancelled job must leave the queue though nobody notifies it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How far loading is.

    Attributes:
        phase: "loading" until there is a pair or a final error.
        progress: What is being fetched or converted.
        warning: Why the page runs another pair than was asked for.
        error: Why there are no models at all.
    """

    phase: Literal["loading", "ready", "failed"] = "loading"
    progress: Progress = field(default_factory=lambda: Progress("models", source=""))
    warning: str | None = None
    error: str | None = None


class Host:
    """One pair for every visitor.

    Args:
        load: `load(preset, progress=callback)` → pair; slow, raises EngineError.
        preset: What to load; None leaves the choice to the engine.

    Attributes:
        status: Replaced as a whole, so that any thread may read it.
        pair: None while there is none.
    """

    def __init__(self, load: Callable[..., Any], preset: str | None = None) -> None:
        self._load, self._preset = load, preset
        self.status = Status()
        self.pair: Any = None
        self._loaded = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._queue: deque[object] = deque()
        self._queue_moved = threading.Condition()
        self._turns = TurnTimes()
        self._turn_began = 0.0  # of the first in the queue, in `time.monotonic`

    def start(self) -> None:
        """Starts loading in the background; later calls do nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load_pair, name="citer-load", daemon=True)
                self._thread.start()

    def wait(self, cancel: threading.Event) -> Any:
        """Waits for the pair; None if `cancel` was set first. Raises WeightsError if loading failed for good."""
        self.start()
        while not self._loaded.wait(_POLL_SECONDS):
            if cancel.is_set():
                return None
        if self.pair is None:
            raise WeightsError(self.status.error or "There are no models.")
        return self.pair

    @contextmanager
    def hold_models(
        self, job: object, cancel: threading.Event, look: Callable[[], None] = lambda: None
    ) -> Iterator[bool]:
        """Waits until `job` is first in the queue, and keeps the models for it alone; first come, first served.

        Where jobs of the page and of the API (`Job.entrance`) wait, they take turns. `look` is called now and then
        while it waits, and may cancel it. Yields False if it was cancelled while waiting: then it does not hold them.
        """
        with self._queue_moved:
            self._queue.insert(self._place_of(job), job)
            self._wait_until_first(job, cancel, look)
        try:
            yield not cancel.is_set()
            self._end_turn(job, cancel)
        finally:
            with self._queue_moved:
                self._queue.remove(job)
                self._queue_moved.notify_all()

    def give_way(self, job: object, cancel: threading.Event) -> None:
        """Lets the jobs that wait go first; returns when this one holds the models again, or when it is cancelled."""
        with self._queue_moved:
            if len(self._queue) > 1 and self._queue[0] is job:
                self._end_turn(job, cancel)
                self._queue.rotate(-1)
                self._queue_moved.notify_all()
                self._wait_until_first(job, cancel)

    def ahead(self, job: object) -> int:
        """How many jobs come before this one; 0 if it holds the models or is not in the queue."""
        with self._queue_moved:
            return self._queue.index(job) if job in self._queue else 0

    def seconds_ahead(self, job: object) -> float | None:
        """About how long it will wait, by the turns that ended; None where they do not tell."""
        with self._queue_moved:
            before = list(self._queue)[: self._queue.index(job)] if job in self._queue else []
            return self._turns.ahead(before, time.monotonic() - self._turn_began)

    def _place_of(self, job: object) -> int:
        """In the queue: a job of the API goes last, one of the page waits for one of the API's per job of the page."""
        if _entrance(job) == "api":
            return len(self._queue)
        last = max((n for n, other in enumerate(self._queue) if _entrance(other) == "page"), default=-1)
        return min(max(last + 2, 1), len(self._queue))  # whoever holds the models keeps them

    def _end_turn(self, job: object, cancel: threading.Event) -> None:
        """Notes how long a turn took that was not cut short."""
        if self._queue[0] is job and not cancel.is_set():
            self._turns.add(job, time.monotonic() - self._turn_began)

    def _wait_until_first(self, job: object, cancel: threading.Event, look: Callable[[], None] = lambda: None) -> None:
        while self._queue[0] is not job and not cancel.is_set():
            self._queue_moved.wait(_POLL_SECONDS)
            look()
        if self._queue[0] is job:
            self._turn_began = time.monotonic()

    def _load_pair(self) -> None:
        try:
            self.pair = self._load_or_fall_back()
            self.status = replace(self.status, phase="ready")
        except EngineError as error:
            self._fail(str(error))
        except Exception as error:  # the page must say so rather than wait for ever
            logger.exception("loading failed")
            self._fail(
                f"Loading stopped with an internal error ({type(error).__name__}: {error}); see the server's log."
            )
        finally:
            self._loaded.set()

    def _load_or_fall_back(self) -> Any:
        try:
            return self._load(self._preset, progress=self._progress)
        except WeightsError as error:
            if self._preset == FALLBACK:
                raise
            logger.warning("falling back to %s: %s", FALLBACK, error)
            self.status = Status(
                progress=Progress("tiny pair", source=""), warning=f"Running the {FALLBACK} pair instead. {error}"
            )
            return self._load(FALLBACK, progress=self._progress)

    def _progress(self, progress: Progress) -> None:
        self.status = replace(self.status, progress=progress)

    def _fail(self, message: str) -> None:
        logger.error("no models: %s", message)
        self.status = replace(self.status, phase="failed", error=message)


def _entrance(job: object) -> str:
    return getattr(job, "entrance", "page")
