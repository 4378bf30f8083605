"""What the rows of a pair say, task by task and on their mean: each method at its own best, compared with the router.

Every method has at most `BUDGET` settings. Each half of a task's questions judges the setting that the other half chose
(`statistics.judged`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from engine.setting import Setting
from trainer.evaluation import statistics
from trainer.evaluation.one_setting import judged_at_one
from trainer.evaluation.rows import GENERAL, ROUTER, MethodSetting, Results
from trainer.evaluation.statistics import Array, Estimate, Judged

BUDGET = 6

METHODS = {
    "slm": "SLM alone",
    "llm": "LLM alone",
    "router": "router",
    "router, one setting": "router, one setting for all tasks",
    "confidence": "SLM confidence",
    "speculative": "speculative decoding",
    "shortcut": "CITER without rollouts",
    "co-llm": "Co-LLM style",
    "query": "query router",
    "random": "random",
}
"""Methods that are compared, and what people call them, in the order of the tables."""

START = "router, one setting"
"""The router at the one setting that is best over all tasks; it is chosen and judged by halves, too."""

ALL = "mean of the tasks"
"""Stands beside the tasks: each of them counts alike there, and general prompts are not among them."""


class Family(NamedTuple):
    """Settings of a method among which one is chosen: all of them, or those at acceptance 0."""

    method: str
    plain: bool = False


ABLATIONS: dict[str, tuple[Family, Family]] = {
    "acceptance, for the router": (Family("router"), Family("router", plain=True)),
    "acceptance, for SLM confidence": (Family("confidence"), Family("confidence", plain=True)),
    "rollouts, at acceptance 0": (Family("router-own", plain=True), Family("shortcut", plain=True)),
    "the router instead of chance": (Family("router"), Family("random")),
}
"""What something brings: the method with it, and without it."""


@dataclass(frozen=True)
class Compared:
    """A method less another on the same questions: of their right answers, and its bytes / the other's."""

    right: Estimate
    bytes: Estimate


@dataclass(frozen=True)
class Measured:
    """A method on a task, or on the mean of several.

    Attributes:
        settings: What the first half of the questions is answered at, and the second; () on a mean of tasks.
        right: Share of right answers.
        bytes: Of the LLM's alone.
        routers: `ROUTER` and `START` compared with it, but for itself.
    """

    settings: tuple[str, ...]
    right: Estimate
    bytes: Estimate
    routers: dict[str, Compared]


@dataclass(frozen=True)
class Timed:
    """A setting whose answers were written alone on an idle machine; `right` is over all questions.

    Attributes:
        questions: How many were timed.
        seconds: Of the LLM's alone on these questions.
    """

    method: str
    setting: str
    right: Estimate
    questions: int
    seconds: Estimate


@dataclass(frozen=True)
class Task:
    """What was measured on one task. `shipped` is the router where the page starts, on all questions."""

    questions: int
    methods: dict[str, Measured]
    ablations: dict[str, Compared]
    timed: list[Timed]
    shipped: Measured | None


@dataclass(frozen=True)
class _Part:
    """A method on one task: what it was judged to be, beside the LLM's bytes, in every resample of the questions."""

    judged: Judged
    settings: tuple[str, ...]
    llm: Array
    counts: Array

    @property
    def right(self) -> Array:
        return self.counts @ self.judged.right / self.counts.sum(axis=1)

    @property
    def bytes(self) -> Array:
        return self.counts @ self.judged.bytes / (self.counts @ self.llm)


_Parts = dict[Family, dict[str, _Part]]  # by the family, and then by the task's name


def summarise(results: dict[str, Results], shipped: Setting | None = None) -> dict[str, Task]:
    """What the rows of a pair's tasks say, by the task's name; `shipped` is where the page starts."""
    families = [Family(name) for name in METHODS] + [each for pair in ABLATIONS.values() for each in pair]
    counts = {name: _draws(each) for name, each in results.items()}
    parts: _Parts = {family: {} for family in families}
    for family, own in parts.items():
        for name, each in results.items():
            if members := _members(each, family):
                own[name] = _part(each, members, _chosen(each, members), counts[name])
    graded = [name for name in results if name != GENERAL]
    if len(graded) > 1:
        for name, judged in zip(graded, judged_at_one([results[name] for name in graded], ROUTER), strict=False):
            parts[Family(START)][name] = _part(results[name], None, judged, counts[name])
    found = {ALL: _task(graded, parts, sum(counts[name].shape[1] for name in graded))} if len(graded) > 1 else {}
    for name, each in results.items():
        task = _task([name], parts, len(each.questions))
        at = _at(each, shipped, counts[name]) if shipped is not None else None
        found[name] = replace(task, timed=_timed(each, counts[name]), shipped=at)
    return found


def as_json(pair: str, tasks: dict[str, Task]) -> dict[str, Any]:
    """A summary with numbers of four digits, far below any interval here."""
    return {"pair": pair, "tasks": {name: _rounded(asdict(each)) for name, each in tasks.items()}}


def _draws(results: Results) -> Array:
    return statistics.draws(len(results.questions), seed=zlib.crc32(results.about.task.encode()))


def _task(names: Sequence[str], parts: _Parts, questions: int) -> Task:
    """One task, or the mean of several: what was not measured on all of them is left out."""
    whole = {
        family: [own[name] for name in names] for family, own in parts.items() if all(name in own for name in names)
    }
    routers = {name: whole[Family(name)] for name in (ROUTER, START) if Family(name) in whole}
    methods = {
        name: _measured(whole[Family(name)], {other: own for other, own in routers.items() if other != name})
        for name in METHODS
        if Family(name) in whole
    }
    ablations = {
        name: _compared(whole[one], whole[other])
        for name, (one, other) in ABLATIONS.items()
        if one in whole and other in whole
    }
    return Task(questions, methods, ablations, [], None)


def _measured(parts: Sequence[_Part], ours: dict[str, list[_Part]]) -> Measured:
    settings = parts[0].settings if len(parts) == 1 else ()
    right, size = (np.mean([getattr(each, name) for each in parts], axis=0) for name in ("right", "bytes"))
    routers = {name: _compared(own, parts) for name, own in ours.items()}
    return Measured(settings, statistics.estimate(right), statistics.estimate(size), routers)


def _compared(parts: Sequence[_Part], others: Sequence[_Part]) -> Compared:
    pairs = list(zip(parts, others, strict=True))
    right = np.mean([one.right - other.right for one, other in pairs], axis=0)
    return Compared(
        statistics.estimate(right), statistics.estimate(np.mean([a.bytes / b.bytes for a, b in pairs], axis=0))
    )


def _members(results: Results, family: Family) -> list[int]:
    """The numbers of a family's settings, at most `BUDGET` of them."""
    own = [
        n
        for n in results.numbers(family.method)
        if not (family.plain and Setting.parse(results.settings[n].setting).acceptance)
    ]
    return [own[n] for n in statistics.spread(results.bytes[own], BUDGET)] if own else []


def _chosen(results: Results, own: Sequence[int]) -> Judged:
    slm, llm = (results.right[results.of(each)[0]] for each in ("slm", "llm"))
    first = statistics.first_half(results.questions)
    return statistics.judged(results.right[own], results.bytes[own], slm, llm, first)


def _part(results: Results, own: Sequence[int] | None, judged: Judged, counts: Array) -> _Part:
    """`own` are the numbers of the settings among which one was chosen; None for all."""
    settings = tuple(results.settings[n if own is None else own[n]].setting for n in judged.chosen)
    return _Part(judged, settings, results.bytes[results.of("llm")[0]], counts)


def _at(results: Results, setting: Setting, counts: Array) -> Measured | None:
    """The router at a setting, on all questions; None where it was not measured."""
    if (wanted := MethodSetting(ROUTER, str(setting))) not in results.settings:
        return None
    number = results.settings.index(wanted)
    judged = Judged((number, number), results.right[number], results.bytes[number])
    return _measured([_part(results, None, judged, counts)], {})


def _timed(results: Results, counts: Array) -> list[Timed]:
    llm, found = results.of("llm")[0], []
    for number, (method, setting) in enumerate(results.settings):
        there = ~np.isnan(results.seconds[number]) & ~np.isnan(results.seconds[llm])
        if method in METHODS and there.any():
            own = statistics.draws(int(there.sum()))
            seconds = statistics.ratio(results.seconds[number, there], results.seconds[llm, there], own)
            right = statistics.mean(results.right[number], counts)
            found.append(Timed(method, setting, right, int(there.sum()), seconds))
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
