"""The tables of a summary, in Markdown, and the panels of its charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.bench.markdown import table
from engine.setting import Setting
from trainer.evaluation.rows import GENERAL, ROUTER
from trainer.evaluation.statistics import CONFIDENCE, Estimate
from trainer.report.chart import Mark, Panel
from trainer.report.summary import ABLATIONS, DEFAULT, METHODS, ONE_SETTING, Compared, Summary

TITLES = {
    "csqa": "CommonsenseQA",
    "arc-challenge": "ARC-Challenge",
    "mmlu-psychology": "MMLU psychology",
    "gsm8k": "GSM8K",
    "math": "MATH",
}
"""Names of tasks for people; any other task keeps its name."""

_MAIN = ("slm", "llm", DEFAULT, *ONE_SETTING.values(), "confidence", "speculative", "random")
_OURS = (ROUTER, ONE_SETTING[ROUTER])
_SHORT = {
    "slm": "SLM",
    "llm": "LLM",
    **{name: f"{method}, one" for method, name in ONE_SETTING.items()},
    "confidence": "confidence",
    "speculative": "speculative",
    "no-rollouts": "no rollouts",
    "shortcut": "no rollouts",
    "co-llm": "Co-LLM",
    "query": "query",
    DEFAULT: "default",
}
"""Names beside the marks of a chart, where they are not those of `METHODS`."""


def main_table(summary: Summary, names: Iterable[str] = METHODS, below: Sequence[list[str]] = ()) -> str:
    """Right answers and bytes of each method: on the mean of the tasks, and on each; then the rows `below`."""
    there = [name for name in names if any(summary.has(task, name) for task in summary.tasks)]

    def cell(task: str, name: str) -> str:
        return "<br>for ".join(map(_share, summary.measured(task, name))) if summary.has(task, name) else "–"

    rows = [[METHODS[name], *(cell(task, name) for task in summary.tasks)] for name in there]
    head = ["method", *(f"{_title(task)} ({summary.count(task)})" for task in summary.tasks)]
    return table(head, [*rows, *below])


def short_table(summary: Summary) -> str:
    """The main methods on the mean of the tasks (or the only one): right answers, and bytes."""
    task = summary.tasks[0]
    rows = [[METHODS[name], *map(_share, summary.measured(task, name))] for name in _MAIN if summary.has(task, name)]
    return table(["", "right answers", "share of the LLM's bytes"], rows)


def differences_table(summary: Summary) -> str:
    """The router less each other method, on the mean of the tasks (or the only one)."""
    task = summary.tasks[0]
    head = ["compared with", *(f"{METHODS[name]}: {what}" for name in _OURS for what in ("right", "bytes"))]
    rows = [
        [METHODS[name], *(cell for own in _OURS for cell in _compared(summary.compared(task, own, name)))]
        for name in summary.methods(task)
        if name not in (*_OURS, DEFAULT)
    ]
    return table(head, rows)


def ablations_table(summary: Summary) -> str:
    """What acceptance, rollouts and a score bring: points of right answers, and bytes with it / without it."""
    cells = {name: [summary.compared(task, *pair) for task in summary.tasks] for name, pair in ABLATIONS.items()}
    rows = [[name, *("<br>".join(_compared(each)) for each in found)] for name, found in cells.items() if any(found)]
    return table(["ablation", *map(_title, summary.tasks)], rows)


def rerun_table(summary: Summary) -> str:
    """The default and SLM confidence at one setting, written anew; below them, the first less other methods."""
    pair = DEFAULT, ONE_SETTING[CONFIDENCE]

    def less(name: str) -> list[str]:
        cells = ["<br>".join(_compared(summary.compared(task, DEFAULT, name))) for task in summary.tasks]
        return [f"the router less {METHODS[name].removesuffix(', one setting for all tasks')}", *cells]

    return main_table(summary, ("llm", *pair), [less(name) for name in ("llm", pair[1])])


def seconds_table(summary: Summary) -> str:
    """Measured seconds of an answer at each setting that was timed, as a share of the LLM's alone."""
    timed = {task: each for task, each in summary.timed.items() if each and task != GENERAL}

    def cell(method: str, task: str) -> str:
        own = (each for each in timed[task] if each.method == method)
        return "<br>".join(f"{_share(each.seconds)} at `{short(each.setting)}`" for each in own) or "–"

    there = {each.method for own in timed.values() for each in own} - {"llm"}
    rows = [[METHODS[name], *(cell(name, task) for task in timed)] for name in METHODS if name in there]
    return table(["share of the LLM's seconds", *map(_title, timed)], rows)


def general_table(summary: Summary) -> str:
    """How much of the LLM's own text each method gives on general prompts."""
    methods = summary.methods(GENERAL) if GENERAL in summary.questions else []
    rows = [
        [METHODS[name], f"`{short(summary.settings[GENERAL, name][0])}`", *map(_share, summary.measured(GENERAL, name))]
        for name in methods
    ]
    return table(["method", "setting", "share of the LLM's text", "bytes"], rows)


def bytes_panels(summary: Summary) -> list[Panel]:
    """Right answers over bytes: each method as it was judged, and where the page starts."""
    panels = []
    for task in summary.tasks:
        marks = []
        for name in summary.methods(task):
            right, size = summary.measured(task, name)
            marks.append(Mark(_short(name), right, size.value, name in (*_OURS, DEFAULT), name == DEFAULT))
        panels.append(Panel(_title(task), marks))
    return panels


def seconds_panels(summary: Summary, shipped: Setting | None) -> list[Panel]:
    """Right answers over measured seconds: every setting that was timed."""
    panels = []
    for task, timed in summary.timed.items():
        marks = []
        for each in timed:
            ringed = each.method == ROUTER and each.setting == str(shipped)
            name = _short(DEFAULT if ringed else each.method)
            marks.append(Mark(name, each.right, each.seconds.value, each.method == ROUTER, ringed))
        if marks and task != GENERAL:
            panels.append(Panel(_title(task), marks))
    return panels


def short(setting: str) -> str:
    """A setting with its threshold in three digits."""
    whole = Setting.parse(setting)
    if whole.policy in ("slm", "llm"):
        return setting
    return setting.replace(f"< {whole.threshold!r}".removesuffix(".0"), f"< {whole.threshold:.3g}", 1)


def _title(task: str) -> str:
    return TITLES.get(task, task)


def _short(method: str) -> str:
    return _SHORT.get(method) or METHODS[method]


def _share(each: Estimate) -> str:
    if each.low == each.high:
        return f"{100 * each.value:.0f} %"
    return f"{100 * each.value:.0f} % ({100 * each.low:.0f} to {100 * each.high:.0f})"


def _compared(each: Compared | None) -> list[str]:
    """A difference in points and a ratio; bold where it is significantly better, with an arrow where worse."""
    if each is None:
        return ["–", "–"]
    points = round(100 * each.right.value, 1) + 0.0  # no negative zero
    right = _signed(f"{points:+.1f}", 100 * each.right.low, 100 * each.right.high, ".1f")
    size = _signed(f"{each.bytes.value:.2f}", each.bytes.low, each.bytes.high, ".2f")
    return [_marked(right, each.right.above, each.right.below), _marked(size, each.bytes.high < 1, each.bytes.low > 1)]


def _signed(value: str, low: float, high: float, form: str) -> str:
    return f"{value} ({low:{form}} to {high:{form}})".replace("-", "−")


def _marked(text: str, better: bool, worse: bool) -> str:
    return f"**{text}**" if better else f"{text} ↓" if worse else text
