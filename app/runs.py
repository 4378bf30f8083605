"""Runs and the sessions they belong to: who asked for what, how far it is, and how to stop it.

A run writes in its own thread, so that the models never wait for the page; whoever shows it reads its events as they
come. Sessions are bounded and never see each other. Knows nothing of gradio.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, field, replace
from weakref import WeakSet

from app.host import Host
from app.jobs import Job, SomeJob
from engine import Dial, Prices, Request, TokenEvent


class Run(Job):
    """One text being written.

    Attributes:
        request: What was asked.
        untouched: Whether its threshold is nobody's choice; then it becomes the router's own once the models are there.
        dial: Its threshold; a change applies to the next token.
        events: So far; only ever appended to.
        prompt_tokens: Tokens of the rendered prompt.
    """

    def __init__(self, request: Request, after: Job | None = None, untouched: bool = False) -> None:
        super().__init__(after)
        self.request, self.untouched = request, untouched
        self.dial = Dial(request.threshold)
        self.events: list[TokenEvent] = []
        self.prompt_tokens = 0

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
    """What one browser window has: a view, the newest run, the run whose text is on its page, other jobs by kind."""

    def __init__(self, view: View | None = None) -> None:
        self.view = view or View()
        self.touched = False  # whether the visitor has moved the threshold
        self.run: Run | None = None
        self.shown: Run | None = None
        self.jobs: dict[str, Job] = {}
        self._adopted: WeakSet[Job] = WeakSet()
        self._lock = threading.Lock()

    def begin(self, request: Request, host: Host, untouched: bool = False) -> Run:
        """Stops the run that is on, if any, and starts another; for `untouched` see `Run`."""
        with self._lock:
            self.stop()
            run = self.run = Run(request, self.run, untouched)
        return run.start(host)

    def begin_job(self, kind: str, job: SomeJob, host: Host) -> SomeJob:
        """Starts a job of some kind, e.g. "compare"; one of the same kind that is on is stopped. Returns the job."""
        with self._lock:
            self.stop_job(kind)
            self.jobs[kind] = job
        return job.start(host)

    def stop_job(self, kind: str) -> None:
        """Stops the job of a kind within one step; does nothing if none is on."""
        if kind in self.jobs:
            self.jobs[kind].cancel.set()

    def adopt(self, job: SomeJob) -> SomeJob:
        """Ties a job to this session's life without showing it; returns it."""
        self._adopted.add(job)
        return job

    def stop(self) -> None:
        """Stops the newest run within one step; does nothing if none is on."""
        if self.run is not None:
            self.run.cancel.set()

    def close(self) -> None:
        """Stops everything this session has running."""
        self.stop()
        for job in [*self.jobs.values(), *self._adopted]:
            job.cancel.set()

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
