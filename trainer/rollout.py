"""Rollouts: what becomes of the answer if a given model writes a given token (CITER, section 3.2).

At a sample of the tokens that the shortcut does not settle, the text is finished from that token on under a policy,
through the engine's decode loop, and the answer is graded. Round 0 finishes with the SLM alone; a later round with the
router of the round before at its threshold. Knows labels and shards; the rule that makes preferences of the outcomes is
in `trainer.preference`.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets

from engine import Request, Role
from engine.cost import costs
from engine.decoding import decode
from engine.pair import Pair
from engine.policy import FixedPolicy, Policy, RouterPolicy
from engine.prompt import render
from engine.router import Router
from trainer.data import Question, prompt
from trainer.errors import TrainerError
from trainer.grading import grade
from trainer.label import load_labels
from trainer.preference import Case
from trainer.shards import Shards, read_lines, write_lines

SHARD = 60  # questions
ROWS = 256  # rollouts written at once: more do not make two cores faster


@dataclass(frozen=True)
class RolloutSettings:
    """How tokens are rolled out.

    Attributes:
        budget: Tokens rolled out per question at most; which ones is drawn by chance.
        both: Whether the LLM's token is tried as well as the SLM's, as a cost weight λ > 0 needs.
        max_new_tokens: Of the whole answer; one that is cut there is graded as it is.
        threshold: Of the router that finishes the text.
        seed: Of the draw.
    """

    budget: int = 8
    both: bool = False
    max_new_tokens: int = 256
    threshold: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Rollout:
    """What became of one answer.

    Attributes:
        question, position: The token that was chosen.
        role: Who wrote it.
        correct: Whether the finished answer is right.
        bytes: Moved from that token to the end.
        tokens: Written from there on.
        candidates: Tokens of the question among which those to roll out were drawn.
    """

    question: str
    position: int
    role: Role
    correct: bool
    bytes: float
    tokens: int
    candidates: int


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
    report: Callable[[str], None] = print,
) -> None:
    """Rolls out undecided tokens of labelled questions into `folder`; resumes where it stopped.

    With references from the data set those are the tokens that neither model wrote; with the LLM's own answers, where
    the shortcut is always decided but myopic, all tokens where the SLM would have written another.

    Args:
        pair: The models.
        questions: Those of the labels.
        labels: Written by `trainer.label`.
        folder: Created.
        settings: How many, and how.
        router: Finishes the texts, at `settings.threshold`; None lets the SLM finish them alone (round 0).
        report: Told of progress and of how often the SLM's token did no harm.

    Raises:
        TrainerError: The labels are incomplete or of other questions; the folder holds rollouts made otherwise.
    """
    data, labelled = load_labels(labels)
    if {question.id for question in questions} != set(labelled["questions"]):
        raise TrainerError(f"{labels} holds labels of other questions than the {len(questions)} given")
    starts = _starts(questions, data, labelled["reference"], settings)
    about = {
        "policy": router.name if router else "slm",
        "router": fingerprint(router) if router else None,
        "labels": {name: value for name, value in labelled.items() if name != "answers"},
        **asdict(settings),
        "llm_bytes": _llm_bytes(pair, questions, data),
    }
    policy = RouterPolicy(router) if router else FixedPolicy(Role.SLM)
    own = pair.router
    pair.use_router(router)

    def make(some: Sequence[Question], path: Path) -> None:
        todo = [start for question in some for start in starts[question.id]]
        batches = [todo[n : n + ROWS] for n in range(0, len(todo), ROWS)]
        done = [rollout for batch in batches for rollout in _finish(pair, batch, policy, settings)]
        write_lines(path, map(asdict, done))

    try:
        complete = _shards(folder).run(about, questions, make, report)
    finally:
        pair.use_router(own)
    if complete:
        tried = [r for r in load_rollouts(folder)[0] if r.role is Role.SLM]
        harmless = sum(r.correct for r in tried) / max(1, len(tried))
        report(f"{len(tried):,} of the SLM's tokens rolled out; after {harmless:.1%} the answer was right")


def load_rollouts(folder: Path) -> tuple[list[Rollout], dict[str, Any]]:
    """All rollouts of a folder, and the settings they were made with.

    Raises:
        TrainerError: None there, or some shard is missing.
    """
    paths, settings = _shards(folder).load()
    return [Rollout(**{**line, "role": Role(line["role"])}) for line in read_lines(paths)], settings


def fingerprint(router: Router) -> str:
    """SHA-256 of a router's weights."""
    weights = router.network.state_dict()
    return hashlib.sha256(b"".join(weights[name].cpu().numpy().tobytes() for name in sorted(weights))).hexdigest()


def _shards(folder: Path) -> Shards:
    return Shards(folder, "rollouts", SHARD, ".jsonl")


def _starts(
    questions: Sequence[Question], data: datasets.Dataset, reference: str, settings: RolloutSettings
) -> Mapping[str, list[_Start]]:
    """What to roll out, by question: the draw depends on the seed and the question alone."""
    by_id = {question.id: question for question in questions}
    undecided = {Case.NEITHER, Case.ONLY_LLM_RIGHT} if reference == "llm" else {Case.NEITHER}
    columns = data.select_columns(["question", "position", "token", "slm_token", "llm_token", "case", "correct"])
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in columns.to_list():
        rows[row["question"]].append(row)
    starts: dict[str, list[_Start]] = {}
    for name, tokens in rows.items():
        candidates = [row for row in tokens if row["correct"] and row["case"] in undecided]
        drawn = random.Random(f"{settings.seed} {name}").sample(candidates, min(settings.budget, len(candidates)))
        written = [row["token"] for row in tokens]
        starts[name] = [
            _Start(by_id[name], row["position"], role, len(candidates), [*written[: row["position"]], row[column]])
            for row in sorted(drawn, key=lambda row: row["position"])
            for role, column in ((Role.SLM, "slm_token"), (Role.LLM, "llm_token"))[: 1 + settings.both]
        ]
    return starts


def _finish(pair: Pair, starts: Sequence[_Start], policy: Policy, settings: RolloutSettings) -> list[Rollout]:
    """Finishes a batch of texts and grades them."""
    open_ = [s for s in starts if s.written[-1] not in pair.end_ids and len(s.written) < settings.max_new_tokens]
    rows = {}
    if open_:
        requests = [
            Request(
                prompt(s.question),
                threshold=settings.threshold,
                max_new_tokens=settings.max_new_tokens - len(s.written),
            )
            for s in open_
        ]
        prompts = [render(pair.tokenizer, r) + s.written for r, s in zip(requests, open_, strict=True)]
        decoding = pair.start(requests, [policy] * len(open_), prompts)
        for _ in decode(decoding):
            pass
        rows = dict(zip(map(id, open_), decoding.rows, strict=True))
    finished = []
    for start in starts:
        row = rows.get(id(start))
        events = row.events if row else []
        written = [*start.written, *(event.id for event in events)]
        text = pair.tokenizer.decode(written, skip_special_tokens=True)
        spent = costs(events, row.prompt_tokens, pair.slm_cost, pair.llm_cost).run.bytes if row else 0.0
        finished.append(
            Rollout(
                start.question.id,
                start.position,
                start.role,
                grade(start.question, str(text)),
                # The action itself: both models stand at the token, and one of them writes it.
                spent + (pair.slm_cost if start.role is Role.SLM else pair.llm_cost).forward(1, 0, True, 0, 0).bytes,
                1 + len(events),
                start.candidates,
            )
        )
    return finished


def _llm_bytes(pair: Pair, questions: Sequence[Question], data: datasets.Dataset) -> float:
    """Mean bytes that the LLM alone moves to write a reference: the unit of cost of λ."""
    lengths: dict[str, int] = defaultdict(int)
    for name in data["question"]:
        lengths[name] += 1
    total = 0.0
    for question in questions:
        read = len(render(pair.tokenizer, Request(prompt(question))))
        for fed, cached in [(read, 0)] + [(1, read + n) for n in range(lengths[question.id] - 1)]:
            total += pair.llm_cost.forward(fed, cached, True, 0, 0).bytes
    return total / len(questions)
