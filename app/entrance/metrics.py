"""`/metrics`: the scheduler's figures in Prometheus' text format. Off by default.

They count texts, tokens and seconds. They say nothing of visitors or of what the texts hold.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.running.host import Host

_METRICS = (
    ("rows", "gauge", "Texts that are being written now."),
    ("bound", "gauge", "Texts that are written at once, at most."),
    ("waiting", "gauge", "Texts that wait in line."),
    ("first_seconds", "gauge", "Seconds for which a text waits for its first token, of late."),
    ("tokens", "counter", "Tokens written, those that the LLM took back included."),
    ("steps", "counter", "Steps of the models, each for all texts that took part."),
    ("texts", "counter", "Texts that ended, in any way."),
    ("failures", "counter", "Texts that ended with an error."),
    ("seconds", "counter", "Seconds spent in steps."),
)
"""Attributes of `engine.Scheduler`, with their kind and meaning."""


def metrics_route(host: Host) -> Route:
    """The route. All figures are 0 until the models are loaded."""

    async def metrics(_: Request) -> PlainTextResponse:
        return PlainTextResponse(metrics_text(host), media_type="text/plain; version=0.0.4")

    return Route("/metrics", metrics)


def metrics_text(host: Host) -> str:
    """The scheduler's figures as they stand."""
    lines = []
    for name, kind, meaning in _METRICS:
        full = f"citer_{name}" + ("_total" if kind == "counter" else "")
        lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {getattr(host.scheduler, name, 0)}"]
    return "\n".join(lines) + "\n"
