"""The menu Share: a text goes out as a link, a picture, a film, a page of its own or a trace.

Traces are opened, from files and from links; other links fill in the page's fields when it loads. Nothing is written to
disk, and nothing here needs a model.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from app.components import QUIET, STARTED, drawn, in_browser, tells, to_json
from app.controls import fill
from app.entrance.said import said_fields, said_number, said_text
from app.fields import DIALS, FIELDS, fitting, held_fields, read_query
from app.figures import counted, dial, pair_name
from app.recorded import RUN, Recorded
from app.running.host import Host
from app.running.run import Run
from app.running.session import SWEEP, Session
from app.running.sessions import Sessions
from app.share.export import html_page, link_json, trace_json
from app.share.open_trace import MAX_BYTES, opened_run
from engine import EngineError, Role, Trace
from engine.errors import shown

_FROM_BEFORE = "From before the page was loaded again; Generate writes it anew"
_LONGEST_NAME = 100  # of a file
_LINKED = "This text came with the link; no model was run for it. Prompt and settings are those it was written with."
_MOST_KEPT = 1_500_000  # characters of the fields, whose prompt may have a million


def share_menu(sessions: Sessions, home: str = "", recorded: Recorded | None = None) -> gr.HTML:
    """The menu. Its value is what to say about a file that was opened.

    `home` is the project's address, to which what is taken away links; `recorded` are texts that no session has.
    """

    def take(data: Any) -> str | None:
        asked = said_fields(data)
        run_id, row = said_text(asked, "run"), said_number(asked, "row", -1)
        run, trace = sessions.find(run_id), None
        if recorded is not None and run_id == RUN:
            trace = recorded.traces[row] if 0 <= row < len(recorded.traces) else None
        elif isinstance(run, Run) and run.events:
            trace = run.pair.trace(run.request, list(run.events))
        return taken(trace, said_text(asked, "kind"), home) if trace else None

    return drawn("share", "share", events=("upload",), server_functions=[take], max_bytes=MAX_BYTES)


def wire_share(
    entered: Any,
    host: Host,
    sessions: Sessions,
    bar: gr.HTML,
    note: gr.HTML,
    fields: Sequence[Any],
) -> Any:
    """Lets files be opened, and links fill in the page when it loads; returns the event of filling in.

    `entered` is the event by which a window has its session; `fields` are the page's, in the order of `FIELDS`.
    """
    handlers = _ShareHandlers(host, sessions, fields)
    for opener in (bar, note):
        opened = opener.upload(handlers.open_trace, outputs=[opener, *fields], **QUIET)
        opened.success(None, js=STARTED, **QUIET)
    gr.on([field.change for field in fields], None, inputs=list(fields), js=tells("citer-fields", *FIELDS), **QUIET)
    # Apart from the fields, since a trace may take long to read. `bar` and `note` only carry values from the browser.
    restored = entered.then(handlers.restore_text, bar, None, js=in_browser("keptTrace"), **QUIET)
    restored.success(None, js=in_browser("startKept"), **QUIET)
    carriers, js = [note, bar], in_browser("keptFields")
    return entered.then(handlers.restore_fields, carriers, [note, *fields], js=js, **QUIET)


def keep_texts(demo: gr.Blocks, names: Collection[str]) -> None:
    """Lets text boxes, by their `elem_id`, have their text again when the page is loaded anew in the same window."""
    for name in names:
        box = next(block for block in demo.blocks.values() if block.elem_id == name)
        assert isinstance(box, gr.Textbox)
        box.change(None, inputs=box, js=in_browser("keep", name), **QUIET)
        demo.load(None, outputs=box, js=in_browser("keptText", name), **QUIET)


def taken(trace: Trace, kind: str, home: str = "") -> str | None:
    """What the menu hands out; None for another kind.

    `kind` is "json", "html", "picture" (what is on one, as JSON), or "link" (the trace, short, or empty where it is far
    too long).
    """
    makers = {
        "html": lambda: html_page(trace, home),
        "json": lambda: trace_json(trace, home),
        "link": lambda: link_json(trace),
        "picture": lambda: to_json(_pictured(trace, home)),
    }
    return makers[kind]() if kind in makers else None


def _pictured(trace: Trace, home: str) -> dict[str, Any]:
    last = trace.events[-1]
    dials = f"threshold {dial(last.threshold)}" + (f", acceptance {dial(last.acceptance)}" if last.acceptance else "")
    before = f" · after {counted(len(trace.turns), 'message')}" if trace.turns else ""
    return {
        "prompt": trace.prompt,
        "about": f"{pair_name(trace.slm, trace.llm)} · {dials}{before}",
        "home": home.removeprefix("https://"),
        "tokens": [[event.text, int(event.role is Role.LLM)] for event in trace.events],
    }


class _ShareHandlers:
    """What happens to links and files."""

    def __init__(self, host: Host, sessions: Sessions, fields: Sequence[Any]) -> None:
        self.host, self.sessions = host, sessions
        self.fields = dict(zip(FIELDS, fields, strict=True))

    async def restore_fields(self, fields: Any, has_text: Any, request: gr.Request) -> list[Any]:
        """Puts back the fields as they were before the window was loaded again, or fills them in from the address.

        Nothing runs by itself. `fields` are JSON from the browser's storage; `has_text` is empty if it has no text.
        """
        kept = _kept_fields(fields)
        if kept or has_text:
            values, _ = fitting({name: kept[name] for name in FIELDS if name in kept}, self.host.policies)
            self.sessions.get(request.session_hash).chosen |= values.keys() & DIALS
            return [gr.skip(), *fill(self.fields, values)]
        query = dict(request.query_params)
        values, refused = read_query(query, self.host.policies)
        session = self.sessions.get(request.session_hash)
        if not values and not refused:
            if session.run is None:
                return [gr.skip()] * (1 + len(self.fields))
            # The text is from an earlier window: the fields get the settings that it was written with.
            return [gr.skip(), *fill(self.fields, held_fields(session.run.settings, self.host.policies)[0])]
        session.chosen |= values.keys() & DIALS
        filled = ", ".join(name.replace("_", " ") for name in values)
        said = f"The link filled in {filled or 'nothing'}; Generate writes the text."
        if refused:
            said += " Refused:"
        return [_told(said, refused=refused), *fill(self.fields, values)]

    async def restore_text(self, text: Any, request: gr.Request) -> None:
        """Puts back the text that the window had: a trace from the browser's storage."""
        if isinstance(text, str) and text:
            session = self.sessions.get(request.session_hash)
            with suppress(EngineError):  # no room, or no trace
                run = await self._read(text, session)
                run.about = _FROM_BEFORE
                if session.run is None and SWEEP not in session.jobs:  # else something newer was begun meanwhile
                    session.show(run)

    async def _read(self, text: str, session: Session) -> Run:
        """The run of a trace; raises EngineError."""
        with self.sessions.place():  # few at a time: reading one takes several times its size
            run = await asyncio.to_thread(opened_run, text, session.run)
        if session.run is not None and session.run.number >= run.number:
            run.renumber(session.run)  # another was begun meanwhile: the browser ignores a lower number
        return run

    async def open_trace(self, data: gr.EventData, request: gr.Request) -> list[Any]:
        """Puts the text of a trace on the page in place of the one that is there; a bad one changes nothing.

        What is said goes to the menu about a file (`name`), and to the note about a link, which has no name.
        """
        session = self.sessions.get(request.session_hash)
        given = said_fields(data._data)
        name, text = shown(said_text(given, "name"), limit=_LONGEST_NAME), said_text(given, "text")
        try:
            run = await self._read(text, session)
            session.show(run)
        except EngineError as error:
            said = f"{name} was not opened. {error}" if name else f"The text of this link was not opened. {error}"
            return [_told(said, bad=True), *[gr.skip()] * len(self.fields)]
        session.chosen.update(DIALS)
        values, missing = held_fields(run.settings, self.host.policies)
        said = f"Opened {name}; prompt and settings are those it was written with." if name else _LINKED
        told = _told(" ".join([said, *missing]), run=run.id, again=not name)
        return [told, *fill(self.fields, values)]


def _kept_fields(text: Any) -> dict[str, Any]:
    """What a browser has kept of the fields; nothing where that is anything else."""
    try:
        found = json.loads(text) if isinstance(text, str) and 0 < len(text) <= _MOST_KEPT else {}
        values = found.get("values") if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _told(said: str, bad: bool = False, **more: Any) -> str:
    return to_json({"said": said, "bad": bad, "at": time.monotonic_ns(), **more})
