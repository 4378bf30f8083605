"""The generated text in the browser, every token coloured by its author: the component, and what is sent to it.

Tokens travel in a compact form, which `assets/page/stream/stream.js` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.components import Panel, to_json
from app.figures import cost_parts
from app.running.run import Run, SharedPrefix, Written
from engine import Prices, Role, TokenEvent
from engine.events import charged
from engine.policy import REGISTRY


def token_stream() -> Panel:
    """The component; its messages are those of `app.stream.updates.TextUpdates`."""
    return Panel("stream/stream", "stream", events=("change_text", "follow_up"))


def token_message(
    run: Run,
    start: int,
    end: int | None = None,
    note: str = "",
    shared: SharedPrefix | None = None,
    written: Written | None = None,
    prices: Prices | None = None,
) -> str:
    """The run's tokens from `start` on, as JSON.

    Args:
        start, end: How many the browser was already sent, and where to stop; None sends all there are.
        note: What the run waits for, for people.
        shared: Which tokens of another run the browser may keep; they have this run's dials from now on.
        written: The text to send of, where `start` follows from it; None takes it as it is now.
        prices: At which to say what the text costs so far; None says nothing of it.

    Returns:
        `Job.heading` with `cuts`: how often tokens were taken back; if more often than the browser knows, those from
        `from` on are no more. Also `finish`, `policy`, `threshold`, `acceptance`, `kept` ([run, tokens]), `fixed`,
        `more`: whether Continue is offered, `chat`: whether a prompt may follow it, `asked`: with the first tokens,
        prompt, label of the policy, and how many messages come before; `tokens`, `verdicts`: ratios of earlier tokens
        as [index, ratio], `revealed`: candidates of earlier tokens as [index, author, candidates, entropy]; and where
        it is asked for `cost` (see `cost_parts`), with `took`: the seconds that the text really took.
    """
    state = run.message_state(whole=end is None)  # before the events: a run that is done by now has all of them
    text, cuts = written or run.written
    events = text[start:end]
    late = [late for event in events for late in event.revealed] + (run.late if end is None else [])
    read = [verdict for event in events for verdict in event.verdicts]
    kept = [(event.index, event.ratio) for event in text[:start] if event.ratio is not None] if shared else []
    first = shared.count if shared else 0
    message = {
        **run.heading(start, len(events), state, note or run.about),
        "cuts": len(cuts),
        "finish": text[-1].finish_reason if text else None,
        "policy": run.request.setting.policy,
        "threshold": run.request.setting.threshold,
        "acceptance": run.request.setting.acceptance,
        "kept": [shared.number, shared.count] if shared and shared.count else None,
        "fixed": run.fixed,
        "more": run.extendable,
        "chat": not run.request.raw,
        "tokens": [_token(event) for event in events],
        "revealed": [
            [each.index, _author(each.role), _candidates(each.alternatives), _bits(each.entropy)]
            for each in late
            if each.alternatives
        ],
        "verdicts": [[index, _ratio(ratio)] for index, ratio in [*kept, *read]],
        **({"asked": _asked(run)} if start == first else {}),
        **({"cost": _cost(run, text, prices), "took": _took(text)} if prices and text else {}),
    }
    return to_json(message)


def _asked(run: Run) -> list[Any]:
    return [run.request.prompt, REGISTRY[run.request.setting.policy].label, len(run.request.turns)]


def _cost(run: Run, text: Sequence[TokenEvent], prices: Prices) -> list[list[float] | None]:
    return cost_parts(text, run.prompt_tokens, run.pair.slm_cost, run.pair.llm_cost, prices)


def _took(text: Sequence[TokenEvent]) -> float:
    return round(sum(event.seconds for event in charged(text)), 3)


def _token(event: TokenEvent) -> list[Any]:
    """[text, author, score, threshold, SLM fed, LLM fed, milliseconds, SLM's candidates, LLM's candidates, forced,
    SLM's entropy, LLM's entropy, acceptance, ratio, texts that were taken back here].

    Scores and ratios have as many digits as it takes that the browser decides as the engine does.
    """
    return [
        event.text,
        _author(event.role),
        None if event.score is None else round(event.score, 7),
        round(event.threshold, 7),
        event.slm_fed,
        event.llm_fed,
        round(1000 * event.seconds),
        _candidates(event.slm_alternatives),
        _candidates(event.llm_alternatives),
        int(event.forced),
        _bits(event.slm_entropy),
        _bits(event.llm_entropy),
        round(event.acceptance, 4),
        _ratio(event.ratio),
        [draft.text for draft in event.taken_back],
    ]


def _ratio(ratio: float | None) -> float | None:
    # Only the LLM's own choice has 1, also to the browser.
    return ratio if ratio in (None, 1) else min(round(ratio, 7), 1 - 1e-7)


def _bits(entropy: float | None) -> float | None:
    return None if entropy is None else round(entropy, 3)


def _author(role: Role) -> int:
    return 0 if role is Role.SLM else 1


def _candidates(alternatives: Sequence[Any]) -> list[list[Any]]:
    return [[each.text, round(each.probability, 4), each.id] for each in alternatives]
