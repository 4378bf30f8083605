"""`/v1/chat/completions`, `/v1/completions` and `/v1/models`, as OpenAI's clients know them.

The page's server and `python -m engine serve` both mount these routes at `/v1`, behind a `Guard`. All text goes through
one scheduler, so that programs and the page's visitors share its rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from engine.endpoint.bodies import named_setting, read_body
from engine.endpoint.replies import Reply, server_sent
from engine.errors import shown
from engine.guard.callers import check_key
from engine.guard.refusals import PREFIX, Busy, Places, Refusal
from engine.settings import Settings

if TYPE_CHECKING:  # they import torch, for which the page does not wait when it starts
    from engine.pair import Pair
    from engine.scheduler import Scheduler

_TEXT_SECONDS = 5.0  # taken for a text's time until one has ended

Models = Callable[[], tuple["Pair", "Scheduler"]]


class Endpoint:
    """The routes below `/v1`. `models` returns the pair and its scheduler; it raises Refusal until they are loaded."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models, self._settings, self._places = models, settings, Places(settings.server__queue_size)
        self._started = int(time.time())

    @property
    def mount(self) -> Mount:
        routes = [
            Route("/chat/completions", partial(self._write, chat=True), methods=["POST"]),
            Route("/completions", partial(self._write, chat=False), methods=["POST"]),
            Route("/models", self._list, methods=["GET"]),
            Route("/models/{model:path}", self._one, methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: no_route}
        return Mount(PREFIX.rstrip("/"), app=Starlette(routes=routes, exception_handlers=handlers))

    def _admit(self, request: Request) -> tuple[Pair, Scheduler]:
        """The pair and its scheduler. Raises Refusal for a request without the key, or until they are loaded."""
        check_key(request.headers, self._settings.api_key)
        return self._models()

    async def _list(self, request: Request) -> Response:
        pair, _ = self._admit(request)
        names = [pair.preset + setting for setting in ("", ":slm", ":llm")]  # those with dials are too many to list
        return JSONResponse({"object": "list", "data": [self._model(name, pair) for name in names]})

    async def _one(self, request: Request) -> Response:
        pair, _ = self._admit(request)
        return JSONResponse(self._model(request.path_params["model"], pair))

    def _model(self, name: str, pair: Pair) -> dict[str, Any]:
        setting = named_setting(name, pair, self._settings)
        about = {"slm": pair.slm_name, "llm": pair.llm_name, **asdict(setting)}
        model = {"id": name, "object": "model", "created": self._started, "owned_by": "citer"}
        return {**model, "max_model_len": pair.context, "citer": about}

    async def _write(self, request: Request, chat: bool) -> Response:
        pair, scheduler = self._admit(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "The body must be JSON: send the header Content-Type: application/json.")
        asked = read_body(await request.body(), chat, pair, self._settings)
        reply, address, streaming, watching = Reply(asked, pair), request.client and request.client.host, False, None
        try:
            self._places.take(reply, address)
            await asyncio.to_thread(reply.submit, scheduler, address or "programs")
            watching = asyncio.create_task(_close_when_gone(request, reply))
            if not asked.body.stream:
                return JSONResponse(await reply.whole())
            pieces = reply.pieces()
            first = await anext(pieces, "")  # a failure before it gets its own status
            streaming = True
            return EventStream(server_sent(first, pieces), reply.close)
        except Busy as busy:
            said, after = f"{busy} {scheduler.slow}".rstrip(), scheduler.text_seconds or _TEXT_SECONDS
            raise Refusal(429, said, after=after) from None
        finally:
            if watching is not None:
                watching.cancel()
            if not streaming:
                reply.close()


class EventStream(StreamingResponse):
    """A response of server-sent events. It calls `close` at its end, also where the client has gone."""

    def __init__(self, events: AsyncGenerator[str, None], close: Callable[[], object] = lambda: None) -> None:
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}  # proxies: pass on at once
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._events, self._close = events, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them until the end, or until the client has gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()
            await self._events.aclose()  # it may wait at a part that nobody took


async def _close_when_gone(request: Request, reply: Reply) -> None:
    """Ends a reply's texts once the client has gone. What becomes of the reply then, nobody reads."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    reply.close()


async def _refused(_: Request, refusal: Any) -> Response:
    return refusal.response()


async def no_route(request: Request, error: Any) -> Response:
    path = shown(request.url.path)
    said = f"There is no {path} here." if error.status_code == 404 else f"{path} does not take {request.method}."
    return Refusal(error.status_code, said).response()
