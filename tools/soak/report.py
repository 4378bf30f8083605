"""All that came out of one rehearsal (`tools/soak`), and the page about it."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from engine.bench.markdown import code
from engine.provenance import hardware, revision
from tools.soak.tally import (
    GROWTH,
    HOUR,
    REFUSED,
    SHORT_GROWTH,
    SLOWER,
    Sample,
    Tally,
    counts_table,
    growth,
    judged,
    samples_table,
    times_table,
)


@dataclass
class Rehearsal:
    """All that came out of one."""

    seconds: float
    without: Tally
    with_attackers: Tally
    attacks: Tally
    after: Tally
    disk: Tally
    samples: list[Sample]
    mutations: dict[str, Counter[str]]

    @cached_property
    def limits(self) -> tuple[Tally, list[str]]:
        """What is judged of the whole, and what could not be judged."""
        parts = {"without attackers": self.without, "with attackers": self.with_attackers}
        return judged(parts, self.samples, self.seconds)

    @property
    def losses(self) -> int:
        """Everything that was lost."""
        parts = (self.without, self.with_attackers, self.attacks, self.after, self.disk, self.limits[0])
        return sum(part.losses for part in parts) + sum(failures(counts) for counts in self.mutations.values())


def _example(first: str | None) -> str:
    return f" (first: {first})" if first and any(each.isdigit() for each in first) else ""


def failures(counts: Counter[str]) -> int:
    return sum(number for what, number in counts.items() if what != "tried")


def _mutations(found: dict[str, Counter[str]]) -> str:
    tried, failed = sum(counts["tried"] for counts in found.values()), sum(map(failures, found.values()))
    return (
        f"{tried:,} damaged files, answers and fields of {len(found)} kinds were read; {failed} of them crashed "
        "something or were silently accepted."
    )


def report(options: argparse.Namespace, rehearsal: Rehearsal, arguments: list[str], brief: bool) -> str:
    """The tables as Markdown; `brief` sums up what was tried, and leaves out the reasons of refusals."""
    limits, silent = rehearsal.limits
    parts = {
        "honest visitors, without attackers": rehearsal.without,
        "honest visitors, with attackers": rehearsal.with_attackers,
        f"attacks of {len(rehearsal.attacks.rows)} kinds": rehearsal.attacks,
        "checks afterwards": rehearsal.after,
        "kills": rehearsal.disk,
        "bounds": limits,
    }
    each = [(f"{what} ({part})", row) for part, tally in parts.items() for what, row in tally.rows.items()]
    rows = [(part, tally.total) for part, tally in parts.items() if tally.rows] if brief else each
    errors, first = sum((tally.errors for tally in parts.values()), Counter()), {}
    for tally in parts.values():
        first.update(tally.first)
    for name, counts in rehearsal.mutations.items():
        errors.update({f"**lost**: {name}: {what}": n for what, n in counts.items() if what != "tried"})
    if brief:
        errors = Counter({what: n for what, n in errors.items() if what.startswith("**lost**")})
    grown = growth(rehearsal.samples)
    said = f"{rehearsal.seconds / 60:g} minutes with attackers, {rehearsal.seconds / 600:g} before without."
    bound = GROWTH if rehearsal.seconds >= HOUR else SHORT_GROWTH
    if rehearsal.seconds < HOUR:
        said = f"**Not the full hour**, so memory is judged loosely: {said}"
    lines = [
        f"{'Nothing' if not rehearsal.losses else rehearsal.losses} lost. {said} {options.visitors} visitors "
        f"({options.browsers} of them with a browser), {options.programs} programs that ask `/v1`, and "
        f"{options.attackers} attackers.",
        counts_table(rows),
        times_table(rehearsal.without, rehearsal.with_attackers),
        samples_table(rehearsal.samples),
        "Memory when all had left, after the second half against the first: "
        f"{'–' if grown is None else f'{grown:+.1%}'}; {bound:+.0%} is the bound. "
        f"A first token may take {SLOWER:.0f} times as long with attackers, and "
        f"{REFUSED:.0%} of what honest visitors ask for may be refused.",
        "\n".join(f"- Not judged: {each}." for each in silent),
        _mutations(rehearsal.mutations) if rehearsal.mutations else "",
        "\n".join(f"- {number:,} × {what}{_example(first.get(what))}" for what, number in errors.most_common(60)),
        f"{code('python -m tools.soak ' + shlex.join(arguments))}, revision {revision()}, {hardware()}.",
    ]
    return "\n\n".join(line for line in lines if line)
