"""The page: where its parts stand, and which event does what.

Events only start and stop jobs; what is written comes through the window's feed (`app.stream.feed`).
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component
from starlette.types import ASGIApp

from app import controls
from app.api import add_api, ready
from app.compare.tab import ComparisonUpdates, compare_tab
from app.components import QUIET, SCRIPTS, Panel, drawn
from app.conversation import conversation_panel
from app.entrance.callers import Callers, calling_address
from app.entrance.gradio_parts import PageBlocks
from app.entrance.launch import page_app
from app.entrance.metrics import metrics_route
from app.guide import guide, how_it_works
from app.handlers import EACH_TIME, ENABLE, STARTED, Handlers, enable_stop, wire_stop
from app.header import header_html
from app.recorded import Recorded
from app.running.host import Host
from app.running.session import SWEEP, View
from app.running.sessions import Sessions
from app.share.buttons import keep_texts, link_note, share_bar, wire_share
from app.share.home import TITLE, home_address
from app.stream.alive import alive_route
from app.stream.dashboard import PLOTLY_URL, dashboard
from app.stream.feed import Feeds, wire_feed
from app.stream.token_stream import token_stream
from app.stream.updates import FigureUpdates, TextUpdates
from app.stream.versions import versions_strip
from app.sweep import SweepUpdates
from app.tune.tab import TuningUpdates, tune_tab
from engine import DEFAULT_THRESHOLD, Prices, Settings
from engine.endpoint.routes import Endpoint
from engine.guard.limits import Places

MAX_WAITING = 128
"""Events that wait in gradio's queue. Those that write have places of their own; these take milliseconds."""

_LIVE: dict[str, Any] = {**QUIET, "queue": False, "trigger_mode": "always_last"}

_ENABLE_IF_FLIPPED = f"""() => (
  document.querySelector('.t.flip, .t.draft, .stream-origin.rescored') ? ({ENABLE})() : {{ __type__: 'update' }})"""
# Where the router starts, if the dials still stand where they stood when that was asked for: `top_message` says both.
# They are put there once.
_PUT_DIALS = """(said, ...dials) => {
  const { starts = [], at } = said ? JSON.parse(said) : {}, isNew = at !== window.citerDialsPut;
  const isDue = (now, i) => isNew && starts[i]?.[0] === now && starts[i][1] !== now;
  window.citerDialsPut = at;
  return dials.map((now, i) => (isDue(now, i) ? starts[i][1] : { __type__: 'update' }));
}"""
_WENT = "() => { document.dispatchEvent(new CustomEvent('citer-went')); }"
_UNFOLLOWED = "() => { document.dispatchEvent(new CustomEvent('citer-unfollowed')); }"
_TELL_DIALS = """(threshold, acceptance, policy) => {
  document.dispatchEvent(new CustomEvent('citer-dials', { detail: { threshold, acceptance, policy } }));
}"""


def build(host: Host, settings: Settings, recorded: Recorded | None = None) -> gr.Blocks:
    """The page for a host's models, which are loaded when the first visitor comes, or earlier by the caller.

    `recorded` is what is on it before a visitor has a text.
    """
    server = settings.server
    callers, places = Callers(), Places(server.queue_size, server.per_address)
    view = View(prices=_starting_prices(settings))
    sessions = Sessions(
        view=view,
        places=places,
        address=lambda: calling_address(server.proxies),
        leave=host.leave,
        open_now=callers.hear,
        start=recorded.threshold if recorded else DEFAULT_THRESHOLD,
    )
    with PageBlocks(title=TITLE, fill_width=True, analytics_enabled=False) as demo:
        with gr.Row(elem_id="header"):
            header = gr.HTML(header_html(host, home_address(settings)), elem_id="models", apply_default_css=False)
            guide()
            drawn("header/theme", "theme")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Playground", elem_id="playground"):
                panels, fields = _playground(demo, host, sessions, settings, header, recorded)
            with gr.Tab("Compare", elem_id="compare"):
                panels["comparison"] = compare_tab(host, sessions, settings, fields)
            with gr.Tab("Tune on my prompts", elem_id="tune"):
                panels["tune-panel"] = tune_tab(host, sessions, settings, fields)
            with gr.Tab("How it works", elem_id="how"):
                how_it_works()
        keep_texts(demo, ("compare-prompt", "tune-prompts"))
        feeds = Feeds(sessions, host, UPDATES, callers)
        wire_feed(demo, feeds, panels)
        add_api(host, places, callers, settings)
        endpoint = Endpoint(lambda: ready(host), settings, places)

        def forget(request: gr.Request) -> None:
            sessions.drop(request.session_hash)

        demo.unload(forget)
    demo.sessions, demo.feeds = sessions, feeds  # type: ignore[attr-defined]  # for tests, and for `application`
    demo.endpoint = endpoint  # type: ignore[attr-defined]
    demo.queue(api_open=False, max_size=MAX_WAITING)
    return demo


def _starting_prices(settings: Settings) -> Prices:
    return Prices(settings.price.slm, settings.price.llm)


def application(demo: gr.Blocks, settings: Settings) -> ASGIApp:
    """The page that was built, with what it serves beside gradio: feeds, scripts, `/v1`, and figures if they are on."""
    feeds: Feeds = getattr(demo, "feeds")  # noqa: B009  # set by `build`
    endpoint: Endpoint = getattr(demo, "endpoint")  # noqa: B009
    routes = [feeds.route, alive_route(feeds.sessions), SCRIPTS, endpoint.mount]
    if settings.server.metrics:
        routes.append(metrics_route(feeds.host))
    return page_app(demo, settings, feeds.callers, routes)


UPDATES = {
    "stream": TextUpdates,
    "dashboard": FigureUpdates,  # after the text, of which it has the figures
    "sweep": SweepUpdates,
    "comparison": ComparisonUpdates,
    "tune-panel": TuningUpdates,
}
"""What makes the messages of each panel, by its `elem_id`."""


def _playground(
    demo: gr.Blocks,
    host: Host,
    sessions: Sessions,
    settings: Settings,
    header: gr.HTML,
    recorded: Recorded | None,
) -> tuple[dict[str, Panel], dict[str, Component]]:
    """The tab's content; returns its panels by their names in the feed, and its fields by theirs (`FIELDS`)."""
    start = recorded.threshold if recorded else DEFAULT_THRESHOLD
    prices = _starting_prices(settings)
    with gr.Row(elem_id="main", equal_height=False):
        # Before the dials for the keyboard, beside them for the eye.
        with gr.Column(elem_id="result", scale=1, min_width=0):
            note = link_note()
            conversation = conversation_panel()
            prompt, generate, stop, examples = controls.prompt_card(host.preset)
            stream = token_stream(sessions, recorded is not None)
            versions = versions_strip()
            bar = share_bar(sessions, prices, home_address(settings), recorded, locked=settings.api_key is not None)
            panel = dashboard()
        with gr.Column(elem_id="dials", scale=0, min_width=280):
            drawn("dashboard/headline", "headline")
            threshold, acceptance, says, points, policy = controls.dials_card(settings, start)
            found = recorded.message(prices) if recorded else ""
            events = ("sweep", "scrub", "open_text")
            sweep = Panel("sweep/sweep", "sweep", events, recorded=found, plotly=PLOTLY_URL)
            view = controls.view_card(settings)
            sampling = controls.sampling_card(settings)
    dials = [threshold, acceptance]
    fields = [prompt, *dials, policy, *sampling, conversation]
    handlers = Handlers(host, sessions, settings, fields, start, recorded)
    entered = [*view, *fields]
    enable_stop(stop, [generate.click, stream.change_text, sweep.sweep, sweep.open_text])
    enable_stop(stop, [says.commit], js=_ENABLE_IF_FLIPPED)
    to_versions: dict[str, Any] = {"outputs": versions, **EACH_TIME}
    # What needs a text that the window has: where the server has it no more, `lib/refused.js` says so with the way out,
    # and gradio, which tells of what its queue refuses, has none.
    of_a_text = to_versions | {"queue": False}
    started = [
        generate.click(handlers.write, inputs=entered, **to_versions),
        says.commit(handlers.set_dials, inputs=[*dials, policy], outputs=versions, **_LIVE),
        stream.change_text(handlers.change_text, inputs=handlers.fields["max_new_tokens"], **of_a_text),
        sweep.sweep(handlers.sweep, inputs=entered, **to_versions),
        sweep.open_text(handlers.open_text, inputs=dials, **of_a_text),
    ]
    ended = [stream.ended(handlers.ended, **to_versions), sweep.ended(handlers.sweep_ended, **EACH_TIME)]
    ended[0].failure(handlers.versions, **to_versions)
    wire_stop(stop, sessions, lambda session: [session.run, session.jobs.get(SWEEP)], started, ended)
    sweep.scrub(handlers.scrub, **of_a_text)
    followed = stream.follow_up(handlers.follow_up, outputs=conversation, queue=False, **QUIET)
    followed.failure(None, js=_UNFOLLOWED, **QUIET)
    # The strip asks for one at a time: the fields follow to the text that is shown last.
    gone = versions.go_to(
        handlers.go_to, inputs=prompt, outputs=[versions, *fields], queue=False, trigger_mode="multiple", **QUIET
    )
    gone.success(None, js=STARTED, **QUIET)
    for event in (gone.success, gone.failure):
        event(None, js=_WENT, **QUIET)
    versions.compare(handlers.compare_versions, outputs=versions, queue=False, trigger_mode="once", **QUIET)
    # In the browser, also where the server moved the dials: the figures measured at the threshold follow.
    changes = [control.change for control in (*dials, policy)]
    gr.on(changes, None, inputs=[*dials, policy], js=_TELL_DIALS, **QUIET)
    for control in view:
        control.input(handlers.set_view, inputs=view, outputs=[panel, versions, sweep], **_LIVE)
    restored = wire_share(demo, host, sessions, bar, note, [stream, panel, sweep], fields)
    timer = gr.Timer(0.5)
    loading = [header, policy, timer, says, points, *examples.values()]
    for event in (restored.then, timer.tick):
        told = event(handlers.follow_loading, inputs=[policy, *dials], outputs=loading, queue=False, **QUIET)
        told.success(None, inputs=[says, *dials], outputs=dials, js=_PUT_DIALS, **QUIET)
    return {"stream": stream, "dashboard": panel, "sweep": sweep}, handlers.fields
