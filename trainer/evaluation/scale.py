"""What the same answers would cost with models of other sizes: how the gain grows with the size of the LLM.

The texts are those that were measured. Their costs are modelled from what a benchmark says of a pair's passes
(`python -m engine.benchmark --json`, which needs no real weights for it), and from how often each model was read.
Seconds that an evaluation wrote down have no part in it: its stages may have run on different machines. It says nothing
of how often another pair would agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict  # typing's own cannot be validated by pydantic before Python 3.12

from engine.events.cost import ModelCost
from engine.operating_points import Unit
from engine.provenance import hardware
from trainer import TrainerError
from trainer.evaluation import statistics
from trainer.evaluation.estimates import digits
from trainer.evaluation.method_names import Name, spelled_setting
from trainer.evaluation.plane import JUDGED_AT, LEARNED, families_of
from trainer.evaluation.record import Evaluation, Point
from trainer.evaluation.statistics import Array
from trainer.json_files import AGAIN, read_json, write_result

SUFFIX = ".scale.json"
"""How the file of what was modelled is called, after the preset."""

FAMILIES = (LEARNED, "confidence-0", "assisted-tuned")
UNITS: tuple[Unit, ...] = ("bytes", "seconds")


class ScaledPair(TypedDict):
    """What a benchmark says of a pair, and on which machine."""

    pair: str
    machine: str
    command: str
    revision: str
    llm_to_slm: dict[Unit, float]


class ScaledPoint(TypedDict):
    """A point's cost / that of the LLM alone."""

    setting: str
    ratio: float


class ScaleSummary(TypedDict):
    """The cheapest at 90 % of the gap by task, pair, family and unit; None where a family does not get there.

    Attributes:
        measured: The pair whose answers these are.
        pairs: That pair and others, in the order in which they were given.
    """

    preset: Name
    measured: str
    pairs: list[ScaledPair]
    cheapest: dict[str, list[dict[str, dict[Unit, ScaledPoint | None]]]]


class _Models(TypedDict):
    slm: ModelCost
    llm: ModelCost


class _Benchmark(TypedDict):
    pair: str
    command: str
    revision: str
    machine: dict[str, Any]
    models: _Models


def scale(evaluations: Sequence[Evaluation], benchmarks: Sequence[Path]) -> ScaleSummary:
    """Models the costs of evaluations with other pairs.

    Args:
        evaluations: Of one pair; of each the points of which all that is needed was written down, slm and llm among
            them.
        benchmarks: What `python -m engine.benchmark --json` wrote; the first of the pair itself.

    Raises:
        TrainerError: A file is no benchmark, the first is of another pair than an evaluation, a task is named twice, or
            an evaluation has no such points.
    """
    again = "write it anew with `python -m engine.benchmark --json`"
    read: list[_Benchmark] = [read_json(path, _Benchmark, again) for path in benchmarks]
    own = read[0]["models"]
    if others := {each.pair for each in evaluations} - {read[0]["pair"]}:
        raise TrainerError(
            f"{benchmarks[0]} is of {read[0]['pair']}, but there are answers of {', '.join(sorted(others))}: name the "
            "benchmark of the pair that answered first, and evaluations of that pair alone"
        )
    if len({each.task for each in evaluations}) < len(evaluations):
        raise TrainerError(f"{', '.join(each.task for each in evaluations)}: name each task's evaluation once")
    cheapest = {
        each.task: [_at_gap(_known(each), own, benchmark["models"]) for benchmark in read] for each in evaluations
    }
    return ScaleSummary(
        preset=evaluations[0].preset,
        measured=evaluations[0].pair,
        pairs=[_about(each) for each in read],
        cheapest=cheapest,
    )


def _about(benchmark: _Benchmark) -> ScaledPair:
    slm, llm = benchmark["models"]["slm"], benchmark["models"]["llm"]
    size = [model.trunk_bytes + model.head_bytes for model in (slm, llm)]
    return ScaledPair(
        pair=benchmark["pair"],
        machine=hardware(benchmark["machine"]),
        command=benchmark["command"],
        revision=benchmark["revision"],
        llm_to_slm={"bytes": digits(size[1] / size[0]), "seconds": digits(llm.seconds(1) / slm.seconds(1))},
    )


def _known(evaluation: Evaluation) -> list[Point]:
    """The points whose passes were written down."""
    points = [each for each in evaluation.points if each.method != "oracle" and np.isfinite(_passes(each)).all()]
    if not {"slm", "llm"} <= {each.method for each in points if each.acceptance == 0}:
        raise TrainerError(
            f"{evaluation.task}: of slm or llm no passes were written down; evaluate it again with this version"
        )
    return points


def _passes(point: Point) -> Array:
    """[4, questions]: tokens, tokens taken back, tokens of the prompt, passes of the LLM."""
    return np.stack([point.column(name) for name in ("tokens", "taken_back", "prompt_tokens", "llm_passes")])


def _at_gap(points: Sequence[Point], own: _Models, other: _Models) -> dict[str, dict[Unit, ScaledPoint | None]]:
    accuracy = np.array([point.column("correct").mean() for point in points])
    cost = {unit: np.array([_cost(point, unit, own, other) for point in points]) for unit in UNITS}
    slm, llm = (
        next(n for n, each in enumerate(points) if each.method == name and each.acceptance == 0)
        for name in ("slm", "llm")
    )
    (target,) = statistics.accuracy_targets(accuracy[[slm]], accuracy[[llm]], JUDGED_AT)
    found: dict[str, dict[Unit, ScaledPoint | None]] = {}
    for family, members in families_of(points).items():
        enough = [n for n in members if accuracy[n] >= target - statistics.TOLERANCE]
        if family in FAMILIES:
            found[family] = {unit: _least(points, enough, cost[unit], cost[unit][llm]) for unit in UNITS}
    return found


def _least(points: Sequence[Point], enough: Sequence[int], cost: Array, llm: float) -> ScaledPoint | None:
    best = min(enough, key=lambda n: cost[n], default=None)
    if best is None:
        return None
    point = points[best]
    setting = spelled_setting(point.method, point.acceptance, point.max_draft, point.threshold)
    return ScaledPoint(setting=setting, ratio=digits(float(cost[best] / llm)))


def _cost(point: Point, unit: Unit, own: _Models, pair: _Models) -> float:
    """Mean cost of a point's answers with a pair, as if all of a text's passes of the LLM were of one length."""
    tokens, taken_back, prompt, passes = _passes(point)
    read = np.where(passes > 0, tokens + taken_back, 0.0)  # by the LLM, beside the prompt
    seen, length = prompt + tokens / 2, read / np.maximum(passes, 1)

    def llm_bytes(llm: ModelCost) -> Array:
        return passes * _pass_bytes(llm, seen) + (prompt + read) * llm.kv_bytes

    # From the bytes that were counted, which charge speculative decoding as it is published: not for every token.
    slm_bytes = point.column("bytes") - llm_bytes(own["llm"])
    slm_passes = np.clip(slm_bytes / _pass_bytes(own["slm"], seen), 0, tokens + taken_back) * (point.method != "llm")
    slm, llm = pair["slm"], pair["llm"]
    if unit == "bytes":
        return float((slm_passes * _pass_bytes(slm, seen) + llm_bytes(llm)).mean())
    looked = length if point.acceptance else np.ones_like(length)
    first = _seconds(slm, prompt) * (slm_passes > 0) + _seconds(llm, prompt) * (passes > 0)
    rest = np.maximum(slm_passes - 1, 0) * slm.seconds(1)
    return float((first + rest + np.maximum(passes - 1, 0) * _seconds(llm, length, looked)).mean())


def _pass_bytes(model: ModelCost, seen: Array) -> Array:
    return model.trunk_bytes + model.head_bytes + model.embedding_bytes + seen * model.kv_bytes


def _seconds(model: ModelCost, fed: Array, looked: Array | None = None) -> Array:
    heads = np.ones_like(fed) if looked is None else looked
    pairs = zip(np.maximum(fed, 1), np.maximum(heads, 1), strict=True)
    return np.array([model.seconds(one, head) for one, head in pairs])


def write_scale(summary: ScaleSummary, results: Path) -> Path:
    """Writes what was modelled to `<preset>.scale.json` among the results."""
    return write_result(results, f"{summary['preset']}{SUFFIX}", summary)


def load_scale(path: Path) -> ScaleSummary:
    """Reads what `write_scale` wrote."""
    return read_json(path, ScaleSummary, AGAIN)
