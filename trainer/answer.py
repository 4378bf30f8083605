"""One model's own greedy answers to questions: references for labels (`--reference llm`), and who can answer what.

Knows the engine's decode loop and shards; does not know what the answers are used for. Whether an answer is right is
graded when it is read, so that a better grader needs no new answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import Request, Role
from engine.pair import Pair
from trainer.data import Question, prompt
from trainer.errors import TrainerError
from trainer.grading import grade
from trainer.shards import Shards, read_lines, write_lines

SHARD = 128  # questions, written at once as one batch: as many as two cores with matrix units are still faster for


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        question: The question's id.
        tokens: Generated ids, the end token included.
        text: Their text.
        finish: Why it ended; "eos" where the model ended it.
    """

    question: str
    tokens: list[int]
    text: str
    finish: str


def answer(
    pair: Pair,
    role: Role,
    questions: Sequence[Question],
    folder: Path,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
) -> None:
    """Lets one model answer questions greedily, into `folder`; resumes where it stopped.

    Args:
        pair: Holds the model.
        role: Which of the two.
        questions: To answer.
        folder: Created.
        max_new_tokens: An answer that is cut there counts as unfinished.
        report: Told of progress.

    Raises:
        TrainerError: The folder holds answers to other questions or of another model.
    """

    def make(batch: Sequence[Question], path: Path) -> None:
        requests = [Request(prompt(q), policy=role.value, max_new_tokens=max_new_tokens) for q in batch]
        traces = pair.generate_batch(requests)
        lines = [
            {"question": q.id, "tokens": [e.id for e in t.events], "text": t.text, "finish": t.finish_reason}
            for q, t in zip(batch, traces, strict=True)
        ]
        write_lines(path, lines)

    model = pair.slm_name if role is Role.SLM else pair.llm_name
    settings = {
        "preset": pair.preset,
        "role": role.value,
        "model": model,
        "quantisation": pair.quantisation,
        "tokenizer": pair.fingerprint,
        "max_new_tokens": max_new_tokens,
    }
    _shards(folder).run(settings, questions, make, report)


def load_answers(folder: Path, role: Role) -> dict[str, Answer]:
    """All answers of a folder, by the question's id.

    Args:
        folder: Written by `answer`.
        role: The model that is to have written them.

    Raises:
        TrainerError: None there, or some shard is missing, or they are the other model's.
    """
    paths, about = _shards(folder).load()
    if about["role"] != role.value:
        raise TrainerError(
            f"{folder} holds answers of the {about['role'].upper()}: name those that `answer --role {role.value}` wrote"
        )
    found = [Answer(**line) for line in read_lines(paths)]
    return {each.question: each for each in found}


def are_right(answers: Mapping[str, Answer], questions: Sequence[Question]) -> dict[str, bool]:
    """Whether each answer is right, by the question's id.

    Raises:
        TrainerError: A question is not among those given.
    """
    by_id = {question.id: question for question in questions}
    if missing := [name for name in answers if name not in by_id]:
        raise TrainerError(
            f"{len(missing)} of {len(answers)} answers are to other questions than these, e.g. {missing[0]}"
        )
    return {name: grade(by_id[name], each.text) for name, each in answers.items()}


def _shards(folder: Path) -> Shards:
    return Shards(folder, "answers", SHARD, ".jsonl")
