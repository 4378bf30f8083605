"""`/metrics`: what the server itself spends on all visitors' texts, in Prometheus' text format. Off by default.

It says how many texts and tokens there were, and nothing of whose they are or what stands in them.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.running.host import Host

_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

_METRICS = (
    ("rows", "gauge", "Texts that are being written now."),
    ("bound", "gauge", "Texts that are written at once, at most."),
    ("waiting", "gauge", "Texts that wait in line."),
    ("tokens", "counter", "Tokens written, those that the LLM took back included."),
    ("steps", "counter", "Steps of the models, each for all texts that took part."),
    ("texts", "counter", "Texts that ended, in any way."),
    ("failures", "counter", "Texts that ended with an error."),
    ("seconds", "counter", "Seconds spent in steps."),
    ("first_seconds", "gauge", "Seconds for which a text waits for its first token, of late."),
)
"""Attributes of `engine.Scheduler`, with their kind and meaning."""


def metrics_route(host: Host) -> Route:
    """Where they are read; all are 0 until the models are loaded."""

    async def metrics(_: Request) -> PlainTextResponse:
        return PlainTextResponse(metrics_text(host), headers={"Content-Type": _FORMAT})

    return Route("/metrics", metrics)


def metrics_text(host: Host) -> str:
    """The scheduler's figures as they stand."""
    lines = []
    for name, kind, meaning in _METRICS:
        full = f"citer_{name}" + ("_total" if kind == "counter" else "")
        value = getattr(host.scheduler, name, 0)
        lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return "\n".join(lines) + "\n"
