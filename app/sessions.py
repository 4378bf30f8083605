"""Sessions: what each browser window has on its page and running, bounded, and never seen by another.

Knows which run goes on from which; what a run does is in `app.runs`. Knows nothing of gradio.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakSet

from app.bell import Bell
from app.forms import ALTERNATIVES
from app.host import Host
from app.jobs import Job, SomeJob
from app.runs import Branch, Change, Run
from engine import Dial, Forced, InvalidRequest, Prices, Request, Role, TokenEvent, at_threshold

KEPT_CACHES = 8
"""Sessions whose models' caches are kept after a text: up to 80 MB each with the cpu pair's 2,048 tokens of context."""

MAX_BRANCHES = 12

UNHEARD_SECONDS = 3.0
"""How long something is written though no feed is open: what was asked for by a window that is gone by now stops."""

SWEEP = "sweep"
"""Kind of the job whose texts the slider scrubs through."""


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
    """What one browser window has.

    Attributes:
        key: Unguessable; whoever knows it may open the window's feed.
        bell: Rung whenever there may be news for the feed.
        view: In what costs are shown.
        touched: Whether the visitor has moved the threshold.
        run: The newest run.
        shown: The run whose text is on its page.
        branches: The tree of texts that `run` belongs to.
        jobs: Other jobs by kind.
        scrubbing: Whether the slider scrubs through the texts of a sweep, so that nothing is to be written for it.
    """

    def __init__(self, view: View | None = None) -> None:
        self.key = secrets.token_urlsafe(18)
        self.bell = Bell()
        self.view = view or View()
        self.touched = False
        self.run: Run | None = None
        self.shown: Run | None = None
        self.branches: list[Branch] = []
        self.jobs: dict[str, Job] = {}
        self.scrubbing = False
        self._adopted: WeakSet[Job] = WeakSet()
        self._lock = threading.Lock()

    def begin(self, request: Request, host: Host, untouched: bool = False) -> Run:
        """Stops the run that is on, if any, and starts another; for `untouched` see `Run`."""
        with self._lock:
            run = self._plant(Run(request, self.run, untouched))
        return self._start(run, host)

    def turn(self, threshold: float, host: Host) -> Run | None:
        """Sets the threshold: of the next token, while a text is being written; of the whole text, once there is one.

        Returns:
            The run that writes what changes in the second case; None where there is nothing to do.

        Raises:
            InvalidRequest: The threshold is out of range.
        """
        self.touched = True
        with self._lock:
            run = self.run
            if run is None or run.fixed or self.scrubbing:
                return None
            if run.on and not run.again:
                run.dial.threshold = threshold
                return None
            wanted = Dial(threshold).threshold
            change = Change(run, lambda origin: at_threshold(origin.request, origin.folded, wanted))
            return self._go_on(replace(run.request, threshold=wanted), change, host)

    def branch(self, index: int, role: Role, token: int | None, host: Host) -> Run | None:
        """Starts a branch at a token: another model's token there, or a given one; None where there is no such place.

        Args:
            index: Of the token to replace.
            role: Who writes it instead.
            token: Its id; None leaves it to that model.
            host: Has the models.

        Raises:
            InvalidRequest: There are too many branches.
        """
        with self._lock:
            run = self.run
            if run is None or run.fixed or run.on or not 0 <= index < len(run.events):
                return None
            if len(self.branches) >= MAX_BRANCHES:
                raise InvalidRequest(f"There are {MAX_BRANCHES} branches, which is all that are kept: generate anew.")
            before = tuple(forced for forced in run.request.forced if forced.index < index)
            request = replace(run.request, forced=(*before, Forced(index, role, token)))
            change = Change(run, lambda origin: (request, origin.folded[:index]))
            return self._go_on(request, change, host, Branch(len(self.branches), run.branch, index, run))

    def go_to(self, number: int, host: Host) -> Run | None:
        """Goes back to a branch as it was left; None where there is none of this number, or a text is being written."""
        with self._lock:
            if self.run is None or self.run.on or not 0 <= number < len(self.branches):
                return None
            run = self.branches[number].run
            return self._go_on(run.request, Change(run, lambda origin: (origin.request, origin.folded)), host)

    def reveal(self, host: Host) -> Run | None:
        """Lets both models read the rest of a text that was cut short, for an audit; None where that is not needed."""
        with self._lock:
            run = self.run
            if run is None or run.fixed or run.on or not run.events:
                return None
            change = Change(run, lambda origin: (origin.request, origin.folded), reveal=True)
            return self._go_on(run.request, change, host)

    def open(self, origin: Run, threshold: float, host: Host) -> Run:
        """Goes on from a text that is on no branch, e.g. one of a sweep, at a threshold; it begins a new tree.

        Args:
            origin: Has ended.
            threshold: What flips there is written anew, and both models read the rest for its candidates.
            host: Has the models.

        Raises:
            InvalidRequest: The threshold is out of range.
        """
        asked = replace(origin.request, threshold=Dial(threshold).threshold, alternatives=ALTERNATIVES)
        with self._lock:

            def plan(text: Run) -> tuple[Request, Sequence[TokenEvent]]:
                return asked, at_threshold(asked, text.folded, threshold)[1]

            run = self._plant(Run(asked, self.run, change=Change(origin, plan, reveal_kept=True)))
        return self._start(run, host)

    def show(self, run: Run) -> None:
        """Puts a text that was opened on the page, in place of the one that is there or being written."""
        with self._lock:
            self.shown = self._plant(run)

    def _plant(self, run: Run) -> Run:
        """Lets a run begin a new tree of texts, in place of everything that is on the tab; returns it."""
        self.stop()
        self.stop_job(SWEEP)
        self.scrubbing = False
        self.run = run
        self.branches = run.branches = [Branch(0, None, 0, run)]
        return run

    def _go_on(self, request: Request, change: Change, host: Host, branch: Branch | None = None) -> Run:
        assert self.run is not None
        self.run.cancel.set()
        run = Run(request, self.run, change=change)
        run.branches = self.branches
        if branch is not None:
            run.branch = branch.number
            self.branches.append(branch)
        self.branches[run.branch].run = self.run = run
        return self._start(run, host)

    def begin_job(self, kind: str, job: SomeJob, host: Host) -> SomeJob:
        """Starts a job of some kind, e.g. "compare"; one of the same kind that is on is stopped. Returns the job."""
        with self._lock:
            self.stop_job(kind)
            self.jobs[kind] = job
        return self._start(job, host)

    def _start(self, job: SomeJob, host: Host) -> SomeJob:
        def ring() -> None:
            self.bell.ring()
            if self.bell.unheard > UNHEARD_SECONDS:
                job.cancel.set()

        self.bell.since = time.monotonic()
        job.ring = ring
        ring()
        return job.start(host)

    @property
    def on(self) -> bool:
        """Whether anything that is shown is being written."""
        return any(job is not None and job.on for job in (self.run, *self.jobs.values()))

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

    def trim(self) -> None:
        """Gives up the caches of all but the most recently used sessions; their texts stay."""
        with self._lock:
            sessions = list(reversed(self._sessions.values()))
        holding = [run for s in sessions if (run := s.run) is not None and run.caches.decoding is not None]
        for run in holding[KEPT_CACHES:]:
            if not run.on:
                run.caches.decoding = None

    def drop(self, key: str | None) -> None:
        """Forgets a session and stops its run."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            session.close()

    def find_key(self, key: str) -> Session | None:
        """The session whose feed has this key."""
        with self._lock:
            return next((session for session in self._sessions.values() if session.key == key), None)

    def find_job(self, kind: str, job_id: str) -> Job | None:
        """The job of a kind with this id, if it is still kept."""
        with self._lock:
            found = [session.jobs[kind] for session in self._sessions.values() if kind in session.jobs]
        return next((job for job in found if job.id == job_id), None)

    def find(self, run_id: str) -> tuple[Session, Run] | None:
        """The run with this id and its session, if it is still kept."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            for run in (session.run, session.shown):
                if run is not None and run.id == run_id:
                    return session, run
        return None
