"""What a browser window lacks of what is being written: per panel, its news. Knows what is due when; not how it goes.

Figures go out at most once a second, and less often where they take long to fold, so that following costs little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.dashboard import dashboard_message, new_tally
from app.host import Host
from app.jobs import Job
from app.runs import Kept, Run
from app.sessions import Session
from app.token_stream import token_message
from engine import Tally

FIGURE_SECONDS = 1.0
_FOLDING_SHARE = 0.02  # at most this share of the time goes into folding figures

NOTHING = Kept(0, 0)


@dataclass(frozen=True)
class Known:
    """What a browser has of a panel.

    Attributes:
        number: Of the job.
        have: How many of its items.
        over: Whether it saw its end.
    """

    number: int = -1
    have: int = 0
    over: bool = False


class News:
    """What one panel of one window lacks."""

    def fresh(self) -> Iterator[str]:
        """The messages that are due now, as JSON."""
        raise NotImplementedError


class TextNews(News):
    """The tokens of the run that is on, and of whichever takes its place.

    A run that goes on from another begins with tokens that are on the page already; only what follows them is sent.
    An opened text is put on the page by gradio, and while the slider scrubs through a sweep, another text is there.

    Args:
        session: Whose runs; its `shown` becomes the one of which tokens were sent.
        host: Says what a run waits for.
        known: What the browser has.
    """

    def __init__(self, session: Session, host: Host, known: Known) -> None:
        self._session, self._host = session, host
        self._page = next((run for run in (session.run, session.shown) if run and run.number == known.number), None)
        same = self._page is not None and self._page is session.run
        self._run = session.run if same else None
        self._sent, self._over, self._begun = (known.have, known.over, True) if same else (0, False, False)
        self._told, self._kept = "", NOTHING

    def fresh(self) -> Iterator[str]:
        """See `News`."""
        run = self._session.run
        if run is None or self._session.scrubbing:
            return
        if run is not self._run:
            self._run, self._sent, self._over, self._begun, self._told, self._kept = run, 0, False, False, "", NOTHING
            if run.fixed:
                self._page, self._over = run, True
        if self._over:
            return
        over = run.finished.is_set()  # before the events: a run that is done by now has all of them
        note, count = "" if over else waiting_for(run, self._host), len(run.events)
        if count and not self._begun:
            self._begun, self._kept = True, kept_of(self._page, run)
            self._sent = self._kept.count
        if not over and count <= self._sent and note == self._told:
            return
        if count > self._sent or (over and count):
            self._session.shown = self._page = run
        message = token_message(run, self._sent, None if over else count, note, self._kept)
        self._sent, self._told, self._over = max(self._sent, count), note, over
        yield message


class FigureNews(News):
    """Meter and points of the text that is on the page; asked after `TextNews`, with the same arguments."""

    def __init__(self, session: Session, host: Host, known: Known) -> None:
        self._session, self._view = session, session.view
        shown = session.shown
        same = shown is not None and shown.number == known.number
        self._run = shown if same else None
        self._points = known.have if same else 0
        self._over = shown is not None and same and not shown.on and known.have >= len(shown.events)
        self._tally: Tally | None = None
        self._due = 0.0

    def fresh(self) -> Iterator[str]:
        """See `News`."""
        run, view, kept = self._session.shown, self._session.view, None
        if run is None:
            return
        if run is not self._run:
            kept = kept_of(self._run, run)
            self._points = kept.count if kept.count <= self._points and view is self._view else 0
            self._run, self._tally, self._due, self._over = run, None, 0.0, run.fixed
        elif view is not self._view and not self._over:  # else gradio has brought it
            self._tally, self._points, self._due = None, 0, 0.0
        self._view = view
        over, started = run.finished.is_set(), time.monotonic()
        if self._over or (not over and started < self._due):
            return
        self._tally = self._tally or new_tally(run, view)
        message = dashboard_message(run, view, self._points, kept if self._points else None, self._tally)
        self._points, self._over, self._due = self._tally.count, over, next_figures(started)
        if message:
            yield message


class JobNews(News):
    """What a job of a kind has found, and whichever takes its place; arguments as for `TextNews`.

    Attributes:
        kind: Of the session's jobs.
        told: Whatever was said last of this job, for `message` to compare with.
        due: When to say more of this job, in `time.monotonic`; for `message` to set.
    """

    kind = ""

    def __init__(self, session: Session, host: Host, known: Known) -> None:
        self._session, self.host = session, host
        self._job = session.jobs.get(self.kind)
        same = self._job is not None and self._job.number == known.number
        self._have, self._over = (known.have, known.over) if same else (0, False)
        self.told, self.due = "", 0.0

    def fresh(self) -> Iterator[str]:
        """See `News`."""
        job = self._session.jobs.get(self.kind)
        if job is not self._job:
            self._job, self._have, self._over, self.told, self.due = job, 0, False, "", 0.0
        if job is None or self._over:
            return
        over = job.finished.is_set()  # before what it has: a job that is done by now has all of it
        made = self.message(job, self._have, over)
        self._over = over
        if made is not None:
            message, self._have = made
            yield message

    def message(self, job: Any, have: int, over: bool) -> tuple[str, int] | None:
        """What the browser lacks and how much it has then; None where nothing is due. The last one is always due."""
        raise NotImplementedError


def next_figures(started: float) -> float:
    """When figures are due again whose folding began at `started` and is over now, both in `time.monotonic`."""
    return started + max(FIGURE_SECONDS, (time.monotonic() - started) / _FOLDING_SHARE)


def kept_of(page: Run | None, run: Run) -> Kept:
    """How many of a run's first tokens are those on the page."""
    if page is None or not run.again:
        return NOTHING
    pairs = zip(page.events, run.events, strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if (a.id, a.role, a.forced) != (b.id, b.role, b.forced)), None)
    return Kept(page.number, min(len(page.events), len(run.events)) if same is None else same)


def waiting_for(job: Job, host: Host) -> str:
    """What a job waits for, for people; empty once it has its turn."""
    if job.state != "waiting" or job.cancel.is_set():
        return ""
    if host.status.phase == "loading":
        return "Waiting for the models to load; it starts by itself."
    ahead = host.ahead(job)
    return f"Waiting: {ahead} {'text' if ahead == 1 else 'texts'} before yours." if ahead else "Reading the prompt …"
