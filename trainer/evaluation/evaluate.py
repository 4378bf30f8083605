"""Evaluation: every method at every setting on questions that no router saw, as one line per answer.

All of a question's answers enter the engine's decode loop together, where texts that are the same so far share their
passes: a sweep over methods and thresholds at once. What an answer costs is what it would cost alone: bytes
and FLOPs follow exactly from its events, its seconds are modelled from the measured pass of each model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine import Request, build_request
from engine.batch.rows import Row
from engine.events import TokenEvent, llm_passes, llm_tokens, taken_back
from engine.events.cost import Cost, costs_alone
from engine.pair import Pair
from engine.provenance import pair_title, provenance
from trainer import TrainerError
from trainer.continuous_batch import WantedText, write
from trainer.evaluation.method_names import SPECULATIVE, parsed, spelled
from trainer.evaluation.methods import Method
from trainer.evaluation.record import GradedAnswer, check_joins, settings_of, stages_in
from trainer.evaluation.speculative import as_published
from trainer.json_files import write_lines
from trainer.questions.question import Question, prompt
from trainer.shards import Shards, digest, identity_of

AT_ONCE = 61_440
"""New tokens, at most, that have room at once: those of some questions, by every method at every threshold.

The `cpu` pair's caches take 41 kB a token, so 2.5 GB and the prompts. The more texts are written at once, the more of
them share one reading of the weights; but with half as many again the process grew to 23 GB, 8 of them the copy."""

SHARD = 4 * AT_ONCE
"""New tokens, at most, of a shard. Its last texts run nearly alone, so few shards are faster; what is interrupted is
lost back to the last one."""


def evaluate(
    pair: Pair,
    questions: Sequence[Question],
    methods: Sequence[Method],
    folder: Path,
    task: str,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
    stage: str = "evaluation",
) -> bool:
    """Answers questions with every method at every threshold, into `folder`; resumes where it stopped.

    Args:
        questions: None of which a router was trained on.
        folder: Gets `<stage>.json` and one JSONL file per shard.
        task: Name of the questions, in results.
        max_new_tokens: An answer that is cut there is graded as it is, which mostly means wrong.
        stage: Several may share a folder, so that a new router does not ask for the answers of the others again.

    Returns:
        Whether all answers are there now; other processes may still be writing theirs.

    Raises:
        TrainerError: The folder holds results of other questions, methods or settings, or another stage of it has
            answers that are asked for.
    """

    def make(some: Sequence[Question], path: Path) -> None:
        write_lines(path, map(asdict, _answers(pair, some, methods, max_new_tokens, report)))

    settings = check_stage(pair, questions, methods, folder, task, max_new_tokens, stage)
    shards = Shards(folder, stage, shard_size(methods, max_new_tokens), ".jsonl")
    return shards.run(settings, questions, make, report, notes=written_by(pair))


def shard_size(methods: Sequence[Method], max_new_tokens: int) -> int:
    """How many questions a shard has, by how long the texts of each may get in all."""
    texts = sum(len(method.thresholds) for method in methods)
    return max(1, SHARD // max(1, texts * max_new_tokens))


def check_stage(
    pair: Pair,
    questions: Sequence[Question],
    methods: Sequence[Method],
    folder: Path,
    task: str,
    max_new_tokens: int,
    stage: str,
) -> dict[str, Any]:
    """What the stage will say of its methods (`begun_with`), if it can join the folder; raises as `check_joins`."""
    settings = begun_with(pair, methods, task, max_new_tokens)
    check_joins(folder, stage, settings | {"data": digest(questions)})
    return settings


def begun_with(pair: Pair, methods: Sequence[Method], task: str, max_new_tokens: int) -> dict[str, Any]:
    """What a stage's file says beside its questions; a stage that was begun with anything else is not gone on with.

    An EngineError if the LLM is on a server, whose bytes and FLOPs are not known.
    """
    _ = pair.models
    return {
        "pair": pair_title(pair.slm_name, pair.llm_name, pair.quantisation),
        "preset": pair.preset,
        "task": task,
        "max_new_tokens": max_new_tokens,
        "methods": [method.made_of for method in methods],
        **identity_of(pair),
    }


def written_by(pair: Pair) -> dict[str, str]:
    """What a stage's file says of how its texts came about: provenance, and by which copy of the weights."""
    return provenance("trainer") | {"weights_copy": "none"}


def chosen_thresholds(folder: Path, stage: str) -> dict[str, list[float]]:
    """The thresholds that a stage was begun with, by the method's title; empty if it was not begun."""
    begun: dict[str, list[float]] = {}
    for setting in settings_of(stages_in(folder, stage).get(folder / f"{stage}.json", {})):
        begun.setdefault(spelled(*setting[:3]), []).append(setting.threshold)
    return begun


def check_main(main: str, methods: Sequence[str], folder: Path) -> None:
    """Refuses, by a TrainerError before hours are spent, a main method of which there will be no answers.

    Args:
        methods: That are asked for, as `method_names.parsed` reads them.
        folder: Whose stages may have it already.
    """
    asked = [parsed(each) for each in methods]
    begun = [setting for stage in stages_in(folder).values() for setting in settings_of(stage)]
    names = sorted({each[0] for each in (*asked, *begun) if each.acceptance == 0 or each[0] in SPECULATIVE})
    if main not in names:
        raise TrainerError(
            f"--main {main}: at acceptance 0 it is not asked for, and {folder} has no answers of it: {', '.join(names)}"
        )


def asked_of(
    question: Question,
    method: Method,
    threshold: float,
    max_new_tokens: int,
    text: Callable[[Question], str] = prompt,
) -> Request:
    """What the engine is asked for an answer by a method at a threshold; `text` says it to the models."""
    return build_request(
        text(question),
        threshold=threshold,
        acceptance=method.acceptance,
        max_draft=method.max_draft,
        max_new_tokens=max_new_tokens,
        # Random routing depends on the seed, which is the question's own: no two questions share their draws.
        seed=zlib.crc32(question.id.encode()),
    )


def _answers(
    pair: Pair,
    questions: Sequence[Question],
    methods: Sequence[Method],
    max_new_tokens: int,
    report: Callable[[str], None],
) -> Iterator[GradedAnswer]:
    for question, written in written_texts(pair, questions, methods, max_new_tokens, report):
        for method, threshold, row in written:
            yield graded(pair, question, method, threshold, row)


def written_texts(
    pair: Pair,
    questions: Sequence[Question],
    methods: Sequence[Method],
    max_new_tokens: int,
    report: Callable[[str], None],
    text: Callable[[Question], str] = prompt,
) -> Iterator[tuple[Question, list[tuple[Method, float, Row]]]]:
    """Each question with its finished rows, one by every method at every threshold; `text` as for `asked_of`."""
    asked = [(method, threshold) for method in methods for threshold in method.thresholds]
    groups = [
        [
            WantedText(asked_of(question, method, threshold, max_new_tokens, text), method.policy)
            for method, threshold in asked
        ]
        for question in questions
    ]
    written = write(pair, groups, AT_ONCE // max_new_tokens, report)
    for question, rows in zip(questions, written, strict=True):
        yield question, [(*setting, row) for setting, row in zip(asked, rows, strict=True)]


def graded(pair: Pair, question: Question, method: Method, threshold: float, row: Row) -> GradedAnswer:
    """The answer that a finished row of the engine is, with what it would cost alone."""
    events, spent = charged_alone(pair, method, row)
    return GradedAnswer.graded(
        question,
        "".join(event.text for event in events),
        spent,
        method=method.name,
        threshold=threshold,
        tokens=len(events),
        llm_tokens=llm_tokens(events),
        finish=row.finish_reason,
        acceptance=method.acceptance,
        max_draft=method.max_draft,
        llm_passes=llm_passes(events),
        taken_back=taken_back(events),
        prompt_tokens=row.prompt_tokens,
    )


def charged_alone(pair: Pair, method: Method, row: Row) -> tuple[Sequence[TokenEvent], Cost]:
    """The events of a finished row, as its method is charged for them, and what they would cost alone."""
    router_bytes, router_flops = (method.router.bytes, method.router.flops) if method.router else (0, 0)
    slm_cost = replace(pair.slm_cost, router_bytes=router_bytes, router_flops=router_flops)
    events: Sequence[TokenEvent] = row.events
    if method.name in SPECULATIVE and method.max_draft != "auto":
        events = as_published(events, method.max_draft)
    return events, costs_alone(events, row.prompt_tokens, slm_cost, pair.llm_cost, pair.prices).run
