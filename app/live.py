"""Follows a run for one browser window: what to send next, and when. Knows nothing of gradio.

Tokens go out 20 to 25 times a second, figures at most twice; a figure that takes long to fold goes out less often, so
that following costs the models little.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.dashboard import dashboard_message
from app.host import Host
from app.runs import Run, Session, View
from app.token_stream import token_message

FLUSH_SECONDS = 0.045
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
        self.due = 0.0

    def message(self, run: Run, view: View, last: bool = False) -> str | None:
        """The next message, or None while it is not due."""
        if not run.events or (not last and view is self.view and time.monotonic() < self.due):
            return None
        started = time.monotonic()
        count = len(run.events)
        message = dashboard_message(run, view, self.sent if view is self.view else 0)
        self.view, self.sent = view, count
        self.due = started + max(FIGURE_SECONDS, (time.monotonic() - started) / _FOLDING_SHARE)
        return message


async def follow(run: Run, session: Session, host: Host) -> AsyncIterator[Update]:
    """Yields what the browser lacks until the run is over or another has taken its place.

    Raises:
        Nothing: a failed run ends with `over`, and `run.error` says why.
    """
    sent, told, figures = 0, "", _Figures()
    while not run.finished.is_set() and session.run is run:
        note = _waiting_for(run, host)
        count = len(run.events)
        if count > sent:
            session.shown = run
        if count > sent or note != told:
            yield Update(token_message(run, sent, count, note), figures.message(run, session.view))
            sent, told = max(sent, count), note
        await asyncio.sleep(FLUSH_SECONDS)
    if session.run is run:
        if run.events:
            session.shown = run
        yield Update(token_message(run, sent), figures.message(run, session.view, last=True), over=True)


def _waiting_for(run: Run, host: Host) -> str:
    if run.state != "waiting" or run.cancel.is_set():
        return ""
    if host.status.phase == "loading":
        return "Waiting for the models to load; your text starts by itself."
    ahead = host.ahead(run)
    return f"Waiting: {ahead} {'text' if ahead == 1 else 'texts'} before yours." if ahead else "Reading the prompt …"
