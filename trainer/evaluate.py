"""Evaluation: every method at every threshold on questions that no router saw, as one line per answer.

All of a question's answers are written in one batch of the engine's decode loop, where texts that are the same so far
share their passes: a sweep over methods and thresholds at once. What an answer costs is what it would cost alone: bytes
and FLOPs follow exactly from its events, its seconds are modelled from the measured pass of each model.

Knows methods and shards; what follows from the answers is in `trainer.summary`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import Request
from engine.batch import Row
from engine.cost import cost_alone
from engine.decoding import decode
from engine.events import Role
from engine.pair import Pair
from trainer.data import Question, prompt
from trainer.grading import grade
from trainer.methods import Method
from trainer.provenance import provenance
from trainer.shards import Shards, write_lines

AT_ONCE = 61_440
"""New tokens, at most, that are written at once: the questions of a shard, by every method at every threshold.

The `cpu` pair's caches take 41 kB a token, so 2.5 GB and the prompts. The more texts are written at once, the more of
them share one reading of the weights; but with half as many again the process grew to 23 GB, 8 of them the copy."""


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
        pair: The models.
        questions: None of which a router was trained on.
        methods: What to compare.
        folder: Created; gets `evaluation.json` and one JSONL file per shard.
        task: Name of the questions, in results.
        max_new_tokens: An answer that is cut there is graded as it is, which mostly means wrong.
        report: Told of progress.
        stage: Name of the shards. Several stages may share a folder, so that a new router does not ask for the answers
            of the others again; the first is "evaluation".

    Returns:
        Whether all answers are there now; other processes may still be writing theirs.

    Raises:
        TrainerError: The folder holds results of other questions, methods or settings.
    """
    settings = {
        "pair": f"{pair.slm_name} ⇄ {pair.llm_name} · {pair.quantisation}",
        "preset": pair.preset,
        "task": task,
        "max_new_tokens": max_new_tokens,
        "methods": [[m.name, list(m.thresholds), m.identity] for m in methods],
    }

    def make(some: Sequence[Question], path: Path) -> None:
        lines = _answers(pair, some, methods, max_new_tokens)
        write_lines(path, lines)

    texts = sum(len(method.thresholds) for method in methods)
    size = max(1, AT_ONCE // (texts * max_new_tokens))
    return Shards(folder, stage, size, ".jsonl").run(settings, questions, make, report, notes=provenance())


def chosen_thresholds(folder: Path, stage: str) -> dict[str, list[float]]:
    """The thresholds that a stage was begun with, by method; empty if it was not begun."""
    try:
        about = json.loads((folder / f"{stage}.json").read_text(encoding="utf-8"))
        return {name: thresholds for name, thresholds, _ in about["methods"]}
    except FileNotFoundError:
        return {}


def _answers(
    pair: Pair, questions: Sequence[Question], methods: Sequence[Method], max_new_tokens: int
) -> list[dict[str, Any]]:
    """One line per question, method and threshold."""
    asked = [(q, m, threshold) for q in questions for m in methods for threshold in m.thresholds]
    requests = [
        # Random routing depends on the seed, which is the question's own: no two questions share their draws.
        Request(prompt(q), threshold=threshold, max_new_tokens=max_new_tokens, seed=zlib.crc32(q.id.encode()))
        for q, _, threshold in asked
    ]
    decoding = pair.start(requests, [method.policy for _, method, _ in asked])
    for _ in decode(decoding):
        pass
    return [_line(pair, *which, row) for which, row in zip(asked, decoding.rows, strict=True)]


def _line(pair: Pair, question: Question, method: Method, threshold: float, row: Row) -> dict[str, Any]:
    text = "".join(event.text for event in row.events)
    network = (method.router.bytes, method.router.flops) if method.router else (0, 0)
    slm = replace(pair.slm_cost, router_bytes=network[0], router_flops=network[1])
    spent = cost_alone(row.events, row.prompt_tokens, slm, pair.llm_cost)
    return {
        "question": question.id,
        "method": method.name,
        "threshold": threshold,
        "correct": grade(question, text),
        "tokens": len(row.events),
        "llm_tokens": sum(event.role is Role.LLM for event in row.events),
        "bytes": spent.bytes,
        "flops": spent.flops,
        "seconds": round(spent.seconds, 4),
        "finish": row.finish_reason,
        "text": text,
    }
