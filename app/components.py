"""How the page's own components are made: constant templates, scripts from `assets/page`, values that are JSON strings.

Text of models and visitors never becomes part of a template or of HTML: it travels as JSON, and the script writes it
with `textContent`. (`{{value}}` in a gradio template would execute `${…}` found in the text.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
    """A component drawn by a script of ours that is sent a growing text or tree in parts.

    Args:
        name: As for `drawn`; its script runs after `channel.js`.
        parts: Names of further scripts that run in between, in the same scope.
        more: Further functions of the server that the script may call.
        resend: `resend({"run": …, "from": …})` → JSON or None; called where the browser finds that it missed something.
        options: Constants for the script (as `props`).
    """

    def __init__(
        self,
        name: str,
        resend: Callable[[dict[str, Any]], str | None],
        elem_id: str,
        parts: Sequence[str] = (),
        more: Sequence[Callable[[dict[str, Any]], Any]] = (),
        **options: Any,
    ) -> None:
        super().__init__(
            value="",
            **_drawing(name, "channel", *parts),
            server_functions=[resend, *more],
            elem_id=elem_id,
            **options,
        )

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
