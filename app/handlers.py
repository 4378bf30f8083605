"""What the Playground's events do: they turn what was entered into runs, whose texts the feed brings.

Knows gradio's requests and updates; which event calls what is wired in `app.page`, what a run does is in `app.runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import controls
from app.components import refusal
from app.dashboard import dashboard_message
from app.forms import page_prices, page_request, untouched
from app.handles import points_message
from app.header import header_html
from app.host import Host
from app.jobs import Job
from app.runs import Run
from app.sessions import SWEEP, Session, Sessions
from app.sweep import Sweep, Swept, scores_near
from engine import EngineError, Prices, Request, Role, Settings


class Handlers:
    """What the events of the tab do.

    Args:
        host: Has the models.
        sessions: Of all windows.
        settings: Starting values of the dials.
    """

    def __init__(self, host: Host, sessions: Sessions, settings: Settings) -> None:
        self.host, self.sessions, self.settings = host, sessions, settings

    def write(self, request: gr.Request, unit: str, slm: float, llm: float, *values: Any) -> None:
        """Starts a run."""
        session = self.sessions.get(request.session_hash)
        asked = self._asked(session, unit, slm, llm, values)
        session.begin(asked, self.host, untouched(self.settings, asked.threshold, session.touched))

    def _asked(self, session: Session, unit: str, slm: float, llm: float, values: Sequence[Any]) -> Request:
        """The request of the page's fields; the session's view follows its unit and prices."""
        try:
            asked = page_request(*values)
            session.look(unit, self._prices(slm, llm))
        except EngineError as error:
            raise refusal(error) from error
        return asked

    def turn(self, threshold: float, request: gr.Request) -> None:
        """Applies a threshold to the next token of the run that is on, or starts what makes the text that of it."""
        try:
            self.sessions.get(request.session_hash).turn(threshold, self.host)
        except EngineError as error:
            raise refusal(error) from error

    def change_text(self, request: gr.Request, event: gr.EventData) -> None:
        """Branches from a token, goes back to a branch, or has the text read to its end for an audit."""
        session, asked = self.sessions.get(request.session_hash), event._data or {}
        try:
            self._changed(session, asked)
        except EngineError as error:
            raise refusal(error) from error

    def _changed(self, session: Session, asked: dict[str, Any]) -> Run | None:
        kind, number = asked.get("kind"), int(asked.get("number") or 0)
        if kind == "branch":
            token = asked.get("token")
            role = Role.LLM if asked.get("author") == 1 else Role.SLM
            return session.branch(number, role, None if token is None else int(token), self.host)
        return session.go_to(number, self.host) if kind == "go_to" else session.reveal(self.host)

    def threshold_of_branch(self, request: gr.Request, event: gr.EventData) -> Any:
        """The slider follows to the threshold of the branch that is gone back to."""
        branches = self.sessions.get(request.session_hash).branches
        number = int((event._data or {}).get("number") or 0)
        return gr.update(value=branches[number].run.request.threshold) if 0 <= number < len(branches) else gr.skip()

    def sweep(self, request: gr.Request, unit: str, slm: float, llm: float, *values: Any) -> None:
        """Writes the prompt at many thresholds; until another text is asked for, the slider scrubs through them."""
        session = self.sessions.get(request.session_hash)
        asked = self._asked(session, unit, slm, llm, values)
        session.stop()
        session.scrubbing = True
        before = session.jobs.get(SWEEP)
        session.begin_job(
            SWEEP, Sweep(asked, scores_near(session, asked.policy), session.view.prices, before), self.host
        )

    def scrub(self, request: gr.Request) -> None:
        """Lets the slider scrub through the sweep's texts again."""
        session = self.sessions.get(request.session_hash)
        session.stop()
        session.scrubbing = SWEEP in session.jobs

    def open_text(self, threshold: float, request: gr.Request, event: gr.EventData) -> None:
        """Goes on from a text of the sweep: exact at the slider's threshold, with both models' candidates."""
        session, row = self.sessions.get(request.session_hash), int((event._data or {}).get("row") or 0)
        job = session.jobs.get(SWEEP)
        if isinstance(job, Sweep) and not job.on and 0 <= row < len(job.thresholds):
            session.open(Swept(job, row), threshold, self.host)

    def ended(self, request: gr.Request) -> None:
        """Says why a text could not be written."""
        self.sessions.trim()
        run = self.sessions.get(request.session_hash).run
        if run is not None and run.error:
            raise refusal(run.error)

    def sweep_ended(self, request: gr.Request) -> None:
        """Says why a sweep could not be made; the slider is the last text's again then."""
        session = self.sessions.get(request.session_hash)
        job = session.jobs.get(SWEEP)
        if job is not None and job.error:
            session.scrubbing = False
            raise refusal(job.error)

    def stoppable(self, session: Session) -> list[Job | None]:
        """What the tab's Stop is for."""
        return [session.run, session.jobs.get(SWEEP)]

    def stop(self, session: Session) -> None:
        """Stops what is written within one step."""
        session.stop()
        session.stop_job(SWEEP)

    def look(self, unit: str, slm: float, llm: float, request: gr.Request) -> Any:
        """Shows the costs of the text on the page in another unit or at other prices, without running anything."""
        session = self.sessions.get(request.session_hash)
        try:
            view = session.look(unit, self._prices(slm, llm))
        except EngineError as error:
            raise refusal(error) from error
        message = dashboard_message(session.shown, view) if session.shown else None
        return message or gr.skip()

    def progress(self, policy: str, threshold: float, request: gr.Request) -> list[Any]:
        """How far loading is; once the models are there, what they can do, and their router's own threshold.

        A threshold that the settings name, or that the visitor has already moved, stays.
        """
        self.host.start()
        phase, pair = self.host.status.phase, self.host.pair
        if pair is None:
            return [header_html(self.host), gr.skip(), gr.Timer(active=phase == "loading"), *[gr.skip()] * 4]
        choices = [(controls.POLICY_LABELS[name], name) for name in pair.policies]
        chosen = policy if policy in pair.policies else "confidence"
        kind = "tiny" if pair.preset == "tiny" else "cpu"
        rows = [gr.update(visible=name == kind) for name in ("cpu", "tiny")]
        session, dial, start = self.sessions.get(request.session_hash), gr.skip(), threshold
        # `threshold` is from when the browser asked; by now the visitor may have moved it.
        if untouched(self.settings, threshold, session.touched) and pair.threshold != threshold:
            start = pair.threshold
            dial = gr.update(value=start)
        points = points_message(pair.operating_points, start, chosen)
        # The value only where it changes: by now the visitor, or a link, may have chosen another.
        scored = gr.update(choices=choices) if chosen == policy else gr.update(choices=choices, value=chosen)
        return [header_html(self.host), scored, gr.Timer(active=False), dial, points, *rows]

    def _prices(self, slm: float, llm: float) -> Prices:
        return page_prices(slm, llm, self.settings.price.reading_ratio)
