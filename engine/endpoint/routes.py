"""`/v1/chat/completions`, `/v1/completions` and `/v1/models`, as OpenAI's clients know them.

An application to be mounted at `/v1`, by the page's server and by `python -m engine serve`. All text goes through the
scheduler it is given, so that programs and the page's visitors share its rows.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from engine.endpoint.addresses import client_address
from engine.endpoint.bodies import read_body
from engine.endpoint.fields import read_fields
from engine.endpoint.model_names import model_names, named_setting
from engine.endpoint.names import Names, check_key
from engine.endpoint.places import Busy, Entrance, Places
from engine.endpoint.refusals import PREFIX, Refusal, blamed, refused
from engine.endpoint.replies import Reply, begin, event_stream
from engine.errors import check_text, shown
from engine.settings import Settings
from engine.tokenizer import spelled

if TYPE_CHECKING:  # with them comes torch, for which a page that is starting does not wait
    from engine.pair import Pair
    from engine.scheduler import Scheduler

STALL_SECONDS = 60.0
"""How long a client may leave a part of its text unread."""

_TEXT_SECONDS = 5.0  # how long a text takes, before one has ended
_LONGEST_PROBE = 1000  # characters of a text whose tokens are asked for: they are compared, and not counted
_UNREAD = (408, 413)  # nothing more of a body is read
_GONE = 499  # for nobody: the client has left

Result = TypeVar("Result")
Models = Callable[[], tuple["Pair", "Scheduler"]]


class Endpoint:
    """What programs may ask.

    Args:
        models: Gives the pair and what writes its texts; raises Refusal while there are none.
        settings: Defaults of the fields, and the key.
        places: How many requests there may be at once.
        names: By which the server may be asked; None where that was looked at before.
    """

    def __init__(self, models: Models, settings: Settings, places: Places, names: Names | None = None) -> None:
        self._models, self._settings, self._places, self._names = models, settings, places, names
        self._started = int(time.time())

    @property
    def mount(self) -> Mount:
        """All of its routes."""
        routes = [
            Route("/chat/completions", self._chat, methods=["POST"]),
            Route("/completions", self._complete, methods=["POST"]),
            Route("/models", self._list, methods=["GET"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/models/{model:path}", self._one, methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {
            Refusal: _refusal,
            HTTPException: _no_route,
            ClientDisconnect: _gone,
            Exception: _failed,
        }
        return Mount(PREFIX.rstrip("/"), app=Starlette(routes=routes, exception_handlers=handlers))

    async def _chat(self, request: Request) -> Response:
        return await self._write(request, chat=True)

    async def _complete(self, request: Request) -> Response:
        return await self._write(request, chat=False)

    async def _list(self, request: Request) -> Response:
        self._admit(request)
        pair, _ = self._models()
        return JSONResponse({"object": "list", "data": [self._model(name, pair) for name in model_names(pair)]})

    async def _one(self, request: Request) -> Response:
        self._admit(request)
        pair, _ = self._models()
        return JSONResponse(self._model(request.path_params["model"], pair))

    async def _tokenize(self, request: Request) -> Response:
        """The ids of a short text, as vLLM tells them: a program that sends ids sees whether its own are these."""
        self._admit(request)
        pair, _ = self._models()
        text = (await read_body(request)).get("prompt", "")
        with blamed("prompt"):
            check_text("prompt", text, _LONGEST_PROBE)
        return JSONResponse({"tokens": spelled(pair.tokenizer, text)})

    def _model(self, name: str, pair: Pair) -> dict[str, Any]:
        setting = named_setting(name, pair, self._settings)
        about = {"slm": pair.slm_name, "llm": pair.llm_name, **asdict(setting)}
        model = {"id": name, "object": "model", "created": self._started, "owned_by": "citer"}
        return {**model, "max_model_len": pair.context, "citer": about}

    async def _write(self, request: Request, chat: bool) -> Response:
        self._admit(request)
        pair, scheduler = self._models()
        address = client_address(request.client, request.headers, self._settings.server.proxies)
        asking, reply, handed_on = _Asking(), None, False
        try:
            self._places.take(asking, address)
            asked = read_fields(await read_body(request), chat, pair, self._settings)
            reply = Reply(asked, pair)
            await asyncio.to_thread(reply.submit, scheduler, address or asking.entrance)
            if not asked.stream:
                return JSONResponse(await _unless_gone(request, reply.whole()))
            pieces = reply.pieces()
            first = await _unless_gone(request, begin(pieces))
            handed_on = True
            return EventStream(event_stream(pieces, first), lambda: (first.cancel(), _end(asking, reply)))
        except Busy as busy:
            raise Refusal(429, str(busy), after=scheduler.text_seconds or _TEXT_SECONDS) from None
        finally:
            if not handed_on:
                _end(asking, reply)

    def _admit(self, request: Request) -> None:
        """Raises Refusal for a request under a foreign name, or without the key."""
        reason = self._names.refusal(request.headers) if self._names else None
        if reason is not None:
            raise Refusal(403, reason)
        check_key(request.headers, self._settings.api_key)


class EventStream(StreamingResponse):
    """Server-sent events to a client that reads them; `close` is called however it ends."""

    def __init__(self, events: AsyncGenerator[str, None], close: Callable[[], object] = lambda: None) -> None:
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}  # proxies: pass on at once
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._events, self._close = events, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them until the end, or until the client has gone or reads no more."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(STALL_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, patiently)
        finally:
            self._close()
            await self._events.aclose()  # it may stand at a part that nobody took


class _Asking:
    """A request's place; it is free again with `cancel`."""

    entrance: Entrance = "api"

    def __init__(self) -> None:
        self.cancel = threading.Event()

    @property
    def active(self) -> bool:
        return not self.cancel.is_set()


def _end(asking: _Asking, reply: Reply | None) -> None:
    """Frees what a request holds."""
    asking.cancel.set()
    if reply is not None:
        reply.cancel()


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work; raises ClientDisconnect, and stops it, once the client has gone."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refusal(_: Request, refusal: Any) -> Response:
    return refusal.response(close=refusal.status in _UNREAD)


async def _no_route(request: Request, error: Any) -> Response:
    path = shown(request.url.path)
    said = f"There is no {path} here." if error.status_code == 404 else f"{path} is not asked by {request.method}."
    return refused(error.status_code, said)


async def _gone(_: Request, error: Any) -> Response:
    return Response(status_code=_GONE)


async def _failed(_: Request, error: Any) -> Response:
    """Whoever serves it logs the error."""
    return refused(500, "The server failed at this; its log says where.")
