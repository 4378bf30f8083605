"""Sessions: what each browser window has on its page and running, bounded, and never seen by another window.

Which run goes on from which is decided here; what a run does is in `app.running.run`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from app.fields import ALTERNATIVES
from app.running.history import History, Version
from app.running.host import Host
from app.running.places import LATER, Busy, Places
from app.running.run import Change, Job, Listeners, Run, SomeJob
from engine import DEFAULT_THRESHOLD, Dial, Forced, InvalidRequest, Prices, Request, Role, TokenEvent, at_dials

MAX_EMPTY = 1_024
"""Windows that have nothing yet of which anything is kept: a few hundred bytes each."""

LONGEST_HASH = 100
"""Characters of what a window calls itself; gradio's have some ten, and its Python client's 36."""

UNHEARD_SECONDS = 3.0
"""How long a job works though no feed is open: what was asked for by a window that is gone by now stops."""

SWEEP = "sweep"
"""Kind of the job whose texts the slider scrubs through."""


Admit = Callable[["Session", Job, Collection[Job | None]], None]
"""Called before a session begins a job, with those that end for it; raises Busy where there is no room."""


@dataclass(frozen=True)
class View:
    """How the costs of a text are shown: in one of `engine.UNITS`, and at which prices. Changing it runs nothing."""

    number: int = 0  # counts the changes, so that the browser can tell old figures from new
    unit: str = "bytes"
    prices: Prices = field(default_factory=Prices)


class Session:
    """What one browser window has.

    Attributes:
        key: Unguessable; opens the window's feed.
        listeners: The window's feeds; notified whenever there may be something to send.
        moved: Which of the dials, "threshold" and "acceptance", the visitor has moved.
        run, shown: The newest run, and the one whose text is on its page.
        history: The texts that it has had, `run`'s among them.
        jobs: Other jobs by kind, e.g. "compare".
        scrubbing: Whether the slider scrubs through the texts of a sweep, so that moving it writes nothing.
        holds: Whether it was ever let have a job or a text, which is all that is worth keeping.
    """

    def __init__(self, view: View | None = None, admit: Admit = lambda session, job, replaced: None) -> None:
        self.key = secrets.token_urlsafe(18)
        self.listeners = Listeners()
        self.view = view or View()
        self.moved: set[str] = set()
        # Where they were last; one that the settings name is never replaced.
        self._dials = {"threshold": DEFAULT_THRESHOLD, "acceptance": 0.0}
        self.run: Run | None = None
        self.shown: Run | None = None
        self.history = History()
        self.jobs: dict[str, Job] = {}
        self.scrubbing = False
        self.holds = False
        self._admit = admit
        self._lock = threading.Lock()

    def begin(self, request: Request, host: Host, router_dials: Collection[str] = ()) -> Run:
        """Stops the active run, if any, and starts another; for `router_dials` see `Run`."""
        with self._lock:
            return self._start(self._put(Run(request, self.run, router_dials)), host)

    def put_dials(self, threshold: float, acceptance: float) -> None:
        """Notes that the page itself put the sliders there: going back from it is the visitor's choice."""
        with self._lock:
            self._dials = {"threshold": threshold, "acceptance": acceptance}

    def set_dials(self, threshold: float, acceptance: float, host: Host) -> Run | None:
        """Sets the dials for the next tokens while a text is being written; for the whole text once it has ended.

        Returns, in the second case, the run whose text is there then: a kept one as it was left, or a new one that
        goes on from the kept text that is the same the longest. Else None. Raises InvalidRequest if out of range.
        """
        wanted = Dial(threshold, acceptance)  # both are checked before either is set
        dials = {"threshold": wanted.threshold, "acceptance": wanted.acceptance}
        with self._lock:
            # Both dials come, also where a hand is on one of them.
            self.moved |= {name for name, value in dials.items() if value != self._dials[name]}
            self._dials = dials
            run = self.run
            if run is None or run.fixed or self.scrubbing:
                return None
            if run.active and not run.again:
                run.dial.threshold, run.dial.acceptance = wanted.threshold, wanted.acceptance
                return None
            request = replace(run.request, **dials)
            if run.active and run.request == request:
                return None
            version, whole = self.history.nearest(run, **dials)
            if whole:
                return None if version is self.history.current else self._show(version, step=True)
            change = Change(version.text, lambda origin: at_dials(origin.request, origin.folded, **dials))
            return self._start(self._put(self._continued(request, change)), host)

    def branch(self, index: int, role: Role, token: int | None, host: Host) -> Run | None:
        """Starts a branch in which `role` writes the token at `index`; None where there is no such place.

        `token` is the id of the token to write, None leaves it to that model.
        """
        with self._lock:
            run = self.run
            if run is None or run.fixed or run.active or not 0 <= index < len(run.events):
                return None
            before = tuple(forced for forced in run.request.forced if forced.index < index)
            request = replace(run.request, forced=(*before, Forced(index, role, token)))
            change = Change(run, lambda origin: (request, origin.folded[:index]))
            return self._start(self._put(self._continued(request, change)), host)

    def go_to(self, number: int) -> Run | None:
        """Puts a version on the page as it was left; None where it is there already or no longer kept."""
        with self._lock:
            version = self.history.find(number)
            if version is None or (version is self.history.current and not self.scrubbing):
                return None
            return self._show(version, step=version is not self.history.current)

    def can_step(self, by: int) -> bool:
        """Whether there is something to undo (-1) or to redo (1)."""
        current = self.history.current
        if self.scrubbing and by < 0:  # a sweep's texts are there in the place of the current one
            return current is not None and bool(current.text.events)
        return self.history.can_step(by)

    def step(self, by: int) -> Run | None:
        """Undoes (-1) or redoes (1) the last change of the text; None at the ends."""
        with self._lock:
            if not self.can_step(by):
                return None
            version = self.history.current if self.scrubbing and by < 0 else self.history.step(by)
            return self._show(version) if version is not None else None

    def reveal(self, host: Host) -> Run | None:
        """Lets both models read the rest of a text that was cut short, for an audit; None where that is not needed."""
        with self._lock:
            run = self.run
            if run is None or run.fixed or run.active or not run.events:
                return None
            change = Change(run, lambda origin: (origin.request, origin.folded), reveal=True)
            again = self._continued(run.request, change)
            self._admit(self, again, [run])
            self.run = again
            self.history.take_over(again)
            return self._start(again, host)

    def continue_from(self, origin: Run, threshold: float, acceptance: float, host: Host) -> Run:
        """Goes on at other dials from an ended text that is none of its versions, e.g. a sweep's.

        What flips there is written anew, and both models read the rest for its candidates. Raises InvalidRequest if a
        dial is out of range.
        """
        request = replace(origin.request, threshold=threshold, acceptance=acceptance, alternatives=ALTERNATIVES)

        def plan(text: Run) -> tuple[Request, Sequence[TokenEvent]]:
            return request, at_dials(request, text.folded, threshold, acceptance)[1]

        with self._lock:
            run = Run(request, self.run, change=Change(origin, plan, reveal_prefix=True))
            return self._start(self._put(run), host)

    def show(self, run: Run) -> None:
        """Puts a text that was opened on the page, in place of the one that is there or being written."""
        with self._lock:
            self.shown = self._put(run)

    def begin_job(self, kind: str, job: SomeJob, host: Host) -> SomeJob:
        """Starts a job and returns it; an active one of its kind is stopped."""
        with self._lock:
            self._admit(self, job, [self.jobs.get(kind)])
            self.stop_job(kind)
            self.jobs[kind] = job
        return self._start(job, host)

    @property
    def active(self) -> bool:
        """Whether anything that is shown is being written."""
        return any(job is not None and job.active for job in (self.run, *self.jobs.values()))

    @property
    def in_use(self) -> bool:
        """Whether something is being written, or a window listens."""
        return self.active or len(self.listeners) > 0

    def stop(self) -> None:
        """Stops the newest run within one step."""
        if self.run is not None:
            self.run.cancel.set()

    def stop_job(self, kind: str) -> None:
        """Stops the job of a kind within one step."""
        if kind in self.jobs:
            self.jobs[kind].cancel.set()

    def close(self) -> None:
        """Stops all jobs of this session."""
        self.stop()
        for job in [*self.jobs.values()]:
            job.cancel.set()

    def set_view(self, unit: str, prices: Prices) -> View:
        """Changes the view and returns the new one, or the old one where nothing changed."""
        with self._lock:
            if (unit, prices) != (self.view.unit, self.view.prices):
                self.view = View(self.view.number + 1, unit, prices)
            return self.view

    def _put(self, run: Run) -> Run:
        """Lets a run write another text, in place of everything that is on the tab; returns it."""
        self._admit(self, run, [self.run, self.jobs.get(SWEEP)])
        self._clear()
        self.run = run
        self.history.begin(run)
        return run

    def _show(self, version: Version, step: bool = False) -> Run:
        """Puts a kept text on the page as it was left, as a step of its own or as one that is undone or redone."""
        self._clear()
        if step:
            self.history.show(version)
        run = version.text
        run.show_again(self.run)
        version.run, version.before, self.run = run, None, run
        self._dials = {"threshold": run.request.threshold, "acceptance": run.request.acceptance}
        self.moved.update(self._dials)
        self.listeners.last_heard = time.monotonic()
        self.listeners.notify()
        return run

    def _clear(self) -> None:
        self.stop()
        self.stop_job(SWEEP)
        self.scrubbing = False

    def _continued(self, request: Request, change: Change) -> Run:
        """A run that goes on from another; it is of the family of the one on the page, which has the same prompt."""
        run = Run(request, self.run, change=change)
        if self.run is not None:
            run.family = self.run.family
        return run

    def _start(self, job: SomeJob, host: Host) -> SomeJob:
        def look() -> None:
            if self.listeners.unheard_seconds > UNHEARD_SECONDS:
                job.cancel.set()

        self.listeners.last_heard = time.monotonic()
        job.owner, job.notify, job.look = self.key, self.listeners.notify, look
        self.listeners.notify()
        return job.start(host)


class Sessions:
    """The sessions of all visitors.

    At most `limit` that have a text or a job. One that is in use is never dropped for another: then the newcomer is
    refused; else the least recently used is. Of those that have nothing at most `MAX_EMPTY` are remembered.

    Args:
        limit: How many.
        view: A new session's.
        places: For their jobs; None sets no limit.
        address: Gives the address of who is asking now; None where it is not known.
        leave: Is told the key of a session that is dropped.
    """

    def __init__(
        self,
        limit: int = 64,
        view: View | None = None,
        places: Places | None = None,
        address: Callable[[], str | None] = lambda: None,
        leave: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._limit, self._view, self._places, self._address = limit, view, places, address
        self._leave = leave
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str | None) -> Session:
        """The session of a browser window; one that is not known here is new, and kept once it begins something.

        Raises:
            InvalidRequest: Its name is too long.
        """
        name = key or ""
        if len(name) > LONGEST_HASH:
            raise InvalidRequest(f"session_hash has {len(name):,} characters; at most {LONGEST_HASH} are accepted.")
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                return Session(self._view, lambda *asked: self._admit(name, *asked))
            self._sessions.move_to_end(name)
            return session

    def enter(self, key: str | None) -> Session:
        """`get` for a window that was just opened: what it is told now holds for what it begins later."""
        name, session = key or "", self.get(key)
        with self._lock:
            session = self._sessions.setdefault(name, session)
            empty = [other for other, of in self._sessions.items() if not of.holds and not of.in_use]
            for other in empty[: max(0, len(empty) - MAX_EMPTY)]:
                del self._sessions[other]
        return session

    def _admit(self, name: str, session: Session, job: Job, replaced: Collection[Job | None]) -> None:
        """Before a session begins a job: finds a place for both, or raises Busy."""
        with self._lock:
            others = {other: of for other, of in self._sessions.items() if of.holds and other != name}
            idle = None
            if len(others) >= self._limit:
                idle = next((other for other, of in others.items() if not of.in_use), None)
                if idle is None:
                    raise Busy(f"{self._limit} visitors are here, which is all there is room for. {LATER}")
            if self._places is not None and job.active:
                self._places.take(job, self._address(), replaced)
            dropped = self._sessions.pop(idle) if idle is not None else None
            doubled = self._sessions.get(name)  # made where nobody kept this one yet
            self._sessions[name] = session
            self._sessions.move_to_end(name)
            session.holds = True
        for other in (dropped, doubled):
            if other is not None and other is not session:
                self._close(other)

    def drop(self, key: str | None) -> None:
        """Forgets a session and stops its run."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            self._close(session)

    def find_key(self, key: str) -> Session | None:
        """The session whose feed has this key."""
        return next((session for session in self._all() if session.key == key), None)

    def find_job(self, kind: str, job_id: str) -> Job | None:
        """The job of a kind with this id, if it is still there."""
        jobs = (session.jobs.get(kind) for session in self._all())
        return next((job for job in jobs if job is not None and job.id == job_id), None)

    def find(self, run_id: str) -> tuple[Session, Run] | None:
        """The run with this id and its session, if it is still there."""
        runs = ((session, run) for session in self._all() for run in (session.run, session.shown))
        return next(((session, run) for session, run in runs if run is not None and run.id == run_id), None)

    def _close(self, session: Session) -> None:
        session.close()
        self._leave(session.key)

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())
