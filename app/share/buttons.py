"""The row of buttons under the text: it goes out as a trace, a page of its own, Markdown or a link; traces are opened.

Links fill in the page's fields when it loads. Nothing is written to disk, and nothing here needs a model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from app.components import QUIET, drawn, to_json
from app.controls import fill
from app.entrance.said import said_fields, said_text
from app.fields import DIALS, FIELDS, fitting, link_query, read_query, trace_fields
from app.running.host import Host
from app.running.run import Run
from app.running.session import Session
from app.running.sessions import Sessions
from app.share.export import html_page, markdown, trace_json
from app.share.open_trace import MAX_BYTES, opened_run
from app.stream.dashboard import dashboard_message
from app.stream.token_stream import token_message
from engine import POLICIES, EngineError, Trace

_LONGEST_NAME = 100  # of a file
_NAMES = {
    "top_p": "top-p",
    "top_k": "top-k",
    "raw": "prompt format",
    "max_draft": "longest draft",
    "system": "system prompt",
    "stop": "stop strings",
}


def share_bar(sessions: Sessions, home: str = "") -> gr.HTML:
    """The row of buttons under the text. Its value is what to say about a file that was opened.

    `home` is the project's address, to which what is taken away links.
    """

    def take(data: Any) -> str | None:
        asked = said_fields(data)
        owned, kind = sessions.find(said_text(asked, "run")), said_text(asked, "kind")
        return taken(owned[1], owned[0], kind, home) if owned else None

    return drawn("share/share", "share", events=("upload",), server_functions=[take], max_bytes=MAX_BYTES)


def link_note() -> gr.HTML:
    """What is said about a link, above the prompt; nothing where the page was opened without one."""
    return drawn("share/link_note", "link-note")


def wire_share(
    demo: gr.Blocks,
    host: Host,
    sessions: Sessions,
    bar: gr.HTML,
    note: gr.HTML,
    shown: Sequence[Any],
    fields: Sequence[Any],
) -> Any:
    """Lets files be opened, and links fill in the page when it loads; returns the event of filling in.

    `shown` are the panels of the text and of its figures; `fields` are the page's, in the order of `FIELDS`.
    """
    handlers = _ShareHandlers(host, sessions, fields)
    bar.upload(handlers.open_trace, outputs=[bar, *shown, *fields], **QUIET, queue=False)
    return demo.load(handlers.restore, outputs=[note, *fields], **QUIET, queue=False)


def taken(run: Run, session: Session, kind: str, home: str = "") -> str | None:
    """What a button hands out, as JSON: `text`, and `notes` about what is not in it. None while there is no text.

    `kind` is "json", "html", "markdown" or "link" (the query of one).
    """
    events = list(run.events)
    if not events:
        return None
    trace: Trace = replace(run.pair.trace(run.request, events), prices=session.view.prices)
    if kind == "link":
        text, notes = link_query(trace)
        return to_json({"text": text, "notes": notes})
    made = {"json": trace_json, "html": html_page, "markdown": markdown}
    return to_json({"text": made[kind](trace, home), "notes": []}) if kind in made else None


class _ShareHandlers:
    """What happens to links and files."""

    def __init__(self, host: Host, sessions: Sessions, fields: Sequence[Any]) -> None:
        self.host, self.sessions = host, sessions
        self.fields = dict(zip(FIELDS, fields, strict=True))

    def restore(self, request: gr.Request) -> list[Any]:
        """Fills in the fields from the address; nothing runs by itself."""
        query = dict(request.query_params)
        values, refused = read_query(query, self._policies())
        if not values and not refused:
            return [gr.skip()] * (1 + len(self.fields))
        if chosen := values.keys() & DIALS:  # else the router's own would take their place once the models are there
            self.sessions.enter(request.session_hash).moved |= chosen
        filled = ", ".join(_NAMES.get(name, name.replace("_", " ")) for name in values)
        said = f"The link filled in {filled or 'nothing'}; Generate writes the text."
        if refused:
            said += " It also asked for what cannot be had:"
        note = to_json({"said": said, "refused": refused})
        return [note, *self._updates(values)]

    async def open_trace(self, data: gr.EventData, request: gr.Request) -> list[Any]:
        """Puts the text of a trace on the page in place of the one that is there; a bad file leaves everything."""
        session = self.sessions.get(request.session_hash)
        given = said_fields(data._data)
        name, text = said_text(given, "name")[:_LONGEST_NAME], said_text(given, "text")
        try:
            with self.sessions.place():  # few at a time: reading one takes several times its size
                run = await asyncio.to_thread(opened_run, text, session.run)
                figures = await asyncio.to_thread(dashboard_message, run, session.view)
            session.show(run)  # no await from here on: the window's feed must not send anything in between
        except EngineError as error:
            said = to_json({"said": f"{name} was not opened. {error}", "bad": True, "at": time.monotonic_ns()})
            return [said, *[gr.skip()] * (2 + len(self.fields))]
        trace: Trace = run.pair.opened
        session.moved.update(DIALS)
        values, missing = fitting(trace_fields(trace), trace.stop, self._policies())
        said = " ".join([f"Opened {name}; the fields above are those it was written with.", *missing])
        note = to_json({"said": said, "bad": False, "at": time.monotonic_ns()})
        return [note, token_message(run, 0), figures, *self._updates(values)]

    def _policies(self) -> Sequence[str]:
        """What can be chosen: all until the models are there."""
        return POLICIES if self.host.pair is None else self.host.pair.policies

    def _updates(self, values: Mapping[str, Any]) -> list[Any]:
        return fill(self.fields, values)
