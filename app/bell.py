"""A bell that threads ring and coroutines hear, so that what a model writes is sent at once and nobody has to look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Bell:
    """Rung from any thread, heard in any event loop."""

    def __init__(self) -> None:
        self._heard: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def ring(self) -> None:
        """Sets the event of everyone who listens; one that is set already costs nothing."""
        for event, loop in list(self._heard.items()):
            if not event.is_set():
                with suppress(RuntimeError):  # the loop was closed with the server
                    loop.call_soon_threadsafe(event.set)

    @contextmanager
    def heard(self) -> Iterator[asyncio.Event]:
        """An event that ringing sets, for the caller to wait for and to clear."""
        event = asyncio.Event()
        self._heard[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            del self._heard[event]
