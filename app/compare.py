"""Compare: SLM-only, routed and LLM-only side by side on one time axis, what they cost and how they differ.

Knows where the tab's parts stand and which event does what. Leaves writing to `app.comparison` and drawing to
`assets/page/compare.js`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import gradio as gr

from app.comparison import Comparison, comparison_message
from app.components import Panel, refusal
from app.controls import POLICY_LABELS, prompt_box, threshold_knob
from app.dashboard import PLOTLY_JS
from app.forms import page_request, untouched
from app.host import Host
from app.live import JobNews, next_figures, waiting_for
from app.sessions import Session, Sessions
from app.stopping import enable_stop, wire_stop
from engine import POLICIES, EngineError, Settings

KIND = "compare"
"""Of the session's jobs."""

AT_SHARE = "random-at-share"
"""The choice of chance with as many LLM tokens as the router's text has."""

AT_SHARE_LABEL = "chance, at the router's share"

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

# Read in the browser: what stands there is newer than what the server knows.
_TAKE_OVER = """() => {
  const threshold = Number.parseFloat(document.querySelector('#threshold input[type="range"]')?.value);
  return [document.querySelector('#prompt textarea')?.value ?? '', Number.isFinite(threshold) ? threshold : 0.5];
}"""


def compare_tab(host: Host, sessions: Sessions, settings: Settings) -> Panel:
    """The tab's content; called inside the tab. Returns what its comparisons are drawn by.

    Args:
        host: Has the models.
        sessions: Whose jobs comparisons become.
        settings: Starting values.
    """
    handlers = _Handlers(host, sessions, settings)
    prompt, take, policy, threshold, limit, start, stop = _card(settings)

    panel = Panel(
        "compare",
        "comparison",
        parts=("plotly",),
        plotly=f"gradio_api/file={PLOTLY_JS.as_posix()}",  # which `app.dashboard` lets gradio serve
    )
    starts = [start.click, prompt.submit]
    several: dict[str, Any] = {"trigger_mode": "multiple", **_QUIET}  # a second one stops the first
    enable_stop(stop, starts)
    started = gr.on(starts, handlers.write, inputs=[prompt, policy, threshold, limit], **several)
    ended = panel.ended(handlers.ended, **several)
    wire_stop(stop, sessions, [started], [ended], lambda session: [session.jobs.get(KIND)], lambda s: s.stop_job(KIND))
    take.click(None, outputs=[prompt, threshold], js=_TAKE_OVER, **_QUIET)
    gr.on([threshold.input, take.click], handlers.touch, queue=False, trigger_mode="always_last", **_QUIET)
    timer = gr.Timer(0.5)
    timer.tick(handlers.arrive, inputs=[policy, threshold], outputs=[timer, policy, threshold], queue=False, **_QUIET)
    return panel


def middle_choices(policies: tuple[str, ...]) -> list[tuple[str, str]]:
    """What can take the middle place, as (label, value), among the policies that a pair has."""
    named = [(POLICY_LABELS[name], name) for name in policies if name not in ("slm", "llm")]
    return [*named, (AT_SHARE_LABEL, AT_SHARE)] if "router" in policies else named


def _card(settings: Settings) -> tuple[Any, ...]:
    choices = middle_choices(POLICIES)
    preferred = settings.policy if settings.policy not in ("slm", "llm") else "router"
    with gr.Column(elem_id="compare-card", elem_classes="card"):
        prompt = prompt_box("Prompt to compare on", "compare-prompt")
        with gr.Row(elem_id="compare-dials"):
            policy = gr.Dropdown(
                choices, value=preferred, label="In the middle", filterable=False, elem_id="compare-policy", min_width=0
            )
            with gr.Column(min_width=0, elem_id="compare-threshold-column"):
                threshold = threshold_knob(settings, "compare-threshold")
                gr.HTML(
                    '<p class="compare-hint">score below it → LLM; for chance it is the share of LLM tokens</p>',
                    apply_default_css=False,
                )
            limit = gr.Number(settings.max_new_tokens, label="New tokens", min_width=0, elem_id="compare-limit")
        with gr.Row(elem_id="compare-actions"):
            take = gr.Button(
                "Copy from the Playground",
                size="sm",
                scale=0,
                min_width=0,
                elem_id="compare-take",
                elem_classes="example",
            )
            start = gr.Button("Compare", variant="primary", elem_id="compare-start", min_width=112, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="compare-stop", min_width=80, scale=0)
    return prompt, take, policy, threshold, limit, start, stop


class _Handlers:
    """What the tab's events do."""

    def __init__(self, host: Host, sessions: Sessions, settings: Settings) -> None:
        self.host, self.sessions, self.settings = host, sessions, settings
        self._touched: WeakSet[Session] = WeakSet()  # whose visitors have moved this tab's threshold

    def write(self, prompt: str, policy: str, threshold: float, limit: float, request: gr.Request) -> None:
        """Starts a comparison."""
        session = self.sessions.get(request.session_hash)
        try:
            job = self._comparison(prompt, policy, threshold, limit, session)
        except EngineError as error:
            raise refusal(error) from error
        session.begin_job(KIND, job, self.host)

    def ended(self, request: gr.Request) -> None:
        """Says why a comparison could not be made."""
        job = self.sessions.get(request.session_hash).jobs.get(KIND)
        if job is not None and job.error:
            raise refusal(job.error)

    def touch(self, request: gr.Request) -> None:
        """Remembers that the threshold is the visitor's choice."""
        self._touched.add(self.sessions.get(request.session_hash))

    def arrive(self, policy: str, threshold: float, request: gr.Request) -> list[Any]:
        """Once the models are there: what can take the middle place, and the router's own threshold.

        A threshold that the settings name, or that the visitor has already moved, stays.
        """
        self.host.start()
        pair = self.host.pair
        if pair is None:
            return [gr.Timer(active=self.host.status.phase == "loading"), gr.skip(), gr.skip()]
        choices = middle_choices(pair.policies)
        chosen = policy if policy in [name for _, name in choices] else "confidence"
        session = self.sessions.get(request.session_hash)
        untouched = self._untouched(session, threshold)
        dial = gr.update(value=pair.threshold) if untouched and pair.threshold != threshold else gr.skip()
        self._touched.add(session)  # from here on the slider stands at the router's own unless a hand has moved it
        # The value only where it changes: by now the visitor may have chosen another.
        offered = gr.update(choices=choices) if chosen == policy else gr.update(choices=choices, value=chosen)
        return [gr.Timer(active=False), offered, dial]

    def _comparison(self, prompt: str, policy: str, threshold: float, limit: float, session: Session) -> Comparison:
        at_share = policy == AT_SHARE
        name = "random" if at_share else policy
        asked = page_request(prompt, threshold, name, "", False, 0.0, 1.0, 0, 1.0, self.settings.seed, limit, "")
        return Comparison(
            replace(asked, alternatives=0),
            AT_SHARE_LABEL if at_share else POLICY_LABELS[name],
            at_share,
            self._untouched(session, threshold),
            session.jobs.get(KIND),
        )

    def _untouched(self, session: Session, threshold: float) -> bool:
        return untouched(self.settings, threshold, session in self._touched)


class ComparisonNews(JobNews):
    """What of a comparison a window lacks."""

    kind = KIND

    def message(self, job: Comparison, have: int, over: bool) -> tuple[str, int] | None:
        """See `JobNews`."""
        if over:
            return comparison_message(job, have), len(job.log)
        note, count, started = waiting_for(job, self.host), len(job.log), time.monotonic()
        if count == have and note == self.told:
            return None
        figures = count > 0 and started >= self.due
        message = comparison_message(job, have, count, note, figures)
        if figures:
            self.due = next_figures(started)
        self.told = note
        return message, count
