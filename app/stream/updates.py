"""What a browser window lacks of what is being written, per panel, and when it is due to be sent.

What a text costs is folded and sent at most once a second, so that following it costs little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from app.figures import counted, duration
from app.running.job import Job
from app.running.run import Run
from app.running.session import Session
from app.stream.token_stream import in_common, token_message
from engine import TokenEvent

FIGURE_SECONDS = 1.0
GAP_SECONDS = 2.0
"""Seconds without a new token after which the page says why."""


class TextUpdates:
    """How the text of the newest run changes: how much of what the window has stays, and what follows.

    Where a text goes on from the one before, the window keeps what both begin with.

    Args:
        session: Of the window.
        seen: The number of the run whose end the window has seen, and which it shows; -1 if there is none.
    """

    def __init__(self, session: Session, seen: int) -> None:
        self._session = session
        there = next((run for run in [*session.history.versions] if run.number == seen), None)
        self._had: Sequence[TokenEvent] = tuple(there.events) if there is not None else ()  # on the page
        self._over = there is not None and there is session.run
        self._number = seen  # of the run; one that comes back to the page has another
        self._note: str | None = None  # of the last message about it
        self._begun = False  # whether the window has tokens of it
        self._newest = 0, time.monotonic()  # how many tokens it had last, and since when
        self._cost_due = 0.0

    def due(self) -> Iterator[str]:
        """The messages that are due now, as JSON."""
        run = self._session.run
        if run is None:
            return
        if run.number != self._number:
            self._number, self._over, self._note, self._begun = run.number, False, None, False
            self._cost_due = 0.0
            dials = run.request.setting
            self._had = [replace(e, threshold=dials.threshold, acceptance=dials.acceptance) for e in self._had]
        if self._over:
            return
        over = not run.active
        state = run.told_state(over)  # before the events: a run that has ended by now has all of them
        events = run.folded
        note = "" if over else self._said(run, len(events))
        cut = in_common(self._had, events)
        is_same = cut == len(self._had) == len(events)
        if not over and note == self._note and (is_same or not events):
            return
        costs = bool(events) and (over or time.monotonic() >= self._cost_due)
        message = token_message(run, state, cut, note, bool(events) and not self._begun, events, costs)
        if costs:
            self._cost_due = time.monotonic() + FIGURE_SECONDS
        if events:
            self._had, self._begun = events, True
        self._note, self._over = note, over
        yield message

    def _said(self, run: Run, count: int) -> str:
        """A note that says why no token comes; empty while tokens come."""
        if note := waiting_for(run):
            self._newest = count, time.monotonic()
            return note
        if count != self._newest[0]:
            self._newest = count, time.monotonic()
        waits = count and time.monotonic() - self._newest[1] > GAP_SECONDS
        return slow_because(run) if waits else ""


class JobUpdates:
    """The messages of the newest job of a kind; other arguments as for `TextUpdates`."""

    def __init__(self, kind: str, session: Session, seen: int) -> None:
        self._kind, self._session = kind, session
        self._job = session.jobs.get(kind)
        self._count, self._over = 0, self._job is not None and self._job.number == seen
        self._last, self._due = "", 0.0

    def due(self) -> Iterator[str]:
        """The messages that are due now, as JSON."""
        job = self._session.jobs.get(self._kind)
        if job is not self._job:
            self._job, self._count, self._over, self._last, self._due = job, 0, False, "", 0.0
        over = job is not None and job.finished.is_set()  # before its results: a job that is done by now has all
        if job is None or self._over or (not over and time.monotonic() < self._due):
            return
        message, count = job.message(self._count, over)
        self._over, self._due = over, time.monotonic() + job.message_seconds
        if over or message != self._last:
            self._last, self._count = message, count
            yield message


def waiting_for(job: Job, reading: str = "Reading the prompt …") -> str:
    """What holds a job up, for people; empty where nothing does. `reading` is said once it has a row."""
    paused, host = job.paused, job.host
    if host is None or job.cancel.is_set() or job.state not in ("waiting", "running"):
        return ""
    if host.status.phase == "loading":
        return "Waiting for the models to load; it starts by itself."
    if job.pair is not None and job.pair.trouble:
        return job.pair.trouble
    if job.state == "running" and not paused:
        return ""
    place, seconds = job.place
    slow = f" {host.scheduler.slow}".rstrip() if host.scheduler is not None else ""
    about = "" if seconds is None else f", about {duration(seconds)}"
    if paused:
        return f"Others are served first: place {max(1, place)} in line{about}. It goes on by itself."
    return (f"Waiting: place {place} in line{about}." if place else reading) + slow


def slow_because(run: Run) -> str:
    """Why a text that has a row gets no token, as far as that is known."""
    others = run.scheduler.rows - 1
    if others > 0:
        return f"Writing: {counted(others, 'other text')} at the same time, so a token takes longer."
    if any(event.provisional for event in run.events[-1:]):
        return "Writing: the large model reads what the small one has drafted."
    return "Writing: a token takes longer than usual. The machine has other work, or the models are slow on it."
