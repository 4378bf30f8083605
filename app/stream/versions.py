"""The versions of the text, as a strip to go back by, and undo and redo: the component, and what is sent to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import drawn, to_json
from app.figures import meter, times_llm
from app.running.history import Version
from app.running.session import Session, View
from app.stream.dashboard import new_tally
from engine import Role
from engine.events import llm_share

_SHOWN = 80  # characters of a prompt


def versions_strip() -> gr.HTML:
    """The component. Its event `go_to` says which version (`number`) or how many steps (`step`, -1 or 1); its event
    `compare` asks for two of them (`first`, `second`), to be put side by side.
    """
    return drawn("versions/versions", "versions", events=("go_to", "compare"))


def versions_message(session: Session, beside: Sequence[int] = ()) -> str:
    """All versions that have ended, as JSON.

    Args:
        beside: Numbers of those that are to be put side by side.

    Returns:
        `at`: grows from message to message; `current`: the number of the version on the page; `undo`, `redo`: whether
        there is something to; `versions`, the oldest first: [number, threshold, acceptance, LLM share, cost / LLM-only
        in the view's unit (null where that is free), the last token chosen by hand ([index, author, text], or null),
        whether it was cut short, the beginning of its prompt]; and where they are asked for and still kept, `beside`:
        of each its `number`, its `figures` as on the meter, and its `tokens` as [text, author].
    """
    history = session.history
    ended = [version for version in history.versions if version.text.events and not version.run.active]
    message = {
        "at": time.monotonic_ns(),
        "current": history.current.number if history.current else None,
        "undo": session.can_step(-1),
        "redo": session.can_step(1),
        "versions": [_row(version, session.view) for version in ended],
    }
    asked = [version for number in beside for version in ended if version.number == number]
    if len(asked) > 1:
        message["beside"] = [_whole(version, session.view) for version in asked]
    return to_json(message)


def _whole(version: Version, view: View) -> dict[str, Any]:
    run = version.text
    tally, events = new_tally(run, view), list(run.events)
    tally.add(events)
    figures = meter(events, tally.total, view.unit, not run.pair.llm.local)
    tokens = [[event.text, int(event.role is Role.LLM)] for event in events]
    return {"number": version.number, "figures": figures, "tokens": tokens}


def _row(version: Version, view: View) -> list[Any]:
    asked = version.text.settings
    shares = _figures(version, view)
    return [
        version.number,
        round(asked.setting.threshold, 7),
        round(asked.setting.acceptance, 4),
        *shares,
        _chosen(version),
        not version.text.complete,
        asked.prompt[:_SHOWN],
    ]


def _figures(version: Version, view: View) -> list[float | None]:
    """LLM share and relative cost, folded once per view."""
    run = version.text
    key = run, len(run.events), view
    if version.figures is None or version.figures[0] != key:
        tally = new_tally(run, view)
        tally.add(run.events)
        version.figures = key, [round(llm_share(run.events), 4), times_llm(tally.total, view.unit)]
    return version.figures[1]


def _chosen(version: Version) -> list[Any] | None:
    forced, events = version.text.request.forced, version.text.events
    if not forced or forced[-1].index >= len(events):
        return None
    event = events[forced[-1].index]
    return [event.index, int(event.role is Role.LLM), event.text]
