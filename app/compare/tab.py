"""The tab Compare: the small model alone, both together at the slider's setting, and the large model alone.

The texts are written by `app.compare.comparison` and drawn by `assets/page/compare/compare.js`.
"""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr
from gradio.components import Component

from app.compare.comparison import Comparison
from app.components import EACH_TIME, Panel
from app.controls import prompt_box
from app.fields import greedy_request
from app.handlers import wire_stop
from app.recorded import Recorded
from app.running.host import Host
from app.running.sessions import Sessions
from engine import Settings

KIND = "compare"
"""The key of a comparison among a session's jobs."""

_OF_THE_PLAYGROUND = ("policy", "threshold", "acceptance", "max_draft", "max_new_tokens")


def compare_tab(
    host: Host, sessions: Sessions, settings: Settings, fields: Mapping[str, Component], recorded: Recorded | None
) -> Panel:
    """The tab's content; called inside the tab. Returns the panel that draws comparisons.

    `fields` are the Playground's, by their names: the text in the middle is written at its setting.
    """

    def write(
        prompt: str,
        policy: str,
        threshold: float,
        acceptance: float,
        max_draft: float,
        limit: float,
        request: gr.Request,
    ) -> None:
        session = sessions.get(request.session_hash)
        asked = greedy_request(prompt, policy, max_draft, limit, threshold=threshold, acceptance=acceptance)
        job = Comparison(asked, session.jobs.get(KIND))
        session.begin_job(KIND, job, host)

    with gr.Row(elem_id="compare-card", elem_classes="card"):
        prompt = prompt_box("Prompt to compare on", "compare-prompt")
        start = gr.Button("Compare", variant="primary", elem_id="compare-start", min_width=112, scale=0)
        stop = gr.Button("Stop", elem_id="compare-stop", min_width=112, scale=0)
    found = recorded.race() if recorded else ""
    panel = Panel("compare", "comparison", recorded=found)
    inputs = [prompt, *(fields[name] for name in _OF_THE_PLAYGROUND)]
    started = start.click(write, inputs=inputs, **EACH_TIME)
    wire_stop(stop, sessions, lambda session: [session.jobs.get(KIND)], [started])
    return panel
