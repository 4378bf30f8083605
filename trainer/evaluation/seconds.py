"""Seconds of an answer as they pass: one text at a time on an idle machine, prompt included, methods taking turns.

`trainer.evaluation.evaluate` models seconds from the measured pass of each model. This measures them on a few of the
same questions, says how far that model is off, and how many times as fast as the LLM alone a setting is.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from engine.operating_points import MaxDraft, bootstrap_counts
from engine.pair import Pair
from engine.provenance import provenance
from trainer import TrainerError
from trainer.evaluation.estimates import EstimateSummary, digits, estimated
from trainer.evaluation.evaluate import asked_of, begun_with, graded
from trainer.evaluation.method_names import Name, Rate, title_of
from trainer.evaluation.methods import Method, build_methods
from trainer.evaluation.record import GradedAnswer, PointKey, on_one_machine, settings_of
from trainer.evaluation.statistics import Array
from trainer.json_files import AGAIN, read_json, read_lines, write_lines, write_result
from trainer.questions.question import Question
from trainer.shards import Shards

STAGE = "seconds"
RESAMPLES, SEED = 2000, 0
SUFFIX = ".seconds.json"
"""How the file of what was measured is called, beside the summary of the same pair and task."""

ENOUGH = 20
"""Questions: what fewer come to stands with their task alone, since chance would show among all tasks."""


@dataclass(frozen=True)
class TimedAnswer:
    """An answer and how long it took.

    Attributes:
        measured: Seconds from the question to the last token.
        processor: Seconds of all threads of the process in that time.
    """

    answer: GradedAnswer
    measured: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    processor: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TimedPoint(TypedDict):
    """A setting, with means per answer.

    Attributes:
        seconds, modelled: Measured, and modelled from the pass of each model.
        by_question: The measured ones of each answer, in the order of the LLM's; files from before lack them.
        fastest, slowest: Of the measured tokens per second of one answer.
        speedup: How many times as fast as the LLM alone, over all questions.
        bytes_ratio: Bytes of those of the LLM alone.
    """

    method: str
    threshold: float
    acceptance: Rate
    max_draft: MaxDraft
    correct: Rate
    tokens: float
    llm_passes: float
    taken_back: float
    seconds: Annotated[float, Field(gt=0)]
    modelled: float
    by_question: NotRequired[list[Annotated[float, Field(gt=0)]]]
    tokens_per_second: float
    fastest: float
    slowest: float
    speedup: EstimateSummary
    bytes_ratio: EstimateSummary


class SecondsSummary(TypedDict):
    """What was measured of one pair and task, and where."""

    pair: str
    preset: Name
    task: Name
    questions: Annotated[int, Field(ge=1)]
    max_new_tokens: int
    command: str
    revision: str
    hardware: str
    passes: dict[str, dict[str, float]]
    points: list[TimedPoint]


def points_of(asked: Sequence[str], pair: Pair) -> list[Method]:
    """Methods at one threshold each, 0 where none is given; the LLM alone is always the first.

    Raises:
        TrainerError: A threshold is no number, or a method is unknown.
    """
    methods = build_methods(["llm"], pair, None)
    for text in asked:
        for method in build_methods([text], pair, None, chosen={title_of(text): [0.0]}):
            methods += [replace(method, thresholds=(each,)) for each in method.thresholds if method.name != "llm"]
    if len({(each.title, each.thresholds) for each in methods}) < len(methods):
        raise TrainerError(f"{', '.join(asked)}: a point stands there twice")
    if len({(each.name, each.identity) for each in methods}) > len({each.name for each in methods}):
        raise TrainerError(f"{', '.join(asked)}: two routers have one name; give each its own")
    return methods


def measure(
    pair: Pair,
    questions: Sequence[Question],
    methods: Sequence[Method],
    folder: Path,
    task: str,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
) -> SecondsSummary | None:
    """Answers each question by each method, one after the other, into `folder`; resumes where it stopped.

    Args:
        methods: With a threshold each, the LLM alone among them. In which order they take their turns differs from
            question to question.

    Returns:
        What was measured; None while another process still writes.

    Raises:
        TrainerError: The folder holds answers to other questions, or by other methods.
    """

    def make(some: Sequence[Question], path: Path) -> None:
        write_lines(
            path, (asdict(each) for question in some for each in _timed(pair, question, methods, max_new_tokens))
        )

    costs = {"slm": pair.slm_cost, "llm": pair.llm_cost}
    # Of one copy of the weights alone: another writes other texts, in other seconds.
    settings = {**begun_with(pair, methods, task, max_new_tokens), "weights_copy": "none"}
    passes = {role: {str(n): digits(seconds) for n, seconds in cost.pass_table} for role, cost in costs.items()}
    shards = Shards(folder, STAGE, 1, ".jsonl")
    if not shards.run(settings, questions, make, report, notes=provenance("trainer") | {"passes": passes}):
        return None
    return summarised(folder)


def _timed(pair: Pair, question: Question, methods: Sequence[Method], max_new_tokens: int) -> Iterator[TimedAnswer]:
    first = zlib.crc32(question.id.encode()) % len(methods)
    for method in (*methods[first:], *methods[:first]):
        (threshold,) = method.thresholds
        started, processor = time.perf_counter(), time.process_time()
        decoding = pair.start([asked_of(question, method, threshold, max_new_tokens)], [method.policy])
        decoding.finish()
        measured, spent = time.perf_counter() - started, time.process_time() - processor
        answer = graded(pair, question, method, threshold, decoding.rows[0])
        yield TimedAnswer(answer, round(measured, 4), round(spent, 4))


def summarised(folder: Path) -> SecondsSummary:
    """What the answers of a folder come to, in the order in which methods were asked for."""
    paths, about = Shards(folder, STAGE, 1, ".jsonl").load()
    by_point: dict[PointKey, list[TimedAnswer]] = {}
    for each in read_lines(paths, TimedAnswer):
        by_point.setdefault(each.answer.setting, []).append(each)
    llm = next(answers for key, answers in by_point.items() if key.method == "llm")
    counts = bootstrap_counts(len(llm), RESAMPLES, SEED)
    points = [_point(by_point[key], llm, counts) for key in settings_of(about)]
    copied = ("pair", "preset", "task", "max_new_tokens", "command", "revision", "hardware", "passes")
    return SecondsSummary(questions=len(llm), points=points, **{name: about[name] for name in copied})


def _point(answers: Sequence[TimedAnswer], llm: Sequence[TimedAnswer], counts: Array) -> TimedPoint:
    by_question = {each.answer.question: each for each in answers}
    own = [by_question[each.answer.question] for each in llm]
    first = own[0].answer

    def column(of: Sequence[TimedAnswer], name: str) -> Array:
        return np.array([getattr(each.answer, name) for each in of], dtype=np.float64)

    def mean(name: str) -> float:
        return digits(float(column(own, name).mean()))

    seconds, llm_seconds = (np.array([each.measured for each in of]) for of in (own, llm))
    rates = column(own, "tokens") / seconds
    drawn = [counts @ each for each in (llm_seconds, seconds, column(own, "bytes"), column(llm, "bytes"))]
    return TimedPoint(
        method=first.method,
        threshold=first.threshold,
        acceptance=first.acceptance,
        max_draft=first.max_draft,
        correct=mean("correct"),
        tokens=mean("tokens"),
        llm_passes=mean("llm_passes"),
        taken_back=mean("taken_back"),
        seconds=digits(float(seconds.mean())),
        modelled=mean("seconds"),
        by_question=seconds.tolist(),
        tokens_per_second=digits(float(column(own, "tokens").sum() / seconds.sum())),
        fastest=digits(float(rates.max())),
        slowest=digits(float(rates.min())),
        speedup=estimated(drawn[0] / drawn[1]),
        bytes_ratio=estimated(drawn[2] / drawn[3]),
    )


def seconds_ratio(ours: TimedPoint, theirs: TimedPoint) -> EstimateSummary:
    """Seconds of a setting / those of another on the same questions; without an interval where not each is known."""
    columns = [np.array(each.get("by_question", ())) for each in (ours, theirs)]
    if len(columns[0]) != len(columns[1]) or not len(columns[0]):
        value = digits(ours["seconds"] / theirs["seconds"])
        return {"value": value, "low": None, "high": None, "unreached": 0.0, "p_value": None}
    counts = bootstrap_counts(len(columns[0]), RESAMPLES, SEED)
    return estimated((counts @ columns[0]) / (counts @ columns[1]))


def llm_alone(summary: SecondsSummary) -> TimedPoint:
    """The LLM alone, which `measure` has among its methods."""
    return next(point for point in summary["points"] if point["method"] == "llm")


def is_comparable(summary: SecondsSummary) -> bool:
    """Whether enough questions were timed, and all on one machine."""
    return summary["questions"] >= ENOUGH and on_one_machine(summary)


def share_of_llm(point: TimedPoint) -> tuple[float, float, float]:
    """A setting's seconds / those of the LLM alone, with their bounds; a bound that is not known is the share."""
    times, slowest, fastest = (point["speedup"][end] for end in ("value", "low", "high"))  # as fast as the LLM alone
    share = 1 / (times or 1)
    return share, 1 / fastest if fastest else share, 1 / slowest if slowest else share


def write_seconds(summary: SecondsSummary, results: Path) -> Path:
    """Writes what was measured to `<preset>--<task>.seconds.json` among the results."""
    return write_result(results, f"{summary['preset']}--{summary['task']}{SUFFIX}", summary)


def load_seconds(preset: str, task: str, results: Path) -> SecondsSummary | None:
    """What `write_seconds` wrote of a pair and a task; None where nothing was timed."""
    path = results / f"{preset}--{task}{SUFFIX}"
    return read_json(path, SecondsSummary, AGAIN) if path.exists() else None
