"""One setting of a method for several tasks: which were measured on each, and which is best over all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.setting import Setting
from trainer.evaluation import statistics
from trainer.evaluation.rows import MethodSetting, Results
from trainer.evaluation.statistics import Half, Judged

RULE = "confidence"
"""SLM confidence: it needs no training, so a router has to be better."""


def common_settings(results: Sequence[Results], method: str) -> list[str]:
    """The settings of a method that were measured on every task, in the order of the first."""
    return [
        each.setting
        for each in results[0].settings
        if each.method == method and all(each in task.settings for task in results)
    ]


def best_for_all(results: Sequence[Results], method: str, settings: Sequence[str], halves: Sequence[Half]) -> int:
    """The number of the setting that recovers enough of the gap for the fewest bytes, each task counting alike.

    Args:
        method: Whose settings they are.
        settings: Of `common_settings`.
        halves: The questions of each task that have a say [questions].
    """
    rights, sizes, enough = [], [], []
    for task, half in zip(results, halves, strict=True):
        own = [task.settings.index(MethodSetting(method, setting)) for setting in settings]
        slm, llm = (task.of(each)[0] for each in ("slm", "llm"))
        rights.append(task.right[own][:, half].mean(axis=1))
        sizes.append(task.bytes[own][:, half].mean(axis=1) / task.bytes[llm][half].mean())
        enough.append(statistics.wanted(task.right[slm][half], task.right[llm][half]))
    right, size = (np.mean(each, axis=0)[:, None] for each in (rights, sizes))
    return statistics.cheapest(right, size, float(np.mean(enough)))


def judged_at_one(results: Sequence[Results], method: str) -> list[Judged]:
    """A method at one setting for all tasks, which half of the questions chose for the other half; by task.

    Empty where no setting was measured on all of them. `chosen` are numbers of the task's settings.
    """
    if not (settings := common_settings(results, method)):
        return []
    firsts = [statistics.first_half(each.questions) for each in results]
    chosen = [best_for_all(results, method, settings, halves) for halves in ([~each for each in firsts], firsts)]
    found = []
    for task, first in zip(results, firsts, strict=True):
        one, other = (task.settings.index(MethodSetting(method, settings[n])) for n in chosen)
        right, size = (np.where(first, each[one], each[other]) for each in (task.right, task.bytes))
        found.append(Judged((one, other), right, size))
    return found


def is_worse_than_rule(results: Results, method: str, setting: str) -> bool:
    """Whether a setting is significantly worse than what SLM confidence at acceptance 0 has for as many bytes."""
    rule = [n for n in results.numbers(RULE) if not Setting.parse(results.settings[n].setting).acceptance]
    if not rule:
        return False
    counts = statistics.draws(len(results.questions))
    own = results.settings.index(MethodSetting(method, setting))
    points = [*rule, results.of("slm")[0], results.of("llm")[0]]
    right, size = (counts @ each[own] / len(results.questions) for each in (results.right, results.bytes))
    rights, sizes = (each[points] @ counts.T / len(results.questions) for each in (results.right, results.bytes))
    difference = right - statistics.right_for(rights, sizes, size)
    there = np.isfinite(difference)
    return bool(there[0]) and statistics.estimate(difference[there]).below
