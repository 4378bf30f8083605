from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Listeners:
    """Wakes the coroutines of any event loop that wait for what a job's thread writes, so that none has to poll."""

    def __init__(self) -> None:
        self.last_heard = time.monotonic()  # when somebody last listened
        self._events: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def notify(self) -> None:
        """Sets every listener's event; may be called from any thread."""
        for event, loop in list(self._events.items()):
            if not event.is_set():
                with suppress(RuntimeError):  # the loop was closed with the server
                    loop.call_soon_threadsafe(event.set)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def unheard_seconds(self) -> float:
        """For how many seconds nobody has listened."""
        return 0.0 if self._events else time.monotonic() - self.last_heard

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """An event that `notify` sets, for the caller to wait for and to clear."""
        event = asyncio.Event()
        self._events[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            self.last_heard = time.monotonic()
            del self._events[event]
