"""The feed: what is being written, brought to a browser window as server-sent events.

Gradio starts and stops jobs; what they write comes here, because an update through gradio's queue and frontend costs as
much as a third of a token. A window opens its feed by a key that nobody can guess, says what it has of each panel, and
gets what it lacks (`app.stream.updates`), in order, until nothing is being written any more.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.components import EACH_TIME, QUIET, Panel, drawn, in_browser
from app.entrance.callers import Callers
from app.running.host import Host
from app.running.session import UNHEARD_SECONDS, Session
from app.running.sessions import Sessions
from app.stream.updates import PanelUpdates
from engine.endpoint.routes import EventStream

FLUSH_SECONDS = 0.125
"""Between two messages: at most eight a second, however fast the models write. What costs time in a browser is the
message, and hardly how many tokens it brings."""

FOLLOW_UP_SECONDS = 0.02
"""Instead, after the first message in a while: it says that a text was begun, whose first token must not wait."""

LINGER_SECONDS = 2.0
"""How long an idle feed stays open: a browser opens six connections to a host, however many windows it has."""

KEEP_ALIVE_SECONDS = 15.0
"""Something is said at least this often: proxies close a connection on which nothing comes, some after 20 s."""

MAX_FEEDS = 8
"""Of a window at once: one, and those whose end the server has not noticed yet."""

_LOOK_SECONDS = 0.25  # for what nobody notifies: places in the queue, a tuning's remaining time, figures that are due
_PATH = "/gradio_api/citer/feed"  # gradio's own prefix, which proxies and Spaces let through; without a dot, which
# would have gradio compress it, and hold it back

MakeUpdates = Callable[[Session, Host, int], PanelUpdates]


class Feeds:
    """The feeds of all windows.

    Args:
        sessions, host: Of the page.
        panels: What makes each panel's updates for a window.
        callers: Who waits for what gradio brings.
    """

    def __init__(
        self, sessions: Sessions, host: Host, panels: Mapping[str, MakeUpdates], callers: Callers | None = None
    ) -> None:
        self.sessions, self.host, self.panels = sessions, host, panels
        self.callers = callers or Callers()
        self._newest: WeakKeyDictionary[Session, object] = WeakKeyDictionary()  # who asked for all of a session last

    @property
    def route(self) -> Route:
        """Where browsers open their feeds."""
        return Route(_PATH + "/{key}", self._open)

    async def whole(self, session: Session, session_hash: str | None = None) -> dict[str, str]:
        """Waits until nothing is active, and returns the newest message of every panel that has one.

        For a browser that cannot open its feed, for as long as it waits for an answer under its `session_hash`. Each
        of these holds one of gradio's places, so a session has one: who asks again ends the older, which gets nothing.
        """
        heard, now = time.monotonic(), time.monotonic()
        me = self._newest[session] = object()
        session.listeners.notify()
        with session.listeners.listen() as notified:
            while session.active and now - heard < UNHEARD_SECONDS:
                if self._newest[session] is not me:
                    return {}
                notified.clear()
                await _wait(notified, _LOOK_SECONDS)
                now = time.monotonic()
                if self.callers.hear(session_hash):
                    heard = now
        messages = {panel: list(updates.due()) for panel, updates in self._updates(session, {}).items()}
        return {panel: due[-1] for panel, due in messages.items() if due}

    def _updates(self, session: Session, seen: Mapping[str, int]) -> dict[str, PanelUpdates]:
        return {panel: make(session, self.host, seen.get(panel, -1)) for panel, make in self.panels.items()}

    async def _open(self, request: Request) -> Response:
        session = self.sessions.find_key(request.path_params["key"])
        if session is None:
            return Response(status_code=404)
        if len(session.listeners) >= MAX_FEEDS:
            return PlainTextResponse(f"This window has {MAX_FEEDS} feeds open already.", 429)
        said = {panel: request.query_params.get(panel, "") for panel in self.panels}
        seen = {panel: int(number) for panel, number in said.items() if re.fullmatch("[0-9]{1,15}", number)}
        return EventStream(self.follow(session, seen))

    async def follow(self, session: Session, seen: Mapping[str, int]) -> AsyncGenerator[str, None]:
        """Yields what a window lacks, as server-sent events named after their panels; "quiet" is the last.

        `seen` has by panel the number of the job that the window has whole, where there is one.
        """
        panels = self._updates(session, seen)
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
    """Adds what opens the feed in the browser; where that fails, gradio brings the finished texts (`Feeds.whole`).

    Returns the event by which a window that was opened has its session: a new one, or that of a window before it.
    """
    opener = drawn("feed", "feed", events=("unreached",), path=_PATH.removeprefix("/"), panels=list(panels))

    def key(former: Any, request: gr.Request) -> str:
        return feeds.sessions.adopt(request.session_hash, former if isinstance(former, str) else "").key

    async def whole(request: gr.Request) -> list[Any]:
        session = feeds.sessions.enter(request.session_hash)
        messages = await feeds.whole(session, request.session_hash)
        return [session.key, *(messages.get(name, gr.skip()) for name in panels)]

    entered = demo.load(key, opener, opener, js=in_browser("formerKey"), **QUIET)
    outputs = [opener, *panels.values()]
    # The queue lets gradio's page wait for minutes, whatever a proxy thinks of that.
    opener.unreached(whole, outputs=outputs, concurrency_limit=None, **EACH_TIME | {"queue": True})
    return entered


async def _wait(notified: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(notified.wait(), seconds)
