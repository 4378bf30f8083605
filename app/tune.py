"""Tune on my prompts: a visitor's own prompts at many thresholds, and the operating point to take away.

Where the tab's parts stand, and which event does what. Prompts are read where the browser asks for it, files without
ever being stored; picking a point and exporting it happen in the browser (`assets/page/tune*.js`).
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components import ASSETS, Panel, drawn, refusal, to_json
from app.controls import POLICY_LABELS, Knob, knob
from app.dashboard import PLOTLY_JS
from app.expected import RULE
from app.forms import whole
from app.host import Host
from app.live import JobNews
from app.prompt_file import CELL_LIMIT, MAX_BYTES, PromptTable, parse, read_file
from app.prompt_formats import MAX_ROWS, shorten
from app.sessions import Sessions
from app.stopping import enable_stop, wire_stop
from app.tuning import MAX_THRESHOLDS, Tuning
from app.tuning_message import text_message, tuning_message
from engine import EngineError, InvalidRequest, Settings

KIND = "tune"
"""Of the tuning among a session's jobs."""

_SCORING = ("router", "confidence", "random")  # policies that a threshold means something to
_THRESHOLDS = 9
_PLACEHOLDER = """One prompt per line, or CSV with a header:

prompt,answer
How many days have two weeks?,14

or JSONL:

{"prompt": "…", "answer": "…"}"""
_PREVIEWED = 5
_FLUSH_SECONDS = 0.5
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass
class _Inputs:
    text: gr.Textbox
    policy: gr.Dropdown
    count: Knob
    limit: gr.Number
    run: gr.Button
    stop: gr.Button


def tune_tab(host: Host, sessions: Sessions, settings: Settings) -> Panel:
    """The tab's content. Returns what its tunings are drawn by."""
    handlers = _Handlers(host, sessions, settings)

    # gradio marks what the browser may call, which a bound method does not allow.
    def text_of(data: dict[str, Any]) -> str | None:
        return handlers.text(data)

    with gr.Row(elem_id="tune-main", equal_height=False):
        with gr.Column(elem_id="tune-input", scale=0, min_width=320):
            inputs = _inputs(settings)
        with gr.Column(elem_id="tune-result", scale=1, min_width=0):
            shown = Panel(
                "tune",
                "tune-panel",
                parts=("plotly", "tune_curve", "tune_export", "tune_chart", "tune_picker", "tune_prompts_list"),
                server_functions=[text_of],
                plotly=f"gradio_api/file={PLOTLY_JS.as_posix()}",
                rule=RULE,
            )
    enable_stop(inputs.stop, [inputs.run.click])
    several: dict[str, Any] = {"trigger_mode": "multiple", **_QUIET}  # a second one stops the first
    ran = inputs.run.click(handlers.tune, inputs=[inputs.text, inputs.policy, inputs.count, inputs.limit], **several)
    ended = shown.ended(handlers.ended, **several)
    wire_stop(
        inputs.stop, sessions, [ran], [ended], lambda session: [session.jobs.get(KIND)], lambda s: s.stop_job(KIND)
    )
    timer = gr.Timer(0.5)
    timer.tick(handlers.offer, inputs=inputs.policy, outputs=[inputs.policy, timer], queue=False, **_QUIET)
    return shown


def _inputs(settings: Settings) -> _Inputs:
    with gr.Column(elem_classes="card", elem_id="tune-prompts-card"):
        text = gr.Textbox(
            label="Your prompts",
            placeholder=_PLACEHOLDER,
            lines=8,
            max_lines=14,
            elem_id="tune-prompts",
        )
        drawn(
            "tune_prompts",
            "tune-preview",
            server_functions=[read_prompts],
            example=(ASSETS / "tune_example.csv").read_text("utf-8"),
            max_bytes=MAX_BYTES,
            limits=f"At most {MAX_ROWS} prompts of fewer than {CELL_LIMIT:,} characters each.",
        )
    with gr.Column(elem_classes="card", elem_id="tune-settings-card"):
        policies = [(POLICY_LABELS[name], name) for name in _SCORING]
        chosen = settings.policy if settings.policy in _SCORING else "router"
        policy = gr.Dropdown(policies, value=chosen, label="Scored by", filterable=False, elem_id="tune-policy")
        count = knob(
            1,
            MAX_THRESHOLDS,
            _THRESHOLDS,
            step=1,
            label="Thresholds between both ends",
            elem_id="tune-count",
        )
        limit = gr.Number(settings.max_new_tokens, label="New tokens per text", elem_id="tune-limit")
        with gr.Row(elem_id="tune-actions"):
            run = gr.Button("Run", variant="primary", elem_id="tune-run", min_width=112)
            stop = gr.Button("Stop", interactive=False, elem_id="tune-stop", min_width=80)
    return _Inputs(text, policy, count, limit, run, stop)


class _Handlers:
    """What the tab's events do."""

    def __init__(self, host: Host, sessions: Sessions, settings: Settings) -> None:
        self.host, self.sessions, self.settings = host, sessions, settings

    def tune(self, request: gr.Request, text: str, policy: str, count: float, limit: float) -> None:
        """Starts a tuning."""
        session = self.sessions.get(request.session_hash)
        try:
            rows = parse(text or "").rows
            after = session.jobs.get(KIND)
            job = Tuning(rows, policy, whole(count), whole(limit), self.settings.seed, after)
        except EngineError as error:
            raise refusal(error) from error
        session.begin_job(KIND, job, self.host)

    def ended(self, request: gr.Request) -> None:
        """Says why a tuning could not be made."""
        job = self.sessions.get(request.session_hash).jobs.get(KIND)
        if job is not None and job.error:
            raise refusal(job.error)

    def offer(self, policy: str) -> tuple[Any, gr.Timer]:
        """The policies that the models can do, once they are there."""
        self.host.start()
        pair = self.host.pair
        if pair is None:
            return gr.skip(), gr.Timer(active=self.host.status.phase == "loading")
        offered = [name for name in pair.policies if name in _SCORING]
        if len(offered) == len(_SCORING):
            return gr.skip(), gr.Timer(active=False)  # nor the choice: it may have changed since the browser asked
        choices = [(POLICY_LABELS[name], name) for name in offered]
        chosen: dict[str, Any] = {} if policy in offered else {"value": offered[0]}
        return gr.update(choices=choices, **chosen), gr.Timer(active=False)

    def text(self, data: dict[str, Any]) -> str | None:
        """One prompt's text at one point."""
        job = self.sessions.find_job(KIND, str(data.get("run")))
        found = isinstance(job, Tuning)
        return text_message(job, int(data.get("row", -1)), int(data.get("point", -1))) if found else None


class TuningNews(JobNews):
    """What of a tuning a window lacks."""

    kind = KIND

    def message(self, job: Tuning, have: int, over: bool) -> tuple[str, int] | None:
        """See `JobNews`."""
        if not over and time.monotonic() < self.due:
            return None
        self.due = time.monotonic() + _FLUSH_SECONDS
        count = len(job.results)  # before the message, which may have more: the browser skips what it knows
        message = tuning_message(job, self.host, have)
        if message == self.told and not over:
            return None
        self.told = message
        return message, count


def read_prompts(data: dict[str, Any]) -> str:
    """Reads pasted text, or a file that the browser sends as base64, for the preview.

    Returns:
        JSON: `error`, or `count`, `answers`, `kind`, `unused`, the first `rows`, and for a file its `text`.
    """
    try:
        if "file" not in data:
            return to_json(_preview(parse(str(data.get("text", "")))))
        try:
            content = base64.b64decode(str(data["file"]), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("The file did not arrive whole. Try again.") from None
        text, table = read_file(str(data.get("name", "")), content)
        return to_json({**_preview(table), "text": text})
    except InvalidRequest as error:
        return to_json({"error": str(error)})


def _preview(table: PromptTable) -> dict[str, Any]:
    rows = [[shorten(row.prompt, 120), shorten(row.expected or "", 40)] for row in table.rows[:_PREVIEWED]]
    return {
        "count": len(table.rows),
        "answers": sum(row.expected is not None for row in table.rows),
        "kind": table.kind,
        "unused": [shorten(name) for name in table.unused[:8]],
        "rows": rows,
    }
