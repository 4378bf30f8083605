"""`python -m engine serve`: a pair for other programs, without the page."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.endpoint.heap import give_back_freed_memory
from engine.endpoint.names import Names
from engine.endpoint.places import Places
from engine.endpoint.refusals import refused
from engine.endpoint.routes import Endpoint
from engine.errors import CommandParser, exit_status, log_fault
from engine.models.progress import print_progress
from engine.pair import Pair, load
from engine.scheduler import Scheduler
from engine.settings import Settings, add_model_options, load_settings, with_models

HOST, PORT = "127.0.0.1", 8000
MAX_CONNECTIONS = 512
_FAREWELL_SECONDS = 3  # for texts that are being sent when the server is to end

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 2 for an error of the user's, 130 if interrupted."""
    return exit_status(partial(_main, arguments))


def application(pair: Pair, scheduler: Scheduler, settings: Settings, host: str = HOST) -> ASGIApp:
    """The endpoint alone, as an ASGI application."""
    server = settings.server
    places, names = Places(server.queue_size, server.per_address), Names(server.hosts, host)
    endpoint = Endpoint(lambda: (pair, scheduler), settings, places, names)
    inner = Starlette(routes=[endpoint.mount], exception_handlers={404: _nothing})

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        except Exception as error:  # uvicorn would log its message, which may hold somebody's text
            log_fault(logger, "a request failed", error)

    return outer


async def _nothing(request, error):
    return refused(404, "There is nothing here: the endpoint is below /v1.")


def _main(arguments: Sequence[str] | None) -> None:
    give_back_freed_memory()
    settings = load_settings()
    options = _parser(settings).parse_args(arguments)
    settings = with_models(settings, options)
    listening = _listen(options.host, options.port)
    with listening:
        pair = load(None, settings, print_progress if sys.stderr.isatty() else None)
        scheduler = Scheduler(pair, settings.rows)
        try:
            _serve(application(pair, scheduler, settings, options.host), listening, pair, settings)
        finally:
            scheduler.close()


def _listen(host: str, port: int) -> socket.socket:
    """Takes the port before anything is loaded, so that one that is taken is told at once."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _serve(app: ASGIApp, listening: socket.socket, pair: Pair, settings: Settings) -> None:
    import uvicorn

    host, port = listening.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    print(f"{pair.slm_name} and {pair.llm_name} as model {pair.preset}: http://{address}:{port}/v1", flush=True)
    if settings.api_key is None and not ip_address(host.partition("%")[0]).is_loopback:
        print("warning: whoever reaches this address may ask; CITER_API_KEY sets a key", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        proxy_headers=False,  # who asks is what the connection says, or `server.proxies`
        server_header=False,
        lifespan="off",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=_FAREWELL_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m engine serve",
        description="Serve a pair to other programs, as OpenAI's clients expect: /v1/chat/completions, "
        "/v1/completions, /v1/models.",
        epilog="Defaults come from CITER_… variables and .env; `python -m engine.settings` lists them.",
    )
    server = settings.server
    add_model_options(parser.add_argument)
    parser.add_argument(
        "--host", default=server.host or HOST, metavar="ADDRESS", help="to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        choices=range(65536),
        metavar="PORT",
        default=server.port or PORT,
        help="0 is any that is free (default: %(default)s)",
    )
    return parser
