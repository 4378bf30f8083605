"""One model's own greedy answers to questions: references for labels, and texts for alignment.

Whether an answer is right is graded when it is read, so that a better grader needs no new answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine import Request, Role, build_request
from engine.grading import grade
from engine.pair import Pair
from engine.served import vllm
from engine.served.model import ServedModel
from engine.tokenizer import render
from trainer import Report, TrainerError
from trainer.continuous_batch import write_each
from trainer.questions import Question, prompt
from trainer.shards import MadeOf, Shards, differing, identity_of
from trainer.stored import read_rows, schema, write_rows

SHARD = 256  # questions
ROWS = 128  # texts written at once: up to so many, two cores with matrix units get faster
COLUMNS = schema(question=pa.string(), tokens=pa.list_(pa.uint32()), text=pa.string(), finish_reason=pa.string())


class _MadeOf(MadeOf):
    role: Role


@dataclass(frozen=True)
class Answer:
    """What a model wrote to a question (an id).

    `tokens` has the end token where the model ended the text; `finish_reason` is "eos" then.
    """

    question: str
    tokens: list[int]
    text: str
    finish_reason: str


def answer(
    pair: Pair,
    role: Role,
    questions: Sequence[Question],
    folder: Path,
    max_new_tokens: int,
    report: Report = print,
    shard: int = SHARD,
) -> None:
    """Lets one of the pair's models answer questions greedily, into `folder`; resumes where it stopped.

    Args:
        questions: Of any task, or general prompts.
        shard: Questions in a shard.

    Raises:
        TrainerError: The folder holds answers to other questions or of another model.
    """

    def make(batch: Sequence[Question], path: Path) -> None:
        requests = [build_request(prompt(q), policy=role.value, max_new_tokens=max_new_tokens) for q in batch]
        whole = role is Role.LLM and isinstance(pair.llm, ServedModel)
        written = _whole_answers(pair, requests) if whole else _answers(pair, requests, report)
        write_rows(path, ({"question": q.id, **each} for q, each in zip(batch, written, strict=True)), COLUMNS)

    settings = {
        "preset": pair.preset,
        "role": role.value,
        "quantisation": pair.quantisation,
        "max_new_tokens": max_new_tokens,
        **_model(pair, role),
    }
    Shards(folder, "answers", shard).run(settings, questions, make, report)


def load_answers(folder: Path, role: Role, pair: Pair | None = None) -> Mapping[str, Answer]:
    """All answers of a folder by the question's id, read from the disk a shard at a time.

    A TrainerError if some are missing or another model wrote them; the number format does not matter.
    """
    shards = Shards(folder, "answers", SHARD, made_of=_MadeOf)
    found, about = shards.by_question(lambda path: read_rows(path, COLUMNS), lambda rows: Answer(**rows[0]))
    if about["role"] != role.value:
        raise TrainerError(
            f"{folder} holds answers of the {about['role'].upper()}: name those that `answer --role {role.value}` wrote"
        )
    if pair is not None:
        own = _model(pair, role)
        if other := differing(about, own):
            raise TrainerError(f"{folder} holds answers of {other}, not of {own['model']!r} as it is here")
    return found


def are_right(answers: Mapping[str, Answer], questions: Sequence[Question]) -> dict[str, bool]:
    """Whether each answer is right, by the question's id; a TrainerError if its question is not given."""
    by_id = {question.id: question for question in questions}
    if missing := [name for name in answers if name not in by_id]:
        raise TrainerError(
            f"{len(missing)} of {len(answers)} answers are to other questions than these, e.g. {missing[0]}"
        )
    return {name: grade(by_id[name], each.text) for name, each in answers.items()}


def _answers(pair: Pair, requests: Sequence[Request], report: Report) -> Iterator[dict[str, Any]]:
    for row in write_each(pair, pair.texts(requests), ROWS, report):
        text = "".join(event.text for event in row.events)
        yield {"tokens": [event.id for event in row.events], "text": text, "finish_reason": row.finish_reason}


def _whole_answers(pair: Pair, requests: Sequence[Request]) -> Iterator[dict[str, Any]]:
    """For a server that writes a whole answer for one request; it has all requests at once."""
    assert isinstance(pair.llm, ServedModel)
    most = requests[0].max_new_tokens
    # Without a penalty of 1 the model's own generation settings would hold.
    fields = {"max_tokens": most, "repetition_penalty": 1.0, "return_token_ids": True}
    prompts = (render(pair.tokenizer, each, pair.context) for each in requests)
    futures = [pair.llm.ask(each, fields, lambda choice: vllm.ids(choice["token_ids"])) for each in prompts]
    for future in futures:
        told = future.result()
        ended = next((number for number, id in enumerate(told) if id in pair.end_ids), None)
        tokens = told[: most if ended is None else ended + 1]
        if ended is None and len(tokens) < most:  # the server has left the end token out
            tokens.append(pair.end_id)
        text = str(pair.tokenizer.decode(tokens, skip_special_tokens=True))
        yield {"tokens": tokens, "text": text, "finish_reason": "eos" if tokens[-1] in pair.end_ids else "length"}


def _model(pair: Pair, role: Role) -> dict[str, str]:
    name = pair.slm_name if role is Role.SLM else pair.llm_name
    return {"model": name, "tokenizer": pair.fingerprint, **identity_of(pair)}
