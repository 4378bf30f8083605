"""The generated text in the browser, every token coloured by its author: the component, and what is sent to it.

Knows the compact form in which tokens travel; the script that reads it is `assets/page/token_stream.js`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.components import Panel, to_json
from app.meter import amount
from app.runs import Branch, Kept, Run
from app.sessions import Sessions, View
from engine import Role, TokenEvent, audit, cumulative


def token_stream(sessions: Sessions) -> Panel:
    """The component; its messages are those of `app.live.TextNews`."""

    def token_cost(data: dict[str, Any]) -> str | None:
        found = sessions.find(str(data.get("run")))
        return cost_of_token(found[1], int(data.get("index", 0)), found[0].view) if found else None

    parts = ("token_text", "difference", "preview", "inspector", "audit", "branches")
    return Panel("token_stream", "stream", parts, server_functions=[token_cost])


def token_message(run: Run, start: int, end: int | None = None, note: str = "", kept: Kept | None = None) -> str:
    """The run's tokens from `start` on, as JSON.

    Args:
        run: Whose tokens.
        start: How many the browser was already sent.
        end: Where to stop; None sends all there are.
        note: A line about the run's state for people, e.g. what it waits for.
        kept: Of which run's tokens the browser may keep the first; they have this run's threshold from now on.

    Returns:
        `run`, `n` (its number), `from`, `count`, `state`, `finish`, `policy`, `threshold`, `kept` ([run, tokens]),
        `branch`, `fixed`, `note`, `tokens`, `revealed`: alternatives of earlier tokens as [index, author,
        alternatives, entropy]; and once it has ended `audit`: positions `missed` and `wasted`, and how many are
        `unknown`, and `branches`: [number, parent, index, author, text of the token there].
    """
    state = run.told_state(whole=end is None)  # before the events: a run that is done by now has all of them
    events = run.events[start:end]
    late = [late for event in events for late in event.revealed] + (run.late if end is None else [])
    message = {
        "run": run.id,
        "n": run.number,
        "from": start,
        "count": len(events),
        "state": state,
        "finish": run.events[-1].finish_reason if run.events else None,
        "policy": run.request.policy,
        "threshold": run.request.threshold,
        "kept": [kept.number, kept.count] if kept and kept.count else None,
        "branch": run.branch,
        "fixed": run.fixed,
        "note": note or run.error or "",
        "tokens": [_token(event) for event in events],
        "revealed": [
            [each.index, _author(each.role), _candidates(each.alternatives), _bits(each.entropy)]
            for each in late
            if each.alternatives
        ],
        **({"audit": _audit(run), "branches": list(map(_branch, run.branches))} if not run.on else {}),
    }
    return to_json(message)


def _audit(run: Run) -> dict[str, Any]:
    found = audit(run.folded)
    return {"missed": found.missed, "wasted": found.wasted, "unknown": len(found.unknown)}


def cost_of_token(run: Run, index: int, view: View) -> str | None:
    """What one token cost, in the view's unit, beside what it would have cost at both ends; None if it is not there."""
    series = list(
        cumulative(run.events[: index + 1], run.prompt_tokens, run.pair.slm_cost, run.pair.llm_cost, view.prices)
    )
    if not 0 <= index < len(series):
        return None

    def part(end: str) -> str:
        after, before = (
            getattr(getattr(costs, end), view.unit) for costs in (series[index], series[max(0, index - 1)])
        )
        return amount(after - before if index else after, view.unit)

    return f"cost {part('run')} (SLM only {part('slm_only')}, LLM only {part('llm_only')})"


def _branch(branch: Branch) -> list[Any]:
    events = branch.run.events
    there = events[branch.index] if branch.number and branch.index < len(events) else None
    return [
        branch.number,
        branch.parent,
        branch.index,
        _author(there.role) if there else 0,
        there.text if there else None,
    ]


def _token(event: TokenEvent) -> list[Any]:
    """[text, author, score, threshold, SLM fed, LLM fed, milliseconds, SLM's candidates, LLM's candidates, forced,
    SLM's entropy, LLM's entropy].

    Scores have as many digits as it takes that the browser decides as the engine does.
    """
    return [
        event.text,
        _author(event.role),
        None if event.score is None else round(event.score, 7),
        round(event.threshold, 4),
        event.slm_fed,
        event.llm_fed,
        round(1000 * event.seconds),
        _candidates(event.slm_alternatives),
        _candidates(event.llm_alternatives),
        int(event.forced),
        _bits(event.slm_entropy),
        _bits(event.llm_entropy),
    ]


def _bits(entropy: float | None) -> float | None:
    return None if entropy is None else round(entropy, 3)


def _author(role: Role) -> int:
    return 0 if role is Role.SLM else 1


def _candidates(alternatives: Sequence[Any]) -> list[list[Any]]:
    return [[each.text, round(each.probability, 4), each.id] for each in alternatives]
