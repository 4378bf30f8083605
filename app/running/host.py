"""Keeps the pair of models for all visitors: loads it in the background, with the scheduler that writes all texts.

Where the weights cannot be had, the tiny pair is loaded instead.
On ZeroGPU a decorated function runs in a forked process with pickled arguments, so neither the scheduler nor a live
dial would reach it; such a Space would wrap `Run.work` and apply the threshold after the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple

import engine
from engine import EngineError, WeightsError
from engine.settings import DEFAULT_ROWS

FALLBACK = "tiny"
_POLL_SECONDS = 0.1  # a job that is cancelled while the models load must end though nobody notifies it

logger = logging.getLogger(__name__)


class Status(NamedTuple):
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
        answers: The right answers of prompts, where they are known: those of the recorded text and of examples.
        pair, scheduler: The models and what writes texts with them; None until they are loaded.
        status: Replaced as a whole, so that any thread may read it.
    """

    def __init__(self, load: Callable[..., Any], preset: str | None = None, rows: int = DEFAULT_ROWS) -> None:
        self._load, self.preset, self._rows = load, preset, rows
        self.answers: dict[str, str] = {}
        self.status = Status()
        self.pair: Any = None
        self.scheduler: Any = None
        self._loaded, self._unstarted = threading.Event(), threading.Semaphore()

    @property
    def policies(self) -> Sequence[str]:
        """What can be chosen: all until the models are there."""
        return engine.POLICIES if self.pair is None else self.pair.policies

    def start(self) -> None:
        """Starts loading in the background; later calls do nothing."""
        if self._unstarted.acquire(blocking=False):
            threading.Thread(target=self._load_pair, name="citer-load", daemon=True).start()

    def wait(self, cancel: threading.Event) -> Any:
        """Waits for the pair; None if `cancel` was set first. Raises WeightsError if loading failed for good."""
        self.start()
        while not self._loaded.wait(_POLL_SECONDS):
            if cancel.is_set():
                return None
        if self.pair is None:
            raise WeightsError(self.status.error or "There are no models.")
        return self.pair

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
            self.status = self.status._replace(phase="ready")
        except Exception as error:  # the page must say so rather than wait for ever
            said, fault = str(error), None if isinstance(error, EngineError) else error
            if fault:
                said = f"Loading stopped with an internal error ({type(fault).__name__}: {said}); see the server's log."
            logger.error("no models: %s", said, exc_info=fault)
            self.status = self.status._replace(phase="failed", error=said)
        finally:
            self._loaded.set()

    def _load_or_fall_back(self) -> Any:
        try:
            return self._load(self.preset, progress=self._progress)
        except WeightsError as error:
            if self.preset == FALLBACK:
                raise
            logger.warning("falling back to %s: %s", FALLBACK, error)
            warning = f"Running the {FALLBACK} pair instead. {error}"
            self.status = Status(progress="loading the tiny pair", warning=warning)
            return self._load(FALLBACK, progress=self._progress)

    def _progress(self, progress: str) -> None:
        self.status = self.status._replace(progress=progress)
