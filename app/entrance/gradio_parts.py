"""All changes inside gradio are here. Each replaces something that gradio has no setting for.

- A failed event gets a short message. Gradio prints a traceback, which may hold a visitor's text, and answers a refused
  direct call with status 500.
- A window's state has only the components that changed. Gradio writes the configuration of every component for each new
  session hash, which takes 23 ms and 200 kB.
- The number of remembered windows is bounded, and those that somebody listens for stay. Unread results are dropped:
  gradio keeps those of 2,000 windows, and one trace may have megabytes.
- The queue looks for work fifty times a second instead of a thousand, and keeps no statistics.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import Blocks
from gradio.state_holder import SessionState, StateHolder
from starlette.requests import Request

from app.components import refusal
from app.entrance.callers import Callers
from engine import EngineError, InvalidRequest
from engine.errors import log_fault, shown
from engine.guard.guard import REFUSED

MAX_WINDOWS = 512
"""The most windows that are remembered. Each has a state of four kilobytes and its unread results."""

UNREAD_SECONDS = 300.0
"""How long an unread result is kept while nobody listens for it."""

_LOOKS_EVERY = 0.02  # seconds; gradio's thousand looks a second would take 4 % of a core
_LONGEST = 300  # characters of a fault in gradio's words
_TOO_FEW = "receive enough input values"  # gradio's words where a call lacks values

logger = logging.getLogger(__name__)


class PageBlocks(gr.Blocks):
    """Blocks whose failed events always give the visitor a message."""

    async def preprocess_data(self, *args: Any, **options: Any) -> Any:
        """See `gr.Blocks`: what no field can hold is the visitor's fault, not the server's."""
        try:
            return await super().preprocess_data(*args, **options)
        except (EngineError, gr.Error):
            raise
        except Exception as error:
            if _TOO_FEW in str(error):
                raise InvalidRequest(shown(str(error), limit=_LONGEST)) from None
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
            request.scope[REFUSED] = True  # so that the guard answers a direct call with 422
        raise refused from None


class PageState(SessionState):
    """A window's changed components. It has no room for `gr.State`, which this page does not use."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values, self.state_data, self._state_ttl = {}, {}, {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Keeps no configuration."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keeps no value."""


class Windows(OrderedDict[str, Any]):
    """Values by session hash, at most `MAX_WINDOWS`. The oldest one without a listener goes first."""

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self._callers = callers

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.move_to_end(name)
        if len(self) > MAX_WINDOWS:
            others = [other for other in self if other != name]
            del self[next((other for other in others if not self._callers.hear(other)), others[0])]


class Results(Windows):
    """Unread results by session hash. They go after `UNREAD_SECONDS` without a listener; `nothing` makes a stand-in."""

    def __init__(self, callers: Callers, nothing: Callable[[], Any]) -> None:
        super().__init__(callers)
        self._nothing = nothing

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._look, name, value)

    def __missing__(self, name: str) -> Any:
        return self._nothing()

    def _look(self, name: str, value: Any) -> None:
        if self.get(name) is value:  # else the window has begun anew
            if self._callers.hear(name):
                asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._look, name, value)
            else:
                del self[name]


class PageStates(StateHolder):
    """Keeps a `PageState` for each window."""

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self.session_data = Windows(callers)

    def __getitem__(self, session_id: str) -> SessionState:
        with self.lock:
            if session_id not in self.session_data:
                self.session_data[session_id] = PageState(self.blocks)
            self.session_data.move_to_end(session_id)
            return self.session_data[session_id]


def bound(demo: gr.Blocks, app: Any, callers: Callers) -> None:
    """Puts these parts into gradio's application and queue."""
    app.state_holder = PageStates(callers)
    app.state_holder.set_blocks(demo)
    queue = demo._queue
    queue.pending_messages_per_session = Results(callers, asyncio.Queue)  # pyright: ignore[reportAttributeAccessIssue]
    queue.pending_event_ids_session = Results(callers, set)
    queue.sleep_when_free = _LOOKS_EVERY
    queue.progress_update_sleep_when_free = 10 * _LOOKS_EVERY  # for `gr.Progress`, which nothing here uses
    queue.ANALYTICS_MAX_EVENTS = 0
