"""What the rows of a pair say: each method at its own best, on each task and on the mean of the tasks.

Every method has at most `BUDGET` settings. Each half of a task's questions judges the setting that the other half chose
(`statistics.judged`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.setting import Setting
from trainer.evaluation import statistics
from trainer.evaluation.rows import GENERAL, ROUTER, MethodSetting, Results
from trainer.evaluation.statistics import CONFIDENCE, Array, Estimate, Judged, common_settings, judged, task_of

BUDGET = 6

DEFAULT = "router, default"
"""The router at its default setting, on all questions, although it was chosen on them."""

METHODS = {
    "slm": "SLM alone",
    "llm": "LLM alone",
    "router": "router",
    "router, one setting": "router, one setting for all tasks",
    DEFAULT: "router, default setting",
    "confidence": "SLM confidence",
    "confidence, one setting": "SLM confidence, one setting for all tasks",
    "speculative": "speculative decoding",
    "no-rollouts": "router without rollouts",
    "shortcut": "CITER without rollouts",
    "co-llm": "Co-LLM style",
    "query": "query router",
    "random": "random",
}
"""The compared methods and their names for people, in the order of the tables."""

ONE_SETTING = {method: f"{method}, one setting" for method in (ROUTER, CONFIDENCE)}
"""A method at the one setting that is best over all tasks; it is chosen and judged by halves, too."""

PLAIN = " at acceptance 0"
"""The end of a name that stands for a method's settings with acceptance 0 alone."""

ABLATIONS = {
    "acceptance, for the router": ("router", "router" + PLAIN),
    "acceptance, for SLM confidence": ("confidence", "confidence" + PLAIN),
    "rollouts": ("router", "no-rollouts"),
    "rollouts, at acceptance 0": ("router-own" + PLAIN, "shortcut" + PLAIN),
    "the router instead of chance": ("router", "random"),
}
"""For each thing that is tested, the method with it and the method without it."""

ALL = "mean of the tasks"
"""The name of the mean of the tasks, in which each counts alike; general prompts are left out."""


class Compared(NamedTuple):
    """A method less another on the same questions: their right answers, and the ratio of their bytes."""

    right: Estimate
    bytes: Estimate


class Timed(NamedTuple):
    """A setting whose answers to some questions were written alone on an idle machine.

    `right` is over all questions, `seconds` a share of the LLM's on the timed ones.
    """

    method: str
    setting: str
    right: Estimate
    questions: int
    seconds: Estimate


@dataclass(frozen=True)
class Summary:
    """What was measured of a pair.

    Attributes:
        pair: Its name.
        questions: How many each task has.
        samples: By task and method the share of right answers and the bytes as a share of the LLM's, on the questions
            as they are and in each resample: [2, 1 + resamples].
        settings: By task and method the settings at which the first half of the questions was answered, and the second.
        timed: By task.
    """

    pair: str
    questions: dict[str, int]
    samples: dict[tuple[str, str], Array]
    settings: dict[tuple[str, str], tuple[str, str]]
    timed: dict[str, list[Timed]]

    @property
    def tasks(self) -> list[str]:
        """The tasks with right answers, the mean of them first if there are several."""
        graded = self._graded
        return [ALL, *graded] if len(graded) > 1 else graded

    def methods(self, task: str) -> list[str]:
        return [name for name in METHODS if self.has(task, name)]

    def has(self, task: str, name: str) -> bool:
        return all((each, name) in self.samples for each in self._of(task))

    def count(self, task: str) -> int:
        return sum(self.questions[each] for each in self._of(task))

    def measured(self, task: str, name: str) -> tuple[Estimate, Estimate]:
        right, size = self._mean(task, name)
        return statistics.estimate(right), statistics.estimate(size)

    def compared(self, task: str, one: str, other: str) -> Compared | None:
        """A method less another on a task; None unless both were measured there."""
        if not (self.has(task, one) and self.has(task, other)):
            return None
        (right, size), (other_right, other_size) = self._mean(task, one), self._mean(task, other)
        return Compared(statistics.estimate(right - other_right), statistics.estimate(size / other_size))

    def as_json(self) -> dict[str, Any]:
        """The estimates, with numbers of four digits: far below any interval here."""
        tasks = [*self.tasks, *(name for name in self.questions if name == GENERAL)]
        return {"pair": self.pair, "tasks": {task: self._task_as_json(task) for task in tasks}}

    @property
    def _graded(self) -> list[str]:
        return [name for name in self.questions if name != GENERAL]

    def _mean(self, task: str, name: str) -> Array:
        return np.mean([self.samples[each, name] for each in self._of(task)], axis=0)

    def _of(self, task: str) -> list[str]:
        return self._graded if task == ALL else [task]

    def _task_as_json(self, task: str) -> dict[str, Any]:
        methods = {}
        for name in self.methods(task):
            right, size = self.measured(task, name)
            methods[name] = {"settings": self.settings.get((task, name), ()), "right": right, "bytes": size}
        ablations = {name: each for name, pair in ABLATIONS.items() if (each := self.compared(task, *pair))}
        timed = [each._asdict() for each in self.timed.get(task, [])]
        brought = {name: each._asdict() for name, each in ablations.items()}
        return _rounded({"questions": self.count(task), "methods": methods, "ablations": brought, "timed": timed})


def summarise(results: dict[str, Results], shipped: Setting | None = None) -> Summary:
    """Summarises the rows of a pair's tasks, given by the task's name; `shipped` is where the page starts."""
    found = Summary(next(iter(results.values())).about.pair, {}, {}, {}, {})

    def add(task: str, name: str, judged: Judged, settings: Sequence[str]) -> None:
        each, counts = results[task], _draws(results[task])
        right = counts @ judged.right / counts.sum(axis=1)
        size = counts @ judged.bytes / (counts @ each.bytes[each.of("llm")[0]])
        found.samples[task, name] = np.stack([right, size])
        found.settings[task, name] = settings[judged.chosen[0]], settings[judged.chosen[1]]

    contenders = dict.fromkeys([*METHODS, *(name for pair in ABLATIONS.values() for name in pair)])
    for task, each in results.items():
        found.questions[task] = len(each.questions)
        found.timed[task] = _timed(each)
        for name in contenders:
            if own := _settings_of(each, name):
                (chosen,) = judged([task_of(each, name.removesuffix(PLAIN), own)])
                add(task, name, chosen, own)
        if (at := MethodSetting(ROUTER, str(shipped))) in each.settings:
            number = each.settings.index(at)
            add(task, DEFAULT, Judged((0, 0), each.right[number], each.bytes[number]), [at.setting])
    graded = [name for name in results if name != GENERAL]
    for method, name in ONE_SETTING.items() if len(graded) > 1 else ():
        if common := common_settings([results[task] for task in graded], method):
            tasks = [task_of(results[task], method, common) for task in graded]
            for task, each in zip(graded, judged(tasks), strict=True):
                add(task, name, each, common)
    return found


def _draws(results: Results) -> Array:
    return statistics.draws(len(results.questions), seed=zlib.crc32(results.about.task.encode()))


def _settings_of(results: Results, name: str) -> list[str]:
    """At most `BUDGET` settings of a method, whose name may end in `PLAIN`."""
    own = results.numbers(name.removesuffix(PLAIN))
    if name.endswith(PLAIN):
        own = [n for n in own if not Setting.parse(results.settings[n].setting).acceptance]
    spread = statistics.spread(results.bytes[own], BUDGET) if own else []
    return [results.settings[own[n]].setting for n in spread]


def _timed(results: Results) -> list[Timed]:
    llm, counts, found = results.of("llm")[0], _draws(results), []
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
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
