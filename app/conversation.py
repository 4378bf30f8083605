"""The conversation before the prompt: it stands above the prompt, and what stands there is what Generate goes on from.

It is one of the page's fields, so that whatever carries those carries it: a link, a reload, undo, an opened trace.
"""

from __future__ import annotations

from itertools import groupby

import gradio as gr

from app.components import QUIET, drawn
from app.running.run import Run
from engine import Request
from engine.request import Turn


def conversation_panel() -> gr.HTML:
    """The component, whose value is `app.fields.turns_text`; a button of its own empties it."""
    panel = drawn("conversation", "conversation", events=("new_conversation",))
    panel.new_conversation(None, outputs=panel, js="() => ''", **QUIET)
    return panel


def conversation_after(run: Run) -> tuple[Turn, ...]:
    """What was said before a text, its prompt, and the text itself by whom it was written.

    Raises:
        InvalidRequest: No text can go on from it: it has too many messages, is too long, or is a raw completion.
    """
    parts = [(event.role, event.text) for event in run.events]
    lengths = [(role, sum(len(text) for _, text in of)) for role, of in groupby(parts, key=lambda part: part[0])]
    authors = tuple((role, length) for role, length in lengths if length)
    answer = Turn("assistant", "".join(text for _, text in parts), authors)
    turns = (*run.request.turns, Turn("user", run.request.prompt), answer)
    return Request("what comes next", raw=run.request.raw, turns=turns).turns
