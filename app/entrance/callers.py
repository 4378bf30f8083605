"""Who is asking, and who still listens: what is known of a client beside what it says itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from gradio.context import LocalContext
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.guard.addresses import address_of

_DATA = "/gradio_api/queue/data"
_ALIVE = re.compile(r"/gradio_api/heartbeat/([^/]{1,100})")  # open for as long as a page or a Python client is there
_CALL = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/(\w{1,100})")


def calling_address() -> str | None:
    """The client's address of the request that gradio is answering now; None outside of one."""
    return address_of(LocalContext.request.get(None))


class Callers:
    """Who waits for gradio's results: the streams that are open, by session hash and by event."""

    def __init__(self) -> None:
        self.watched = False  # whether requests come through here at all
        self._open: Counter[str] = Counter()

    def hear(self, *names: str | None) -> bool:
        """Whether a stream is open for any of the names, each a session's hash or an event's id."""
        return not self.watched or any(name in self._open for name in names if name)

    @contextmanager
    def listening(self, method: str, path: str, query: bytes) -> Iterator[None]:
        """Counts a request, while it is answered, as somebody who listens, if it is one for results."""
        self.watched = True
        name = _listens_for(path, query) if method == "GET" else None
        if name is None:
            yield
            return
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]


class Listened:
    """An ASGI application around gradio's that tells `Callers` who waits for results."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app, self._callers = app, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._callers.listening(scope["method"], scope["path"], scope["query_string"]):
            await self._app(scope, receive, send)


def _listens_for(path: str, query: bytes) -> str | None:
    if path == _DATA:
        return next(iter(parse_qs(query.decode("latin-1")).get("session_hash", [])), None)
    called = _CALL.fullmatch(path) or _ALIVE.fullmatch(path)
    return called[1] if called else None
