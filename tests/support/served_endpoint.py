"""What the endpoint's tests share: its own server on a free loopback port, in this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from engine import Scheduler, load_settings
from engine.endpoint.serve import application
from engine.guard.server import make_server


def eventually(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits until something holds; only a fault reaches the end of the time."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


class Served(NamedTuple):
    """A running server: its address, and what writes its texts."""

    url: str
    scheduler: Scheduler


@contextmanager
def serve_endpoint(pair: Any, **settings: Any) -> Iterator[Served]:
    """Serves a pair until the end of the block."""
    asked = load_settings(**settings)
    scheduler = Scheduler(pair, asked.rows)
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(application(pair, scheduler, asked))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", scheduler)
    finally:
        server.should_exit = True
        thread.join()
        scheduler.close()
