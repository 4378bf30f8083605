"""Speculative decoding beside the routers: transformers' assisted generation with the same pair.

It is lossless: the text is the LLM's own, drafted by the SLM and checked by the LLM, several tokens a pass. A router is
only worth having where it beats that, so it is measured on the same questions in the same units. Every forward pass of
both models is counted by a hook; bytes, FLOPs and modelled seconds follow from them as they do for routed texts.

The text is written by `engine.assisted`; here it is counted and graded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from engine import Request
from engine.assisted import assisted
from engine.cost import Cost
from engine.models import LanguageModel
from engine.pair import Pair
from engine.prompt import render
from trainer.data import Question, prompt
from trainer.grading import grade
from trainer.shards import Shards, write_lines

METHOD = "assisted"
SHARD = 20  # questions


def assist(
    pair: Pair,
    questions: Sequence[Question],
    folder: Path,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
) -> None:
    """Answers questions with assisted generation, as lines like those of `trainer.evaluate`, into the same folder.

    Args:
        pair: The models; the SLM drafts.
        questions: Those of the evaluation.
        folder: Of the evaluation.
        max_new_tokens: Of an answer.
        report: Told of progress.

    Raises:
        TrainerError: The folder holds such answers to other questions.
    """

    def make(some: Sequence[Question], path: Path) -> None:
        lines = [_line(pair, question, max_new_tokens) for question in some]
        write_lines(path, lines)

    settings = {"preset": pair.preset, "max_new_tokens": max_new_tokens}
    Shards(folder, METHOD, SHARD, ".jsonl").run(settings, questions, make, report)


def _line(pair: Pair, question: Question, max_new_tokens: int) -> dict[str, Any]:
    ids = render(pair.tokenizer, Request(prompt(question)))
    with counted(pair.slm) as slm, counted(pair.llm) as llm:
        written = assisted(
            pair.slm.model, pair.llm.model, pair.tokenizer, ids, max_new_tokens, pair.end_ids, pair.end_id
        )
    text = str(pair.tokenizer.decode(written, skip_special_tokens=True))
    spent = sum((_cost(model, passes) for model, passes in ((pair.slm, slm), (pair.llm, llm))), Cost())
    return {
        "question": question.id,
        "method": METHOD,
        "threshold": 0.0,
        "correct": grade(question, text),
        "tokens": len(written),
        "llm_tokens": len(written),  # the LLM has the last word on every token
        "bytes": spent.bytes,
        "flops": spent.flops,
        "seconds": round(spent.seconds, 4),
        "finish": "eos" if written and written[-1] in pair.end_ids else "length",
        "text": text,
    }


@contextmanager
def counted(model: LanguageModel) -> Iterator[list[tuple[int, int]]]:
    """Collects (tokens fed, positions from which on they stand) of every forward pass of a model while it is open."""
    passes: list[tuple[int, int]] = []

    def note(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids: torch.Tensor = kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0]
        fed = ids.shape[-1]
        positions = kwargs.get("position_ids")
        passes.append((fed, int(positions.min()) if positions is not None else sum(each[0] for each in passes)))

    trunk: Any = model.model.get_decoder()
    handle = trunk.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()


def _cost(model: LanguageModel, passes: Sequence[tuple[int, int]]) -> Cost:
    """Each pass applies `lm_head` to all the tokens that a draft has to be checked against, but reads it once."""
    total = Cost()
    for number, (fed, cached) in enumerate(passes):
        checked = 0 if number == 0 else fed - 1
        total += model.cost.forward(fed, cached, True, 0, 0) + Cost(flops=checked * model.cost.head_flops)
    return total
