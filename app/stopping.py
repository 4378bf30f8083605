"""The Stop button of a tab: enabled while something of the tab is on, whatever started it and however it ends.

Knows gradio's events; what is on, and how it is stopped, the tab says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from app.jobs import Job
from app.sessions import Session, Sessions

ENABLE = """() => {
  document.dispatchEvent(new CustomEvent('citer-start'));
  return { __type__: 'update', interactive: true };
}"""
"""In the browser: the feed is opened at once, so that it is there when the first token comes."""

STARTED = "() => { document.dispatchEvent(new CustomEvent('citer-start')); }"
"""In the browser, once the server has started it: where the feed was closed meanwhile, it is opened again."""

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def enable_stop(button: gr.Button, starts: Iterable[Callable[..., Any]], js: str = ENABLE) -> None:
    """Enables Stop where something is started; called before the handlers of the starts are added.

    In the browser and first, so that it is done before the answer to a refused request can undo it.

    Args:
        button: Stop.
        starts: Event listeners, e.g. `start.click`.
        js: What the browser does then.
    """
    for start in starts:
        start(None, outputs=button, js=js, **_QUIET)


def wire_stop(
    button: gr.Button,
    sessions: Sessions,
    starts: Iterable[Any],
    ends: Iterable[Any],
    jobs: Callable[[Session], Iterable[Job | None]],
    stop: Callable[[Session], None],
) -> None:
    """Lets Stop stop, and disables it when there is nothing left to stop.

    Args:
        button: Stop.
        sessions: Of all windows.
        starts: The events that start something; where one is refused, there may be nothing to stop.
        ends: The events that say that something has ended.
        jobs: What of a session the button is for.
        stop: Stops that within one step.
    """

    def can_stop(request: gr.Request) -> Any:
        # What gave way to another must not disable it.
        return gr.update(
            interactive=any(job is not None and job.on for job in jobs(sessions.get(request.session_hash)))
        )

    def pressed(request: gr.Request) -> Any:
        stop(sessions.get(request.session_hash))
        return gr.update(interactive=False)

    look: dict[str, Any] = {"outputs": button, "queue": False, **_QUIET}
    for start in starts:
        start.success(None, js=STARTED, **_QUIET)
        start.failure(can_stop, **look)
    for end in ends:
        for after in (end.success, end.failure):
            after(can_stop, **look)
    button.click(pressed, outputs=button, queue=False, trigger_mode="multiple", **_QUIET)
