"""The page: where its parts stand, and which event does what.

Events only start and stop jobs; what is written comes through the window's feed (`app.stream.feed`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from app import controls
from app.compare.tab import KIND as COMPARE
from app.compare.tab import compare_tab
from app.components import ASSETS, EACH_TIME, PLOTLY, QUIET, SCRIPTS, STARTED, Panel, drawn, tells
from app.entrance.gradio_parts import PageBlocks, calling_address
from app.fields import DIALS, FIELDS
from app.handlers import Handlers, wire_stop
from app.header import header_html
from app.recorded import Recorded
from app.running.host import Host
from app.running.session import SWEEP
from app.running.sessions import Sessions
from app.share.buttons import keep_texts, share_menu, wire_share
from app.share.home import TITLE, home_address
from app.stream.feed import Feeds, wire_feed
from app.stream.updates import JobUpdates, TextUpdates
from app.tune.tab import KIND as TUNE
from app.tune.tab import tune_tab
from engine import DEFAULT_THRESHOLD, Settings
from engine.endpoint.routes import Endpoint
from engine.guard.refusals import Places, Refusal

LOADING_SECONDS = 10.0
"""After which a program that came while the models load may ask again."""


def build(host: Host, settings: Settings, recorded: Recorded | None = None) -> PageBlocks:
    """The page for a host's models, which are loaded when the first visitor comes, or earlier by the caller.

    `recorded` is what is on it before a visitor has a text.
    """
    examples = [each for rows in controls.EXAMPLES.values() for each in rows]
    host.answers = {each["prompt"]: each["answer"] for each in examples if "answer" in each}
    if recorded and recorded.answer:
        host.answers[recorded.traces[0].prompt] = recorded.answer
    sessions = Sessions(places=Places(settings.server__queue_size), address=calling_address, leave=host.leave)
    home = home_address()
    with PageBlocks(title=TITLE, fill_width=True, analytics_enabled=False) as demo:
        with gr.Row(elem_id="header"):
            header = gr.HTML(header_html(host, home), elem_id="models", apply_default_css=False)
            share = share_menu(sessions, home, recorded)
            drawn("theme", "theme")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Playground", elem_id="playground"):
                panels, fields, restore = _playground(demo, host, sessions, settings, header, share, recorded)
            with gr.Tab("Compare", elem_id="compare"):
                panels["comparison"] = compare_tab(host, sessions, settings, fields, recorded)
            with gr.Tab("Tune on my prompts", elem_id="tune"):
                panels["tune-panel"] = tune_tab(host, sessions, settings, fields)
            with gr.Tab("How it works", elem_id="how"):
                gr.HTML(html_template=(ASSETS / "how/how.html").read_text("utf-8"), apply_default_css=False)
        keep_texts(demo, ("compare-prompt", "tune-prompts"))
        feeds = Feeds(sessions, UPDATES)
        restore(wire_feed(demo, feeds, panels))
        demo.unload(lambda: None)  # without it gradio's page keeps no heartbeat, by which a closed window is known
    endpoint = Endpoint(lambda: _models(host), settings)
    demo.sessions, demo.routes = sessions, [*feeds.routes, SCRIPTS, endpoint.mount]
    return demo


def _models(host: Host) -> tuple[Any, Any]:
    """The pair and the scheduler for programs; raises Refusal while there are none."""
    host.start()
    if host.pair is None:
        raise Refusal(503, host.status.error or "The models are being loaded.", after=LOADING_SECONDS)
    return host.pair, host.scheduler


UPDATES = {
    "stream": TextUpdates,
    "sweep": partial(JobUpdates, SWEEP),
    "comparison": partial(JobUpdates, COMPARE),
    "tune-panel": partial(JobUpdates, TUNE),
}
"""What makes the messages of each panel, by its `elem_id`."""


def _playground(
    demo: gr.Blocks,
    host: Host,
    sessions: Sessions,
    settings: Settings,
    header: gr.HTML,
    share: gr.HTML,
    recorded: Recorded | None,
) -> tuple[dict[str, Panel], dict[str, Component], Callable[[Any], None]]:
    """The tab's content.

    Returns:
        Its panels by their names in the feed, its fields by theirs (`FIELDS`), and a function that has the fields
        restored after a given event, by which a window gets its session.
    """
    start = settings.stated.get("threshold", DEFAULT_THRESHOLD)
    with gr.Column(elem_id="main"):
        note = drawn("link_note", "link-note", events=("upload",))  # opens a link's text like a file's
        conversation = controls.conversation_panel()
        prompt, generate, stop, examples = controls.ask_card(host.preset, recorded.traces[0].prompt if recorded else "")
        with gr.Row(elem_id="text-row", equal_height=False):
            with gr.Column(elem_id="text-card", scale=1, min_width=0):
                versions = drawn("versions", "versions", events=("go_to",))
                shown = recorded.message() if recorded else ""
                stream = Panel("stream", "stream", events=("change_text", "follow_up"), recorded=shown)
            sweep = Panel("sweep", "sweep", ("sweep", "open_text"))
            more = controls.more_card(settings, start)
        slider = drawn("slider", "slider", recorded.slider if recorded else "", events=("commit",))
        drawn("scores", "scores", plotly=PLOTLY)
    by_name: dict[str, Any] = {"prompt": prompt, "turns": conversation, **more}
    fields = [by_name[name] for name in FIELDS]
    dials = [by_name[name] for name in DIALS]
    policy = by_name["policy"]
    handlers = Handlers(host, sessions, settings, fields)
    for begins in (stream.change_text, sweep.sweep, sweep.open_text):
        begins(None, js=STARTED, **QUIET)
    to_versions: dict[str, Any] = {"outputs": versions, **EACH_TIME}
    started = [
        generate.click(handlers.write, inputs=fields, **to_versions),
        slider.commit(handlers.set_dials, inputs=[*dials, policy], **to_versions | {"trigger_mode": "always_last"}),
        stream.change_text(handlers.change_text, inputs=by_name["max_new_tokens"], **to_versions),
        sweep.sweep(handlers.sweep, inputs=fields, **EACH_TIME),
        sweep.open_text(handlers.open_text, **to_versions),
    ]
    wire_stop(stop, sessions, lambda session: [session.run, session.jobs.get(SWEEP)], started)
    stream.ended(handlers.versions, **to_versions)
    followed = stream.follow_up(handlers.follow_up, outputs=conversation, **QUIET)
    followed.success(None, js=tells("citer-followed"), **QUIET)
    # The history asks for one at a time: the fields follow to the text that is shown last.
    gone = versions.go_to(handlers.go_to, inputs=prompt, outputs=[versions, *fields], **EACH_TIME)
    gone.success(None, js=STARTED, **QUIET)
    for event in (gone.success, gone.failure):
        event(None, js=tells("citer-went"), **QUIET)
    # In the browser, also where the server moved the dials.
    changes = [control.change for control in (*dials, policy)]
    gr.on(changes, None, inputs=[*dials, policy], js=tells("citer-dials", *DIALS, "policy"), **QUIET)
    timer = gr.Timer(0.5, active=False)  # until the fields are restored: what loads must not move them before

    def restore(entered: Any) -> None:
        loading = [header, policy, timer, slider, *examples.values()]
        entered.then(handlers.versions, **to_versions)
        restored = wire_share(entered, host, sessions, share, note, fields)
        for event in (restored.then, timer.tick):
            event(handlers.follow_loading, inputs=[*dials, policy], outputs=loading, **QUIET)

    return {"stream": stream, "sweep": sweep}, by_name, restore
