"""The first that a request meets, before gradio: whose page it takes this for, whose page asked, how much it brings.

An ASGI application around gradio's. It reads no body and keeps none: it counts bytes as they pass (`bodies`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.entrance.asked import check_request
from app.entrance.bodies import Bodies, Passing, most_bytes, too_large, words_for
from app.entrance.cached import kept_for_good
from app.entrance.callers import Callers
from app.entrance.states import PageStates
from engine import EngineError
from engine.guard.addresses import client_address
from engine.guard.names import Names
from engine.errors import log_fault

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
        self._proxies, self._bodies, self._names = proxies, Bodies(), Names(hosts, host)

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
        passing = Passing(receive, kept_for_good(path, send), path, self._bodies, self._address(scope))
        with self.callers.listening(scope["method"], path, scope["query_string"]):
            try:
                await self.app(scope, passing.receive, passing.send)
            except Exception as error:
                if passing.refused is None:
                    log_fault(logger, f"{scope['method']} request failed", error)
            finally:
                passing.close()
        if not passing.started:
            answer = passing.refused or words_for(path)(500, "The page's server failed; its log says where.")
            await answer(scope, receive, send)

    def _address(self, scope: Scope) -> str | None:
        request = Request(scope)
        return client_address(request.client, request.headers, self._proxies)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), get_route_path(scope)
        said = words_for(path)
        reason = self._names.refusal(headers)
        if reason is not None:
            return said(403, reason)
        if path.startswith(CLOSED):
            return said(404, "There is nothing here: this page takes no uploads and has no such route.")
        if len(scope["query_string"]) > MAX_QUERY:
            return said(414, f"The address is too long: at most {MAX_QUERY:,} bytes may follow its question mark.")
        length, most = headers.get("content-length", "0"), most_bytes(path)
        if not (length.isascii() and length.isdigit()) or len(length) > 15 or int(length) > most:
            return too_large(most, said)
        return None


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
