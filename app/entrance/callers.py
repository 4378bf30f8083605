"""Who calls gradio, and who still listens for its results."""

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
    """Counts the open streams on which clients wait for gradio's results, by session hash and by event id."""

    def __init__(self) -> None:
        self.watched = False  # false where no application is wrapped: then everybody counts as a listener
        self._open: Counter[str] = Counter()

    def hear(self, *names: str | None) -> bool:
        """Whether a stream is open for any of the names, which are session hashes or event ids."""
        return not self.watched or any(name in self._open for name in names if name)

    def around(self, app: ASGIApp) -> ASGIApp:
        """Wraps an application, so that its open streams are counted."""
        self.watched = True

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            http = scope["type"] == "http" and scope["method"] == "GET"
            with self.listening(scope["path"], scope["query_string"]) if http else nullcontext():
                await app(scope, receive, send)

        return counted

    @contextmanager
    def listening(self, path: str, query: bytes = b"") -> Iterator[None]:
        """Counts a GET as a listener while it is answered, if it asks for results."""
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
