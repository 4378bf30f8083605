"""A bell that threads ring and coroutines hear, so that what a model writes is sent at once and nobody has to look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Bell:
    """Rung from any thread, heard in any event loop.

    Attributes:
        since: When somebody was last known to care, in `time.monotonic`.
    """

    def __init__(self) -> None:
        self.since = time.monotonic()
        self._heard: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def ring(self) -> None:
        """Sets the event of everyone who listens; one that is set already costs nothing."""
        for event, loop in list(self._heard.items()):
            if not event.is_set():
                with suppress(RuntimeError):  # the loop was closed with the server
                    loop.call_soon_threadsafe(event.set)

    @property
    def unheard(self) -> float:
        """For how many seconds nobody has listened."""
        return 0.0 if self._heard else time.monotonic() - self.since

    @contextmanager
    def heard(self) -> Iterator[asyncio.Event]:
        """An event that ringing sets, for the caller to wait for and to clear."""
        event = asyncio.Event()
        self._heard[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            self.since = time.monotonic()
            del self._heard[event]
