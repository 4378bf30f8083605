"""A session: what one browser window has on its page and running.

Which run goes on from which is decided here; what a run does is in `app.running.run`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from app.fields import DIALS
from app.figures import duration
from app.running.history import History
from app.running.host import Host
from app.running.job import Job, Settle, SomeJob
from app.running.listeners import Listeners
from app.running.run import Run
from engine import Forced, Request, Role, Setting, build_request

KEPT_SECONDS = 300.0
"""Seconds for which a window's text is written on, and its results kept, after the last contact with the window."""

UNHEARD_SECONDS = 15.0
"""Seconds without contact after which a window may lose its place. A busy machine may need several to open a feed."""

SWEEP = "sweep"
"""Kind of the job that writes the map of all settings."""

Admit = Callable[["Session", Job, Collection[Job | None]], None]
"""Called before a session begins a job, with those that end for it; raises Busy where there is no room."""


class Session:
    """What one browser window has.

    Attributes:
        key: Unguessable; opens the window's feed.
        listeners: The window's feeds; notified whenever there may be something to send.
        chosen: Dials that a visitor, a link or a text has set. The router's own values do not replace them.
        place: The slider's position if it was moved before the models were loaded, and so has no threshold; else -1.
        run: The newest run. Before it has tokens, the text on the page is `history.current`.
        jobs: Other jobs by kind, e.g. "compare".
        name: What gradio calls the window; another once the page is loaded again.
        left: Whether the window said that it goes.
        holds: Whether it has had a job or a text. Others may be forgotten at any time.
        address: The client's that asked last; None where it is not known.
    """

    def __init__(self, admit: Admit = lambda session, job, replaced: None, name: str = "") -> None:
        self.name, self.left = name, False
        self.key = secrets.token_urlsafe(18)
        self.listeners = Listeners()
        self.chosen: set[str] = set()
        self.place = -1
        self.run: Run | None = None
        self.history = History()
        self.jobs: dict[str, Job] = {}
        self.holds = False
        self.address: str | None = None
        self._admit = admit
        self._lock = threading.RLock()

    def begin(self, request: Request, host: Host, settle: Settle | None = None) -> Run:
        """Stops the active run, if any, and starts another; for `settle` see `Job`."""
        with self._lock:
            run = Run(request, self.run)
            run.settle = settle or run.settle
            return self._begin(run, host)

    def set_dials(self, threshold: float, acceptance: float, host: Host, policy: str | None = None) -> Run | None:
        """Sets the dials for the next tokens of an active run, or for the whole text if it has ended or is `Run.again`.

        If `policy` is another one than the text was written with, the prompt is written with that policy.

        Returns:
            The run that the page shows instead: a kept one as it was left, or a new one that goes on from the kept text
            of which the most tokens stay. None if no other run takes the place of the newest one.

        Raises:
            InvalidRequest: A dial is out of range.
        """
        wanted = Setting(threshold=threshold, acceptance=acceptance)  # both are checked before either is set
        dials = {"threshold": wanted.threshold, "acceptance": wanted.acceptance}
        with self._lock:
            if host.pair is not None:
                self.chosen.update(DIALS)
            run = self._newest()
            if run is None or run.fixed or not (run.active or run.events):
                return None  # one that was stopped or refused before its first token is begun by Generate alone
            if policy in (None, run.request.setting.policy):
                if run.active and not run.again:
                    run.turn(replace(run.setting, **dials))
                    return None
                return self._write_on(build_request(run.request, **dials), host)
            return self._write_on(build_request(run.request, policy=policy, forced=(), **dials), host)

    def branch(self, index: int, role: Role, token: int | None, host: Host) -> Run | None:
        """Starts a branch in which `role` writes the token at `index`; None where there is no such place.

        `token` is the id of the token to write, None leaves it to that model.
        """
        with self._lock:
            run = self._newest()
            if run is None or run.fixed or run.active or not 0 <= index < len(run.events):
                return None
            before = tuple(forced for forced in run.request.forced if forced.index < index)
            request = replace(run.request, forced=(*before, Forced(index, role, token)))
            return self._begin(Run(request, run, run.folded[:index]), host)

    def extend(self, more: int, host: Host) -> Run | None:
        """Goes on from a text that ended at its limit, by at most so many tokens, or from one that was stopped or
        failed, up to its limit; None where it is neither.

        The last token of a text that had ended is written again, since the end may have cut what was shown of it.
        Raises InvalidRequest if `more` is out of range.
        """
        with self._lock:
            run = self._newest()
            if run is None or not run.extendable:
                return None
            replace(run.request, max_new_tokens=more)  # so that a bad number is refused by its own value
            end, limit = run.events[-1].finish_reason, run.request.max_new_tokens
            kept = run.folded if end is None else run.folded[:-1]
            if end == "length":
                limit = len(run.events) + more
            request = replace(run.settings, max_new_tokens=limit)
            return self._begin(Run(request, run, kept), host)

    def go_to(self, run_id: str) -> Run | None:
        """Puts a version on the page as it was left; None where it is there already or no longer kept."""
        with self._lock:
            run = self.history.find(run_id)
            if run is None or run is self.history.current:
                return None
            return self._show(run)

    def can_step(self, by: int) -> bool:
        """Whether there is something to undo (-1) or to redo (1)."""
        return self.history.next_step(by, self.run) is not None

    def step(self, by: int) -> Run | None:
        """Undoes (-1) or redoes (1) the last change of the text; None at the ends."""
        with self._lock:
            at = self.history.next_step(by, self.run)
            return None if at is None else self._show(self.history.go(at))

    def write_at(self, request: Request, host: Host, swept: Run | None = None) -> Run | None:
        """Shows a text of the map, which is `swept`, or writes it as `set_dials` does."""
        with self._lock:
            self.chosen.update(DIALS)
            return self._write_on(request, host, swept)

    def show(self, run: Run) -> None:
        """Puts a text that was opened on the page, in place of the one that is there or being written."""
        with self._lock:
            self.chosen.update(DIALS)
            self._put(run)

    def begin_job(self, kind: str, job: SomeJob, host: Host) -> SomeJob:
        """Starts a job and returns it; an active one of its kind is stopped, unless it is refused."""
        with self._lock:
            former = self.jobs.get(kind)
            self._admit(self, job, [former])
            if former is not None:
                former.cancel.set()
            self.jobs[kind] = job
        return self._start(job, host)

    @property
    def working(self) -> list[Job]:
        return [job for job in (self.run, *self.jobs.values()) if job is not None and job.active]

    @property
    def active(self) -> bool:
        return bool(self.working)

    @property
    def in_use(self) -> bool:
        """Whether a window listens, or something is written for one that did so a moment ago."""
        return len(self.listeners) > 0 or (self.active and not self.is_alone)

    @property
    def is_alone(self) -> bool:
        """Whether it was not heard of for a while."""
        return self.listeners.unheard_seconds > UNHEARD_SECONDS

    @property
    def is_over(self) -> bool:
        return self.left and self.listeners.unheard_seconds > KEPT_SECONDS

    def leave(self) -> None:
        """The window goes. Its text is written on for a while, since it may come back; everything else stops."""
        self.left = True
        self.listeners.last_heard = time.monotonic()
        for job in [*self.jobs.values()]:
            job.cancel.set()

    @property
    def weight(self) -> int:
        """What it keeps, in tokens: see `Job.weight`."""
        return self.history.weight + self._beside

    @property
    def _beside(self) -> int:
        return sum(job.weight for job in [*self.jobs.values()])

    def close(self) -> None:
        for job in filter(None, (self.run, *self.jobs.values())):
            job.cancel.set()

    def _write_on(self, request: Request, host: Host, swept: Run | None = None) -> Run | None:
        """Shows a kept text or begins a run, as in `set_dials`; None if the newest run already has this text.

        `swept` is the whole text, where the map has it.
        """
        run = self.run
        if run is not None and run.active and run.request == request:
            return None
        nearest, stays, whole = self.history.nearest(request)
        if swept is not None and not whole:
            self._put(swept)
            self.listeners.notify()
            return swept
        if nearest is None or not whole:
            return self._begin(Run(request, run, stays if nearest else None), host)
        return None if nearest is run else self._show(nearest)

    def _begin(self, run: Run, host: Host) -> Run:
        return self._start(self._put(run), host)

    def _put(self, run: Run) -> Run:
        """Makes a run the newest one and returns it. The run before it is stopped. Raises Busy if there is no room."""
        self._admit(self, run, [self.run])
        self._interrupt()
        self.run = run
        self._note()
        return run

    def _note(self) -> None:
        """Takes the newest run into the history once it has tokens."""
        run = self.run
        if run is not None and run.events and run not in self.history.versions:
            self.history.add(run, self._beside)

    def _show(self, run: Run) -> Run:
        """Puts a kept text on the page as it was left, as a step of its own unless it is the current one."""
        self._interrupt()
        if run is not self.history.current:
            self.history.show(run)
        self._bring_back(run)
        self.chosen.update(DIALS)
        self.listeners.last_heard = time.monotonic()
        self.listeners.notify()
        return run

    def _newest(self) -> Run | None:
        """The newest run. If it ended without a token, the text still on the page becomes the newest run first."""
        run, current = self.run, self.history.current
        if run is not None and current is not None and not (run.active or run.events):
            self._bring_back(current)
        return self.run

    def _bring_back(self, run: Run) -> None:
        """Makes a kept text the newest run, so that it is sent to the page again."""
        run.show_again(self.run)
        self.run = run

    def _interrupt(self) -> None:
        """Stops the newest run, as another text takes its place."""
        if self.run is not None:
            self.run.interrupted |= self.run.active
            self.run.cancel.set()

    def _start(self, job: SomeJob, host: Host) -> SomeJob:
        def look() -> None:
            if self.listeners.unheard_seconds > KEPT_SECONDS:
                job.about = f"Stopped, because this window was not connected for {duration(KEPT_SECONDS)}"
                job.cancel.set()

        def notify() -> None:
            with self._lock:
                self._note()
            self.listeners.notify()

        self.listeners.last_heard = time.monotonic()
        job.owner, job.notify, job.look = self.key, notify, look
        self.listeners.notify()
        return job.start(host)
