"""What is being written, brought to a browser window as server-sent events: one connection beside gradio's queue.

Gradio starts things and stops them; what they write comes here, because an update through its queue and its frontend
costs as much as a third of a token. A window opens its feed by a key that nobody can guess, saying what it has of each
panel, and gets what it lacks, in order, until nothing is on any more. Knows the web; what is sent, the panels' news
say (`app.live`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.components import Panel, drawn
from app.host import Host
from app.live import Known, News
from app.sessions import Session, Sessions

FLUSH_SECONDS = 0.125
"""Between two messages: at most eight a second, however fast the models write. What costs time in a browser is the
message, and hardly how many tokens it brings."""

FOLLOW_UP_SECONDS = 0.02
"""Before the message after the first one in a while: that one says that a text was begun, and its first token must not
wait."""

LINGER_SECONDS = 2.0
"""How long a feed stays open while nothing is on. A browser opens six connections to a host, whatever its windows."""

_LOOK_SECONDS = 0.25  # what nobody rings for: who waits in line, how long a tuning takes, figures that are due
_PATH = "/gradio_api/citer/feed"  # gradio's own prefix, which proxies and Spaces let through; without a dot, which
# would have gradio compress it, and hold it back

NewsOf = Callable[[Session, Host, Known], News]


class Feeds:
    """The feeds of all windows.

    Args:
        sessions: Of all windows.
        host: Has the models.
        panels: Per panel, what makes its news for a window.
    """

    def __init__(self, sessions: Sessions, host: Host, panels: Mapping[str, NewsOf]) -> None:
        self.sessions, self.host, self.panels = sessions, host, panels

    @property
    def route(self) -> Route:
        """Where browsers open them."""
        return Route(_PATH + "/{key}", self._open)

    async def whole(self, session: Session) -> dict[str, str]:
        """Waits until nothing is on, and returns the newest message of every panel that has one.

        For a browser that cannot open its feed.
        """
        with session.bell.heard() as rung:
            while session.on:
                rung.clear()
                await _wait(rung, _LOOK_SECONDS)
        found = {panel: list(news(session, self.host, Known()).fresh()) for panel, news in self.panels.items()}
        return {panel: messages[-1] for panel, messages in found.items() if messages}

    async def _open(self, request: Request) -> Response:
        session = self.sessions.find_key(request.path_params["key"])
        if session is None:
            return Response(status_code=404)
        known = {panel: _known(request.query_params.get(panel)) for panel in self.panels}
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}  # proxies: pass on at once
        return StreamingResponse(self.follow(session, known), media_type="text/event-stream", headers=headers)

    async def follow(self, session: Session, known: Mapping[str, Known]) -> AsyncIterator[str]:
        """Yields what a window lacks, as server-sent events named after their panels; "quiet" is the last.

        Args:
            session: The window's.
            known: What it has, by panel.
        """
        panels = {panel: news(session, self.host, known.get(panel, Known())) for panel, news in self.panels.items()}
        last_on, last_told = time.monotonic(), 0.0
        with session.bell.heard() as rung:
            yield "retry: 500\n\n"  # so that the headers go out and the browser knows that it is heard
            while True:
                rung.clear()  # before looking: what happens from here on rings again
                on, told = session.on, False
                for message in _events(panels):
                    told = True
                    yield message
                now = time.monotonic()
                if on:
                    last_on = now
                elif now - last_on > LINGER_SECONDS:
                    yield "event: quiet\ndata:\n\n"
                    return
                if told:
                    await asyncio.sleep(FLUSH_SECONDS if now - last_told < 3 * FLUSH_SECONDS else FOLLOW_UP_SECONDS)
                    last_told = now
                await _wait(rung, _LOOK_SECONDS)


def wire_feed(demo: gr.Blocks, feeds: Feeds, panels: Mapping[str, Panel]) -> None:
    """Adds what opens the feed in the browser (`assets/page/feed.js`), and gradio's own way where it cannot be opened.

    Args:
        demo: The page that is being built.
        feeds: Of all windows.
        panels: The panels by their names in the feed.
    """
    opener = drawn("feed", "feed", path=_PATH.removeprefix("/"), panels=list(panels))

    def key(request: gr.Request) -> str:
        return feeds.sessions.get(request.session_hash).key

    async def whole(request: gr.Request) -> list[Any]:
        session = feeds.sessions.get(request.session_hash)
        found = await feeds.whole(session)
        return [session.key, *(found.get(name, gr.skip()) for name in panels)]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    demo.load(key, outputs=opener, queue=False, **quiet)
    outputs = [opener, *panels.values()]
    opener.unreached(whole, outputs=outputs, trigger_mode="multiple", concurrency_limit=None, **quiet)


def _events(panels: Mapping[str, News]) -> Sequence[str]:
    return [f"event: {panel}\ndata: {message}\n\n" for panel, news in panels.items() for message in news.fresh()]


async def _wait(rung: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(rung.wait(), seconds)


def _known(text: str | None) -> Known:
    """What a window says it has of a panel: "number.items.end seen"; nothing where it says anything else."""
    parts: list[Any] = (text or "").split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        return Known()
    number, have, over = map(int, parts)
    return Known(number, have, bool(over))
