"""The server that the page and `engine serve` run in: uvicorn, with connections that end in time."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp

from engine.guard.connections import connections

_FAREWELL_SECONDS = 3  # for texts that are being sent when the server is to end


def make_server(app: ASGIApp, most_connections: int | None = None) -> uvicorn.Server:
    """A server for an application; `run(sockets=[…])` serves until it is interrupted.

    `most_connections` are by default as many as descriptors allow, up to `MOST_CONNECTIONS`.
    """
    config = uvicorn.Config(
        app,
        http=connections(most_connections),  # pyright: ignore[reportArgumentType]
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # who asks is what `client_address` says
        server_header=False,
        timeout_graceful_shutdown=_FAREWELL_SECONDS,
    )
    return uvicorn.Server(config)
