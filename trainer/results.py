"""The answers of an evaluation, read back from disk, and what its methods are called.

Knows the files that `trainer.evaluate` and `trainer.assisted` write. What follows from the answers is in
`trainer.summary`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from trainer.errors import TrainerError
from trainer.statistics import Array

METHODS = {
    "slm": "SLM only",
    "llm": "LLM only",
    "oracle": "oracle",
    "assisted": "speculative decoding",
    "random": "random",
    "confidence": "SLM confidence",
    "entropy": "SLM entropy",
    "margin": "SLM margin",
    "query": "query router",
    "co-llm": "Co-LLM style, the LLM's answers",
    "co-llm-data": "Co-LLM style, the data's references",
    "citer-shortcut": "CITER without rollouts",
    "citer": "CITER",
    "citer-joint": "CITER on several tasks",
}
"""Known methods and what people call them, in the order of tables and legends; others follow by name."""

FIXED = ("slm", "llm", "oracle", "assisted")
"""Methods without a threshold: each is one point, where the others have a curve from one model alone to the other."""

Unit = Literal["bytes", "flops", "seconds"]
UNITS: tuple[Unit, ...] = ("bytes", "flops", "seconds")

JOINT = "; "
"""Between the commands, revisions and machines of several stages."""

SHARD = re.compile(r"(?!partial-).+-\d{5}\.jsonl")  # of any stage: speculative decoding has shards of its own
AGAIN = "delete the file and run evaluate again"

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # part of a file's name
MethodName = Annotated[str, Field(pattern=r"^\w[\w .,:+=@()-]*$")]  # stands in tables and pages as it is


@dataclass(frozen=True)
class Answer:
    """One method's answer to one question at one threshold: a line of a shard.

    Attributes:
        question: The question's id.
        method: Its name, e.g. "confidence".
        threshold: Below which the LLM writes; 0 where the method has none.
        correct: As graded.
        tokens, llm_tokens: Generated tokens, and those of the LLM among them.
        bytes, flops, seconds: Cost of the whole answer, prompt included; seconds are modelled from measured passes.
        finish: Why it ended.
        text: What was written.
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


@dataclass(frozen=True)
class Point:
    """One method at one threshold, with its answers in the order of the evaluation's questions."""

    method: str
    threshold: float
    answers: tuple[Answer, ...]

    def column(self, name: str) -> Array:
        """One field of all answers [questions]."""
        return np.array([getattr(answer, name) for answer in self.answers], dtype=np.float64)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation.json` says, and all points, by method and threshold."""

    pair: str
    preset: Name
    task: Name
    command: str
    revision: str
    hardware: str
    max_new_tokens: int
    questions: tuple[str, ...]
    points: tuple[Point, ...] = ()


def read_evaluation(folder: Path) -> Evaluation:
    """Reads what `python -m trainer evaluate` wrote.

    Raises:
        TrainerError: A file is missing or not what evaluate writes (named with its line), or answers are missing.
    """
    about = read_json(folder / "evaluation.json", Evaluation, "run `python -m trainer evaluate` first")
    questions = dict.fromkeys(about.questions)
    if not questions or len(questions) < len(about.questions):
        raise TrainerError(f"{folder / 'evaluation.json'}: its questions must be at least one, and none twice")
    found: dict[tuple[str, float], dict[str, Answer]] = {}
    for where, answer in _read_answers(folder):
        point = found.setdefault((answer.method, answer.threshold), {})
        if answer.question not in questions:
            raise TrainerError(f"{where}: question {answer.question!r} is not one of evaluation.json")
        if answer.question in point:
            raise TrainerError(
                f"{where}: {answer.method} at threshold {answer.threshold:g} answers {answer.question!r} twice; {AGAIN}"
            )
        point[answer.question] = answer
    for (method, threshold), answers in found.items():
        if len(answers) < len(questions):
            raise TrainerError(
                f"{folder}: {method} at threshold {threshold:g} has {len(answers)} of {len(questions)} answers; "
                "run evaluate again to go on"
            )
    points = [Point(*key, tuple(answers[name] for name in questions)) for key, answers in sorted(found.items())]
    return replace(about, points=tuple(points), **_made(folder, about))


def _made(folder: Path, about: Evaluation) -> dict[str, str]:
    """Commands, revisions and machines of all stages in a folder: a later one may have been run elsewhere."""
    stages = [vars(about)]
    for path in sorted(folder.glob("*.json")):
        stages.append(read_json(path, dict[str, Any], AGAIN))
    return {
        name: JOINT.join(dict.fromkeys(stage[name] for stage in stages if stage.get(name)))
        for name in ("command", "revision", "hardware")
    }


def label(method: str) -> str:
    """What people call a method; a name that this project does not know is its own label."""
    number = _round(method)
    return METHODS.get(method, method) if number is None else f"CITER round {number}"


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods as `METHODS` has them, then the rounds of CITER, then unknown ones by name."""
    number = _round(method)
    if method in METHODS:
        return list(METHODS).index(method), method
    return (len(METHODS) + number, method) if number is not None else (1_000, method)


def main_method(methods: Iterable[str]) -> str | None:
    """The last of CITER's rounds, else "citer", else "citer-shortcut"; None without any."""
    return max(filter(is_citer, methods), key=method_order, default=None)


def check_names(task: str, methods: Iterable[str]) -> None:
    """Refuses names that could not be read back, before hours are spent on answers under them.

    Args:
        task: Part of a summary's file name.
        methods: Names, or `name=folder`.

    Raises:
        TrainerError: One of them.
    """
    kinds = {"task": TypeAdapter(Name), "method": TypeAdapter(MethodName)}
    for what, name in [("task", task), *(("method", method.partition("=")[0]) for method in methods)]:
        try:
            kinds[what].validate_python(name)
        except ValidationError as error:
            raise TrainerError(f"{name!r} cannot be the name of a {what}: {_reason(error)}") from None


def is_citer(method: str) -> bool:
    """Whether a method is this project's own: with rollouts, in whichever round, or without."""
    return method in ("citer", "citer-shortcut", "citer-joint") or _round(method) is not None


def _round(method: str) -> int | None:
    match = re.fullmatch(r"citer-r(\d{1,2})", method)
    return int(match[1]) if match else None


def read_json(path: Path, kind: Any, way_out: str) -> Any:
    """A file's content, validated.

    Args:
        path: JSON.
        kind: What it must be, for pydantic.
        way_out: What to do where it cannot be read or is not that.

    Raises:
        TrainerError: With the path, the reason and the way out.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainerError(f"{path}: {_reason(error)}; {way_out}") from None


def _read_answers(folder: Path) -> Iterator[tuple[str, Answer]]:
    """Answers of all complete shards, with file and line. Lines end at newlines only, since a text may hold U+2028."""
    adapter = TypeAdapter(Answer)
    for path in sorted(p for p in folder.glob("*.jsonl") if SHARD.fullmatch(p.name)):
        for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), 1):
            where = f"{path}:{number}"
            try:
                answer = adapter.validate_json(line, strict=True)
            except ValidationError as error:
                raise TrainerError(f"{where}: {_reason(error)}; {AGAIN}") from None
            if answer.llm_tokens > answer.tokens:
                raise TrainerError(f"{where}: {answer.llm_tokens} of {answer.tokens} tokens are the LLM's; {AGAIN}")
            yield where, answer


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return ": ".join([".".join(map(str, first["loc"])), first["msg"]] if first["loc"] else [first["msg"]])
