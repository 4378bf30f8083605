"""Settings of a method on several tasks: which were measured on each, and how they stand beside SLM confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.setting import Setting
from trainer.evaluation import statistics
from trainer.evaluation.rows import MethodSetting, Results
from trainer.evaluation.statistics import Task

RULE = "confidence"
"""SLM confidence: it needs no training, so a router has to be better."""


def common_settings(results: Sequence[Results], method: str) -> list[str]:
    """The settings of a method that were measured on every task, in the order of the first."""
    return [
        each.setting
        for each in results[0].settings
        if each.method == method and all(each in task.settings for task in results)
    ]


def task_of(results: Results, method: str, settings: Sequence[str]) -> Task:
    own = [results.settings.index(MethodSetting(method, setting)) for setting in settings]
    slm, llm = (results.of(each)[0] for each in ("slm", "llm"))
    first = statistics.first_half(results.questions)
    return Task(
        results.right[own], results.bytes[own], results.right[slm], results.right[llm], results.bytes[llm], first
    )


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
