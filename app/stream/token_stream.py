"""What is sent to the generated text in the browser, where every token is coloured by its author.

Tokens travel in a compact form, which `assets/page/stream/stream.js` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.components import to_json
from app.figures import cost_parts
from app.running.job import State
from app.running.run import Run
from engine import Role, TokenEvent
from engine.events import charged


def token_message(
    run: Run,
    state: State,
    cut: int = 0,
    note: str = "",
    first: bool = True,
    text: Sequence[TokenEvent] = (),
    costs: bool = False,
) -> str:
    """How a run's text has changed, as JSON.

    Args:
        run: The run.
        state: Of the run, read before its tokens: a run that has ended by now has all of them.
        cut: How many of the browser's tokens stay. They have the run's dials from now on.
        note: What the run waits for, for people.
        first: Whether these are the run's first tokens for the browser.
        text: All of it.
        costs: Whether to add what the text costs.

    Returns:
        `Job.heading` with `finish`, `policy`, `threshold`, `acceptance`, `fixed`; `more`: whether Continue is offered;
        `chat`: whether a prompt may follow it; `tokens`; `asked`, with the first: prompt and how many
        messages come before; with costs `cost` (see `cost_parts`), and `took`: the seconds that the text really took;
        at its end `verdicts`, where the right answer is known.
    """
    asked = run.request
    message = {
        **run.heading(cut, len(text) - cut, state, note),
        "finish": text[-1].finish_reason if text else None,
        "policy": asked.setting.policy,
        "threshold": asked.setting.threshold,
        "acceptance": asked.setting.acceptance,
        "fixed": run.fixed,
        "more": run.extendable,
        "chat": not asked.raw,
        "tokens": [token_row(event) for event in text[cut:]],
        **({"asked": [asked.prompt, len(asked.turns)]} if first else {}),
    }
    if costs and text:
        message["cost"] = cost_parts(text, run.prompt_tokens, run.pair.slm_cost, run.pair.llm_cost)
        message["took"] = round(sum(event.seconds for event in charged(text)), 3)
    if state == "done" and (right := run.is_right(text)) is not None:
        message["verdicts"] = [["right" if right else "wrong", right]]
    return to_json(message)


def in_common(before: Sequence[Any], after: Sequence[Any]) -> int:
    """How many of their first items two lists have in common."""
    pairs = enumerate(zip(before, after, strict=False))
    same = min(len(before), len(after))
    return next((n for n, (one, other) in pairs if one is not other and one != other), same)


def token_row(event: TokenEvent) -> list[Any]:
    """[text, author, score, threshold, SLM's candidates, LLM's candidates, forced, acceptance, ratio, texts that were
    taken back here].

    Scores and ratios have as many digits as it takes that the browser decides as the engine does.
    """
    return [
        event.text,
        0 if event.role is Role.SLM else 1,
        None if event.score is None else round(event.score, 7),
        round(event.threshold, 7),
        _candidates(event.slm_alternatives),
        _candidates(event.llm_alternatives),
        int(event.forced),
        round(event.acceptance, 4),
        _ratio(event.ratio),
        [draft.text for draft in event.taken_back],
    ]


def _ratio(ratio: float | None) -> float | None:
    # Rounding must not reach 1, since only the LLM's own choice has the ratio 1.
    return ratio if ratio in (None, 1) else min(round(ratio, 7), 1 - 1e-7)


def _candidates(alternatives: Sequence[Any]) -> list[list[Any]]:
    return [[each.text, round(each.probability, 4), each.id] for each in alternatives]
