"""Keeps the pair of models for all visitors: loads it in the background, with the scheduler that writes all texts.

Where the weights cannot be had, the tiny pair is loaded instead.
On ZeroGPU a decorated function runs in a forked process with pickled arguments, so neither the scheduler nor a live
dial would reach it; such a Space would wrap `Run.work` and apply the threshold after the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import engine
from engine import EngineError, WeightsError
from engine.settings import DEFAULT_ROWS

FALLBACK = "tiny"
_POLL_SECONDS = 0.1  # a job that is cancelled while the models load must end though nobody notifies it

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
    progress: str = "loading models"
    warning: str | None = None
    error: str | None = None


class Host:
    """One pair for every visitor.

    Args:
        load: `load(preset, progress=callback)` → pair; slow, raises EngineError.
        preset: What to load; None leaves the choice to the engine.
        rows: Texts at once, at most; see `engine.Scheduler`.

    Attributes:
        preset: What was asked for.
        pair, scheduler: Once both are there.
        status: Replaced as a whole, so that any thread may read it.
    """

    def __init__(self, load: Callable[..., Any], preset: str | None = None, rows: int = DEFAULT_ROWS) -> None:
        self._load, self.preset, self._rows = load, preset, rows
        self.status = Status()
        self.pair: Any = None
        self.scheduler: Any = None
        self._loaded = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def policies(self) -> Sequence[str]:
        """What can be chosen: all until the models are there."""
        return engine.POLICIES if self.pair is None else self.pair.policies

    def start(self) -> None:
        """Starts loading in the background; later calls do nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load_pair, name="citer-load", daemon=True)
                self._thread.start()

    def wait(self, cancel: threading.Event) -> Any:
        """Waits for the pair; None if `cancel` was set first. Raises WeightsError if loading failed for good."""
        self.start()
        while True:
            over = self._loaded.wait(_POLL_SECONDS)
            if over and (pair := self.pair) is not None:
                return pair
            if over and self.status.phase == "failed":
                raise WeightsError(self.status.error or "There are no models.")
            if cancel.is_set():
                return None

    def leave(self, owner: Hashable) -> None:
        """An owner of texts is gone: see `Scheduler.leave`."""
        if (scheduler := self.scheduler) is not None:
            scheduler.leave(owner)

    def close(self) -> None:
        if (scheduler := self.scheduler) is not None:
            scheduler.close()

    def _load_pair(self) -> None:
        try:
            pair = self._load_or_fall_back()
            self.scheduler = engine.Scheduler(pair, self._rows)
            self.pair = pair  # the last: who sees it may use the scheduler
            self.status = replace(self.status, phase="ready")
        except Exception as error:  # the page must say so rather than wait for ever
            self._fail(_in_words(error))
        finally:
            self._loaded.set()

    def _load_or_fall_back(self) -> Any:
        try:
            return self._load(self.preset, progress=self._progress)
        except WeightsError as error:
            if self.preset == FALLBACK:
                raise
            logger.warning("falling back to %s: %s", FALLBACK, error)
            self.status = Status(
                progress="loading the tiny pair", warning=f"Running the {FALLBACK} pair instead. {error}"
            )
            return self._load(FALLBACK, progress=self._progress)

    def _progress(self, progress: str) -> None:
        self.status = replace(self.status, progress=progress)

    def _fail(self, message: str) -> None:
        logger.error("no models: %s", message)
        self.status = replace(self.status, phase="failed", error=message)


def _in_words(error: Exception) -> str:
    """Why loading stopped, for people."""
    if isinstance(error, EngineError):
        return str(error)
    logger.error("loading failed", exc_info=error)
    return f"Loading stopped with an internal error ({type(error).__name__}: {error}); see the server's log."
