"""Who is asking, and who still listens: what is known of a client beside what it says itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from urllib.parse import parse_qs

from gradio.context import LocalContext
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.guard.addresses import address_of

_DATA = "/gradio_api/queue/data"
# A page or a Python client keeps its heartbeat open for as long as it is there.
_NAMED = re.compile(r"/gradio_api/(?:heartbeat/([^/]{1,100})|call/(?:v2/)?[^/]+/(\w{1,100}))")


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

    def around(self, app: ASGIApp) -> ASGIApp:
        """An application whose open streams are counted."""
        self.watched = True

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            http = scope["type"] == "http" and scope["method"] == "GET"
            with self.listening(scope["path"], scope["query_string"]) if http else nullcontext():
                await app(scope, receive, send)

        return counted

    @contextmanager
    def listening(self, path: str, query: bytes = b"") -> Iterator[None]:
        """Counts a GET, while it is answered, as somebody who listens, if it is one for results."""
        self.watched = True
        if path == _DATA:
            name = next(iter(parse_qs(query.decode("latin-1")).get("session_hash", [])), None)
        else:
            named = _NAMED.fullmatch(path)
            name = named and (named[1] or named[2])
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
