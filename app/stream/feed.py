"""The feed: what is being written, brought to a browser window as server-sent events.

Gradio starts and stops jobs; what they write comes here, because an update through gradio's queue and frontend costs as
much as a third of a token. A window opens its feed by a key that nobody can guess, says what it has of each panel, and
gets what it lacks (`app.stream.updates`), in order, until nothing is being written any more.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.components import EACH_TIME, QUIET, Panel, drawn, in_browser
from app.running.session import Session
from app.running.sessions import Sessions
from app.stream.updates import JobUpdates, TextUpdates
from engine.endpoint.routes import EventStream

FLUSH_SECONDS = 0.125
"""Seconds between two messages: at most eight a second, however fast the models write. A browser needs time for each
message, and hardly more for a message with more tokens."""

FOLLOW_UP_SECONDS = 0.02
"""The same after the first message in a while. It says that a text was begun, and the first token must not wait."""

LINGER_SECONDS = 2.0
"""How long an idle feed stays open: a browser opens six connections to a host, however many windows it has."""

KEEP_ALIVE_SECONDS = 15.0
"""Something is said at least this often: proxies close a connection on which nothing comes, some after 20 s."""

MAX_FEEDS = 8
"""Feeds that a window may have open: it uses one, and the server may not have noticed yet that others ended."""

_LOOK_SECONDS = 0.25  # for what nobody notifies: places in the queue, a tuning's remaining time, figures that are due
_PATH = "/gradio_api/citer/feed"  # gradio's own prefix, which proxies and Spaces let through; without a dot, which
# would have gradio compress it, and hold it back

Updates = TextUpdates | JobUpdates
MakeUpdates = Callable[[Session, int], Updates]


class Feeds:
    """The feeds of all windows.

    Args:
        sessions: Of the page.
        panels: What makes each panel's updates for a window.
    """

    def __init__(self, sessions: Sessions, panels: Mapping[str, MakeUpdates]) -> None:
        self.sessions, self.panels = sessions, panels
        self._start = secrets.token_hex(8)

    @property
    def routes(self) -> list[Route]:
        """Where browsers open their feeds, and ask whether the server is there (`assets/page/lib/lost.js`)."""
        return [Route(_PATH + "/{key}", self._open), Route("/gradio_api/citer/pair", self._alive)]

    def updates(self, session: Session, seen: Mapping[str, int]) -> dict[str, Updates]:
        """By panel what makes the messages that a window lacks; for `seen` see `follow`."""
        return {panel: make(session, seen.get(panel, -1)) for panel, make in self.panels.items()}

    async def _open(self, request: Request) -> Response:
        session = self.sessions.find_key(request.path_params["key"])
        if session is None:
            return Response(status_code=404)
        if len(session.listeners) >= MAX_FEEDS:
            return PlainTextResponse(f"This window has {MAX_FEEDS} feeds open already.", 429)
        said = {panel: request.query_params.get(panel, "") for panel in self.panels}
        seen = {panel: int(number) for panel, number in said.items() if re.fullmatch("[0-9]{1,15}", number)}
        return EventStream(self.follow(session, seen))

    async def _alive(self, request: Request) -> Response:
        """Answers with a word that each start of the server has of its own.

        For a window that gives its feed's key under `citer-feed` a second word says whether its session is there still:
        "known" or "unknown".
        """
        words = [self._start]
        if key := request.headers.get("citer-feed"):
            session = self.sessions.find_key(key)
            words.append("known" if session else "unknown")
            if session:
                session.listeners.last_heard = time.monotonic()
        return PlainTextResponse(" ".join(words), headers={"Cache-Control": "no-store"})

    async def follow(self, session: Session, seen: Mapping[str, int]) -> AsyncGenerator[str, None]:
        """Yields what a window lacks, as server-sent events named after their panels; "quiet" is the last.

        `seen` has by panel the number of the job that the window has whole, where there is one.
        """
        panels = self.updates(session, seen)
        last_active, last_sent = time.monotonic(), 0.0
        last_said = last_active
        with session.listeners.listen() as notified:
            yield "retry: 500\n\n"  # so that the headers go out and the browser knows that it is heard
            while True:
                notified.clear()  # before looking: what happens from here on notifies again
                active = session.active
                messages = [(panel, message) for panel, updates in panels.items() for message in updates.due()]
                for panel, message in messages:
                    yield f"event: {panel}\ndata: {message}\n\n"
                now = time.monotonic()
                if messages:
                    last_said = now
                elif now - last_said > KEEP_ALIVE_SECONDS:
                    last_said = now
                    yield ": still here\n\n"
                if active:
                    last_active = now
                elif now - last_active > LINGER_SECONDS:
                    await asyncio.sleep(0)  # what another thread notified of comes now
                    if not (notified.is_set() or session.active):  # else a run has begun since it looked
                        yield "event: quiet\ndata:\n\n"
                        return
                if messages:
                    await asyncio.sleep(FLUSH_SECONDS if now - last_sent < 3 * FLUSH_SECONDS else FOLLOW_UP_SECONDS)
                    last_sent = now
                await _wait(notified, _LOOK_SECONDS)


def wire_feed(demo: gr.Blocks, feeds: Feeds, panels: Mapping[str, Panel]) -> Any:
    """Adds the component that opens the feed in the browser. If the feed fails twice, it gets all messages by gradio.

    Returns the event that gives an opened window its session: a new one, or that of the window before it.
    """
    opener = drawn("feed", "feed", events=("unreached",), path=_PATH.removeprefix("/"), panels=list(panels))

    def key(former: Any, request: gr.Request) -> str:
        return feeds.sessions.adopt(request.session_hash, former if isinstance(former, str) else "").key

    def whole(request: gr.Request) -> list[Any]:
        session = feeds.sessions.get(request.session_hash)
        session.listeners.last_heard = time.monotonic()
        updates = feeds.updates(session, {})
        messages = [[*updates[name].due()] for name in panels]
        return [session.key, *(due[-1] if due else gr.skip() for due in messages)]

    entered = demo.load(key, opener, opener, js=in_browser("formerKey"), **QUIET)
    opener.unreached(whole, outputs=[opener, *panels.values()], **EACH_TIME)
    return entered


async def _wait(notified: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(notified.wait(), seconds)
