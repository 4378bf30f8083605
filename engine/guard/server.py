"""The server that the page and `engine serve` run in: uvicorn, with connections that end in time.

uvicorn waits for ever for a client that sends nothing or half a request. Beyond its limit of connections it refuses the
newest; without free descriptors it stops. No setting changes that, so its protocol is extended here. It is the protocol
that parses with httptools: pure Python takes seconds for a request in chunks of one byte.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.errors import SettingsError, shown

HEAD_SECONDS = 10.0
"""The longest time for the head of a request, from the connection's start or the request's first byte."""

STALL_SECONDS = 60.0
"""The longest time for which a client may read nothing of what is sent."""

MOST_CONNECTIONS = 4_096
MOST_BESIDE = 131_072
"""The most bytes of a request beside its body: its head, and the sizes of the body's chunks. Honest clients send some
kilobytes in each chunk."""

_FAREWELL_SECONDS = 3  # for streams that are open when the server ends
_RESERVED = 512  # descriptors for files, models and connections to other servers


def listen(host: str, ports: Sequence[int]) -> socket.socket:
    """A socket at the first of some ports that is free; raises SettingsError where there is none."""
    for port in ports:
        try:
            kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=kind, backlog=2_048)
        except (OSError, UnicodeError) as error:
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                reason = getattr(error, "strerror", None) or error
                said = f"CITER_SERVER__HOST = {shown(host)}: not an address of this machine ({reason}); unset it, or "
                raise SettingsError(said + "give 127.0.0.1 (this machine) or 0.0.0.0 (all networks)") from None
    named = ports[0] if len(ports) == 1 else f"{ports[0]} to {ports[-1]}"
    raise SettingsError(f"port {named} is taken: set CITER_SERVER__PORT")


def url_of(listening: socket.socket) -> str:
    """Where a browser on this machine finds what serves at a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{'localhost' if host in ('0.0.0.0', '::') else f'[{host}]' if ':' in host else host}:{port}"


def make_server(app: ASGIApp, most_connections: int | None = None) -> uvicorn.Server:
    """A server for an application; `run(sockets=[…])` serves until it is interrupted.

    `most_connections` are by default as many as descriptors allow, up to `MOST_CONNECTIONS`.
    """
    most = raise_descriptors() if most_connections is None else most_connections
    config = uvicorn.Config(
        app,
        http=type("ServerConnection", (Connection,), {"idle": OrderedDict(), "most": most}),
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # the guard reads addresses
        server_header=False,
        limit_concurrency=most + 1,  # with so many connections a request is answered with 503
        timeout_graceful_shutdown=_FAREWELL_SECONDS,
    )
    return uvicorn.Server(config)


def raise_descriptors() -> int:
    """Raises the soft limit of open descriptors as far as it may be; returns how many connections fit in it."""
    most = MOST_CONNECTIONS + _RESERVED
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < most:
            most = most if hard == resource.RLIM_INFINITY else min(hard, most)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(16, most - min(_RESERVED, most // 2))


class Connection(HttpToolsProtocol):
    """One connection. `idle` has those without a request, the oldest first; they are closed to make room for others."""

    idle: OrderedDict[Connection, None]
    most: int
    _stalled: asyncio.TimerHandle | None = None
    _beside = _earlier = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most and self.idle:
            oldest, _ = self.idle.popitem(last=False)
            self.connections.discard(oldest)  # now, not when its end is handled: the limit counts these
            oldest.transport.abort()
        self.idle[self] = None
        self.timeout_keep_alive = HEAD_SECONDS  # uvicorn starts the same timer after each response
        self.timeout_keep_alive_task = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._busy()
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._earlier = self._beside
        super().data_received(data)
        self._beside += len(data)
        if self._beside > MOST_BESIDE and not self.transport.is_closing():
            self.send_400_response(f"A request may have {MOST_BESIDE} bytes beside its body.")

    def on_message_begin(self) -> None:
        # `data` may begin with the last of another request's body, which `on_body` has subtracted.
        self._beside, self._earlier = self._beside - self._earlier, 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._beside -= len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """See `HttpToolsProtocol`. From here on the guard's time limits hold."""
        self._busy()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self.idle[self] = None

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: the client does not read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._end_stall()
        super().resume_writing()

    def _unset_keepalive_if_required(self) -> None:
        """Does nothing: uvicorn stops the timer at the first byte of a head, and here it runs until the last."""

    def _busy(self) -> None:
        super()._unset_keepalive_if_required()
        self.idle.pop(self, None)

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
