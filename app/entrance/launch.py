"""Mounts the page behind the guard, finds an address to listen at, and serves."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from app.components import ASSETS, PRELOAD
from app.entrance.gradio_parts import PageBlocks, check_request, install, with_heartbeats
from app.share.home import FAVICON, use_own_preview
from app.share.open_trace import MAX_BYTES
from app.theme import theme
from app.tune.prompts import MAX_BYTES as MAX_PROMPTS
from engine import EngineError, Settings
from engine.errors import fault_place, fault_words
from engine.guard.callers import Callers, on_space
from engine.guard.guard import MOST_BYTES, Guard
from engine.guard.refusals import PREFIX, Refusal
from engine.guard.server import listen, make_server, url_of

MAX_TRACE, MAX_CALL = 8 * MAX_BYTES // 5, 8 * MAX_PROMPTS // 5
"""The most bytes of a request with a trace, and of one with prompts. JSON spells some characters as two."""

MAX_OTHER = 65_536

_GRADIO = "/gradio_api/"
_OPEN = ("app_id", "citer/", "component_server", "file=", "heartbeat/", "info", "login_check", "run/", "startup-events")
_OPEN += ("theme.css", "user")
# What the page needs of gradio's paths. Events are answered at once, so it needs no queue; it takes no uploads, since
# it reads files in the browser.
_CLOSED = ("/monitoring", "/proxy=")

_PORTS = range(7860, 7960)
# Gradio compiles templates and handlers in the browser, and loads a script from cdnjs that sizes a Space's frame.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: https://cdnjs.cloudflare.com; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)

logger = logging.getLogger(__name__)


STYLES = sorted((ASSETS / "css").glob("*.css"), key=lambda path: (path.name != "page.css", path))
"""Rules of other files go on from those of `page.css`."""


def application(demo: PageBlocks, settings: Settings) -> Guard:
    """The page behind the guard, with what it serves beside gradio."""
    use_own_preview()
    outer = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        demo,
        path="/",
        app_kwargs={
            "routes": [*demo.routes],
            "openapi_url": None,
            "exception_handlers": {RequestValidationError: _not_understood, EngineError: _refused},
            "dependencies": [Depends(check_request)],
        },
        favicon_path=str(FAVICON),
        max_file_size=MAX_BYTES,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        theme=theme(),
        css_paths=[*STYLES],
        head=PRELOAD,
    )
    app: Any = next(route.app for route in outer.routes if isinstance(route, Mount))
    demo.app = app
    install(demo, app)
    callers = Callers(settings.server__hosts, settings.server__host, settings.server__proxies)
    return Guard(with_heartbeats(outer, demo.sessions), callers, most_bytes, _POLICY)


def run(app: Guard, settings: Settings) -> None:
    """Serves the page until it is interrupted. Without an address in the settings it takes the next free port."""
    own = settings.server__host or "127.0.0.1", settings.server__port
    host, port = ("0.0.0.0", _PORTS[0]) if on_space() else own
    with listen(host, [port] if port else _PORTS) as listening:
        print(f"* Running on local URL:  {url_of(listening)}", flush=True)
        logger.warning(app.callers.rule)
        make_server(app).run(sockets=[listening])


def most_bytes(path: str) -> int | None:
    """The most bytes of a body for a path; None for a path that is not served."""
    if path.startswith(PREFIX):
        return MOST_BYTES
    called = path.removeprefix(_GRADIO)
    if path.startswith(_CLOSED) or (called != path and not called.startswith(_OPEN)):
        return None
    return {"run": MAX_TRACE, "component_server": MAX_CALL}.get(called.partition("/")[0], MAX_OTHER)


async def _refused(request: Request, error: Any) -> Response:
    """Answers for a check of a call, or a component's function, that raised an error of the engine."""
    return (error if isinstance(error, Refusal) else Refusal(422, str(error))).response()


async def _not_understood(request: Request, error: Any) -> Response:
    """Answers a body of the wrong form."""
    first = error.errors()[0]
    fault = fault_words(first, fault_place(first), hidden=True)
    return Refusal(422, f"The request was not understood: {fault}").response()
