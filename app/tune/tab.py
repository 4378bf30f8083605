"""The tab Tune on my prompts: a visitor's own prompts at many thresholds, and the operating point to take away.

Files are read without ever being stored. Picking a point and exporting it happen in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from app.components import ASSETS, EACH_TIME, PLOTLY, QUIET, Panel, drawn, tells, to_json
from app.controls import Number, fill, tokens_field
from app.entrance.said import said_fields, said_number, said_text
from app.fields import DIALS, fitting, greedy_request, whole
from app.handlers import wire_stop
from app.running.host import Host
from app.running.sessions import Sessions
from app.tune.prompts import CELL_LIMIT, MAX_BYTES, MAX_ROWS, parse
from app.tune.tuning import MAX_THRESHOLDS, Tuning
from engine import InvalidRequest, Settings
from engine.errors import shown
from engine.grading import RULE

KIND = "tune"
"""The key of a tuning among a session's jobs."""

_OF_A_POINT = ("threshold", "acceptance", "policy", "max_new_tokens", "max_draft")
_THRESHOLDS = 9
_PLACEHOLDER = """One prompt per line, or CSV with a header:

prompt,answer
How many days are in two weeks?,14

or JSONL:

{"prompt": "…", "answer": "…"}"""


def tune_tab(host: Host, sessions: Sessions, settings: Settings, fields: Mapping[str, Component]) -> Panel:
    """The tab's content; called inside the tab. Returns the panel that draws tunings.

    `fields` are the Playground's, by their names: what scores and what the LLM keeps is chosen there, and a point can
    be used there.
    """

    def tune(
        text: str,
        count: float,
        limit: float,
        policy: str,
        acceptance: float,
        max_draft: float,
        request: gr.Request,
    ) -> None:
        session = sessions.get(request.session_hash)
        rows = parse(text or "").rows
        asked = greedy_request(rows[0].prompt, policy, max_draft, limit, acceptance=acceptance)
        job = Tuning(rows, asked, whole(count), session.jobs.get(KIND))
        session.begin_job(KIND, job, host)

    def use(request: gr.Request, event: gr.EventData) -> list[Any]:
        """Takes a point over into the Playground's fields."""
        given = said_fields(event._data)
        values, _ = fitting({name: given[name] for name in _OF_A_POINT if name in given}, host.policies)
        sessions.get(request.session_hash).chosen.update(values.keys() & DIALS)
        return fill(fields, values)

    def text_of(data: Any) -> str | None:
        asked = said_fields(data)
        job = sessions.find(said_text(asked, "run"))
        number, point = said_number(asked, "row", -1), said_number(asked, "point", -1)
        return job.text_message(number, point) if isinstance(job, Tuning) else None

    with gr.Row(elem_id="tune-main", equal_height=False):
        with gr.Column(elem_id="tune-input", scale=0, min_width=320):
            text, count, limit, run, stop = _inputs(host, settings)
        with gr.Column(elem_id="tune-result", scale=1, min_width=0):
            panel = Panel(
                "tune",
                "tune-panel",
                events=("use",),
                server_functions=[text_of],
                rule=RULE,
                plotly=PLOTLY,
            )
    inputs = [text, count, limit, *(fields[name] for name in ("policy", "acceptance", "max_draft"))]
    started = run.click(tune, inputs=inputs, **EACH_TIME)
    wire_stop(stop, sessions, lambda session: [session.jobs.get(KIND)], [started])
    used = panel.use(use, outputs=[*fields.values()], **QUIET)
    used.success(None, js=tells("citer-used"), **QUIET)
    return panel


def _inputs(host: Host, settings: Settings) -> tuple[Any, ...]:
    def read_prompts(data: Any) -> str:
        return to_json({**read(data), "seconds": seconds_per_token(host, settings.rows)})

    with gr.Column(elem_classes="card", elem_id="tune-prompts-card"):
        text = gr.Textbox(label="Your prompts", placeholder=_PLACEHOLDER, lines=8, max_lines=8, elem_id="tune-prompts")
        drawn(
            "prompts",
            "tune-preview",
            server_functions=[read_prompts],
            example=(ASSETS / "tune/example.csv").read_text("utf-8"),
            max_bytes=MAX_BYTES,
            limits=f"At most {MAX_ROWS} prompts of fewer than {CELL_LIMIT:,} characters each.",
        )
    with gr.Column(elem_classes="card", elem_id="tune-settings-card"):
        with gr.Row():
            options: dict[str, Any] = {"minimum": 1, "maximum": MAX_THRESHOLDS, "step": 1, "min_width": 96}
            count = Number(_THRESHOLDS, label="Thresholds", elem_id="tune-count", **options)
            limit = tokens_field(settings, "New tokens", "tune-limit")
        with gr.Row(elem_id="tune-actions"):
            run = gr.Button("Run", variant="primary", elem_id="tune-run", min_width=112)
            stop = gr.Button("Stop", elem_id="tune-stop", min_width=80)
    return text, count, limit, run, stop


def seconds_per_token(host: Host, rows: int) -> float:
    """How long a token takes at most where all `rows` are written at once; 0 while that is not known."""
    if host.pair is None:
        return 0.0
    return round((host.pair.slm_cost.seconds(rows, rows) + host.pair.llm_cost.seconds(rows, rows)) / rows, 4)


def read(data: Any) -> dict[str, Any]:
    """Reads pasted text, or that of a file by its `name`, for the preview.

    Returns:
        `error`, or `count`, `answers`, `kind` and `unused`.
    """
    try:
        given = said_fields(data)
        table = parse(said_text(given, "text"), said_text(given, "name"))
    except InvalidRequest as error:
        return {"error": str(error)}
    return {
        "count": len(table.rows),
        "answers": sum(row.expected is not None for row in table.rows),
        "kind": table.kind,
        "unused": [shown(name, limit=40) for name in table.unused[:8]],
    }
