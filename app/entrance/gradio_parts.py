"""All changes inside gradio are here. Each replaces something that gradio has no setting for.

- A call of an unknown event or component is refused before gradio looks it up and fails like a faulty server.
- A failed event gets a short message. Gradio prints a traceback, which may hold a visitor's text, and answers a refused
  direct call with status 500.
- Nothing is kept of a window. Gradio writes the configuration of every component for each new session hash, which takes
  23 ms and 200 kB. The engine checks the values of all fields, so an event needs no component but as it was built.
- The queue, which no event of the page uses, looks for work once a second instead of a thousand times.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import Blocks
from gradio.context import LocalContext
from gradio.state_holder import SessionState, StateHolder
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.components import refusal
from app.running.sessions import Sessions
from engine import EngineError, InvalidRequest
from engine.errors import log_fault, shown
from engine.guard.guard import REFUSED
from engine.guard.refusals import Refusal

LONGEST_HASH = 100
"""Characters of a window's name; gradio's have some ten, and those of its Python client 36."""

_FORMS = ("multipart/", "application/x-www-form-urlencoded")
_HEARTBEAT = "/gradio_api/heartbeat/"
_LOOKS_EVERY = 1.0  # seconds
_LONGEST = 300  # characters of a fault in gradio's words

logger = logging.getLogger(__name__)


async def check_request(request: Request) -> None:
    """Raises Refusal for a call that names nothing of this page, or that no script of it makes."""
    if request.method != "POST":
        return
    if request.headers.get("content-type", "").startswith(_FORMS):
        raise Refusal(415, "This page takes JSON only: it reads files in the browser.")
    try:
        said = await request.json()
    except (ValueError, RecursionError):
        return  # gradio's routes refuse what is no JSON
    if not isinstance(said, dict):
        return
    session = said.get("session_hash")
    if session is not None and not (isinstance(session, str) and len(session) <= LONGEST_HASH):
        raise Refusal(422, f"session_hash must be a text of at most {LONGEST_HASH} characters.")
    if said.get("batched"):
        raise Refusal(422, "batched must be false: this page answers one event at a time.")
    page: Blocks = request.app.get_blocks()
    answered = {index for index, function in page.fns.items() if function.fn}  # the other events run in the browser
    called = "/run/" in request.url.path
    name, known = ("fn_index", answered) if called else ("component_id", page.blocks)
    number = said.get(name)
    if not isinstance(number, int) or number not in known:
        raise Refusal(404, f"There is nothing here that has this {name}.")


def calling_address() -> str | None:
    """The client's address of the request that gradio is answering now; None outside of one."""
    request = LocalContext.request.get(None)
    return request.client.host if request and request.client else None


def with_heartbeats(app: ASGIApp, sessions: Sessions) -> ASGIApp:
    """Notes the page's heartbeats in the sessions. A browser holds one open as long as its window is open."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        with sessions.beating(path.removeprefix(_HEARTBEAT)) if path.startswith(_HEARTBEAT) else nullcontext():
            await app(scope, receive, send)

    return counted


class PageBlocks(gr.Blocks):
    """Blocks whose failed events always give the visitor a message.

    Attributes:
        sessions, routes: The page's sessions, and what it serves beside gradio.
    """

    sessions: Sessions
    routes: Sequence[BaseRoute]

    async def preprocess_data(self, *args: Any, **options: Any) -> Any:
        """See `gr.Blocks`: what no field can hold is the visitor's fault, not the server's."""
        try:
            return await super().preprocess_data(*args, **options)
        except (EngineError, gr.Error):
            raise
        except Exception:
            raise InvalidRequest("The page's fields cannot hold what was sent for them.") from None

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """See `gr.Blocks`: checks what was sent, calls the handler, makes the answer."""
        try:
            return await super().process_api(*args, **options)
        except gr.Error as error:
            refused = error if not error.print_exception else refusal(shown(str(error.message), limit=_LONGEST))
        except EngineError as error:
            refused = refusal(error)
        except Exception as error:
            log_fault(logger, "an event failed", error)
            raise refusal("The page's server failed at this; its log says where.") from None
        request = getattr(options.get("request"), "request", None)
        if isinstance(request, Request):
            request.scope[REFUSED] = True  # so that the guard answers with 422
        raise refused from None


class PageState(SessionState):
    """The components as they were built, with those that one event changes. This page does not use `gr.State`."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values, self.state_data, self._state_ttl = {}, {}, {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.blocks_config.blocks[key] = value

    def _update_config(self, key: int, value: Any = None) -> None:
        """Keeps no configuration."""

    _update_value_in_config = _update_config


class PageStates(StateHolder):
    """Gives a new `PageState` to each request, and keeps none."""

    def __getitem__(self, session_id: str) -> SessionState:
        return PageState(self.blocks)


def install(demo: gr.Blocks, app: Any) -> None:
    """Puts these parts into gradio's application."""
    app.state_holder = PageStates()
    app.state_holder.set_blocks(demo)
    demo._queue.sleep_when_free = demo._queue.progress_update_sleep_when_free = _LOOKS_EVERY
