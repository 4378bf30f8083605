"""The generated text in the browser, every token coloured by its author: the component, and what is sent to it.

Knows the compact form in which tokens travel; the script that reads it is `assets/page/token_stream.js`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.components import Panel, to_json
from app.runs import Run, Sessions
from engine import Role, TokenEvent


def token_stream(sessions: Sessions) -> Panel:
    """The component. Its value is the newest message; what the browser missed it asks for again."""

    def resend_tokens(data: dict[str, Any]) -> str | None:
        found = sessions.find(str(data.get("run")))
        return token_message(found[1], max(0, int(data.get("from", 0)))) if found else None

    return Panel("token_stream", resend_tokens, elem_id="stream", resend_name="resend_tokens")


def token_message(run: Run, start: int, end: int | None = None, note: str = "") -> str:
    """The run's tokens from `start` on, as JSON.

    Args:
        run: Whose tokens.
        start: How many the browser was already sent.
        end: Where to stop; None sends all there are.
        note: A line about the run's state for people, e.g. what it waits for.

    Returns:
        `run`, `n` (its number), `from`, `count`, `state`, `finish`, `policy`, `note`, `tokens`, and `revealed`:
        alternatives of earlier tokens as [index, author, alternatives].
    """
    state = run.state  # before the events: a run that is done by now has all of them
    events = run.events[start:end]
    message = {
        "run": run.id,
        "n": run.number,
        "from": start,
        "count": len(events),
        "state": state,
        "finish": run.events[-1].finish_reason if run.events else None,
        "policy": run.request.policy,
        "note": note or run.error or "",
        "tokens": [_token(event) for event in events],
        "revealed": [
            [late.index, _author(late.role), _candidates(late.alternatives)]
            for event in events
            for late in event.revealed
            if late.alternatives
        ],
    }
    return to_json(message)


def _token(event: TokenEvent) -> list[Any]:
    """[text, author, score, threshold, SLM fed, LLM fed, milliseconds, SLM's candidates, LLM's candidates]."""
    return [
        event.text,
        _author(event.role),
        None if event.score is None else round(event.score, 4),
        round(event.threshold, 4),
        event.slm_fed,
        event.llm_fed,
        round(1000 * event.seconds),
        _candidates(event.slm_alternatives),
        _candidates(event.llm_alternatives),
    ]


def _author(role: Role) -> int:
    return 0 if role is Role.SLM else 1


def _candidates(alternatives: Sequence[Any]) -> list[list[Any]]:
    return [[alternative.text, round(alternative.probability, 4)] for alternative in alternatives]
