"""Keeps the pair of models for all visitors: loads it in the background, says how far it is, lets one run in at a time.

Knows how to fall back to the tiny pair and who is next in line. Knows nothing of gradio, sessions or text.
ZeroGPU note: there a decorated function runs in a forked process with pickled arguments, so neither this lock nor a
live dial would reach it; such a Space would wrap `Run.work` and apply the threshold after the run.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine import EngineError, WeightsError

FALLBACK = "tiny"
_POLL_SECONDS = 0.1  # a cancelled run must leave the line though nobody notifies it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How far loading is.

    Attributes:
        phase: "loading" until there is a pair or a final error.
        what: What is being fetched or converted, for people.
        done_bytes, total_bytes, bytes_per_second: Progress of it; zero where unknown.
        door: Where the bytes come from.
        warning: Why the page runs another pair than was asked for.
        error: Why there are no models at all.
    """

    phase: Literal["loading", "ready", "failed"] = "loading"
    what: str = "models"
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: float = 0.0
    door: str = ""
    warning: str | None = None
    error: str | None = None


class Host:
    """One pair for every visitor.

    Args:
        load: `load(preset, progress=callback)` → pair; slow, raises EngineError.
        preset: What to load; None leaves the choice to the engine.
    """

    def __init__(self, load: Callable[..., Any], preset: str | None = None) -> None:
        self._load, self._preset = load, preset
        self._status = Status()
        self._pair: Any = None
        self._loaded = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._line: deque[object] = deque()
        self._moved = threading.Condition()

    @property
    def status(self) -> Status:
        """A snapshot; safe from any thread."""
        return self._status

    @property
    def pair(self) -> Any:
        """The loaded pair, or None while there is none."""
        return self._pair

    def start(self) -> None:
        """Starts loading in the background; later calls do nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load_pair, name="citer-load", daemon=True)
                self._thread.start()

    def wait(self, cancel: threading.Event) -> Any:
        """Waits for the pair.

        Returns:
            The pair, or None if `cancel` was set first.

        Raises:
            WeightsError: Loading failed for good; the message says why.
        """
        self.start()
        while not self._loaded.wait(_POLL_SECONDS):
            if cancel.is_set():
                return None
        if self._pair is None:
            raise WeightsError(self._status.error or "There are no models.")
        return self._pair

    @contextmanager
    def turn(self, ticket: object, cancel: threading.Event) -> Iterator[bool]:
        """Holds the models for one run, first come first served.

        Yields:
            True if it is this run's turn, False if it was cancelled while waiting.
        """
        with self._moved:
            self._line.append(ticket)
            while self._line[0] is not ticket and not cancel.is_set():
                self._moved.wait(_POLL_SECONDS)
        try:
            yield not cancel.is_set()
        finally:
            with self._moved:
                self._line.remove(ticket)
                self._moved.notify_all()

    def give_way(self, ticket: object, cancel: threading.Event) -> None:
        """Lets those who wait go first; returns when it is this one's turn again, or when it is cancelled."""
        with self._moved:
            if len(self._line) > 1 and self._line[0] is ticket:
                self._line.rotate(-1)
                self._moved.notify_all()
                while self._line[0] is not ticket and not cancel.is_set():
                    self._moved.wait(_POLL_SECONDS)

    def ahead(self, ticket: object) -> int:
        """How many runs come before this one; 0 if it has its turn or is not in line."""
        with self._moved:
            return self._line.index(ticket) if ticket in self._line else 0

    def _load_pair(self) -> None:
        try:
            self._pair = self._load_or_fall_back()
            self._status = replace(self._status, phase="ready")
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
            self._status = Status(what="tiny pair", warning=f"Running the {FALLBACK} pair instead. {error}")
            return self._load(FALLBACK, progress=self._progress)

    def _progress(self, progress: Any) -> None:
        self._status = replace(
            self._status,
            what=str(progress.what),
            done_bytes=int(progress.done_bytes or 0),
            total_bytes=int(progress.total_bytes or 0),
            bytes_per_second=float(progress.bytes_per_second or 0.0),
            door=str(progress.door or ""),
        )

    def _fail(self, message: str) -> None:
        logger.error("no models: %s", message)
        self._status = replace(self._status, phase="failed", error=message)
