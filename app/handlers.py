"""What the Playground's events do: they turn what was entered into runs, and stream what the browser lacks.

Knows gradio's requests and updates; which event calls what is wired in `app.page`, what a run does is in `app.runs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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
from app.live import follow
from app.runs import Run
from app.sessions import SWEEP, Session, Sessions
from app.sweep import Sweep, Swept, follow_sweep, scores_near
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

    async def write(self, request: gr.Request, unit: str, slm: float, llm: float, *values: Any) -> AsyncIterator[Any]:
        """Starts a run and streams it; closing the page closes this generator, which stops the models."""
        session = self.sessions.get(request.session_hash)
        asked = self._asked(session, unit, slm, llm, values)
        run = session.begin(asked, self.host, untouched(self.settings, asked.threshold, session.touched))
        async for tokens, figures in self._stream(run, session):
            yield tokens, figures

    def _asked(self, session: Session, unit: str, slm: float, llm: float, values: Sequence[Any]) -> Request:
        """The request of the page's fields; the session's view follows its unit and prices."""
        try:
            asked = page_request(*values)
            session.look(unit, self._prices(slm, llm))
        except EngineError as error:
            raise refusal(error) from error
        return asked

    async def retune(self, threshold: float, request: gr.Request) -> AsyncIterator[Any]:
        """Makes the text that of another threshold, as long as others are set meanwhile."""
        session = self.sessions.get(request.session_hash)
        self.turn(threshold, request)
        while run := session.again(self.host):
            async for tokens, figures in self._stream(run, session):
                yield tokens, figures

    async def change_text(self, request: gr.Request, event: gr.EventData) -> AsyncIterator[Any]:
        """Branches from a token, goes back to a branch, or has the text read to its end for an audit."""
        session, asked = self.sessions.get(request.session_hash), event._data or {}
        try:
            run = self._changed(session, asked)
        except EngineError as error:
            raise refusal(error) from error
        if run is not None:
            async for tokens, figures in self._stream(run, session):
                yield tokens, figures

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

    async def sweep(self, request: gr.Request, unit: str, slm: float, llm: float, *values: Any) -> AsyncIterator[Any]:
        """Writes the prompt at many thresholds; until another text is asked for, the slider scrubs through them."""
        session = self.sessions.get(request.session_hash)
        asked = self._asked(session, unit, slm, llm, values)
        session.stop()
        session.scrubbing = True
        before = session.jobs.get(SWEEP)
        job = Sweep(asked, scores_near(session, asked.policy), session.view.prices, before)
        session.begin_job(SWEEP, job, self.host)
        try:
            async for message in follow_sweep(job):
                yield message
            if job.error:
                session.scrubbing = False
                raise refusal(job.error)
        finally:
            job.cancel.set()

    def scrub(self, request: gr.Request) -> None:
        """Lets the slider scrub through the sweep's texts again."""
        session = self.sessions.get(request.session_hash)
        session.stop()
        session.scrubbing = SWEEP in session.jobs

    async def open_text(self, threshold: float, request: gr.Request, event: gr.EventData) -> AsyncIterator[Any]:
        """Goes on from a text of the sweep: exact at the slider's threshold, with both models' candidates."""
        session, row = self.sessions.get(request.session_hash), int((event._data or {}).get("row") or 0)
        job = session.jobs.get(SWEEP)
        if isinstance(job, Sweep) and not job.on and 0 <= row < len(job.thresholds):
            run = session.open(Swept(job, row), threshold, self.host)
            async for tokens, figures in self._stream(run, session):
                yield tokens, figures

    async def _stream(self, run: Run, session: Session) -> AsyncIterator[tuple[str, str]]:
        """What the token stream and the dashboard lack, until the run ends; a failed one is refused by its reason."""
        # Unchanged values are repeated rather than skipped: gradio makes a new component for every gr.skip().
        tokens = figures = ""
        try:
            async for update in follow(run, session, self.host):
                tokens, figures = update.tokens or tokens, update.dashboard or figures
                yield tokens, figures
            if run.error and session.run is run:
                raise refusal(run.error)
        finally:
            run.cancel.set()
            self.sessions.trim()

    def stoppable(self, session: Session) -> list[Job | None]:
        """What the tab's Stop is for."""
        return [session.run, session.jobs.get(SWEEP)]

    def stop(self, session: Session) -> None:
        """Stops what is written within one step."""
        session.stop()
        session.stop_job(SWEEP)

    def turn(self, threshold: float, request: gr.Request) -> None:
        """Applies a threshold to the next token of the run that is on, or to the whole text."""
        try:
            self.sessions.get(request.session_hash).turn(threshold)
        except EngineError as error:
            raise refusal(error) from error

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
