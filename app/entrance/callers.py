"""Who calls gradio, and which windows a browser has open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gradio.context import LocalContext
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.guard.addresses import address_of

_HEARTBEAT = "/gradio_api/heartbeat/"


def calling_address() -> str | None:
    """The client's address of the request that gradio is answering now; None outside of one."""
    return address_of(LocalContext.request.get(None))


class OpenWindows:
    """Counts the open heartbeats by session hash: a browser keeps one for as long as its window is there."""

    def __init__(self) -> None:
        self._beats: Counter[str] = Counter()

    def __contains__(self, name: str) -> bool:
        return name in self._beats

    def around(self, app: ASGIApp) -> ASGIApp:
        """Wraps an application, so that its heartbeats are counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"] if scope["type"] == "http" else ""
            if not path.startswith(_HEARTBEAT):
                await app(scope, receive, send)
                return
            with self.beating(path.removeprefix(_HEARTBEAT)):
                await app(scope, receive, send)

        return counted

    @contextmanager
    def beating(self, name: str) -> Iterator[None]:
        """The window of this name is open until the end of the block."""
        self._beats[name] += 1
        try:
            yield
        finally:
            self._beats[name] -= 1
            if not self._beats[name]:
                del self._beats[name]
