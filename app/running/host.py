"""Keeps the pair of models for all visitors: loads it in the background, with the scheduler that writes all texts.

Where the weights cannot be had, the tiny pair is loaded instead. Another pair may take its place later, for everybody.
On ZeroGPU a decorated function runs in a forked process with pickled arguments, so neither the scheduler nor a live
dial would reach it; such a Space would wrap `Run.work` and apply the threshold after the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import engine
from engine import EngineError, WeightsError
from engine.settings import DEFAULT_ROWS
from engine.weights.progress import Progress, ProgressCallback

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
        coming: Whether another pair is being loaded, while the one that is there writes on.
    """

    phase: Literal["loading", "ready", "failed"] = "loading"
    progress: Progress = field(default_factory=lambda: Progress("models", source=""))
    warning: str | None = None
    error: str | None = None
    coming: bool = False


@dataclass(frozen=True)
class NextPair:
    """A pair that is to take the place of the one that is there.

    Attributes:
        source: What it is loaded from: see `Host.source`.
        load: `load(progress)` → pair; slow, raises EngineError.
        again: The same, where nothing of the pair is loaded any more.
        first: Whether the pair that is there is let go before, because memory does not hold both.
        shared: Whether both have the same models.
    """

    source: Any
    load: Callable[[ProgressCallback], Any]
    again: Callable[[ProgressCallback], Any]
    first: bool = False
    shared: bool = False


class Host:
    """One pair at a time for every visitor.

    Args:
        load: `load(preset, progress=callback)` → pair; slow, raises EngineError.
        preset: What to load; None leaves the choice to the engine.
        rows: Texts at once, at most; see `engine.Scheduler`.

    Attributes:
        preset: What was asked for.
        status: Replaced as a whole, so that any thread may read it.
        source: What the pair was loaded from, as who loads it says; None where another stands in for it.
        news: Counts what windows should look at anew: the beginning and the end of each change of the pair.
        loaded: Counts the pairs that came.
        retire: Is told a pair that goes, before its texts end; set by who has texts of it.
    """

    def __init__(self, load: Callable[..., Any], preset: str | None = None, rows: int = DEFAULT_ROWS) -> None:
        self._load, self.preset, self._rows = load, preset, rows
        self.status = Status()
        self.source: Any = None
        self.news = self.loaded = 0
        self.retire: Callable[[Any], None] = lambda pair: None
        self._models: tuple[Any, Any] | None = None
        self._again: Callable[[ProgressCallback], Any] = lambda progress: self._load_or_fall_back()
        self._loaded = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def models(self) -> tuple[Any, Any] | None:
        """The pair and its scheduler; None while there are none."""
        return self._models

    @property
    def pair(self) -> Any:
        """The pair, None while there is none."""
        models = self._models
        return models and models[0]

    @property
    def scheduler(self) -> Any:
        """The pair's scheduler, None while there is none."""
        models = self._models
        return models and models[1]

    def start(self) -> None:
        """Starts loading in the background; later calls do nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load_pair, name="citer-load", daemon=True)
                self._thread.start()

    def change(self, coming: NextPair) -> None:
        """Loads another pair in the background; raises EngineError while one is being loaded.

        If it cannot be loaded, the pair from before is there again, and `status.warning` says why.
        """
        with self._starting:
            if self._thread is None or self._thread.is_alive():
                raise EngineError("A pair is being loaded already, and one is at a time. Wait until it is there.")
            self._thread = threading.Thread(target=self._change, args=(coming,), name="citer-load", daemon=True)
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
        """Ends all texts and the scheduler's thread."""
        if (scheduler := self.scheduler) is not None:
            scheduler.close()

    def _load_pair(self) -> None:
        try:
            self._install(self._load_or_fall_back())
            self.status = replace(self.status, phase="ready")
        except Exception as error:  # the page must say so rather than wait for ever
            self._fail(_in_words(error))
        finally:
            self._loaded.set()

    def _change(self, coming: NextPair) -> None:
        try:
            if coming.first:
                self._let_go()
            if not (there := self._models is not None):
                self._loaded.clear()
            self.status = Status("ready" if there else "loading", coming=there)
            self.news += 1
            self._install(coming.load(self._progress), coming.shared)
            self._again, self.source, self.status = coming.again, coming.source, Status("ready")
        except Exception as error:  # as above
            self._come_back(f"The other pair was not loaded. {_in_words(error)}")
        finally:
            self._loaded.set()
            self.news += 1

    def _come_back(self, reason: str) -> None:
        """The pair from before is there again, loaded anew if it had to go."""
        logger.warning("another pair was not loaded; the page says why")
        try:
            if self._models is None:
                self._install(self._again(self._progress))
            said = self.status.warning or "The pair from before is there."  # or another that stands in for it
            self.status = Status("ready", warning=f"{reason}\n{said}")
        except Exception as error:  # as above
            logger.error("nor was the pair from before; the page says why")
            said = f"{reason}\nNor is the pair from before there any more. {_in_words(error)}"
            self.status = Status("failed", error=said)

    def _install(self, pair: Any, shared: bool = False) -> None:
        """A pair takes the place of the one that is there, if there is one; `_loaded` is left to the caller."""
        models = pair, engine.Scheduler(pair, self._rows)
        self._let_go(shared)
        self._models = models
        self.loaded += 1

    def _let_go(self, shared: bool = False) -> None:
        """Ends all texts of the pair that is there, and frees its memory."""
        models, self._models = self._models, None
        if models is None:
            return
        self._loaded.clear()
        pair, scheduler = models
        self.retire(pair)
        scheduler.close()
        if not shared:
            pair.close()
        pair.unload()

    def _load_or_fall_back(self) -> Any:
        try:
            return self._load(self.preset, progress=self._progress)
        except WeightsError as error:
            if self.preset == FALLBACK:
                raise
            logger.warning("falling back to %s: %s", FALLBACK, error)
            self.source = None
            self.status = Status(
                progress=Progress("tiny pair", source=""), warning=f"Running the {FALLBACK} pair instead. {error}"
            )
            return self._load(FALLBACK, progress=self._progress)

    def _progress(self, progress: Progress) -> None:
        self.status = replace(self.status, progress=progress)

    def _fail(self, message: str) -> None:
        logger.error("no models: %s", message)
        self.status = replace(self.status, phase="failed", error=message, coming=False)


def _in_words(error: Exception) -> str:
    """Why loading stopped, for people."""
    if isinstance(error, EngineError):
        return str(error)
    logger.error("loading failed", exc_info=error)
    return f"Loading stopped with an internal error ({type(error).__name__}: {error}); see the server's log."
