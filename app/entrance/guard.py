"""The first that a request meets, before gradio: whose page it takes this for, whose page asked, how much it brings.

An ASGI application around gradio's. It reads no body and keeps none: it counts bytes as they pass.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fastapi.exceptions import RequestValidationError
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.entrance.callers import Callers, on_space
from app.entrance.faults import log_fault
from app.share.open_trace import MAX_BYTES

MAX_BODY = 8 * MAX_BYTES // 5
"""Bytes of a request: JSON spells some of a trace's characters as two, of which a trace has by far the most."""

MAX_QUERY = 16_000
"""Bytes of an address's query: more than `app.fields.MAX_TEXT`, in a link that a browser or a proxy would take."""

CLOSED = tuple(
    f"/{path}"
    for path in (
        "gradio_api/upload",  # also its progress; the page reads files in the browser
        "gradio_api/deep_link",
        "gradio_api/dev/",
        "gradio_api/process_recording",
        "gradio_api/proxy=",
        "gradio_api/run-history/",
        "gradio_api/stream/",
        "gradio_api/vibe-",
        "monitoring",
        "proxy=",
    )
)
"""Beginnings of gradio's paths that this page does not need."""

_PORTS = {"http": 80, "https": 443}
_SPACE_HOSTS = ("*.hf.space",)
_SPACE_ORIGINS = ("huggingface.co",)  # shows the Space in a frame

logger = logging.getLogger(__name__)


class Guard:
    """Refuses what is not for this page, from another site, or too large; passes on the rest.

    Args:
        app: Gradio's application.
        hosts: Names by which the page may be asked, besides addresses and this machine's own: `server.hosts`.
        host: Where it listens, if that is a name.
        callers: Are told who waits for results.
    """

    def __init__(self, app: ASGIApp, hosts: str, host: str | None, callers: Callers) -> None:
        self.app, self.callers = app, callers
        self._given = tuple(name.strip().lower() for name in hosts.split(",") if name.strip())
        own = socket.gethostname().lower()
        named = (host, os.environ.get("GRADIO_SERVER_NAME"), os.environ.get("SPACE_HOST"))
        self._hosts = ("localhost", own, f"{own}.local", *self._given, *(name.lower() for name in named if name))
        self._origins = self._given
        if on_space():
            self._hosts, self._origins = (*self._hosts, *_SPACE_HOSTS), (*self._origins, *_SPACE_ORIGINS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or lets gradio do so."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        passing = _Passing(receive, send)
        with self.callers.listening(scope["method"], get_route_path(scope), scope["query_string"]):
            try:
                await self.app(scope, passing.receive, passing.send)
            except Exception as error:
                if not passing.too_large:
                    log_fault(logger, f"{scope['method']} request failed", error)
        if not passing.started:
            answer = _too_large() if passing.too_large else _said(500, "The page's server failed; its log says where.")
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist("host"), headers.get("origin")
        name, port = _split_host(hosts[0]) if len(hosts) == 1 else ("", None)
        if not _is_address(name) and not _matches(name, self._hosts):
            return _said(
                403, "This page is not served under that name. Its host can allow the name with CITER_SERVER__HOSTS."
            )
        if origin is not None and not self._may_ask(origin, name, port):
            return _said(
                403, "Another site's page may not ask this one. Its host can allow the site with CITER_SERVER__HOSTS."
            )
        if get_route_path(scope).startswith(CLOSED):
            return _said(404, "There is nothing here: this page takes no uploads and has no such route.")
        if len(scope["query_string"]) > MAX_QUERY:
            return _said(414, f"The address is too long: at most {MAX_QUERY:,} bytes may follow its question mark.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 15 or int(length) > MAX_BODY:
            return _too_large()
        return None

    def _may_ask(self, origin: str, host: str, port: int | None) -> bool:
        """Whether a page from this origin is the page itself, under whatever port a proxy has it, or allowed."""
        try:
            asks = urlsplit(origin)
            name, its_port = (asks.hostname or "").lower(), asks.port
        except ValueError:
            return False
        default = _PORTS.get(asks.scheme)
        same = name == host and (its_port or default) == (port or default)
        return bool(name) and (same or _matches(name, self._origins))


class _Passing:
    """One request on its way through: its body is counted, and no answer is begun that is not wanted any more."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._bytes = 0
        self.too_large = self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > MAX_BODY:
            self.too_large = True
            raise BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self.too_large and not self.started:
            return  # what became of the error on its way: the visitor is told the reason instead
        self.started = True
        await self._send(message)


class BodyTooLarge(Exception):
    """A request brought more than `MAX_BODY`, without having said so."""


def guarded(hosts: str, host: str | None, callers: Callers) -> dict[str, Any]:
    """What gradio's application needs to stand behind a `Guard`, as `app_kwargs`.

    It puts its own middleware around what it is given, which would answer other sites first; so the guard steps around
    all of it when the server starts.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        inner = app.middleware_stack or app.build_middleware_stack()
        app.middleware_stack = Guard(inner, hosts, host, callers)
        yield

    return {"lifespan": lifespan, "exception_handlers": {RequestValidationError: _not_understood}}


async def _not_understood(request: Request, error: Any) -> Response:
    """Where a body does not fit, without giving all of it back."""
    first = error.errors()[0]
    where = ".".join(str(part)[:40] for part in first["loc"][:5])
    return JSONResponse({"detail": f"The request was not understood: {where}: {first['type']}"}, 422)


def _split_host(text: str) -> tuple[str, int | None]:
    """Name and port of a Host header; an empty name where it is none."""
    try:
        parts = urlsplit(f"//{text}")
        return (parts.hostname or "").lower() if parts.netloc == text and "@" not in text else "", parts.port
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    """Whether it is an IP address: a foreign site can point a name of its own at this machine, and no address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns)


def _too_large() -> Response:
    return _said(413, f"The request is too large: at most {MAX_BODY:,} bytes are taken.", close=True)


def _said(status: int, text: str, close: bool = False) -> Response:
    headers = {"Connection": "close"} if close else None  # nothing more of a body is read
    return PlainTextResponse(text + "\n", status, headers)
