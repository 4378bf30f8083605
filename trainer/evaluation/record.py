"""What one line of an evaluation holds, and how a folder of them is read back.

`trainer.evaluation.evaluate` writes the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from engine.errors import shown
from engine.events.cost import Cost
from engine.grading import grade
from engine.operating_points import MaxDraft
from engine.setting import DraftLimit
from trainer import TrainerError
from trainer.evaluation.method_names import MethodName, Name, Rate, spelled
from trainer.evaluation.statistics import Array
from trainer.json_files import GZIP, numbered_lines, read_json
from trainer.questions.question import Question
from trainer.shards import JOINT, check_unchanged, joined_notes

SHARD = re.compile(rf"(?!partial-).+-\d{{5}}\.jsonl({re.escape(GZIP)})?")
"""The name of a complete shard of any stage: speculative decoding has shards of its own."""

MACHINES = (
    "The stages ran on different machines, so seconds cannot be compared and are left out; where one machine reads the "
    "weights by a copy in bf16 and another in int8, texts part at near ties, too."
)

_Thresholds = list[Annotated[float, Field(allow_inf_nan=False)]]
_AskedOf = tuple[str, _Thresholds, str | None] | tuple[str, _Thresholds, str | None, Rate, MaxDraft]
"""A method in a stage's file: its name, thresholds and router, and its dials where they are not at acceptance 0."""

_WAY_OUT = "delete the file and run evaluate again"
_DAMAGED = "restore it, or delete it with its shards, and run evaluate again"

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Unfinished(TrainerError):
    """A stage of the folder has not all of its answers yet."""


class PointKey(NamedTuple):
    """A point of the plane: a method at an acceptance and a threshold, with the length of its drafts."""

    method: str
    acceptance: float
    max_draft: DraftLimit
    threshold: float

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorts points."""
        return *self[:2], 0 if self.max_draft == "auto" else self.max_draft, self.threshold

    def __str__(self) -> str:
        return f"{spelled(*self[:3])} at threshold {self.threshold:g}"


@dataclass(frozen=True)
class GradedAnswer:
    """One method's answer to one question at one setting: a line of a shard.

    Attributes:
        threshold: 0 where the method has none.
        bytes, flops, seconds: Of the whole answer, prompt included; seconds are modelled from measured passes.
        acceptance, max_draft: As in the request.
        llm_passes: Of the whole answer; None, as the next one, in lines from before it was written down.
        taken_back: Drafted tokens that the LLM did not keep; they are charged, and not among `tokens`.
        prompt_tokens, price: Of the whole answer, in currency at the pair's prices; None in lines from before.
    """

    question: str
    method: MethodName
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    correct: bool
    tokens: Annotated[int, Field(ge=1)]
    llm_tokens: Annotated[int, Field(ge=0)]
    bytes: Amount
    flops: Amount
    seconds: Amount
    finish: str
    text: str
    acceptance: Rate = 0.0
    max_draft: MaxDraft = "auto"
    llm_passes: Annotated[int, Field(ge=0)] | None = None
    taken_back: Annotated[int, Field(ge=0)] | None = None
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    price: Amount | None = None

    @property
    def setting(self) -> PointKey:
        """What of it was asked for; the same for all answers of a point."""
        return PointKey(self.method, self.acceptance, self.max_draft, self.threshold)

    @classmethod
    def graded(cls, question: Question, text: str, spent: Cost, **others: Any) -> GradedAnswer:
        """An answer that was just written; `others` are the fields that follow from neither its text nor its cost."""
        cost = {"bytes": spent.bytes, "flops": spent.flops, "seconds": round(spent.seconds, 4), "price": spent.price}
        return cls(question=question.id, correct=grade(question, text), text=text, **cost, **others)


@dataclass(frozen=True)
class Point:
    """One method at one setting, with its answers in the order of the evaluation's questions.

    `weights_copy` is what the copy of the weights was kept in as they were written; empty where that was not noted.
    """

    method: str
    threshold: float
    answers: tuple[GradedAnswer, ...]
    acceptance: float = 0.0
    max_draft: MaxDraft = "auto"
    weights_copy: str = ""

    def column(self, name: str) -> Array:
        """One field of all answers [questions]; NaN where it was not written down."""
        return np.array([getattr(answer, name) for answer in self.answers], dtype=np.float64)


@dataclass(frozen=True)
class Evaluation:
    """What the file of a stage says, and all points of its folder, by method, acceptance and threshold.

    `routers` has the SHA-256 of the weights behind each method that has any.
    """

    pair: str
    preset: Name
    task: Name
    command: str
    revision: str
    hardware: str
    max_new_tokens: int
    questions: tuple[str, ...]
    points: tuple[Point, ...] = ()
    routers: Mapping[str, str] = field(default_factory=dict)


class _Stage(TypedDict, total=False):
    """What a stage's file says of its run; stages from before lack some of it."""

    data: str
    pair: str
    preset: str
    task: str
    max_new_tokens: int
    command: str
    revision: str
    hardware: str
    weights_copy: str
    methods: list[_AskedOf] | dict[str, Any]  # a summary that lies in the same folder has a dict


_SHARED = ("data", "pair", "preset", "task", "max_new_tokens")


def read_evaluation(folder: Path) -> Evaluation:
    """Reads what `python -m trainer evaluate` wrote.

    A TrainerError names the file and line that are not, or two stages that are of different runs; it is Unfinished
    where answers are missing.
    """
    stages = stages_in(folder)
    first = _first_stage(folder, list(stages))
    about = read_json(first, Evaluation, "run `python -m trainer evaluate` first")
    questions = set(about.questions)
    if not questions or len(questions) < len(about.questions):
        raise TrainerError(f"{first}: its questions must be at least one, and none twice")
    check_alike(stages)
    by_point: dict[PointKey, dict[str, GradedAnswer]] = {}
    copies: dict[PointKey, str] = {}
    for where, stage, answer in _read_answers(folder):
        answers = by_point.setdefault(answer.setting, {})
        copies.setdefault(answer.setting, stages.get(stage, {}).get("weights_copy", ""))
        if answer.question not in questions:
            raise TrainerError(f"{where}: question {answer.question!r} is not one of {first.name}")
        if answer.question in answers:
            raise TrainerError(f"{where}: {answer.setting} answers {answer.question!r} twice; {_WAY_OUT}")
        answers[answer.question] = answer
    asked = [setting for stage in stages.values() for setting in settings_of(stage)]
    points = []
    for key, answers in sorted(({key: {} for key in asked} | by_point).items(), key=lambda item: item[0].order):
        if len(answers) < len(questions):
            raise Unfinished(
                f"{folder}: {key} has {len(answers)} of {len(questions)} answers; run evaluate again to go on"
            )
        own = tuple(answers[name] for name in about.questions)
        points.append(Point(key.method, key.threshold, own, key.acceptance, key.max_draft, copies[key]))
    # A later stage may have been run elsewhere.
    read = {"points": tuple(points), "routers": routers_of(stages.values())}
    return replace(about, **read, **joined([vars(about), *stages.values()]))


def _first_stage(folder: Path, files: Sequence[Path]) -> Path:
    """The file that says what a folder is of: that of the stage `evaluation`, else the first of another name."""
    usual = folder / "evaluation.json"
    return usual if usual in files or not files else files[0]


def check_alike(stages: Mapping[Path, Mapping[str, Any]], *more: str) -> None:
    """Refuses, by a TrainerError, stages of one folder that differ in what they share, where both state it.

    Two of them may have a method of the same name, but of the same router.

    Args:
        stages: What each stage's file says, by its path.
        more: What else of it has to be the same.
    """
    stated: dict[str, tuple[Path, Any]] = {}
    routers: dict[str, tuple[Path, str | None]] = {}
    for path, stage in stages.items():
        for method, _, router, *_ in stage.get("methods", ()):
            other, known = routers.setdefault(method, (path, router))
            if router != known:
                raise TrainerError(
                    f"{path}: {method} is another router than in {other.name}; give it another name, or its answers a "
                    "folder of their own"
                )
        for name in (*_SHARED, *more):
            if name not in stage:
                continue
            other, value = stated.setdefault(name, (path, stage[name]))
            if stage[name] != value:
                raise TrainerError(
                    f"{path}: its {name} is {shown(stage[name])}, but {shown(value)} in {other.name}: stages of one "
                    "folder must be of the same questions, models and settings; give each run a folder of its own"
                )


def check_joins(folder: Path, stage: str, made_of: Mapping[str, Any], *more: str, again: Iterable[str] = ()) -> None:
    """Refuses, by a TrainerError before hours are spent, a stage that could not be read together with the others.

    That is one that differs from them (`check_alike`), or that has a setting in common with another: its answers would
    be there twice.

    Args:
        folder: Whose other stages it joins; it need not be there.
        made_of: What the stage's file will say.
        again: Methods that every stage may have.
    """
    own = folder / f"{stage}.json"
    others = {path: each for path, each in stages_in(folder).items() if path != own}
    check_alike({**others, own: made_of}, *more)
    there = {setting: path for path, each in others.items() for setting in settings_of(each)}
    for setting in settings_of(made_of):
        if setting in there and setting.method not in again:
            raise TrainerError(f"{there[setting]} has {setting} already: leave it out, or choose another folder")


def settings_of(stage: Mapping[str, Any]) -> list[PointKey]:
    """What a stage's file asks for; nothing where it is from before that was noted."""
    found = []
    for name, thresholds, _, *dials in stage.get("methods", ()):
        acceptance, max_draft = dials or (0.0, "auto")
        found += [PointKey(name, acceptance, max_draft, each) for each in thresholds]
    return found


def stages_in(folder: Path, stage: str = "*") -> dict[Path, _Stage]:
    """What the file of each stage says, or of one of them; a summary in the same folder is none."""
    read = {path: read_json(path, _Stage, _DAMAGED) for path in sorted(folder.glob(f"{stage}.json"))}
    return {path: stage for path, stage in read.items() if not isinstance(stage.get("methods"), dict)}


def on_one_machine(summary: Mapping[str, Any]) -> bool:
    """Whether all stages ran on the same machine; else seconds of one would stand beside those of another."""
    return JOINT not in summary["hardware"]


def routers_of(stages: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The routers of several stages, by the names of their methods; see `check_alike`."""
    asked = (each for stage in stages for each in stage.get("methods", ()))
    return {name: router for name, _, router, *_ in asked if router is not None}


def joined(stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Commands, revisions and machines of several stages, each once."""
    return {
        name: joined_notes(stage[name] for stage in stages if stage.get(name))
        for name in ("command", "revision", "hardware")
    }


def _read_answers(folder: Path) -> Iterator[tuple[str, Path, GradedAnswer]]:
    """Answers of all complete shards, with file and line, and the file of their stage."""
    for path in sorted(p for p in folder.iterdir() if SHARD.fullmatch(p.name)):
        check_unchanged(path)
        stage = path.with_name(f"{path.name.rsplit('-', 1)[0]}.json")
        for where, answer in numbered_lines(path, GradedAnswer, _WAY_OUT):
            if answer.llm_tokens > answer.tokens:
                raise TrainerError(f"{where}: {answer.llm_tokens} of {answer.tokens} tokens are the LLM's; {_WAY_OUT}")
            yield where, stage, answer
