"""Runs and the sessions they belong to: who asked for what, how far it is, and how to stop it.

A run writes in its own thread, so that the models never wait for the page; whoever shows it reads its events as they
come. Sessions are bounded and never see each other. Knows nothing of gradio.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakSet

from app.host import Host
from engine import Dial, EngineError, Prices, Request, TokenEvent

State = Literal["waiting", "running", "done", "stopped", "failed"]

logger = logging.getLogger(__name__)


class Run:
    """One text being written.

    Attributes:
        id: Unguessable; whoever knows it may ask for its tokens again.
        number: Grows from run to run, across restarts too, so that late news of an older run can be told from new.
        request: What was asked.
        untouched: Whether its threshold is nobody's choice; then it becomes the router's own once the models are there.
        dial: Its threshold; a change applies to the next token.
        cancel: Set to stop the models within one step.
        events: So far; only ever appended to.
        state: "waiting" for models or for its turn, then "running", then one of the three ends.
        error: Why it failed.
        pair: The models that write it, once there are any.
        prompt_tokens: Tokens of the rendered prompt.
    """

    def __init__(self, request: Request, after: Run | None = None, untouched: bool = False) -> None:
        now = int(1000 * time.time())
        self.number = max(now, after.number + 1) if after else now
        self.id = secrets.token_urlsafe(12)
        self.request, self.untouched = request, untouched
        self.dial = Dial(request.threshold)
        self.cancel = threading.Event()
        self.finished = threading.Event()
        self.events: list[TokenEvent] = []
        self.state: State = "waiting"
        self.error: str | None = None
        self.pair: Any = None
        self.prompt_tokens = 0

    def start(self, host: Host) -> Run:
        """Starts writing in a thread of its own; returns itself."""
        threading.Thread(target=self.work, args=(host,), name=f"citer-run-{self.number}", daemon=True).start()
        return self

    def work(self, host: Host) -> None:
        """Waits for the models and its turn, then writes until the end or until cancelled. Never raises."""
        end: State = "failed"
        try:
            self.pair = host.wait(self.cancel)
            with host.turn(self, self.cancel) as mine:
                if mine and self.pair is not None:
                    self._write()
            end = "stopped" if self.cancel.is_set() and not self._complete else "done"
        except EngineError as error:
            self.error = str(error)
        except Exception as error:  # a visitor sees what happened; the log has the traceback
            logger.exception("run failed")
            self.error = f"The models stopped with an internal error ({type(error).__name__}: {error})."
        finally:
            self.state = end  # before `finished`: who sees that must see how
            self.finished.set()

    @property
    def _complete(self) -> bool:
        return bool(self.events) and self.events[-1].finish_reason not in (None, "cancelled")

    def _write(self) -> None:
        if self.untouched and self.dial.threshold == self.request.threshold:
            # Asked for while the models loaded: the page's slider is about to move there, and a short text is faster.
            self.request = replace(self.request, threshold=self.pair.threshold)
            self.dial.threshold = self.pair.threshold
        self.prompt_tokens = self.pair.check(self.request)
        self.state = "running"
        with closing(self.pair.stream(self.request, dial=self.dial, cancel=self.cancel)) as stream:
            for event in stream:
                self.events.append(event)
                if self.cancel.is_set():
                    return


@dataclass(frozen=True)
class View:
    """In what the costs of a text are shown; changes without running anything.

    Attributes:
        number: Counts the changes, so that the browser can tell old figures from new.
        unit: One of `engine.UNITS`.
        prices: For the unit "price".
    """

    number: int = 0
    unit: str = "bytes"
    prices: Prices = field(default_factory=Prices)


class Session:
    """What one browser window has: a view, the newest run, and the run whose text is on its page."""

    def __init__(self, view: View | None = None) -> None:
        self.view = view or View()
        self.touched = False  # whether the visitor has moved the threshold
        self.run: Run | None = None
        self.shown: Run | None = None
        self._adopted: WeakSet[Run] = WeakSet()
        self._lock = threading.Lock()

    def begin(self, request: Request, host: Host, untouched: bool = False) -> Run:
        """Stops the run that is on, if any, and starts another; for `untouched` see `Run`."""
        with self._lock:
            self.stop()
            run = self.run = Run(request, self.run, untouched)
        return run.start(host)

    def adopt(self, run: Run) -> Run:
        """Ties a run to this session's life without showing it; returns it."""
        self._adopted.add(run)
        return run

    def stop(self) -> None:
        """Stops the newest run within one step; does nothing if none is on."""
        if self.run is not None:
            self.run.cancel.set()

    def close(self) -> None:
        """Stops everything this session has running."""
        self.stop()
        for run in list(self._adopted):
            run.cancel.set()

    def look(self, unit: str, prices: Prices) -> View:
        """Changes the view and returns the new one, or the old one where nothing changed."""
        with self._lock:
            if (unit, prices) != (self.view.unit, self.view.prices):
                self.view = View(self.view.number + 1, unit, prices)
            return self.view


class Sessions:
    """The sessions of all visitors, least recently used ones dropped.

    Args:
        limit: How many are kept.
        view: What a new session starts with.
    """

    def __init__(self, limit: int = 64, view: View | None = None) -> None:
        self._limit, self._view = limit, view
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str | None) -> Session:
        """The session of a browser window, made on first use."""
        name = key or ""
        with self._lock:
            session = self._sessions.setdefault(name, Session(self._view))
            self._sessions.move_to_end(name)
            dropped = [self._sessions.popitem(last=False)[1] for _ in range(len(self._sessions) - self._limit)]
        for old in dropped:
            old.close()
        return session

    def drop(self, key: str | None) -> None:
        """Forgets a session and stops its run."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            session.close()

    def find(self, run_id: str) -> tuple[Session, Run] | None:
        """The run with this id and its session, if it is still kept."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            for run in (session.run, session.shown):
                if run is not None and run.id == run_id:
                    return session, run
        return None
