"""A help that teaches: a short guide on the first visit, and the method explained with the visitor's own last text.

Drawn by the scripts in `assets/page/guide`; what is said of a text is made in `app.lesson`.
"""

from __future__ import annotations

import gradio as gr

from app.components import ASSETS, QUIET, drawn, to_json
from app.lesson.steps import lesson
from app.running.session import View
from app.running.sessions import Sessions


def guide() -> gr.HTML:
    """The "?" button and the guide it shows; on the first visit the guide shows itself."""
    return drawn("guide/guide", "guide")


def how_it_works(tab: gr.Tab, sessions: Sessions) -> None:
    """The tab's content; the explanation is made anew from the text on the page whenever the tab is selected."""
    before, after = (ASSETS / "guide/how_it_works.md").read_text("utf-8").split("<!-- lesson -->\n")
    gr.Markdown(before, elem_classes="how-text")
    explained = drawn("guide/how_it_works", "how-it-works", to_json(lesson(None, View())))
    gr.Markdown(after, elem_classes="how-text")

    def explain(request: gr.Request) -> str:
        session = sessions.get(request.session_hash)
        return to_json(lesson(session.shown, session.view))

    tab.select(explain, outputs=explained, queue=False, **QUIET)
