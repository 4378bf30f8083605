"""The first that a request meets, before gradio: whose page it takes this for, whose page asked, how much it brings.

An ASGI application around gradio's. It reads no body and keeps none: it counts bytes as they pass (`bodies`).
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

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.entrance.asked import check_request
from app.entrance.bodies import Bodies, Passing, most_bytes, said, too_large
from app.entrance.callers import Callers, client_address, on_space
from app.entrance.faults import log_fault
from app.entrance.states import PageStates
from engine import EngineError

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
        proxies: How many stand in front of it, for `client_address`.
    """

    def __init__(self, app: ASGIApp, hosts: str, host: str | None, callers: Callers, proxies: int = 0) -> None:
        self.app, self.callers = app, callers
        self._proxies, self._bodies = proxies, Bodies()
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
        path = get_route_path(scope)
        passing = Passing(receive, send, most_bytes(path), self._bodies, self._address(scope))
        with self.callers.listening(scope["method"], path, scope["query_string"]):
            try:
                await self.app(scope, passing.receive, passing.send)
            except Exception as error:
                if passing.refused is None:
                    log_fault(logger, f"{scope['method']} request failed", error)
            finally:
                passing.close()
        if not passing.started:
            answer = passing.refused or said(500, "The page's server failed; its log says where.")
            await answer(scope, receive, send)

    def _address(self, scope: Scope) -> str | None:
        request = Request(scope)
        return client_address(request.client, request.headers, self._proxies)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist("host"), headers.get("origin")
        name, port = _split_host(hosts[0]) if len(hosts) == 1 else ("", None)
        if not _is_address(name) and not _matches(name, self._hosts):
            return said(
                403, "This page is not served under that name. Its host can allow the name with CITER_SERVER__HOSTS."
            )
        if origin is not None and not self._may_ask(origin, name, port):
            return said(
                403, "Another site's page may not ask this one. Its host can allow the site with CITER_SERVER__HOSTS."
            )
        if get_route_path(scope).startswith(CLOSED):
            return said(404, "There is nothing here: this page takes no uploads and has no such route.")
        if len(scope["query_string"]) > MAX_QUERY:
            return said(414, f"The address is too long: at most {MAX_QUERY:,} bytes may follow its question mark.")
        length, most = headers.get("content-length", "0"), most_bytes(get_route_path(scope))
        if not (length.isascii() and length.isdigit()) or len(length) > 15 or int(length) > most:
            return too_large(most)
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


def guarded(hosts: str, host: str | None, callers: Callers, proxies: int = 0) -> dict[str, Any]:
    """What gradio's application needs to stand behind a `Guard`, and to keep little, as `app_kwargs`.

    It puts its own middleware around what it is given, which would answer other sites first; so the guard steps around
    all of it when the server starts.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        inner = app.middleware_stack or app.build_middleware_stack()
        app.middleware_stack = Guard(inner, hosts, host, callers, proxies)
        app.state_holder = PageStates(callers)
        app.state_holder.set_blocks(app.get_blocks())
        yield

    handlers = {RequestValidationError: _not_understood, EngineError: _refused}
    return {"lifespan": lifespan, "exception_handlers": handlers, "dependencies": [Depends(check_request)]}


async def _refused(request: Request, error: Any) -> Response:
    """Where a function of a component refuses what it was given."""
    return JSONResponse({"detail": str(error)}, 422)


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
