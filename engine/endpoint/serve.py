"""`python -m engine serve`: a pair for other programs, without the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.applications import Starlette

from engine.endpoint.routes import Endpoint, no_route
from engine.errors import CommandParser
from engine.events.progress import print_progress
from engine.guard.callers import Callers
from engine.guard.guard import Guard
from engine.guard.process import prepare
from engine.guard.server import listen, make_server, url_of
from engine.pair import Pair, load
from engine.scheduler import Scheduler
from engine.settings import Settings, add_model_options, load_settings, with_models

HOST, PORT = "127.0.0.1", 8000


def application(pair: Pair, scheduler: Scheduler, settings: Settings, host: str = HOST) -> Guard:
    endpoint = Endpoint(lambda: (pair, scheduler), settings)
    inner = Starlette(routes=[endpoint.mount], exception_handlers={404: no_route})
    return Guard(inner, Callers(settings.server__hosts, host, settings.server__proxies))


def serve(arguments: Sequence[str]) -> None:
    """Runs the command until it is interrupted; raises EngineError or OSError for what the user can put right."""
    prepare()
    settings = load_settings()
    options = _parser(settings).parse_args(arguments)
    settings = with_models(settings, options)
    # The port is opened before anything is loaded, so that a port in use is an error at once.
    with listen(options.host, [options.port]) as listening:
        pair = load(None, settings, print_progress if sys.stderr.isatty() else None)
        scheduler = Scheduler(pair, settings.rows)
        try:
            guard = application(pair, scheduler, settings, options.host)
            print(f"{pair.slm_name} and {pair.llm_name} as model {pair.preset}: {url_of(listening)}/v1", flush=True)
            host = listening.getsockname()[0].partition("%")[0]
            if settings.api_key is None and not ip_address(host).is_loopback:
                warning = "warning: anyone who reaches this address can use the models; CITER_API_KEY sets a key"
                print(warning, guard.callers.rule, sep="\n", file=sys.stderr, flush=True)
            make_server(guard).run(sockets=[listening])
        finally:
            scheduler.close()


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m engine serve",
        description="Serve a pair to other programs, as OpenAI's clients expect: /v1/chat/completions, "
        "/v1/completions, /v1/models.",
        epilog="Defaults come from CITER_… variables and .env; `python -m engine.settings` lists them.",
    )
    add_model_options(parser.add_argument)
    host, said = settings.server__host or HOST, "address to listen on (default: %(default)s)"
    parser.add_argument("--host", default=host, metavar="ADDRESS", help=said)
    port, said = settings.server__port or PORT, "port to listen on; 0 takes a free one (default: %(default)s)"
    parser.add_argument("--port", type=int, choices=range(65536), metavar="PORT", default=port, help=said)
    return parser
