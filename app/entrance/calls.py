"""Checks the names in a call of gradio before gradio looks them up.

Gradio keeps every session hash that it is sent. It answers a name that it does not know as if the server had failed.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from gradio import Blocks
from gradio_client.utils import construct_args

from app.running.sessions import LONGEST_HASH
from engine.errors import shown
from engine.guard.limits import LATER
from engine.guard.refusals import Refusal

PER_WINDOW = 24
"""The most events of a window that wait, are worked on, or have an unread result."""

_NAMES = ("session_hash", "event_id", "fn_name")
_FORMS = ("multipart/", "application/x-www-form-urlencoded")
_HERE = "There is nothing here of that name"


async def check_request(request: Request) -> None:
    """Raises Refusal: 404 for a name that the page does not have, 422 for no name at all, 429 for too many."""
    page, path = request.app.get_blocks(), request.url.path
    names: dict[str, Any] = {**request.query_params, **request.path_params}
    said: dict[str, Any] = {}
    if request.method == "POST":
        if request.headers.get("content-type", "").startswith(_FORMS):
            raise Refusal(415, "This page takes JSON only: it reads files in the browser.")
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            body = {}  # gradio's routes refuse what is no JSON
        said = body if isinstance(body, dict) else {}
    _check_names(page, names, said)
    if request.method == "POST" and (called := names.get("api_name")) is not None:
        _check_call(page, called, said, by_name="/gradio_api/call/v2/" in path)
    elif "event_id" in request.path_params:
        _check_result(page, names["event_id"])
    _check_window(page, path, said.get("session_hash", names.get("session_hash")))


def _check_names(page: Blocks, names: dict[str, Any], said: dict[str, Any]) -> None:
    for name, value in [*names.items(), *said.items()]:
        if name in _NAMES and value is not None and not (isinstance(value, str) and len(value) <= LONGEST_HASH):
            raise Refusal(422, f"{name} must be a text of at most {LONGEST_HASH} characters.")
    answered = {index for index, function in page.fns.items() if function.fn}  # the other events run in the browser
    for name, known in (("fn_index", answered), ("component_id", page.blocks)):
        number = said.get(name)
        if number is not None and not isinstance(number, int):
            raise Refusal(422, f"{name} must be a whole number.")
        if number is not None and number not in known:
            raise Refusal(404, f"{_HERE}: {name} = {shown(number)}.")
    if said.get("batched"):
        raise Refusal(422, "batched must be false: this page answers one event at a time.")


def _check_call(page: Blocks, called: str, said: dict[str, Any], by_name: bool) -> None:
    """Checks the name of an endpoint, and with `by_name` the names of its values."""
    if not by_name and (said.get("fn_index") is not None or any(called == fn.api_name for fn in page.fns.values())):
        return
    endpoint = page.get_api_info()["named_endpoints"].get(f"/{called}") if by_name else None
    if endpoint is None:
        raise Refusal(404, f"{_HERE}: {shown(called)}. The endpoint is called generate.")
    try:
        construct_args(endpoint["parameters"], (), said)
    except (TypeError, ValueError) as error:
        raise Refusal(422, shown(str(error))) from None


def _check_result(page: Blocks, event: str) -> None:
    """Refuses a call for a result that is gone. Gradio would begin an answer and break it off."""
    queue = page._queue
    running, windows = queue.event_ids_to_events.get(event), [*queue.pending_event_ids_session.items()]
    window = running.session_hash if running else next((name for name, ids in windows if event in ids), event)
    if window not in queue.pending_messages_per_session:
        raise Refusal(404, "There is no result of that name, or it was read or dropped: ask again.")


def _check_window(page: Blocks, path: str, window: Any) -> None:
    queue = page._queue
    if path.endswith("/queue/data") and window not in queue.pending_messages_per_session:
        raise Refusal(404, "There are no results for this window: ask for something first.")
    if path.endswith("/queue/join") and len(queue.pending_event_ids_session.get(window, ())) >= PER_WINDOW:
        said = f"This window asked for {PER_WINDOW} things that are not done, which is its share. {LATER}"
        raise Refusal(429, said)
