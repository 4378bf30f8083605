"""Rollouts: what becomes of the answer if a given model writes a given token (CITER, section 3.2).

At a sample of the tokens that the shortcut does not settle, the text is finished from that token on under a policy,
through the engine's decode loop, and the answer is graded. The first round finishes with the SLM alone, a later one
with the router of the round before at its threshold. `trainer.preference` makes preferences of the outcomes.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import pyarrow as pa
from pydantic import Field

from engine import Request, Role, build_request
from engine.events.cost import costs
from engine.grading import grade
from engine.pair import Pair
from engine.policy import FixedPolicy, Policy, RouterPolicy
from engine.router import Router, RouterNetwork
from engine.tokenizer import render
from trainer import Report, TrainerError
from trainer.continuous_batch import require_costs, write_each
from trainer.labels.labels import labelled_tokens_of, labels_about, read_labels
from trainer.preference import Case
from trainer.questions import Question, prompt, texts_of
from trainer.settings import RolloutSettings
from trainer.shards import MadeOf, Shards
from trainer.stored import read_rows, schema, write_rows

SHARD = 60  # questions
ROWS = 256  # rollouts written at once: more do not make two cores faster
COLUMNS = schema(
    question=pa.string(),
    position=pa.int32(),
    role=pa.string(),
    correct=pa.bool_(),
    bytes=pa.float64(),
    tokens=pa.int32(),
    candidates=pa.int32(),
)


@dataclass(frozen=True)
class Rollout:
    """What became of one answer after a token, given by question and position, that one model wrote."""

    question: str
    position: int
    role: Role
    correct: bool  # whether the finished answer is right
    bytes: float  # moved from that token to the end
    tokens: int  # written from there on
    candidates: int  # tokens of the question among which those to roll out were drawn


class _MadeOf(MadeOf):
    llm_bytes: Annotated[float, Field(gt=0)]
    labels: NotRequired[dict[str, Any]]


@dataclass
class _Start:
    """A text to be finished: the reference up to a token, then one model's token instead of it."""

    question: Question
    position: int
    role: Role
    candidates: int
    written: list[int] = field(repr=False)


def roll_out(
    pair: Pair,
    questions: Sequence[Question],
    labels: Path,
    folder: Path,
    settings: RolloutSettings,
    router: Router | None = None,
    report: Report = print,
) -> None:
    """Rolls out undecided tokens of labelled questions into `folder`; resumes where it stopped.

    On the data's references, these are the tokens that neither model would write. On the LLM's own answers, they are
    all tokens where the SLM would write another: the shortcut decides them by that token alone.

    Args:
        questions: Those of the labels.
        labels: A folder of `trainer.labels.labels`.
        router: Finishes the texts, at its own threshold. None lets the SLM finish them (the first round).

    Raises:
        TrainerError: The labels are incomplete or of other questions; the folder holds rollouts made otherwise; or the
            cost of the LLM's passes is unknown.
    """
    require_costs(pair)
    threshold = router.card.threshold if router else None
    labelled, tokens, texts = labels_about(labels), labelled_tokens_of(labels), texts_of(questions)
    if labelled["texts"] != texts:
        raise TrainerError(f"{labels} holds labels of other questions than the {len(questions)} given")
    unimportant = ("answers", "texts", "run_llm", "keep_states")
    about = {
        "policy": router.name if router else "slm",
        "router": fingerprint(router.network) if router else None,
        "labels": {name: value for name, value in labelled.items() if name not in unimportant},
        **dict(settings),
        "threshold": threshold,
        "answers": labelled.get("answers"),
        "llm_bytes": _llm_bytes(pair, questions, labels),
    }
    policy, own = RouterPolicy(router) if router else FixedPolicy(Role.SLM), pair.router
    pair.use_router(router)

    def make(some: Sequence[Question], path: Path) -> None:
        todo = [
            start
            for question in some
            for start in _starts(question, tokens[question.id], labelled["reference"], settings, pair.end_ids)
        ]
        done = _finish(pair, todo, policy, threshold or 0.0, settings.max_new_tokens, report)
        write_rows(path, [{**asdict(each), "role": each.role.value} for each in done], COLUMNS)

    try:
        _shards(folder).run(about, questions, make, report)
    finally:
        pair.use_router(own)
    right = [rollout.correct for rollout in load_rollouts(folder)[0] if rollout.role is Role.SLM]
    share = sum(right) / max(1, len(right))
    report(f"{len(right):,} of the SLM's tokens rolled out; after {share:.1%} the answer was right")


def load_rollouts(folder: Path) -> tuple[list[Rollout], dict[str, Any]]:
    """All rollouts of a folder, and the settings they were made with; a TrainerError if some are missing."""
    paths, settings = _shards(folder).load()
    rows = (row for path in paths for row in read_rows(path, COLUMNS))
    return [Rollout(**{**row, "role": Role(row["role"])}) for row in rows], settings


def rollouts_about(folder: Path) -> dict[str, Any]:
    """The settings that a folder's rollouts were made with; a TrainerError if some are missing."""
    return _shards(folder).load()[1]


def fingerprint(network: RouterNetwork) -> str:
    """SHA-256 of a network's weights as tensors, wherever they are stored; rollouts and evaluations name routers by it.

    Operating points name the file `router.safetensors` instead, by `engine.models.files.sha256_of`.
    """
    weights = network.state_dict()
    return hashlib.sha256(b"".join(weights[name].cpu().numpy().tobytes() for name in sorted(weights))).hexdigest()


def _shards(folder: Path) -> Shards:
    return Shards(folder, "rollouts", SHARD, made_of=_MadeOf)


def _starts(
    question: Question,
    tokens: Sequence[Mapping[str, Any]],
    reference: str,
    settings: RolloutSettings,
    end_ids: AbstractSet[int],
) -> list[_Start]:
    """What to roll out of a question's tokens: the draw depends on the seed and the question alone."""
    actions = ((Role.SLM, "slm_token"), (Role.LLM, "llm_token"))[: 1 + settings.both]

    def can_end(row: Mapping[str, Any]) -> bool:
        # Without room for another token a cut text would be graded, which says nothing of the token.
        ends = all(row[column] in end_ids for _, column in actions)
        return ends or row["position"] + 1 < settings.max_new_tokens

    undecided = {Case.NEITHER, Case.ONLY_LLM_RIGHT} if reference == "llm" else {Case.NEITHER}
    candidates = [row for row in tokens if row["correct"] and row["case"] in undecided and can_end(row)]
    drawn = random.Random(f"{settings.seed} {question.id}").sample(candidates, min(settings.budget, len(candidates)))
    written = [row["token"] for row in tokens]
    return [
        _Start(question, row["position"], role, len(candidates), [*written[: row["position"]], row[column]])
        for row in sorted(drawn, key=lambda row: row["position"])
        for role, column in actions
    ]


def _finish(
    pair: Pair,
    starts: Sequence[_Start],
    policy: Policy,
    threshold: float,
    limit: int,
    report: Report,
) -> list[Rollout]:
    texts, numbers = [], {}
    for number, start in enumerate(starts):
        if start.written[-1] not in pair.end_ids and len(start.written) < limit:
            asked = prompt(start.question)
            request = build_request(asked, threshold=threshold, max_new_tokens=limit - len(start.written))
            numbers[number] = len(texts)
            texts += pair.texts([request], [policy], [render(pair.tokenizer, request) + start.written])
    rows, finished = write_each(pair, texts, ROWS, report), []
    for number, start in enumerate(starts):
        row = rows[numbers[number]] if number in numbers else None
        events = row.events if row else []
        written = [*start.written, *(event.id for event in events)]
        correct = grade(start.question, str(pair.tokenizer.decode(written, skip_special_tokens=True)))
        spent = costs(events, row.prompt_tokens, pair.slm_cost, pair.llm_cost).run.bytes if row else 0.0
        # The token itself: both models stand before it, and one of them writes it.
        spent += (pair.slm_cost if start.role is Role.SLM else pair.llm_cost).forward(1, 0, True, 0, 0).bytes
        chosen = start.question.id, start.position, start.role
        finished.append(Rollout(*chosen, correct, spent, 1 + len(events), start.candidates))
    return finished


def _llm_bytes(pair: Pair, questions: Sequence[Question], labels: Path) -> float:
    """Mean bytes that the LLM alone moves to write a reference: the unit of cost of λ."""
    lengths, total = Counter[str](), 0.0
    for _, table in read_labels(labels):
        lengths.update(table.column("question").to_pylist())
    for question in questions:
        read = len(render(pair.tokenizer, Request(prompt(question))))
        for fed, cached in [(read, 0)] + [(1, read + n) for n in range(lengths[question.id] - 1)]:
            total += pair.llm_cost.forward(fed, cached, True, 0, 0).bytes
    return total / len(questions)
