"""The page: where its parts stand, and which event does what. Leaves runs to `app.runs` and drawing to the panels.

Events that use the models share one concurrency id; sliders bypass the queue, so that they act while a run is on.
"""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from app import controls
from app.api import add_api
from app.compare import compare_tab
from app.components import ASSETS
from app.dashboard import dashboard
from app.guide import guide, how_it_works
from app.handlers import Handlers
from app.header import header_html
from app.host import Host
from app.sessions import Sessions, View
from app.share import ShareParts, link_note, share_bar, wire_share
from app.stopping import ENABLE, enable_stop, wire_stop
from app.sweep import sweep_panel
from app.theme import theme
from app.token_stream import token_stream
from app.tune import tune_tab
from engine import Prices, Settings

MODEL = "model"
"""The concurrency id of everything that uses the models."""

# Private: not in the API's description and not callable by clients.
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_LIVE: dict[str, Any] = {**_QUIET, "queue": False, "trigger_mode": "always_last"}

_ENABLE_IF_FLIPPED = f"() => (document.querySelector('.t.flip') ? ({ENABLE})() : {{ __type__: 'update' }})"
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
            guide()
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
            with gr.Tab("Compare", elem_id="compare"):
                compare_tab(host, sessions, settings)
            with gr.Tab("Tune on my prompts", elem_id="tune"):
                tune_tab(host, sessions, settings)
            with gr.Tab("How it works", elem_id="how") as how:
                how_it_works(how, sessions)
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
        "css_paths": [ASSETS / "page.css", *sorted(set(ASSETS.glob("*.css")) - {ASSETS / "page.css"})],
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
            sweep = sweep_panel(sessions)
            view = controls.view_card(settings)
            sampling = controls.sampling_card(settings)
        with gr.Column(elem_id="result", scale=1, min_width=0):
            note = link_note()
            prompt = controls.prompt_card()
            stream = token_stream(sessions)
            bar = share_bar(sessions)
            panel = dashboard(sessions)
    handlers = Handlers(host, sessions, settings)
    threshold, policy = dials.threshold, dials.policy

    entered = [*view.all(), prompt.text, threshold, policy, *sampling.all()]
    texts: dict[str, Any] = {
        "outputs": [stream, panel],
        "postprocess": False,  # strings already; saves a thread hop per output and flush
        # They queue for the models in `Host`, which can say so.
        "concurrency_id": MODEL,
        "concurrency_limit": settings.server.queue_size,
        **_QUIET,
    }
    starts = [prompt.generate.click, prompt.text.submit]
    several: dict[str, Any] = {"trigger_mode": "multiple"}  # a second one stops the first
    enable_stop(prompt.stop, [*starts, stream.change_text, sweep.sweep, sweep.open_text])
    enable_stop(prompt.stop, [threshold.input], js=_ENABLE_IF_FLIPPED)
    written = [
        gr.on(starts, handlers.write, inputs=entered, **texts, **several),
        # At once for the run that is on (below), and here, one at a time, for what is written then.
        threshold.input(handlers.retune, inputs=threshold, trigger_mode="always_last", **texts),
        stream.change_text(handlers.change_text, **texts, **several),
        sweep.sweep(handlers.sweep, inputs=entered, **{**texts, "outputs": sweep}, **several),
        sweep.open_text(handlers.open_text, inputs=threshold, **texts, **several),
    ]
    wire_stop(prompt.stop, sessions, written, handlers.stoppable, handlers.stop)
    threshold.input(handlers.turn, inputs=threshold, **_LIVE)
    sweep.scrub(handlers.scrub, queue=False, **several, **_QUIET)
    stream.go_to(handlers.threshold_of_branch, outputs=threshold, queue=False, **several, **_QUIET)
    # In the browser, and also where the server moved them: what the threshold gave when it was measured follows.
    gr.on([threshold.change, policy.change], None, inputs=[threshold, policy], js=_TELL_DIALS, **_QUIET)
    for control in view.all():
        control.input(handlers.look, inputs=view.all(), outputs=panel, **_LIVE)
    fields = [prompt.text, threshold, policy, *sampling.all()]
    restored = wire_share(demo, host, sessions, ShareParts(bar, note, stream, panel, fields))
    timer = gr.Timer(0.5)
    told = [header, policy, timer, threshold, dials.points, *prompt.examples.values()]
    for event in (restored.then, timer.tick):
        event(handlers.progress, inputs=[policy, threshold], outputs=told, queue=False, **_QUIET)
