"""What a browser window lacks of what is being written, per panel, and when it is due to be sent.

What a text costs is folded and sent at most once a second, so that following it costs little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.figures import counted, duration
from app.running.host import Host
from app.running.job import Job
from app.running.run import Run, SharedPrefix
from app.running.session import Session
from app.stream.token_stream import token_message
from engine import TokenEvent

FIGURE_SECONDS = 1.0
GAP_SECONDS = 2.0
"""Without a token, before the page says why."""

_NOTHING_SHARED = SharedPrefix(0, 0)


@dataclass(frozen=True)
class PanelState:
    """What a browser has of a panel: of which job (by number) how many items, and whether it saw the job's end.

    `cuts` is how often it was told that the LLM took back a part of the text.
    """

    number: int = -1
    count: int = 0
    ended: bool = False
    cuts: int = 0


class PanelUpdates:
    """Makes the messages that bring one panel of one window up to date."""

    def due(self) -> Iterator[str]:
        """The messages that are due now, as JSON."""
        raise NotImplementedError


class TextUpdates(PanelUpdates):
    """The tokens of the newest run.

    A run that goes on from another begins with tokens that are on the page already; only what follows them is sent.
    An opened text is put on the page by gradio, and while the slider scrubs through a sweep, another text is there.
    The session's `shown` becomes the run of which tokens were sent.
    """

    def __init__(self, session: Session, host: Host, browser: PanelState) -> None:
        self._session, self._host = session, host
        self._page = next((run for run in (session.run, session.shown) if run and run.number == browser.number), None)
        self._there = browser.count, browser.cuts  # of the tokens of the run on the page
        same = self._page is not None and self._page is session.run
        self._run = session.run if same else None
        self._number = browser.number  # of the run: one that comes back to the page has another
        self._over, self._begun = (browser.ended, True) if same else (False, False)
        self._note, self._shared = "", _NOTHING_SHARED
        self._newest = 0, time.monotonic()  # how many tokens it had last, and since when
        self._cost_due = 0.0

    def due(self) -> Iterator[str]:
        """See `PanelUpdates`."""
        run = self._session.run
        if run is None or self._session.scrubbing:
            return
        if run is not self._run or run.number != self._number:
            if run is self._page:  # what the browser has of it goes by its old number
                self._page, self._there = None, (0, 0)
            self._run, self._number, self._over, self._begun = run, run.number, False, False
            self._note, self._shared = "", _NOTHING_SHARED
            if run.brought:
                self._page, self._over = run, True
        if self._over:
            return
        over = run.finished.is_set()  # before the events: a run that is done by now has all of them
        note, written = "" if over else waiting_for(run, self._host) or trouble_of(run), run.written
        count = len(written.events)
        if count != self._newest[0] or note or over:
            self._newest = count, time.monotonic()
        elif count and time.monotonic() - self._newest[1] > GAP_SECONDS:
            note = slow_because(run, self._host)
        if count and not self._begun:
            self._begun, self._shared = True, shared_prefix(self._page, run, *self._there)
            self._there = self._shared.count, len(written.cuts)
        sent = written.lasting(*self._there) if self._begun else 0
        if not over and count <= sent and note == self._note:
            return
        if count > sent or (over and count):
            self._session.shown = self._page = run
        prices = self._session.prices if over or time.monotonic() >= self._cost_due else None
        message = token_message(run, sent, None if over else count, note, self._shared, written, prices)
        if prices:
            self._cost_due = time.monotonic() + FIGURE_SECONDS
        if self._begun:
            self._there = max(sent, count), len(written.cuts)
        self._note, self._over = note, over
        yield message


class JobUpdates(PanelUpdates):
    """The results of the newest job of a kind; arguments as for `TextUpdates`.

    Attributes:
        kind: Of the session's jobs.
        last_sent, next_due: For `message` to set: what was sent last of this job, and when more is due
            (`time.monotonic`).
    """

    kind = ""

    def __init__(self, session: Session, host: Host, browser: PanelState) -> None:
        self._session, self.host = session, host
        self._job = session.jobs.get(self.kind)
        same = self._job is not None and self._job.number == browser.number
        self._count, self._over = (browser.count, browser.ended) if same else (0, False)
        self.last_sent, self.next_due = "", 0.0

    def due(self) -> Iterator[str]:
        """See `PanelUpdates`."""
        job = self._session.jobs.get(self.kind)
        if job is not self._job:
            self._job, self._count, self._over, self.last_sent, self.next_due = job, 0, False, "", 0.0
        if job is None or self._over:
            return
        over = job.finished.is_set()  # before its results: a job that is done by now has all of them
        made = self.message(job, self._count, over)
        self._over = over
        if made is not None:
            message, self._count = made
            yield message

    def message(self, job: Any, have: int, over: bool) -> tuple[str, int] | None:
        """What the browser lacks, and how many items it has then; None where nothing is due. The last is always due."""
        raise NotImplementedError


def shared_prefix(page: Run | None, run: Run, count: int, cuts: int) -> SharedPrefix:
    """How many of a run's first tokens are those on the page; for `count` and `cuts` of the page see `PanelState`."""
    if page is None or not run.again or page.family is not run.family:  # of another prompt, or written anew
        return _NOTHING_SHARED
    there = page.written.events[: page.written.lasting(count, cuts)]
    pairs = zip(there, run.events, strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if _on_page(a) != _on_page(b)), None)
    return SharedPrefix(page.number, min(len(there), len(run.events)) if same is None else same)


def _on_page(event: TokenEvent) -> tuple[Any, ...]:
    """What tells tokens apart that stand in the same place of texts which go on from each other."""
    return event.id, event.role, event.forced, len(event.taken_back)


def trouble_of(job: Job) -> str:
    """What keeps a job's models from writing, for people; empty while nothing does."""
    return job.pair.trouble if job.pair is not None and job.state == "running" else ""


def waiting_for(job: Job, host: Host, reading: str = "Reading the prompt …") -> str:
    """What a job waits for, for people; empty while it is written. `reading` is said once it has a row."""
    paused = job.paused
    if job.cancel.is_set() or not (job.state == "waiting" or paused):
        return ""
    if host.status.phase == "loading":
        return "Waiting for the models to load; it starts by itself."
    if job.pair is not None and job.pair.trouble:
        return job.pair.trouble
    place, seconds = job.place
    slow = f" {host.scheduler.slow}".rstrip() if host.scheduler is not None else ""
    about = "" if seconds is None else f", about {duration(seconds)}"
    if paused:
        return f"Others are served first: place {max(1, place)} in line{about}. It goes on by itself."
    return (f"Waiting: place {place} in line{about}." if place else reading) + slow


def slow_because(run: Run, host: Host) -> str:
    """Why a text that has a row gets no token, as far as that is known."""
    others = host.scheduler.rows - 1 if host.scheduler is not None else 0
    if others > 0:
        return f"Writing: {counted(others, 'other text')} at the same time, so a token takes longer."
    if run.events and run.events[-1].provisional:
        return "Writing: the LLM reads what the SLM has drafted."
    return "Writing: a token takes longer than usual. The machine has other work, or the models are slow on it."
