"""A whole run: every row once a round, and the summary of it. What slows the machine slows all rows of a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from engine.benchmark.agreement import compare
from engine.benchmark.measure import EXTRAS, Bandwidth, Plan, about, ratios, seconds_of, spread
from engine.benchmark.rows import BASELINE, ROWS, TableRow, available, bytes_to_move
from engine.benchmark.subject import Subject, prompt_of
from engine.benchmark.writers import Writer, router_of
from engine.errors import EngineError
from engine.events import Role

NAMES = (*(row.name for row in ROWS), *(extra.name for extra in EXTRAS))
"""What `--only` knows."""

WARM = 8
"""Tokens of the runs before the first round: enough to pack weights and to compile what is compiled."""

Json = dict[str, Any]


@dataclass
class Timings:
    """What the rounds gave for one row.

    Attributes:
        seconds: Of each run.
        begun: Seconds of a run of the same prompts that stops after the first token.
        first: Seconds to the first token, by the prompt's length.
        texts: The last run's.
    """

    seconds: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    first: dict[int, list[float]] = field(default_factory=dict)
    texts: list[list[int]] = field(default_factory=list)


def run(subject: Subject, plan: Plan, only: Sequence[str], report: Callable[[str], None]) -> Json:
    """Measures the table.

    Args:
        only: Names of rows and extras; all if empty. Ratios are to `generate` of the LLM, where that is measured.

    Returns:
        The summary: `machine`, `plan`, `models`, `rows`, `extras`, `agreement`, `skipped`. Texts longer than
        the models take are an EngineError.
    """
    pair = subject.pair
    if pair.context < plan.longest:
        raise EngineError(
            f"The longest text has {plan.longest:,} tokens, and the pair takes {pair.context:,}: "
            "lower --first, --context, --prompt or --tokens."
        )
    wanted = [row for row in ROWS if not only or row.name in only]
    skipped = {row.title: reason for row in wanted if (reason := available(row, subject))}
    rows = [row for row in wanted if row.title not in skipped]
    extras = {extra: [] for extra in EXTRAS if not only or extra.name in only}
    bandwidth = Bandwidth(subject.device)
    writers = {row.name: row.writer(subject) for row in rows}
    timings = {row.name: Timings() for row in rows}
    for row in rows:
        report(f"warming up: {row.name}")
        writers[row.name](_prompts(subject, row, plan.prompt), min(WARM, plan.tokens))
    for number in range(plan.rounds):
        bandwidth.measure()
        for row in rows:
            report(f"round {number + 1} of {plan.rounds}: {row.name}")
            _measure(subject, row, writers[row.name], plan, timings[row.name])
        for extra, rounds in extras.items():
            report(f"round {number + 1} of {plan.rounds}: {extra.name}")
            rounds.append(extra.measure(subject, plan))
    summary = about(subject)
    summary["machine"]["bandwidth"] = spread(bandwidth.rounds)
    return summary | {
        "plan": asdict(plan),
        "models": {"slm": asdict(pair.slm_cost), "llm": asdict(pair.llm_cost)},
        "rows": [_summarise(subject, row, timings[row.name], plan, bandwidth, timings.get(BASELINE)) for row in rows],
        "extras": {extra.name: extra.summary(subject, plan, rounds) for extra, rounds in extras.items()},
        "agreement": _agreement(subject, plan, timings),
        "skipped": skipped,
    }


def _measure(subject: Subject, row: TableRow, write: Writer, plan: Plan, into: Timings) -> None:
    """One round of a row."""
    prompts = _prompts(subject, row, plan.prompt)

    def timed(prompts: Sequence[Sequence[int]], tokens: int) -> float:
        def whole() -> None:
            into.texts = write(prompts, tokens)

        seconds = seconds_of(whole, subject.device)
        assert [len(text) for text in into.texts] == [tokens] * row.batch, row.name
        return seconds

    for length in plan.first if row.first_token else ():
        prompt = prompt_of(subject.pair.tokenizer, length)
        into.first.setdefault(length, []).append(timed([prompt], 1))
    into.begun.append(timed(prompts, 1))
    into.seconds.append(timed(prompts, plan.tokens))


def _prompts(subject: Subject, row: TableRow, length: int) -> list[list[int]]:
    return [prompt_of(subject.pair.tokenizer, length, number) for number in range(row.batch)]


def _summarise(
    subject: Subject, row: TableRow, timings: Timings, plan: Plan, bandwidth: Bandwidth, baseline: Timings | None
) -> Json:
    """A row of the JSON: figures with their spread, and what follows from them."""
    written = plan.tokens * row.batch
    rates = [written / seconds for seconds in timings.seconds]
    after = [(written - row.batch) / (s - b) for s, b in zip(timings.seconds, timings.begun, strict=True) if s > b]
    roles = [row.roles(plan.tokens, seed) for seed in range(row.batch)]
    bound = None
    if row.bounded:
        router = router_of(subject.pair) if row.uses_router else None
        moved = bytes_to_move(subject.pair.slm_cost, subject.pair.llm_cost, plan.prompt, roles, router)
        bound = [written * per_second / moved for per_second in bandwidth.rounds]
    return {
        "name": row.name,
        "title": row.title,
        "batch": row.batch,
        "llm_share": sum(role is Role.LLM for role in roles[0]) / plan.tokens,
        "tokens_per_second": spread(rates),
        "tokens_per_second_after_first": spread(after) if after else None,
        "ratio": ratios(rates, [plan.tokens / seconds for seconds in baseline.seconds]) if baseline else None,
        "bound_tokens_per_second": median(bound) if bound else None,
        "share_of_bound": ratios(rates, bound) if bound else None,
        "first_token_seconds": {str(length): spread(seconds) for length, seconds in timings.first.items()},
    }


def _agreement(subject: Subject, plan: Plan, timings: dict[str, Timings]) -> Json:
    """Compares the last round's texts of the engine and of `generate`, where both were measured."""
    prompt = prompt_of(subject.pair.tokenizer, plan.prompt)
    agreement = {}
    for role in Role:
        ours, theirs = timings.get(f"engine-{role.value}"), timings.get(f"generate-{role.value}")
        if ours and theirs:
            title = f"{role.value.upper()} only"
            agreement[title] = compare(subject.plain(role), prompt, ours.texts[0], theirs.texts[0])
    return agreement
