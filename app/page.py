"""The page: where its parts stand, and which event does what. Leaves runs to `app.runs` and drawing to the panels.

Events that use the models share one concurrency id; sliders bypass the queue, so that they act while a run is on.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr

from app import controls
from app.api import add_api
from app.components import ASSETS
from app.dashboard import dashboard, dashboard_message
from app.forms import page_prices, page_request
from app.header import header_html
from app.host import Host
from app.live import follow
from app.runs import Session, Sessions, View
from app.theme import theme
from app.token_stream import token_stream
from engine import DEFAULT_THRESHOLD, EngineError, Prices, Settings

MODEL = "model"
"""The concurrency id of everything that uses the models."""

# Private: not in the API's description and not callable by clients.
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_LIVE: dict[str, Any] = {**_QUIET, "queue": False, "trigger_mode": "always_last"}

_TELL_DIALS = """(threshold, policy) => {
  document.dispatchEvent(new CustomEvent('citer-dials', { detail: { threshold, policy } }));
}"""


def build(host: Host, settings: Settings) -> gr.Blocks:
    """The page for a host's models.

    Args:
        host: Loads the models; started when the first visitor comes, or earlier by the caller.
        settings: Starting values of the dials.
    """
    price = settings.price
    sessions = Sessions(view=View(prices=Prices(price.slm, price.llm, price.reading_ratio)))
    with gr.Blocks(title="CITER Playground", fill_width=True, analytics_enabled=False) as demo:
        with gr.Row(elem_id="header"):
            header = gr.HTML(header_html(host), elem_id="models", apply_default_css=False)
            gr.HTML(
                html_template='<button type="button" class="theme-toggle" aria-label="Switch between light and dark" '
                'title="Light or dark">◐</button>',
                js_on_load=(ASSETS / "theme_toggle.js").read_text("utf-8"),
                apply_default_css=False,
                elem_id="theme",
            )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Playground", elem_id="playground"):
                _playground(demo, host, sessions, settings, header)
            with gr.Tab("How it works", elem_id="how"):
                gr.Markdown((ASSETS / "how_it_works.md").read_text("utf-8"), elem_id="how-text")
        add_api(host, sessions, settings, MODEL, settings.server.queue_size)

        def forget(request: gr.Request) -> None:
            sessions.drop(request.session_hash)

        demo.unload(forget)
    demo.sessions = sessions  # type: ignore[attr-defined]  # tests look at them
    return demo.queue(max_size=settings.server.queue_size, api_open=False)


def launch_options(settings: Settings) -> dict[str, Any]:
    """What `demo.launch` needs: look, address, and none of gradio's extras."""
    on_space = bool(os.environ.get("SPACE_ID"))
    return {
        "server_name": "0.0.0.0" if on_space else settings.server.host,
        "server_port": 7860 if on_space else settings.server.port,
        "inbrowser": settings.server.open_browser and not on_space,
        "theme": theme(),
        "css_paths": [ASSETS / "page.css"],
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "share": False,
    }


def _playground(demo: gr.Blocks, host: Host, sessions: Sessions, settings: Settings, header: gr.HTML) -> None:
    with gr.Row(elem_id="main", equal_height=False):
        with gr.Column(elem_id="dials", scale=0, min_width=280):
            dials = controls.threshold_card(settings)
            view = controls.view_card(settings)
            sampling = controls.sampling_card(settings)
        with gr.Column(elem_id="result", scale=1, min_width=0):
            prompt = controls.prompt_card()
            stream = token_stream(sessions)
            panel = dashboard(sessions)
    handlers = _Handlers(host, sessions, settings)
    threshold, policy = dials.threshold, dials.policy

    starts = [prompt.generate.click, prompt.text.submit]
    # In the browser, so that it is done before the answer to a refused request can undo it.
    gr.on(starts, None, outputs=prompt.stop, js="() => ({ __type__: 'update', interactive: true })", **_QUIET)
    written = gr.on(
        starts,
        handlers.write,
        inputs=[*view.all(), prompt.text, threshold, policy, *sampling.all()],
        outputs=[stream, panel],
        postprocess=False,  # strings already; saves a thread hop per output and flush
        trigger_mode="multiple",  # a second one stops the first
        concurrency_id=MODEL,
        concurrency_limit=settings.server.queue_size,  # they queue for the models in `Host`, which can say so
        **_QUIET,
    )
    for over in (written.then, written.failure):
        over(handlers.can_stop, outputs=prompt.stop, queue=False, **_QUIET)
    prompt.stop.click(handlers.stop, outputs=prompt.stop, queue=False, trigger_mode="multiple", **_QUIET)
    threshold.input(handlers.turn, inputs=threshold, **_LIVE)
    # In the browser, and also where the server moved them: what the threshold gave when it was measured follows.
    gr.on([threshold.change, policy.change], None, inputs=[threshold, policy], js=_TELL_DIALS, **_QUIET)
    for control in view.all():
        control.input(handlers.look, inputs=view.all(), outputs=panel, **_LIVE)
    timer = gr.Timer(0.5)
    gr.on(
        [demo.load, timer.tick],
        handlers.progress,
        inputs=[policy, threshold],
        outputs=[header, policy, timer, threshold, dials.points, *prompt.examples.values()],
        queue=False,
        **_QUIET,
    )


class _Handlers:
    """What the page's events do."""

    def __init__(self, host: Host, sessions: Sessions, settings: Settings) -> None:
        self.host, self.sessions, self.settings = host, sessions, settings

    async def write(self, request: gr.Request, unit: str, slm: float, llm: float, *values: Any) -> AsyncIterator[Any]:
        """Starts a run and streams it; closing the page closes this generator, which stops the models."""
        session = self.sessions.get(request.session_hash)
        try:
            asked = page_request(*values)
            session.look(unit, self._prices(slm, llm))
        except EngineError as error:
            raise _refusal(error) from error
        run = session.begin(asked, self.host, self._untouched(session, asked.threshold))
        # Unchanged values are repeated rather than skipped: gradio makes a new component for every gr.skip().
        tokens = figures = ""
        try:
            async for update in follow(run, session, self.host):
                tokens, figures = update.tokens or tokens, update.dashboard or figures
                yield tokens, figures
            if run.error and session.run is run:
                raise _refusal(run.error)
        finally:
            run.cancel.set()

    def can_stop(self, request: gr.Request) -> Any:
        """Enables Stop while a run is on; a run that gave way to another must not disable it."""
        run = self.sessions.get(request.session_hash).run
        return gr.update(interactive=run is not None and run.on)

    def stop(self, request: gr.Request) -> Any:
        """Stops the run within one step."""
        self.sessions.get(request.session_hash).stop()
        return gr.update(interactive=False)

    def turn(self, threshold: float, request: gr.Request) -> None:
        """Applies a threshold to the next token of the run that is on."""
        session = self.sessions.get(request.session_hash)
        session.touched, run = True, session.run
        if run is not None:
            try:
                run.dial.threshold = threshold
            except EngineError as error:
                raise _refusal(error) from error

    def look(self, unit: str, slm: float, llm: float, request: gr.Request) -> Any:
        """Shows the costs of the text on the page in another unit or at other prices, without running anything."""
        session = self.sessions.get(request.session_hash)
        try:
            view = session.look(unit, self._prices(slm, llm))
        except EngineError as error:
            raise _refusal(error) from error
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
        if self._untouched(session, threshold) and pair.threshold != threshold:
            start = pair.threshold
            dial = gr.update(value=start)
        points = controls.points_message(pair.operating_points, start, chosen)
        scored = gr.update(choices=choices, value=chosen)
        return [header_html(self.host), scored, gr.Timer(active=False), dial, points, *rows]

    def _untouched(self, session: Session, threshold: float) -> bool:
        """Whether a threshold is nobody's choice, neither the settings' nor the visitor's."""
        return self.settings.threshold is None and threshold == DEFAULT_THRESHOLD and not session.touched

    def _prices(self, slm: float, llm: float) -> Prices:
        return page_prices(slm, llm, self.settings.price.reading_ratio)


def _refusal(reason: object) -> gr.Error:
    """The engine's message as gradio shows it, which is as HTML: escaped."""
    return gr.Error(escape(str(reason), quote=False), print_exception=False)
