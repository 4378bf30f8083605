"""Follows a run for one browser window: what to send next, and when. Knows nothing of gradio.

Tokens go out 20 to 25 times a second, figures at most twice; a figure that takes long to fold goes out less often, so
that following costs the models little.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.dashboard import dashboard_message, new_tally
from app.host import Host
from app.jobs import Job
from app.runs import Kept, Run
from app.sessions import Session, View
from app.token_stream import token_message
from engine import Tally

FLUSH_SECONDS = 0.045
FIRST_SECONDS = 0.005
"""How often to look for a run's first new token: someone has just let go of the slider and waits for it."""
FIGURE_SECONDS = 0.5
_FOLDING_SHARE = 0.02  # at most this share of the time goes into folding figures


@dataclass(frozen=True)
class Update:
    """What to send now.

    Attributes:
        tokens: Message for the token stream, or None.
        dashboard: Message for the dashboard, or None.
        over: Whether the run has ended; set on its last update only.
    """

    tokens: str | None = None
    dashboard: str | None = None
    over: bool = False


class _Figures:
    """When the next figures are due, and how many points of which view were sent."""

    def __init__(self) -> None:
        self.view: View | None = None
        self.sent = 0
        self.tally: Tally | None = None
        self.due = 0.0

    def message(self, run: Run, view: View, kept: Kept, last: bool = False) -> str | None:
        """The next message, or None while it is not due; the first says which points the page keeps."""
        if not run.events or (not last and view is self.view and time.monotonic() < self.due):
            return None
        started = time.monotonic()
        first = self.tally is None
        if self.tally is None or view is not self.view:
            self.tally, self.sent = new_tally(run, view), 0
        message = dashboard_message(run, view, self.sent, kept if first else None, self.tally)
        self.view, self.sent = view, self.tally.count
        self.due = next_figures(started)
        return message


def next_figures(started: float) -> float:
    """When figures are due again whose folding began at `started` and is over now, both in `time.monotonic`."""
    return started + max(FIGURE_SECONDS, (time.monotonic() - started) / _FOLDING_SHARE)


async def follow(run: Run, session: Session, host: Host) -> AsyncIterator[Update]:
    """Yields what the browser lacks until the run is over or another has taken its place.

    A run that goes on from another begins with tokens that are on the page already; only what follows them is sent.

    Raises:
        Nothing: a failed run ends with `over`, and `run.error` says why.
    """
    page = session.shown
    sent, told, figures, kept = 0, "", _Figures(), NOTHING
    while run.on and session.run is run:
        note, count = waiting_for(run, host), len(run.events)
        if count and not sent:
            kept = _kept(page, run)
            sent = kept.count
        if count > sent:
            session.shown = run
        if count > sent or note != told:
            message = token_message(run, sent, count, note, kept)
            yield Update(message, figures.message(run, session.view, kept))
            sent, told = max(sent, count), note
        await asyncio.sleep(FLUSH_SECONDS if session.shown is run else FIRST_SECONDS)
    if session.run is run and not session.pending:
        if run.events:
            kept = kept if sent else _kept(page, run)
            sent = max(sent, kept.count)
            session.shown = run
        message = token_message(run, sent, None, "", kept)
        yield Update(message, figures.message(run, session.view, kept, last=True), over=True)


NOTHING = Kept(0, 0)


def _kept(page: Run | None, run: Run) -> Kept:
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
