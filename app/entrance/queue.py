"""Gradio's queue of events, of which nobody takes more than a share, and which keeps nothing for who has gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Literal

from fastapi import HTTPException
from gradio import Blocks
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue
from gradio.server_messages import EventMessage
from starlette.requests import Request

from app.entrance.callers import Callers
from engine.guard.limits import LATER

MAX_WAITING = 128
"""Events that wait. Those that write anything have their places elsewhere; these take milliseconds."""

PER_SESSION, PER_ADDRESS = 24, 64
"""Events of one window, and of one client address, that wait, are worked on, or have a result that was not read."""

MAX_QUEUED_BYTES = 64_000_000
"""Of the requests that wait or are worked on; gradio keeps each, and three times as much of what it reads in them."""

SMALL_BYTES = 65_536
"""A request of at most so many bytes is not refused for the bytes of others."""

UNREAD_SECONDS = 60.0
"""How long a result is kept for somebody who does not listen."""

MAX_UNREAD = 256
"""Sessions of which such results are kept; the oldest goes first."""

Outcome = tuple[bool, str | list[dict[str, Any]], Literal["success", "error", "queue_full", "validator_error"]]


class PageQueue(Queue):
    """Takes the place of a page's queue, before it is launched.

    Args:
        blocks: The page.
        callers: Who waits for results.
        address: Gives the client address of a request; None where it is not known.
    """

    def __init__(self, blocks: Blocks, callers: Callers, address: Callable[[Request], str | None]) -> None:
        super().__init__(
            live_updates=True,
            concurrency_count=blocks.max_threads,
            update_intervals=1,
            max_size=MAX_WAITING,
            blocks=blocks,
        )
        self._callers, self._address = callers, address
        self._unread: dict[str, float] = {}  # since when nobody listens, by session
        # Gradio records ten thousand events with their sessions, and after each makes a table of them all, for a page
        # of figures that is closed here. Without records it makes none.
        self.ANALYTICS_MAX_EVENTS = 0

    async def push(self, body: PredictBodyInternal, request: Request, username: str | None) -> Outcome:
        """See `Queue`: takes an event; raises HTTPException with the reason where there is no room for it."""
        self._tidy(time.monotonic())
        refused = self._refusal(body.session_hash, request)
        if refused:  # not gradio's 503: of that its page says words of its own, and no way out
            raise HTTPException(429, refused)
        return await super().push(body, request, username)

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """See `Queue`; what nobody can read any more is not kept."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def _events(self) -> Iterator[Event]:
        """Those that wait or are worked on."""
        waiting = (queue.queue for queue in self.event_queue_per_concurrency_id.values())
        return chain.from_iterable(chain(waiting, filter(None, self.active_jobs)))

    def _refusal(self, session: str | None, request: Request) -> str | None:
        events = list(self._events())
        if session and max(self._count(session), sum(e.session_hash == session for e in events)) >= PER_SESSION:
            return f"This window asked for {PER_SESSION} things that are not done, which is its share. {LATER}"
        address = self._address(request)
        if address is not None and sum(self._address(e.request) == address for e in events) >= PER_ADDRESS:
            return f"Your network address asked for {PER_ADDRESS} things that are not done, which is its share. {LATER}"
        size = _size(request)
        if size > SMALL_BYTES and size + sum(_size(event.request) for event in events) > MAX_QUEUED_BYTES:
            return f"Too much is waiting here to take {size:,} bytes more. {LATER}"
        if len(self) >= MAX_WAITING:
            return f"{MAX_WAITING} things wait here to be done, which is all there is room for. {LATER}"
        return None

    def _count(self, session: str) -> int:
        return len(self.pending_event_ids_session.get(session, ()))

    def _tidy(self, now: float) -> None:
        """Drops what is kept for sessions that have nothing going on and nobody who listens."""
        live = {event.session_hash for event in self._events()}
        for name in [*self.pending_event_ids_session, *self.pending_messages_per_session]:
            ids, messages = self.pending_event_ids_session.get(name), self.pending_messages_per_session.get(name)
            if ids and (messages is None or messages.empty()):  # the results were read, or lost with their stream
                ids.intersection_update(self.event_ids_to_events)
            if name in live or self._callers.hear(name, *(ids or ())):
                self._unread.pop(name, None)
            elif not ids or now - self._unread.setdefault(name, now) > UNREAD_SECONDS:
                self._forget(name)
        for name in [*self._unread][: max(0, len(self._unread) - MAX_UNREAD)]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._unread.pop(name, None)
        self.pending_event_ids_session.pop(name, None)
        if name in self.pending_messages_per_session:
            del self.pending_messages_per_session[name]


def _size(request: Any) -> int:
    """Bytes of a body that has been read."""
    return len(getattr(request, "_body", b""))
