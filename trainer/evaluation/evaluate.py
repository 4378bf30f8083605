"""Evaluation: every method at every setting on questions that no router saw. Each answer becomes a row.

A method's answers to a question enter the engine's decode loop together, where texts that are the same so far share
their passes. An answer is charged what it would cost alone: its bytes and FLOPs follow from its events. Seconds are
measured on few questions, one text at a time.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine import Request, costs
from engine.batch.text import Text
from engine.events import TokenEvent, llm_passes, llm_tokens, taken_back
from engine.grading import agreement, grade
from engine.pair import Pair
from engine.provenance import hardware, pair_title, revision
from engine.setting import Setting
from trainer import Report, TrainerError, stored
from trainer.continuous_batch import require_costs, write
from trainer.evaluation.methods import SPECULATIVE, Method, as_published, check_fits
from trainer.evaluation.rows import SCHEMA, About, Row, authors_of, write_rows
from trainer.questions import Question, prompt
from trainer.shards import Shards, identity_of

AT_ONCE = 128
"""Texts that are written at once."""

SHARD = 80
"""Questions of a shard: an interrupted run loses what it did since the last one."""

SECONDS = "seconds"
"""The stage of answers that were written alone."""


def evaluate(
    pair: Pair,
    questions: Sequence[Question],
    methods: Sequence[Method],
    folder: Path,
    task: str,
    max_new_tokens: int,
    report: Report = print,
    alone: bool = False,
) -> None:
    """Answers questions by every method at every setting, into `folder`; resumes where it stopped.

    Each method is a stage of its own, so that others may be added later. Those that answer `alone` are one stage.

    Args:
        questions: None that a router was trained on. Texts to general prompts are compared with the LLM's own.
        folder: Gets `<method>.json` and the shards of each method.
        task: Name of the questions, in results.
        max_new_tokens: An answer that is cut there is graded as it is.
        alone: Write one text at a time, methods taking turns, on an idle machine. `gather` adds the seconds to the rows
            of the same answers. The LLM alone, which the others are compared with, is one of the methods.

    Raises:
        TrainerError: The folder holds answers to other questions, or by a method of that name at other settings.
        RouterError: A router is not for this pair.
    """
    if alone and "llm" not in {each.name for each in methods}:
        raise TrainerError("seconds are compared with the LLM's alone: list llm among the methods")
    check_fits(methods, pair)
    machine = hardware() if pair.llm.local else f"{hardware()}, LLM on a server"  # whose clock the seconds are
    for stage, own in {SECONDS: methods}.items() if alone else {each.name: [each] for each in methods}.items():

        def make(some: Sequence[Question], path: Path, own: Sequence[Method] = own) -> None:
            if alone:
                rows = [row for question in some for row in _timed(pair, question, own, max_new_tokens)]
            else:
                rows = _answers(pair, some, own[0], max_new_tokens, report)
            made = f"{revision()}; {machine}; {pair.quantisation}"
            stored.write_rows(path, ({**asdict(row), "made": made} for row in rows), SCHEMA)

        _shards(folder, stage).run(_made_of(pair, own, task, max_new_tokens), questions, make, report)


def gather(folder: Path, out: Path) -> Path:
    """Joins the rows of all methods of a folder, with seconds where they were measured, into one file.

    Returns:
        Its path, `<task>.parquet` in `out`.

    Raises:
        TrainerError: Answers are missing, or two stages are of different questions or models.
    """
    stages = {path.stem: _shards(folder, path.stem).load() for path in sorted(folder.glob("*.json"))}
    timed, _ = stages.pop(SECONDS, ([], None))
    if not stages:
        raise TrainerError(f"{folder} holds no answers: run `python -m trainer evaluate` first")
    first, made = next((name, made) for name, (_, made) in stages.items())
    for stage, (_, other) in stages.items():
        for name in ("data", "pair", "preset", "task", "max_new_tokens"):
            if other[name] != made[name]:
                raise TrainerError(f"{folder}: {stage} and {first} differ in {name}; give each its own folder")
    written = (row for paths, _ in stages.values() for path in paths for row in _read(path))
    rows = {(row.question, row.method, row.setting): row for row in written}
    for row in (row for path in timed for row in _read(path)):
        if (key := (row.question, row.method, row.setting)) in rows:
            rows[key] = replace(rows[key], seconds=row.seconds)
    routers = {name: router for _, each in stages.values() for name, _, router in each["methods"] if router}
    about = About(made["pair"], made["preset"], made["task"], made["max_new_tokens"], routers)
    path = out / f"{about.task}.parquet"
    write_rows(path, list(rows.values()), about)
    return path


def _answers(
    pair: Pair, questions: Sequence[Question], method: Method, max_new_tokens: int, report: Report
) -> list[Row]:
    """The rows of some questions. To a general prompt the LLM alone writes a text as well, for comparison."""
    alone = Method("llm", (Setting("llm", 0.0),))
    groups = []
    for question in questions:
        asked = [(method, setting) for setting in method.settings]
        groups.append(asked if question.answer else [(alone, alone.settings[0]), *asked])
    texts = [
        pair.texts(
            [_request(question, setting, max_new_tokens) for _, setting in asked],
            [each.policy(setting) for each, setting in asked],
        )
        for question, asked in zip(questions, groups, strict=True)
    ]
    write(pair, texts, AT_ONCE, report)
    rows = []
    for question, asked, written in zip(questions, groups, texts, strict=True):
        llm = None if question.answer else [event.id for event in written[0].events]
        pairs = list(zip(asked, written, strict=True))[0 if llm is None else 1 :]
        rows += [_row(pair, question, each, setting, text, llm) for (each, setting), text in pairs]
    return rows


def _timed(pair: Pair, question: Question, methods: Sequence[Method], max_new_tokens: int) -> Iterator[Row]:
    """The rows of a question with their seconds. The setting that begins differs from question to question."""
    settings = [(each, setting) for each in methods for setting in each.settings]
    first = zlib.crc32(question.id.encode()) % len(settings)
    for each, setting in (*settings[first:], *settings[:first]):
        started = time.perf_counter()
        decoding = pair.start([_request(question, setting, max_new_tokens)], [each.policy(setting)])
        decoding.finish()
        seconds = time.perf_counter() - started
        yield replace(_row(pair, question, each, setting, decoding.texts[0]), seconds=seconds)


def _request(question: Question, setting: Setting, max_new_tokens: int) -> Request:
    """The engine's request. The policy is passed beside it, since a request may not name each of them."""
    return Request(
        prompt(question),
        replace(setting, policy="router"),
        max_new_tokens=max_new_tokens,
        # Random routing depends on the seed, which is the question's own: no two questions share their draws.
        seed=zlib.crc32(question.id.encode()),
    )


def _row(
    pair: Pair,
    question: Question,
    method: Method,
    setting: Setting,
    written: Text,
    llm: Sequence[int] | None = None,
) -> Row:
    """A finished text as a row; `llm` are the tokens of the LLM's own text to a general prompt."""
    events: Sequence[TokenEvent] = written.events
    if method.name == SPECULATIVE and setting.max_draft != "auto":
        events = as_published(events, setting.max_draft)
    router = method.router
    network = router.network if router else None
    size, flops = (network.bytes, network.flops) if network else (0, 0)
    slm = replace(pair.slm_cost, router_bytes=size, router_flops=flops)
    spent = costs(events, written.prompt_tokens, slm, pair.llm_cost, pair.prices).run
    text = "".join(event.text for event in events)
    return Row(
        question=question.id,
        method=method.name,
        setting=str(setting),
        right=float(grade(question, text)) if llm is None else agreement([event.id for event in events], llm),
        bytes=round(spent.bytes),
        flops=spent.flops,
        tokens=len(events),
        llm_tokens=llm_tokens(events),
        llm_passes=llm_passes(events),
        taken_back=taken_back(events),
        authors=authors_of(events),
        seconds=None,
        text=text,
        made="",
    )


def _read(path: Path) -> list[Row]:
    return [Row(**row) for row in stored.read_rows(path, SCHEMA)]


def _made_of(pair: Pair, methods: Sequence[Method], task: str, max_new_tokens: int) -> dict[str, Any]:
    """What a stage depends on besides the questions; a TrainerError if the cost of the LLM's passes is unknown."""
    require_costs(pair)
    return {
        "pair": pair_title(pair.slm_name, pair.llm_name, pair.quantisation),
        "preset": pair.preset,
        "task": task,
        "max_new_tokens": max_new_tokens,
        "methods": [[each.name, [str(setting) for setting in each.settings], each.identity] for each in methods],
        **identity_of(pair),
    }


def _shards(folder: Path, stage: str) -> Shards:
    return Shards(folder, stage, 1 if stage == SECONDS else SHARD)
