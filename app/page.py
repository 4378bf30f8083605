"""The page: where its parts stand, and which event does what. Leaves runs to `app.runs` and drawing to the panels.

Events only start and stop things; what is written comes through the window's feed (`app.feed`).
"""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from app import controls
from app.api import add_api
from app.compare import ComparisonNews, compare_tab
from app.components import ASSETS, Panel
from app.dashboard import dashboard
from app.feed import Feeds, wire_feed
from app.guide import guide, how_it_works
from app.handlers import Handlers
from app.header import header_html
from app.host import Host
from app.live import FigureNews, TextNews
from app.sessions import Sessions, View
from app.share import ShareParts, link_note, share_bar, wire_share
from app.stopping import ENABLE, enable_stop, wire_stop
from app.sweep import SweepNews
from app.theme import theme
from app.token_stream import token_stream
from app.tune import TuningNews, tune_tab
from engine import Prices, Settings

MODEL = "model"
"""The concurrency id of the API's calls."""

QUEUE_LOOKS_EVERY = 0.02
"""Seconds between two looks of gradio's queue for work: its thousand looks a second would take 4 % of a core."""

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
                js_on_load="".join((ASSETS / f"{name}.js").read_text("utf-8") for name in ("theme_toggle", "frames")),
                apply_default_css=False,
                elem_id="theme",
            )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Playground", elem_id="playground"):
                panels = _playground(demo, host, sessions, settings, header)
            with gr.Tab("Compare", elem_id="compare"):
                panels["comparison"] = compare_tab(host, sessions, settings)
            with gr.Tab("Tune on my prompts", elem_id="tune"):
                panels["tune-panel"] = tune_tab(host, sessions, settings)
            with gr.Tab("How it works", elem_id="how") as how:
                how_it_works(how, sessions)
        feeds = Feeds(sessions, host, NEWS)
        wire_feed(demo, feeds, panels)
        add_api(host, sessions, settings, MODEL, settings.server.queue_size)

        def forget(request: gr.Request) -> None:
            sessions.drop(request.session_hash)

        demo.unload(forget)
    demo.sessions, demo.feed = sessions, feeds.route  # type: ignore[attr-defined]  # for tests, and for `launch_options`
    demo.queue(max_size=settings.server.queue_size, api_open=False)
    demo._queue.sleep_when_free = QUEUE_LOOKS_EVERY
    demo._queue.progress_update_sleep_when_free = 10 * QUEUE_LOOKS_EVERY  # for `gr.Progress`, which nothing here uses
    return demo


def launch_options(demo: gr.Blocks, settings: Settings) -> dict[str, Any]:
    """What `demo.launch` needs: the feed, look, address, and none of gradio's extras."""
    on_space = bool(os.environ.get("SPACE_ID"))
    return {
        "app_kwargs": {"routes": [getattr(demo, "feed")]},  # noqa: B009  # set by `build`
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


NEWS = {
    "stream": TextNews,
    "dashboard": FigureNews,  # after the text, of which it has the figures
    "sweep": SweepNews,
    "comparison": ComparisonNews,
    "tune-panel": TuningNews,
}
"""What makes the news of each panel, by its `elem_id`."""


def _playground(
    demo: gr.Blocks, host: Host, sessions: Sessions, settings: Settings, header: gr.HTML
) -> dict[str, Panel]:
    """The tab's content; returns its panels by their names in the feed."""
    with gr.Row(elem_id="main", equal_height=False):
        with gr.Column(elem_id="dials", scale=0, min_width=280):
            dials = controls.threshold_card(settings)
            sweep = Panel("sweep", "sweep")
            view = controls.view_card(settings)
            sampling = controls.sampling_card(settings)
        with gr.Column(elem_id="result", scale=1, min_width=0):
            note = link_note()
            prompt = controls.prompt_card()
            stream = token_stream(sessions)
            bar = share_bar(sessions)
            panel = dashboard()
    handlers = Handlers(host, sessions, settings)
    threshold, policy = dials.threshold, dials.policy

    entered = [*view.all(), prompt.text, threshold, policy, *sampling.all()]
    starts = [prompt.generate.click, prompt.text.submit]
    several: dict[str, Any] = {"trigger_mode": "multiple", **_QUIET}  # a second one stops the first
    enable_stop(prompt.stop, [*starts, stream.change_text, sweep.sweep, sweep.open_text])
    enable_stop(prompt.stop, [threshold.input], js=_ENABLE_IF_FLIPPED)
    started = [
        gr.on(starts, handlers.write, inputs=entered, **several),
        threshold.input(handlers.turn, inputs=threshold, **_LIVE),
        stream.change_text(handlers.change_text, **several),
        sweep.sweep(handlers.sweep, inputs=entered, **several),
        sweep.open_text(handlers.open_text, inputs=threshold, **several),
    ]
    ended = [stream.ended(handlers.ended, **several), sweep.ended(handlers.sweep_ended, **several)]
    wire_stop(prompt.stop, sessions, started, ended, handlers.stoppable, handlers.stop)
    sweep.scrub(handlers.scrub, queue=False, **several)
    stream.go_to(handlers.threshold_of_branch, outputs=threshold, queue=False, **several)
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
    return {"stream": stream, "dashboard": panel, "sweep": sweep}
