"""How the page's own components are made: constant templates, scripts from `assets/page`, values that are JSON strings.

Text of models and visitors never becomes part of a template or of HTML: it travels as JSON, and the script writes it
with `textContent`. (`{{value}}` in a gradio template would execute `${…}` found in the text.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "page"


def drawn(name: str, elem_id: str, value: str = "", **options: Any) -> gr.HTML:
    """A component drawn by a script of ours.

    Args:
        name: Its template is `<name>.html` and its script `<name>.js`, which runs after `dom.js`.
        elem_id: Its id on the page.
        value: JSON for the script.
        options: Constants for the script (as `props`), and what else gradio's component takes.
    """
    return gr.HTML(value, **_drawing(name), elem_id=elem_id, **options)


class Panel(gr.HTML):
    """A component drawn by a script of ours that is sent a growing text or tree in parts, by the feed or by gradio.

    Its event `ended` comes when the feed has brought the end of a job.

    Args:
        name: As for `drawn`; its script runs after `channel.js`.
        elem_id: Its id on the page, and its name in the feed.
        parts: Names of further scripts that run in between, in the same scope.
        options: Constants for the script (as `props`), and what else gradio's component takes.
    """

    def __init__(self, name: str, elem_id: str, parts: Sequence[str] = (), **options: Any) -> None:
        super().__init__(value="", **_drawing(name, "channel", *parts), panel=elem_id, elem_id=elem_id, **options)

    def get_block_name(self) -> str:
        """Which of gradio's own components draws it."""
        return "html"


def to_json(message: dict[str, Any]) -> str:
    """A message for a panel, as short as JSON gets."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def refusal(reason: object) -> gr.Error:
    """A reason as gradio shows it, which is as HTML: escaped."""
    return gr.Error(escape(str(reason), quote=False), print_exception=False)


def _drawing(name: str, *parts: str) -> dict[str, Any]:
    return {
        "html_template": (ASSETS / f"{name}.html").read_text("utf-8"),
        "js_on_load": "".join(map(_script, ("dom", *parts, name))),
        "apply_default_css": False,
    }


@cache  # gradio makes a component anew for every update of its properties
def _script(name: str) -> str:
    return (ASSETS / f"{name}.js").read_text("utf-8")
