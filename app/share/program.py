"""The lines by which another program gets the text that is on the page, from this page's own endpoint."""

from __future__ import annotations

from typing import Any

from engine import Sampling, Trace
from engine.endpoint.model_names import name_and_field

ADDRESS = "{address}"
"""Stands for the endpoint's own, which the browser knows; it comes first in the lines, before anything typed."""


def program(trace: Trace, locked: bool = False) -> str:
    """Three lines of Python with OpenAI's client, at the dials as they stood last; of a `locked` endpoint with room for
    its key, which no page knows.
    """
    last = trace.events[-1] if trace.events else trace
    model, citer = name_and_field(trace.preset, trace.policy, last.threshold, last.acceptance)
    roles = [("system", trace.system)] if trace.system else []
    roles += [*((turn.role, turn.text) for turn in trace.turns), ("user", trace.prompt)]
    messages = [{"role": role, "content": text} for role, text in roles]
    about = {"prompt": trace.prompt} if trace.raw else {"messages": messages}
    asked = ", ".join(
        f"{name}={value!r}" for name, value in {"model": model, **about, **_options(trace, citer)}.items()
    )
    key = "put the server's key here" if locked else "none"
    kind, text = ("completions", "text") if trace.raw else ("chat.completions", "message.content")
    return (
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{ADDRESS}", api_key="{key}")\n'
        f"print(client.{kind}.create({asked}).choices[0].{text})\n"
    )


def _options(trace: Trace, citer: dict[str, str]) -> dict[str, Any]:
    """What the text depends on besides; what is as the endpoint has it anyway is left out."""
    sampling, plain = trace.sampling, Sampling()
    given = {name: getattr(sampling, name) for name in Sampling.__slots__}
    changed = {name: value for name, value in given.items() if value != getattr(plain, name)}
    unusual: dict[str, Any] = {name: changed.pop(name) for name in ("top_k", "repetition_penalty") if name in changed}
    options: dict[str, Any] = {"max_tokens": trace.max_new_tokens, "seed": trace.seed, **changed}
    if trace.stop:
        options["stop"] = list(trace.stop)
    if citer:
        unusual["citer"] = citer
    if unusual:
        options["extra_body"] = unusual
    return options
