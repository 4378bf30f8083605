"""What a call of gradio names, checked before gradio looks it up.

Gradio keeps whatever session hash comes, and a name that it does not know is a fault of the server to it.
"""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request
from gradio import Blocks
from gradio_client.utils import construct_args

from app.running.sessions import LONGEST_HASH
from engine.errors import shown
from engine.guard.limits import LATER

PER_WINDOW = 24
"""Events of a window that wait, are worked on, or have a result that was not read."""

_NAMES = ("session_hash", "event_id", "fn_name")
_FORMS = ("multipart/", "application/x-www-form-urlencoded")
_HERE = "There is nothing here of that name"
_ENDPOINT = "The endpoint is called generate."


def check_asked(page: Blocks, names: dict[str, Any], body: Any = None, by_name: bool = False) -> None:
    """Refuses a request that names what it may not, or what the page has not.

    Args:
        page: What is asked.
        names: By the address: its parameters, those in its path among them.
        body: What a POST says, as parsed JSON of any kind; None of another request.
        by_name: Whether it gives the values of an endpoint by their names.

    Raises:
        HTTPException: 404 for what is not here, 422 for what is no name.
    """
    said = body if isinstance(body, dict) else {}
    for name, value in [*names.items(), *said.items()]:
        if name in _NAMES and value is not None and not (isinstance(value, str) and len(value) <= LONGEST_HASH):
            raise HTTPException(422, f"{name} must be a text of at most {LONGEST_HASH} characters.")
    answered = {index for index, function in page.fns.items() if function.fn}  # the others happen in the browser
    for name, known in (("fn_index", answered), ("component_id", page.blocks)):
        number = said.get(name)
        if number is None:
            continue
        if not isinstance(number, int):
            raise HTTPException(422, f"{name} must be a whole number.")
        if number not in known:
            raise HTTPException(404, f"{_HERE}: {name} = {shown(number)}.")
    if said.get("batched"):
        raise HTTPException(422, "batched must be false: this page answers one event at a time.")
    called = names.get("api_name")
    if body is None or called is None:
        return
    if by_name:
        _check_values(page, called, said)
    elif said.get("fn_index") is None and called not in (function.api_name for function in page.fns.values()):
        raise HTTPException(404, f"{_HERE}: {shown(called)}. {_ENDPOINT}")


def _check_values(page: Blocks, called: str, values: dict[str, Any]) -> None:
    endpoint = page.get_api_info()["named_endpoints"].get(f"/{called}")
    if endpoint is None:
        raise HTTPException(404, f"{_HERE}: {shown(called)}. {_ENDPOINT}")
    try:
        construct_args(endpoint["parameters"], (), values)
    except (TypeError, ValueError) as error:
        raise HTTPException(422, shown(str(error))) from None


def _check_result(page: Blocks, event: str) -> None:
    """Refuses who asks for a result that is not kept: gradio would begin an answer, and break it off."""
    queue = page._queue
    kept = event in queue.event_ids_to_events or event in queue.pending_messages_per_session
    if not kept and not any(event in ids for ids in [*queue.pending_event_ids_session.values()]):
        raise HTTPException(404, "There is no result of that name, or it was read or dropped: ask again.")


def _check_window(page: Blocks, path: str, window: Any) -> None:
    """Refuses who reads results where there are none, and a window that asks for more before it has read."""
    queue = page._queue
    if path.endswith("/queue/data") and window not in queue.pending_messages_per_session:
        raise HTTPException(404, "There are no results for this window: ask for something first.")
    if path.endswith("/queue/join") and len(queue.pending_event_ids_session.get(window, ())) >= PER_WINDOW:
        raise HTTPException(
            429, f"This window asked for {PER_WINDOW} things that are not done, which is its share. {LATER}"
        )


async def check_request(request: Request) -> None:
    """`check_asked` for a request to gradio's application; what is no JSON is left to its routes."""
    names = {**request.query_params, **request.path_params}
    if request.method == "GET" and "event_id" in request.path_params:
        _check_result(request.app.get_blocks(), request.path_params["event_id"])
    body: Any = None
    if request.method == "POST":
        if request.headers.get("content-type", "").startswith(_FORMS):
            raise HTTPException(415, "This page takes JSON only: it reads files in the browser.")
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            body = {}
    page, path = request.app.get_blocks(), request.url.path
    check_asked(page, names, body, "/gradio_api/call/v2/" in path)
    said = body if isinstance(body, dict) else {}
    _check_window(page, path, said.get("session_hash", names.get("session_hash")))
