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


def eventually(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Waits until a condition holds and returns its value; fails with its last value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        time.sleep(0.02)
    return value


@contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:
    """An application in a server of its own until the end of the block; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, **options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


class Served(NamedTuple):
    """A running server: its address, and what writes its texts."""

    url: str
    scheduler: Scheduler


@contextmanager
def serve_endpoint(pair: Any, **settings: Any) -> Iterator[Served]:
    """Serves a pair until the end of the block."""
    asked = load_settings(**settings)
    scheduler = Scheduler(pair, asked.rows)
    try:
        with running(application(pair, scheduler, asked)) as port:
            yield Served(f"http://127.0.0.1:{port}/v1", scheduler)
    finally:
        scheduler.close()
