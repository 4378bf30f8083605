"""The tables of a summary, in Markdown, and the panels of its charts."""

from __future__ import annotations

from engine.bench.markdown import table
from engine.setting import Setting
from trainer.evaluation.rows import GENERAL, ROUTER
from trainer.evaluation.statistics import Estimate
from trainer.report.chart import Mark, Panel
from trainer.report.summary import METHODS, START, Compared, Measured, Task

Tasks = dict[str, Task]

TITLES = {
    "csqa": "CommonsenseQA",
    "arc-challenge": "ARC-Challenge",
    "mmlu-psychology": "MMLU psychology",
    "gsm8k": "GSM8K",
    "math": "MATH",
}
"""What people call a task; any other is called by its name."""

_MAIN = ("llm", START, "confidence", "speculative", "random")
_SHORT = {
    "slm": "SLM",
    "llm": "LLM",
    START: "one setting",
    "confidence": "confidence",
    "speculative": "speculative",
    "shortcut": "no rollouts",
    "co-llm": "Co-LLM",
    "query": "query",
}
"""Names beside the marks of a chart, where they are not those of `METHODS`."""


def main_table(tasks: Tasks) -> str:
    """Right answers and bytes of each method: on the mean of the tasks, and on each."""
    shown = _graded(tasks)
    there = [name for name in METHODS if any(name in task.methods for task in shown.values())]
    rows = [[METHODS[name], *(_judged(task.methods.get(name)) for task in shown.values())] for name in there]
    return table(["method", *(f"{_title(name)} ({task.questions})" for name, task in shown.items())], rows)


def short_table(tasks: Tasks) -> str:
    """The main methods on the mean of the tasks (or the only one): right answers, and bytes."""
    methods = next(iter(_graded(tasks).values())).methods
    rows = [
        [METHODS[name], _share(methods[name].right), _share(methods[name].bytes)] for name in _MAIN if name in methods
    ]
    return table(["", "right answers", "bytes of the LLM's"], rows)


def differences_table(tasks: Tasks) -> str:
    """The router less each other method, on the mean of the tasks (or the only one)."""
    methods = next(iter(_graded(tasks).values())).methods
    head = ["less, or of", *(f"{METHODS[name]}: {what}" for name in (ROUTER, START) for what in ("right", "bytes"))]
    rows = [
        [METHODS[name], *(cell for ours in (ROUTER, START) for cell in _compared(each.routers.get(ours)))]
        for name, each in methods.items()
        if name not in (ROUTER, START)
    ]
    return table(head, rows)


def ablations_table(tasks: Tasks) -> str:
    """What acceptance, rollouts and a score bring: points of right answers, and bytes with it / without it."""
    shown = _graded(tasks)
    names = list(dict.fromkeys(name for task in shown.values() for name in task.ablations))
    cells = [[name, *("<br>".join(_compared(task.ablations.get(name))) for task in shown.values())] for name in names]
    return table(["what it brings", *map(_title, shown)], cells)


def seconds_table(tasks: Tasks) -> str:
    """Measured seconds of an answer at each setting that was timed, as a share of the LLM's alone."""
    timed = {name: task for name, task in _graded(tasks).items() if task.timed}

    def cell(method: str, task: Task) -> str:
        own = (each for each in task.timed if each.method == method)
        return "<br>".join(f"{_share(each.seconds)} at `{short(each.setting)}`" for each in own) or "–"

    there = [name for name in METHODS if any(each.method == name for task in timed.values() for each in task.timed)]
    rows = [[METHODS[name], *(cell(name, task) for task in timed.values())] for name in there if name != "llm"]
    return table(["seconds of the LLM's", *map(_title, timed)], rows)


def general_table(tasks: Tasks) -> str:
    """How much of the LLM's own text each method gives on general prompts."""
    methods = tasks[GENERAL].methods if GENERAL in tasks else {}
    rows = [
        [METHODS[name], f"`{short(each.settings[0])}`", _share(each.right), _share(each.bytes)]
        for name, each in methods.items()
    ]
    return table(["method", "setting", "of the LLM's text", "bytes"], rows)


def bytes_panels(tasks: Tasks) -> list[Panel]:
    """Right answers over bytes: each method as it was judged, and where the page starts."""
    return [
        Panel(
            _title(name),
            [
                Mark(_short(method), each.right, each.bytes.value, ours=method in (ROUTER, START))
                for method, each in task.methods.items()
            ]
            + ([Mark("shipped", task.shipped.right, task.shipped.bytes.value, True, True)] if task.shipped else []),
        )
        for name, task in _graded(tasks).items()
    ]


def seconds_panels(tasks: Tasks, shipped: Setting | None) -> list[Panel]:
    """Right answers over measured seconds: every setting that was timed."""
    return [
        Panel(
            _title(name),
            [
                Mark(
                    "shipped"
                    if (ringed := each.method == ROUTER and each.setting == str(shipped))
                    else _short(each.method),
                    each.right,
                    each.seconds.value,
                    each.method == ROUTER,
                    ringed,
                )
                for each in task.timed
            ],
        )
        for name, task in _graded(tasks).items()
        if task.timed
    ]


def short(setting: str) -> str:
    """A setting with its threshold in three digits."""
    whole = Setting.parse(setting)
    return (
        setting
        if whole.policy in ("slm", "llm")
        else setting.replace(f"< {whole.threshold!r}".removesuffix(".0"), f"< {whole.threshold:.3g}", 1)
    )


def _graded(tasks: Tasks) -> Tasks:
    return {name: task for name, task in tasks.items() if name != GENERAL}


def _title(task: str) -> str:
    return TITLES.get(task, task)


def _short(method: str) -> str:
    return _SHORT.get(method, METHODS[method])


def _judged(each: Measured | None) -> str:
    return f"{_share(each.right)}<br>for {_share(each.bytes)}" if each else "–"


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
