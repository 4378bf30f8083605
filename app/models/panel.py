"""The panel in which a visitor chooses other models for the page, and how all windows hear that it has others."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import engine
from app.components import QUIET, drawn
from app.figures import pair_name
from app.models.choice import AUTO, Allowed, allowed, chosen, models_of, pair_names, routers_of
from app.running.host import Host, NextPair
from app.running.sessions import Sessions
from engine import EngineError, InvalidRequest, Settings
from engine.weights.cache_folder import in_words

_LONGEST = 4096  # characters of a name, as the settings have it
_HERE = "The page has these models and this router already."
_ROUTERS_ONLY = "The models stay; only the router is another."
_BESIDE = "The page's pair writes on until then. Then its texts end, for all who are here."
_FIRST = (
    "Memory does not hold both, so the page's pair goes first: its texts end, for all who are here, and nothing can be "
    "written until the other is there."
)
_LOADING = "It is being loaded; the top of the page says how far it is."
_LOOKING = """(...values) => {
  document.querySelector('#models-card').dataset.looked = JSON.stringify(values);
  return '<p class="models-says" role="status">Looking …</p>';
}"""
_STILL = """(...values) => {
  const asIs = { __type__: 'update' }, says = 'Another choice since. What does it take?';
  if (document.querySelector('#models-card').dataset.looked === JSON.stringify(values)) return [asIs, asIs];
  return [`<p class="models-says" role="status">${says}</p>`, { ...asIs, interactive: false }];
}"""
"""In the browser: an answer is about the choice that was looked at, and only that may be loaded."""
_LOCK = "() => ({ __type__: 'update', interactive: false })"
"""In the browser: what was looked at is another now."""


def pair_route(host: Host, sessions: Sessions) -> Route:
    """Where windows ask whether the server is there: which start of it this is, and the news of its pair.

    The answer is a word that every start has of its own, a space, and a number that grows; and for a window that gives
    its feed's key under `citer-feed` whether its session is there still, as a third word: "known" or "unknown".
    """
    start = secrets.token_hex(8)

    async def news(request: Request) -> PlainTextResponse:
        words = [start, str(host.news)]
        if key := request.headers.get("citer-feed"):
            words.append("unknown" if sessions.find_key(key) is None else "known")
        return PlainTextResponse(" ".join(words), headers={"Cache-Control": "no-store"})

    return Route("/gradio_api/citer/pair", news)


def news_of_pair() -> Any:
    """Nothing that is seen; its event `changed` comes when there are news of the page's pair (`lib/lost.js`)."""
    return drawn("models/news", "pair-news", events=("changed",))


def follow_again(news: Any, timer: gr.Timer) -> None:
    """Has a tab follow the loading of models anew when the page is to have others."""
    news.changed(lambda: gr.Timer(active=True), outputs=timer, queue=False, **QUIET)


def models_card(host: Host, settings: Settings, news: Any) -> None:
    """The panel, where the host allows it; else nothing, and no event that could be asked for."""
    may = allowed(settings.server)
    if may == "off":
        return
    handlers = _ModelsHandlers(host, settings, may)
    with gr.Accordion("Models", open=False, elem_id="models-card", elem_classes="card"):
        fields = _fields(settings, may)
        with gr.Row(elem_id="models-actions"):
            look = gr.Button("What it takes", elem_id="models-look", min_width=112)
            load = gr.Button("Load", interactive=False, elem_id="models-load", min_width=80)
        says = gr.HTML(_said(["For everybody on this page."]), elem_id="models-says", apply_default_css=False)
    outputs: dict[str, Any] = {"inputs": fields, "outputs": [says, load], **QUIET}
    look.click(None, inputs=fields, outputs=says, js=_LOOKING, **QUIET)
    looked = look.click(handlers.look, trigger_mode="once", **outputs)
    looked.then(None, inputs=fields, outputs=[says, load], js=_STILL, **QUIET)
    load.click(handlers.load, trigger_mode="once", **outputs)
    gr.on([field.change for field in fields], None, outputs=load, js=_LOCK, **QUIET)
    news.changed(handlers.now, outputs=says, queue=False, **QUIET)


def _fields(settings: Settings, may: Allowed) -> list[Any]:
    """Pair, SLM, LLM and router, as the host has them."""
    pair = gr.Dropdown(
        pair_names(settings), value=settings.preset, label="Pair", filterable=False, elem_id="models-pair"
    )
    slm, llm = (
        gr.Textbox(
            value or "",
            label=f"{role} instead of the pair's",
            placeholder="owner/name, a folder, or a GGUF file",
            max_length=_LONGEST,
            visible=may == "any",
            elem_id=f"models-{role.lower()}",
        )
        for role, value in (("SLM", settings.slm), ("LLM", settings.llm))
    )
    router = gr.Dropdown(
        routers_of(settings),
        value=settings.router,
        label="Router",
        info=f"“{AUTO}” is the pair's own." + (" A folder or owner/name can be typed." if may == "any" else ""),
        allow_custom_value=may == "any",
        filterable=may == "any",
        elem_id="models-router",
    )
    return [pair, slm, llm, router]


class _ModelsHandlers:
    """What the panel's events do; the server's own checks, whatever a browser sends."""

    def __init__(self, host: Host, settings: Settings, may: Allowed) -> None:
        self.host, self.settings = host, settings
        self.may: Allowed = may

    def look(self, *values: Any) -> list[Any]:
        """Says what a choice takes; it can be loaded then, unless it is refused."""
        try:
            _, words = self._looked_at(values)
        except EngineError as error:
            return [_said(str(error).splitlines(), bad=True), gr.update(interactive=False)]
        return [_said(words), gr.update(interactive=True)]

    def load(self, *values: Any) -> list[Any]:
        """Begins to load it; `Host.status` says how that goes."""
        try:
            coming, _ = self._looked_at(values)
            self.host.change(coming)
        except EngineError as error:
            return [_said(str(error).splitlines(), bad=True), gr.update(interactive=False)]
        return [_said([_LOADING]), gr.update(interactive=False)]

    def now(self) -> Any:
        """What has become of it."""
        status, pair = self.host.status, self.host.pair
        if status.phase == "loading" or status.coming or self.host.news == 0:
            return gr.skip()
        if pair is None or status.warning:
            return _said((status.error or status.warning or "").splitlines(), bad=True)
        return _said([f"The page has {pair_name(pair.slm_name, pair.llm_name)} now."])

    def _looked_at(self, values: Sequence[Any]) -> tuple[NextPair, list[str]]:
        """The pair to come, and what it takes; an EngineError where it cannot come."""
        try:
            return self._coming(chosen(self.settings, self.may, values))
        except (OSError, ValueError) as error:  # a name that is none to the system
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
            raise InvalidRequest(f"The models cannot be looked at: {reason}.") from None

    def _coming(self, wanted: Settings) -> tuple[NextPair, list[str]]:
        from engine.pairs import another  # with torch, for which a page that is starting does not wait

        def again(progress: Any) -> Any:
            return engine.load(None, wanted, progress)

        models = self.host.models
        pair, source = models and models[0], self.host.source
        if pair is None or source is None or models_of(source) != models_of(wanted):
            needs = another.needs_of(wanted, pair)
            return NextPair(wanted, again, again, needs.first), _words(needs)
        if source.router == wanted.router:  # all texts would end for nothing
            raise InvalidRequest(_HERE)
        needs = another.needs_of_router(wanted)

        def load(progress: Any) -> Any:
            if self.host.pair is not pair:
                raise InvalidRequest("The page has been given another pair meanwhile: look again.")
            return another.with_other_router(pair, wanted, progress)

        return NextPair(wanted, load, again, shared=True), _words(needs)


def _words(needs: Any) -> list[str]:
    """What an `engine.pairs.another.Needs` says, a line each."""
    room, lines = needs.room, []
    if room is None:
        lines.append(_ROUTERS_ONLY)
    elif room.download:
        lines.append(f"To download: {in_words(room.download)}.")
    else:
        lines.append("Nothing to download: the models are here.")
    if needs.fetched_router:
        lines.append(f"To download: the router {needs.fetched_router}, at most {in_words(needs.router_most)}.")
    if room is not None:
        if room.disk:
            lines.append(f"Disk: {in_words(room.disk)} in all; {in_words(room.disk_free)} are free.")
        free = f"; {in_words(room.memory_free)} are free{' then' if needs.first else ''}" if room.memory_free else ""
        lines.append(f"Memory: {in_words(room.memory)}{free}.")
        if room.gpu:
            lines.append(f"GPU memory: {in_words(room.gpu)}; {in_words(room.gpu_free)} are free.")
    return [*lines, _FIRST if needs.first else _BESIDE]


def _said(lines: Sequence[str], bad: bool = False) -> str:
    text = "<br>".join(map(escape, lines))
    return f'<p class="models-says{" bad" if bad else ""}" role="{"alert" if bad else "status"}">{text}</p>'
