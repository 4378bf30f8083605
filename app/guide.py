"""A short guide on the first visit, and the page "How it works" with its worked example."""

from __future__ import annotations

import gradio as gr

from app.components import ASSETS, drawn


def guide() -> gr.HTML:
    """The "?" button and the guide it shows; on the first visit the guide shows itself."""
    return drawn("guide/guide", "guide")


def how_it_works() -> None:
    """The tab's content, which never changes."""
    folder = ASSETS / "guide"
    before, after = (folder / "how_it_works.md").read_text("utf-8").split("<!-- the worked example -->\n")
    example = (folder / "how_it_works.html").read_text("utf-8")
    gr.Markdown(before, elem_classes="how-text")
    gr.HTML(html_template=example, elem_id="how-it-works", apply_default_css=False)
    gr.Markdown(after, elem_classes="how-text")
