"""Free text: how much of the LLM's own text each method gives on prompts of another kind, and for how many bytes.

Routers learn from questions with right answers. What a visitor asks has none, so agreement with the LLM-only text
stands in for quality (`engine.grading.agreement`). The SLM alone and the LLM alone are the ends of every curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from engine.events import llm_tokens
from engine.grading import agreement
from engine.operating_points import MEASURED_UNITS, MaxDraft, Unit, bootstrap_counts
from engine.pair import Pair
from engine.provenance import provenance
from trainer import TrainerError
from trainer.evaluation import statistics
from trainer.evaluation.estimates import (
    EstimateSummary,
    difference,
    digits,
    estimated,
)
from trainer.evaluation.evaluate import begun_with, charged_alone, shard_size, written_texts
from trainer.evaluation.method_names import (
    FIXED,
    MethodName,
    Name,
    Rate,
    spelled,
)
from trainer.evaluation.methods import Method
from trainer.evaluation.record import Amount, PointKey, check_alike, check_joins, joined, routers_of
from trainer.evaluation.statistics import Array
from trainer.evaluation.summary import RULE, BesideConfidence
from trainer.json_files import AGAIN, read_json, read_lines, write_lines, write_result
from trainer.questions.question import MAX_CHARACTERS, Question
from trainer.shards import Shards, digest

STAGE, TASK = "transfer", "free-text"
BUDGETS = (0.6, 0.75, 0.9)
"""Shares of the LLM-only text's bytes at which methods are compared."""

RESAMPLES, SEED = 2000, 0
SUFFIX = ".transfer.json"
"""How the file of what was measured is called, after the preset."""

MAX_PROMPTS = 10_000
_Prompts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]], Field(min_length=1, max_length=MAX_PROMPTS)
]


@dataclass(frozen=True)
class FreeText:
    """One method's text for one prompt at one setting: a line of a shard; costs as in `GradedAnswer`."""

    question: str
    method: MethodName
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    acceptance: Rate
    max_draft: MaxDraft
    agreement: Rate
    tokens: Annotated[int, Field(ge=1)]
    llm_tokens: Annotated[int, Field(ge=0)]
    bytes: Amount
    flops: Amount
    seconds: Amount
    text: str

    @property
    def setting(self) -> PointKey:
        """What of it was asked for."""
        return PointKey(self.method, self.acceptance, self.max_draft, self.threshold)


class TransferPoint(TypedDict):
    """A setting, over all prompts; `bytes_ratio` is of the LLM-only texts' bytes, and `cost` per text."""

    threshold: float
    llm_share: Rate
    agreement: EstimateSummary
    bytes_ratio: EstimateSummary
    cost: dict[Unit, Amount]


class TransferCurve(TypedDict):
    """A method's points, and what it is worth beside the SLM's confidence at acceptance 0.

    Attributes:
        at_budget: Agreement at each of `BUDGETS`, on the frontier of the measured points.
        beside: The paired difference to confidence there; empty where confidence was not measured.
        beside_confidence: Each point less what confidence has for as many bytes; files from before lack it.
    """

    points: list[TransferPoint]
    at_budget: dict[str, EstimateSummary]
    beside: dict[str, EstimateSummary]
    beside_confidence: NotRequired[list[BesideConfidence]]


class TransferSummary(TypedDict):
    """What was measured of one pair, and where; `routers` as in `Summary`."""

    pair: str
    preset: Name
    prompts: Annotated[int, Field(ge=1)]
    max_new_tokens: int
    command: str
    revision: str
    hardware: str
    methods: dict[str, TransferCurve]
    routers: NotRequired[dict[str, str]]


def read_prompts(paths: Sequence[Path]) -> list[Question]:
    """The prompts of JSON files that are lists of texts, named by file and place; a TrainerError for anything else."""
    found: dict[str, Question] = {}
    for path in paths:
        for number, text in enumerate(read_json(path, _Prompts, "give a JSON list of texts")):
            name = f"{path.stem}-{number}"
            if name in found:
                raise TrainerError(f"{path}: another file is called {path.stem!r}, too; prompts are kept by that name")
            found[name] = Question(name, text, "", "")
    return list(found.values())


def measure(
    pair: Pair,
    prompts: Sequence[Question],
    methods: Sequence[Method],
    folder: Path,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
    stage: str = STAGE,
) -> TransferSummary | None:
    """Writes a text for each prompt by each method at each threshold, into `folder`; resumes where it stopped.

    Args:
        methods: "slm" and "llm" must be among them.
        stage: Several may share a folder, each with methods and thresholds of its own for the same prompts.

    Returns:
        What was measured in all stages; None while another process still writes.

    Raises:
        TrainerError: One of the two is missing, or the folder holds texts of other prompts or methods.
    """
    if not {"slm", "llm"} <= {method.name for method in methods}:
        raise TrainerError("both models alone are the ends of every curve: put slm and llm among the methods")

    def make(some: Sequence[Question], path: Path) -> None:
        write_lines(path, map(asdict, _texts(pair, some, methods, max_new_tokens, report)))

    shards = Shards(folder, stage, shard_size(methods, max_new_tokens), ".jsonl")
    # Of one copy of the weights alone: each stage has both models alone anew.
    settings = begun_with(pair, methods, TASK, max_new_tokens) | {"weights_copy": "none"}
    check_joins(folder, stage, settings | {"data": digest(prompts)}, "weights_copy", again=("slm", "llm"))
    return summarised(folder) if shards.run(settings, prompts, make, report, notes=provenance("trainer")) else None


def _texts(
    pair: Pair,
    prompts: Sequence[Question],
    methods: Sequence[Method],
    max_new_tokens: int,
    report: Callable[[str], None],
) -> Iterator[FreeText]:
    for each, written in written_texts(pair, prompts, methods, max_new_tokens, report, lambda it: it.question):
        alone = next(row for method, _, row in written if method.name == "llm")
        reference = [event.id for event in alone.events]
        for method, threshold, row in written:
            events, spent = charged_alone(pair, method, row)
            yield FreeText(
                question=each.id,
                method=method.name,
                threshold=threshold,
                acceptance=method.acceptance,
                max_draft=method.max_draft,
                agreement=round(agreement([event.id for event in events], reference), 5),
                tokens=len(events),
                llm_tokens=llm_tokens(events),
                bytes=spent.bytes,
                flops=spent.flops,
                seconds=round(spent.seconds, 4),
                text="".join(event.text for event in events),
            )


def summarised(folder: Path) -> TransferSummary:
    """What the texts of all stages in a folder come to, in the order in which methods were asked for.

    A TrainerError if two stages differ in prompts, models, the copy of the weights or the length of texts.
    """
    files = sorted(folder.glob("*.json"))
    stages = [Shards(folder, path.stem, 1, ".jsonl").load() for path in files]
    settings = [own for _, own in stages]
    check_alike(dict(zip(files, settings, strict=True)), "weights_copy")
    about = {**settings[0], **joined(settings)}
    by_point: dict[PointKey, dict[str, FreeText]] = {}
    for paths, _ in stages:
        for each in read_lines(paths, FreeText):
            by_point.setdefault(each.setting, {})[each.question] = each
    counts = bootstrap_counts(len(about["questions"]), RESAMPLES, SEED)
    points = {
        key: {name: _column(texts, about["questions"], name) @ counts.T for name in _COLUMNS}
        for key, texts in by_point.items()
    }
    alone = {key.method: drawn for key, drawn in points.items() if key.method in ("slm", "llm") and key.acceptance == 0}
    curves: dict[str, dict[PointKey, _Drawn]] = {}
    for key, drawn in points.items():
        curves.setdefault(spelled(*key[:3]), {})[key] = drawn
    choices = {title: _choices(curve, alone) for title, curve in curves.items()}
    rival = choices.get(RULE)  # at acceptance 0, as it is published, whatever a method's own acceptance
    kept = ("pair", "preset", "max_new_tokens", "command", "revision", "hardware")
    return TransferSummary(
        prompts=len(about["questions"]),
        routers=routers_of(settings),
        methods={
            title: _curve(curve, choices[title], None if title == RULE else rival, alone["llm"])
            for title, curve in curves.items()
        },
        **{name: about[name] for name in kept},
    )


_COLUMNS = ("agreement", "tokens", "llm_tokens", *MEASURED_UNITS)


def _column(texts: Mapping[str, FreeText], prompts: Sequence[str], name: str) -> Array:
    return np.array([getattr(texts[prompt], name) for prompt in prompts], dtype=np.float64)


_Drawn = Mapping[str, Array]  # sums [samples] of a point's columns over the prompts, by the column's name


class _Choices(NamedTuple):
    """All that a method can be run at: bytes and mean agreement [points, samples]."""

    cost: Array
    quality: Array

    def at(self, budget: Array) -> Array:
        """The agreement for so many bytes [samples], on straight lines between the points."""
        return statistics.accuracy_at_cost(self.cost, self.quality, budget)


def _choices(curve: Mapping[PointKey, _Drawn], alone: Mapping[str, _Drawn]) -> _Choices | None:
    """At acceptance 0 both models alone are points of every curve, too; None for a method without a threshold."""
    key = next(iter(curve))
    if key.method in FIXED:
        return None
    ends = alone.values() if key.acceptance == 0 else [alone["llm"]]
    cost, quality = (np.stack([point[name] for point in (*curve.values(), *ends)]) for name in ("bytes", "agreement"))
    return _Choices(cost, quality / alone["llm"]["agreement"])  # the LLM agrees with itself: 1 for every prompt


def _curve(
    curve: Mapping[PointKey, _Drawn], own: _Choices | None, rival: _Choices | None, llm: _Drawn
) -> TransferCurve:
    """`rival` is confidence at acceptance 0; None where it was not measured, or is the curve itself."""
    budgets = {f"{share:g}": share * llm["bytes"] for share in BUDGETS} if own else {}
    at_budget = {share: own.at(budget) for share, budget in budgets.items()} if own else {}
    points = sorted(curve.items(), key=lambda item: item[0].order)
    found = TransferCurve(
        points=[_point(key.threshold, drawn, llm) for key, drawn in points],
        at_budget={share: estimated(value) for share, value in at_budget.items()},
        beside={},
    )
    if own and rival:
        found["beside"] = {share: difference(value, rival.at(budgets[share])) for share, value in at_budget.items()}
        found["beside_confidence"] = [
            BesideConfidence(
                acceptance=key.acceptance,
                max_draft=key.max_draft,
                threshold=key.threshold,
                accuracy=difference(drawn["agreement"] / llm["agreement"], rival.at(drawn["bytes"])),
            )
            for key, drawn in points
        ]
    return found


def _point(threshold: float, drawn: _Drawn, llm: _Drawn) -> TransferPoint:
    prompts = llm["agreement"]  # 1 for each
    return TransferPoint(
        threshold=threshold,
        llm_share=digits(float(drawn["llm_tokens"][0] / drawn["tokens"][0])),
        agreement=estimated(drawn["agreement"] / prompts),
        bytes_ratio=estimated(drawn["bytes"] / llm["bytes"]),
        cost={unit: digits(float(drawn[unit][0] / prompts[0])) for unit in MEASURED_UNITS},
    )


def write_transfer(summary: TransferSummary, results: Path) -> Path:
    """Writes what was measured to `<preset>.transfer.json` among the results."""
    return write_result(results, f"{summary['preset']}{SUFFIX}", summary)


def load_transfer(path: Path) -> TransferSummary:
    """Reads what `write_transfer` wrote."""
    return read_json(path, TransferSummary, AGAIN)
