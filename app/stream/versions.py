"""What is sent to the browser for undo, redo and the history of a window's texts."""

from __future__ import annotations

import time
from typing import Any

from app.components import to_json
from app.figures import visible
from app.running.run import Run
from app.running.session import Session
from engine import Role
from engine.events import llm_share

_SHOWN = 80  # characters of a prompt


def versions_message(session: Session) -> str:
    """All versions that have ended, as JSON.

    Returns:
        `at`: grows from message to message; `current`: the id of the version on the page; `undo`, `redo`: whether
        there is something to; `versions`, the oldest first: [id, threshold, acceptance, LLM share, the last token
        chosen by hand ([index, author, text], or null), whether it was cut short, the beginning of its prompt].
    """
    history = session.history
    return to_json(
        {
            "at": time.monotonic_ns(),
            "current": history.current.id if history.current else None,
            "undo": session.can_step(-1),
            "redo": session.can_step(1),
            "versions": [_row(each) for each in [*history.versions] if not each.active],
        }
    )


def _row(run: Run) -> list[Any]:
    asked = run.settings
    return [
        run.id,
        round(asked.setting.threshold, 7),
        round(asked.setting.acceptance, 4),
        round(llm_share(visible(run.events)), 4),
        _chosen(run),
        not run.complete,
        asked.prompt[:_SHOWN],
    ]


def _chosen(run: Run) -> list[Any] | None:
    forced, events = run.request.forced, run.events
    if not forced or forced[-1].index >= len(events):
        return None
    event = events[forced[-1].index]
    return [event.index, int(event.role is Role.LLM), event.text]
