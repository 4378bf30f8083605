"""The tab Compare: SLM-only, routed and LLM-only side by side on one time axis, what they cost and how they differ.

The texts are written by `app.compare.comparison` and drawn by `assets/page/compare/compare.js`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import gradio as gr
from gradio.components import Component

from app.compare.comparison import Comparison, comparison_message
from app.components import QUIET, Panel
from app.controls import POLICY_LABELS, policy_update, prompt_box, scoring_choices, scoring_policy, threshold_knob
from app.fields import draft_limit, router_dials, whole
from app.handlers import EACH_TIME, enable_stop, refusals, wire_job
from app.running.host import Host
from app.running.session import Session
from app.running.sessions import Sessions
from app.stream.dashboard import PLOTLY_URL
from app.stream.updates import JobUpdates, next_figures, waiting_for
from engine import POLICIES, Request, Settings, build_request

KIND = "compare"
"""Of the session's jobs."""

AT_SHARE = "random-at-share"
"""The choice of chance with as many LLM tokens as the router's text has."""

AT_SHARE_LABEL = "chance, at the router's share"

# Read in the browser: what stands there is newer than what the server knows.
_TAKE_OVER = """(limit) => {
  const threshold = Number.parseFloat(document.querySelector('#threshold input[type="range"]')?.value);
  return [document.querySelector('#prompt textarea')?.value ?? '', Number.isFinite(threshold) ? threshold : 0.5, limit];
}"""


def compare_tab(host: Host, sessions: Sessions, settings: Settings, fields: Mapping[str, Component]) -> Panel:
    """The tab's content; called inside the tab. Returns the panel that draws comparisons.

    `fields` are the Playground's, by their names: what the LLM keeps is chosen there, and the rest can be copied.
    """
    handlers, kept = _CompareHandlers(host, sessions, settings), [fields["acceptance"], fields["max_draft"]]
    prompt, take, policy, threshold, limit, start, stop = _card(settings)

    panel = Panel("compare/compare", "comparison", plotly=PLOTLY_URL)
    enable_stop(stop, [start.click])
    started = start.click(handlers.write, inputs=[prompt, policy, threshold, limit, *kept], **EACH_TIME)
    wire_job(stop, sessions, KIND, started, panel)
    take.click(None, inputs=fields["max_new_tokens"], outputs=[prompt, threshold, limit], js=_TAKE_OVER, **QUIET)
    gr.on([threshold.input, take.click], handlers.threshold_moved, queue=False, trigger_mode="always_last", **QUIET)
    timer = gr.Timer(0.5)
    dials = [policy, threshold]
    timer.tick(handlers.follow_loading, inputs=dials, outputs=[timer, *dials], queue=False, **QUIET)
    return panel


def middle_choices(policies: tuple[str, ...]) -> list[tuple[str, str]]:
    """What can take the middle place, as (label, value), among the policies that a pair has."""
    at_share = [(AT_SHARE_LABEL, AT_SHARE)] if "router" in policies else []
    return scoring_choices(policies) + at_share


def _card(settings: Settings) -> tuple[Any, ...]:
    choices, preferred = middle_choices(POLICIES), scoring_policy(settings)
    with gr.Column(elem_id="compare-card", elem_classes="card"):
        prompt = prompt_box("Prompt to compare on", "compare-prompt")
        with gr.Row(elem_id="compare-dials"):
            policy = gr.Dropdown(
                choices, value=preferred, label="In the middle", filterable=False, elem_id="compare-policy", min_width=0
            )
            with gr.Column(min_width=0, elem_id="compare-threshold-column"):
                threshold = threshold_knob(settings, "compare-threshold")
                gr.HTML(
                    '<p class="compare-hint">score below it → LLM; for chance it is the share of LLM tokens</p>'
                    '<p class="compare-hint compare-acceptance"></p>',
                    apply_default_css=False,
                )
            limit = gr.Number(settings.max_new_tokens, label="New tokens", min_width=0, elem_id="compare-limit")
        with gr.Row(elem_id="compare-actions"):
            small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 0, "elem_classes": "example"}
            take = gr.Button("Copy from the Playground", elem_id="compare-take", **small)
            start = gr.Button("Compare", variant="primary", elem_id="compare-start", min_width=112, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="compare-stop", min_width=80, scale=0)
    return prompt, take, policy, threshold, limit, start, stop


class _CompareHandlers:
    """What the tab's events do."""

    def __init__(self, host: Host, sessions: Sessions, settings: Settings) -> None:
        self.host, self.sessions, self.settings = host, sessions, settings
        self._moved: WeakSet[Session] = WeakSet()  # whose visitors have moved this tab's threshold

    def write(
        self,
        prompt: str,
        policy: str,
        threshold: float,
        limit: float,
        acceptance: float,
        max_draft: float,
        request: gr.Request,
    ) -> None:
        """Starts a comparison."""
        session = self.sessions.get(request.session_hash)
        with refusals():
            asked = build_request(
                prompt or "",
                threshold=threshold,
                policy="random" if policy == AT_SHARE else policy,
                acceptance=acceptance,
                max_draft=draft_limit(max_draft),
                max_new_tokens=whole(limit),
            )
            job = self._comparison(asked, policy == AT_SHARE, session)
        session.begin_job(KIND, job, self.host)

    def threshold_moved(self, request: gr.Request) -> None:
        """Remembers that the threshold is the visitor's choice."""
        self._moved.add(self.sessions.get(request.session_hash))

    def follow_loading(self, policy: str, threshold: float, request: gr.Request) -> list[Any]:
        """Once the models are loaded: what can take the middle place, and the router's own threshold.

        A threshold that the settings name, or that the visitor has already moved, stays.
        """
        self.host.start()
        pair = self.host.pair
        if pair is None:
            return [gr.Timer(active=self.host.status.phase == "loading"), gr.skip(), gr.skip()]
        session = self.sessions.enter(request.session_hash)
        own = "threshold" in self._router_dials(session, threshold)
        dial = gr.update(value=pair.threshold) if own and pair.threshold != threshold else gr.skip()
        self._moved.add(session)  # from here on the slider stands at the router's own unless a hand has moved it
        return [gr.Timer(active=False), policy_update(middle_choices(pair.policies), policy), dial]

    def _comparison(self, asked: Request, at_share: bool, session: Session) -> Comparison:
        label = AT_SHARE_LABEL if at_share else POLICY_LABELS[asked.setting.policy]
        own = self._router_dials(session, asked.setting.threshold, asked.setting.acceptance)
        return Comparison(asked, label, at_share, own, session.jobs.get(KIND))

    def _router_dials(self, session: Session, threshold: float, acceptance: float = 0.0) -> tuple[str, ...]:
        """As `router_dials` has it: the threshold is this tab's own, the acceptance the Playground's."""
        moved = session.moved - {"threshold"} | ({"threshold"} if session in self._moved else set())
        return router_dials(self.settings, threshold, acceptance, moved)


class ComparisonUpdates(JobUpdates):
    """The parts of a comparison that a window lacks."""

    kind = KIND

    def message(self, job: Comparison, have: int, over: bool) -> tuple[str, int] | None:
        """See `JobUpdates`."""
        if over:
            return comparison_message(job, have), len(job.log)
        note, count, started = waiting_for(job, self.host), len(job.log), time.monotonic()
        if count == have and note == self.last_sent:
            return None
        figures = count > 0 and started >= self.next_due
        message = comparison_message(job, have, count, note, figures)
        if figures:
            self.next_due = next_figures(started)
        self.last_sent = note
        return message, count
