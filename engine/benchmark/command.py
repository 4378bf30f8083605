"""A whole run: load, measure, judge, and say it as a dictionary for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from engine.benchmark.agreement import compare
from engine.benchmark.bars import judge
from engine.benchmark.extras import EXTRAS
from engine.benchmark.machine import Bandwidth, hardware, provenance, versions
from engine.benchmark.measure import Measured, Plan, measure_rows, spread, summarise
from engine.benchmark.prompts import prompt_of
from engine.benchmark.rows import BASELINE, ROWS, available
from engine.benchmark.subject import OWN, Subject
from engine.errors import EngineError
from engine.events import Role

NAMES = (*(row.name for row in ROWS), *(extra.name for extra in EXTRAS))
"""What `--only` knows."""


def run(subject: Subject, plan: Plan, only: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Measures the table.

    Args:
        subject: The pair.
        plan: How much.
        only: Names of rows and extras; all if empty. `generate` of the LLM is measured in any case: ratios are to it.
        tell: Told of progress.

    Returns:
        The summary: `machine`, `plan`, `models`, `rows`, `extras`, `agreement`, `skipped`, `bars`.

    Raises:
        EngineError: The models do not take texts that long.
    """
    if subject.pair.context < plan.longest:
        raise EngineError(
            f"The longest text has {plan.longest:,} tokens, and the pair takes {subject.pair.context:,}: "
            "lower --first, --context, --prompt or --tokens."
        )
    wanted = [row for row in ROWS if not only or row.name in (*only, BASELINE)]
    skipped = {row.title: reason for row in wanted if (reason := available(row, subject))}
    rows = [row for row in wanted if row.title not in skipped]
    extras = [extra(subject, plan) for extra in EXTRAS if not only or extra.name in only]
    bandwidth = Bandwidth(subject.device)
    found = measure_rows(subject, rows, plan, bandwidth, extras, tell)
    pair = subject.pair
    summary: dict[str, Any] = {
        "preset": subject.name,
        "pair": f"{pair.slm_name} ⇄ {pair.llm_name} · {pair.quantisation}",
        **provenance(),
        "machine": {**hardware(), "versions": versions(), "bandwidth": spread(bandwidth.rounds)},
        "plan": asdict(plan),
        "models": {"slm": asdict(pair.slm_cost), "llm": asdict(pair.llm_cost)},
        "rows": [summarise(subject, row, found[row.name], plan, bandwidth, found.get(BASELINE)) for row in rows],
        "extras": {extra.name: extra.summary() for extra in extras},
        "agreement": _agreement(subject, plan, found),
        "skipped": skipped,
    }
    return {**summary, "bars": judge(summary)}


def _agreement(subject: Subject, plan: Plan, found: dict[str, Measured]) -> dict[str, Any]:
    """Compares the last round's texts of the engine and of `generate`, where both were measured."""
    prompt = prompt_of(subject.pair.tokenizer, plan.prompt)
    agreement = {}
    for role in Role:
        ours, theirs = found.get(f"engine-{role.value}"), found.get(f"generate-own-{role.value}")
        if ours and theirs:
            title = f"{role.value.upper()} only"
            agreement[title] = compare(subject.plain(OWN, role), prompt, ours.texts[0], theirs.texts[0])
    return agreement
