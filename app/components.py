"""How the page's own components are made: constant templates, modules of `assets/page`, values that are JSON strings.

Text of models and visitors never becomes part of a template or of HTML: it travels as JSON, and the script writes it
with `textContent`. (`{{value}}` in a gradio template would execute `${…}` found in the text.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from engine.guard.cached import FOR_GOOD

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
"""Options of the page's own events: they are answered at once, are no part of the API, and show no progress bar.

Only `assets/page/lib/refused.js` shows why an event was refused.
"""

EACH_TIME: dict[str, Any] = {"trigger_mode": "multiple", **QUIET}
"""For events that must all be handled: a later one may stop what an earlier one started."""

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "page"

_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
gr.set_static_paths([_PLOTLY])
PLOTLY = f"gradio_api/file={_PLOTLY.as_posix()}"
"""Where browsers get Plotly's script, relative to the page."""

_FILES = StaticFiles(directory=ASSETS)
_ROOT = "gradio_api/citer/page"  # below gradio's own prefix, which proxies and Spaces let through


def _digest() -> str:
    """Of all files of `assets/page` as they are when the page starts."""
    digest = hashlib.sha256()
    for path in sorted(path for path in ASSETS.rglob("*") if path.is_file()):
        digest.update(path.relative_to(ASSETS).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


_VERSION = _digest()

SCRIPTS_PATH = f"{_ROOT}/{_VERSION}"
"""Address of the scripts; it changes with their content, so browsers may keep each version."""


async def _script(request: Request) -> Response:
    version, slash, path = request.path_params["path"].partition("/")
    current = slash and version == _VERSION
    response = await _FILES.get_response(path if current else request.path_params["path"], request.scope)
    response.headers["Cache-Control"] = FOR_GOOD if current else "no-cache"
    return response


SCRIPTS = Route(f"/{_ROOT}/{{path:path}}", _script)
"""Where browsers get the scripts."""

PRELOAD = "".join(
    f'<link rel="modulepreload" href="{SCRIPTS_PATH}/{script.relative_to(ASSETS).as_posix()}">'
    for script in sorted(ASSETS.rglob("*.js"))
)
"""For the page's head: the scripts are fetched all at once, not as one asks for another."""


_ON_LOAD = """element.inert = true;  // no click is lost: none is taken before the script is there
import(new URL('%(page)s', document.baseURI)).then(async (page) => {
  await page.dialsThere;
  page.%(name)s({ element, props, server, trigger, watch });
  element.inert = false;
});"""


def in_browser(name: str, *first: str) -> str:
    """For an event's `js`: has the browser call what `page.js` exports as `name`, with `first` before the inputs."""
    page = f"import(new URL('{SCRIPTS_PATH}/page.js', document.baseURI))"
    before = "".join(f"{json.dumps(value)}, " for value in first)
    return f"async (...inputs) => (await {page}).{name}({before}...inputs)"


def tells(event: str, *names: str) -> str:
    """For an event's `js`: has the browser dispatch an event of ours, which has the inputs by these names."""
    return in_browser("tell", event, *names)


STARTED = tells("citer-start")
"""Has the browser open the feed, where it is not open."""


_TEMPLATE = re.compile(r'<template id="(\w+)">\n(.*?)\n</template>', re.DOTALL)
_TEMPLATES = dict(_TEMPLATE.findall((ASSETS / "page.html").read_text("utf-8")))


def drawn(name: str, elem_id: str, value: str = "", events: Sequence[str] = (), **options: Any) -> gr.HTML:
    """A component drawn by a script of ours.

    Args:
        name: The name of its template in `assets/page/page.html`, and of the function that `page.js` exports for it.
        elem_id: Its id on the page.
        value: JSON for the script.
        events: Names of the events that the script triggers.
        options: Constants for the script (as `props`), and what else gradio's component takes.
    """
    return gr.HTML(value, **_drawing(name, *events), elem_id=elem_id, **options)


class Panel(gr.HTML):
    """Like `drawn`, but its content arrives in parts, by the feed under its `elem_id` or by gradio.

    The script triggers the event `ended` once it has received the end of a job.
    """

    def __init__(self, name: str, elem_id: str, events: Sequence[str] = (), **options: Any) -> None:
        super().__init__(value="", **_drawing(name, "ended", *events), panel=elem_id, elem_id=elem_id, **options)

    def get_block_name(self) -> str:
        """Which of gradio's own components draws it."""
        return "html"


def to_json(message: dict[str, Any]) -> str:
    """A message for a panel, as short as JSON gets."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def refusal(reason: object, title: str = "Error") -> gr.Error:
    """An error with a reason, escaped since gradio shows it as HTML; `lib/refused.js` knows its kind by `title`."""
    return gr.Error(escape(str(reason), quote=False), title=title, print_exception=False)


@cache  # gradio makes a component anew for every update of its properties
def _drawing(name: str, *events: str) -> dict[str, Any]:
    script = _ON_LOAD % {"page": f"{SCRIPTS_PATH}/page.js", "name": name}
    names = " ".join(f"'{event}'" for event in events)  # gradio takes for an event what stands quoted in a script
    return {
        "html_template": _TEMPLATES[name],
        "js_on_load": f"{script}  // triggers {names}",
        "apply_default_css": False,
    }
