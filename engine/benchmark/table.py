"""A whole run: every row once a round, and the summary of it, with the bars that were met and missed.

What slows the machine slows all rows of a round. The bars are targets that this project sets itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch

from engine.benchmark.agreement import compare
from engine.benchmark.measure import EXTRAS, Bandwidth, PeakMemory, Plan, about, ratios, seconds_of, spread
from engine.benchmark.rows import BASELINE, ROWS, TableRow, available, bytes_to_move, cache_bytes
from engine.benchmark.subject import OWN, Subject, prompt_of
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
        peak: Bytes that each run took above weights and caches.
        first_peak: The same for the first token after the last of the plan's lengths.
        texts: The last run's.
    """

    seconds: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    first: dict[int, list[float]] = field(default_factory=dict)
    peak: list[int] = field(default_factory=list)
    first_peak: list[int] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)


def run(subject: Subject, plan: Plan, only: Sequence[str], report: Callable[[str], None]) -> Json:
    """Measures the table.

    Args:
        only: Names of rows and extras; all if empty. Ratios are to `generate` of the LLM, where that is measured.

    Returns:
        The summary: `machine`, `plan`, `models`, `rows`, `extras`, `agreement`, `skipped`, `bars`. Texts longer
        than the models take are an EngineError.
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
    summary |= {
        "plan": asdict(plan),
        "models": {"slm": asdict(pair.slm_cost), "llm": asdict(pair.llm_cost)},
        "rows": [_summarise(subject, row, timings[row.name], plan, bandwidth, timings.get(BASELINE)) for row in rows],
        "extras": {extra.name: extra.summary(subject, plan, rounds) for extra, rounds in extras.items()},
        "agreement": _agreement(subject, plan, timings),
        "skipped": skipped,
    }
    return {**summary, "bars": judge(summary)}


def _measure(subject: Subject, row: TableRow, write: Writer, plan: Plan, into: Timings) -> None:
    """One round of a row."""
    prompts = _prompts(subject, row, plan.prompt)
    memory = PeakMemory(subject.device)

    def timed(prompts: Sequence[Sequence[int]], tokens: int, peaks: list[int]) -> float:
        def whole() -> None:
            into.texts = write(prompts, tokens)

        memory.start()
        seconds = seconds_of(whole, subject.device)
        taken = memory.stop()
        if taken is not None and row.allocates_in_run:
            caches = cache_bytes(subject.pair.slm_cost, subject.pair.llm_cost, row, len(prompts[0]) + tokens)
            peaks.append(max(0, taken - caches))
        assert [len(text) for text in into.texts] == [tokens] * row.batch, row.name
        return seconds

    for length in plan.first if row.first_token else ():
        prompt = prompt_of(subject.pair.tokenizer, length)
        peaks = into.first_peak if length == plan.first[-1] else []
        into.first.setdefault(length, []).append(timed([prompt], 1, peaks))
    into.begun.append(timed(prompts, 1, []))
    into.seconds.append(timed(prompts, plan.tokens, into.peak))


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
        "peak_bytes": max(timings.peak) if timings.peak else None,
        "first_token_peak_bytes": max(timings.first_peak) if timings.first_peak else None,
        "first_token_seconds": {str(length): spread(seconds) for length, seconds in timings.first.items()},
    }


def _agreement(subject: Subject, plan: Plan, timings: dict[str, Timings]) -> Json:
    """Compares the last round's texts of the engine and of `generate`, where both were measured."""
    prompt = prompt_of(subject.pair.tokenizer, plan.prompt)
    agreement = {}
    for role in Role:
        ours, theirs = timings.get(f"engine-{role.value}"), timings.get(f"generate-own-{role.value}")
        if ours and theirs:
            title = f"{role.value.upper()} only"
            agreement[title] = compare(subject.plain(OWN, role), prompt, ours.texts[0], theirs.texts[0])
    return agreement


@dataclass(frozen=True)
class Bar:
    """A target.

    Attributes:
        title: What is measured; may name figures of the plan.
        wanted: The figure must be at least that, or below it if not `at_least`.
        read: Takes the figure (a spread) from the summary; None where it was not measured.
        unit: "ratio", "share", "bytes" or "seconds".
    """

    title: str
    wanted: float
    at_least: bool
    read: Callable[[Json], Json | None]
    unit: str = "ratio"


def judge(summary: Json, bars: Sequence[Bar] | None = None) -> list[Json]:
    """Whether each bar was met; those meant for this pair and machine if none are given.

    Returns:
        Per bar: `bar`, `wanted`, `at_least`, `unit`, `measured` (a spread, or None), whether it is `met` (None if not
        measured), and by which share of it it is missed (`missed_by`, 0 if met).
    """
    if bars is None:
        bars = GPU_BARS if summary["machine"]["gpu"] else RANDOM_BARS if is_random(summary) else BARS
    verdicts = []
    for bar in bars:
        measured, met, missed_by = bar.read(summary), None, None
        if measured is not None:
            value = measured["median"]
            met = value >= bar.wanted if bar.at_least else value < bar.wanted
            missed_by = 0.0 if met else abs(value / bar.wanted - 1)
        verdicts.append(
            {
                "bar": bar.title.format(**summary["plan"]),
                "wanted": bar.wanted,
                "at_least": bar.at_least,
                "unit": bar.unit,
                "measured": measured,
                "met": met,
                "missed_by": missed_by,
            }
        )
    return verdicts


def is_random(summary: Json) -> bool:
    """Whether the pair's weights are random (`--random-weights`)."""
    return summary["preset"].startswith("random-")


def _row(name: str, figure: str) -> Callable[[Json], Any]:
    return lambda summary: next((row[figure] for row in summary["rows"] if row["name"] == name), None)


def _extra(name: str, figure: str) -> Callable[[Json], Json | None]:
    return lambda summary: summary["extras"].get(name, {}).get(figure)


def faster(row: str, than: str) -> Callable[[Json], Json | None]:
    """Tokens per second of one row over those of another, round by round."""

    def read(summary: Json) -> Json | None:
        over, under = (_row(name, "tokens_per_second")(summary) for name in (row, than))
        return ratios(over["rounds"], under["rounds"]) if over and under else None

    return read


def _best_verified(summary: Json) -> Json | None:
    """The fastest row at acceptance 1 over the LLM alone."""
    names = [row["name"] for row in summary["rows"] if row["name"].startswith("verified-")]
    found = [ratio for name in names if (ratio := faster(name, "engine-llm")(summary))]
    return max(found, key=lambda ratio: ratio["median"], default=None)


def _peak(row: str) -> Callable[[Json], Json | None]:
    def read(summary: Json) -> Json | None:
        peak = _row(row, "peak_bytes")(summary)
        return None if peak is None else dict.fromkeys(("median", "min", "max"), peak)

    return read


_OVERHEAD = _extra("overhead", "share_of_slm_step")
_AT_ONCE = 4.0 if torch.cpu._is_amx_tile_supported() else 2.5  # matrix units make passes of many tokens cheap

BARS = (
    Bar("this engine / `generate`, SLM only", 2.2, True, faster("engine-slm", "generate-slm")),
    Bar("this engine / `generate`, LLM only", 1.9, True, faster("engine-llm", "generate-llm")),
    Bar("routed at 30 % / `generate`, LLM only", 2.2, True, faster("routed-30", "generate-llm")),
    Bar("routed at 20 % / llama.cpp, LLM only", 1.0, True, faster("routed-20", "llama-llm")),
    Bar("routed at 30 % / naive routed loop", 10.0, True, faster("routed-30", "naive-30")),
    Bar("routed at 30 % / assisted generation", 1.3, True, faster("routed-30", "assisted")),
    Bar("acceptance 1, best row / this engine, LLM only", 1.5, True, _best_verified),
    Bar("router, policy, sampling and event, of an SLM step", 0.04, False, _OVERHEAD, "share"),
    Bar("16 texts routed at 30 % / 1 text, tokens per second", _AT_ONCE, True, faster("routed-30x16", "routed-30")),
    Bar("sweep of 21 thresholds / one run at the middle one, time", 3.5, False, _extra("sweep", "ratio")),
    Bar("time per token at {context:,} tokens of context / at {prompt:,}", 1.4, False, _extra("context", "ratio")),
    Bar("peak memory above weights and caches, routed at 30 %", 500e6, False, _peak("routed-30"), "bytes"),
)

RANDOM_BARS = (
    Bar("acceptance 1, best row / this engine, LLM only; agreement of 93 % forced", 2.2, True, _best_verified),
)
"""What pairs of random weights are for: sizes whose weights are not at hand."""

GPU_BARS = (
    Bar("SLM step", 3e-3, False, _extra("overhead", "slm_step_seconds"), "seconds"),
    Bar("LLM only, of its memory bound", 0.5, True, _row("engine-llm", "share_of_bound"), "share"),
)
"""The bars on a GPU, where the rest depends on the card."""
