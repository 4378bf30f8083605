"""Speculative decoding beside the routers: transformers' assisted generation with the same pair.

It is lossless: the text is the LLM's own, drafted by the SLM and checked by the LLM, several tokens a pass. A router is
only worth having where it beats that, so it is measured on the same questions in the same units. Every forward pass of
both models is counted by a hook; bytes, FLOPs and modelled seconds follow from them as they do for routed texts.

Knows transformers' `generate`; it is the one text here that the engine's decode loop does not write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from engine import Request
from engine.cost import Cost
from engine.models import LanguageModel
from engine.pair import Pair
from engine.prompt import render
from trainer.data import Question, prompt
from trainer.grading import grade
from trainer.shards import Shards, write_lines

METHOD = "assisted"
SHARD = 20  # questions
DRAFT = 5
"""Tokens drafted per check. transformers' own default of 20 costs more SLM passes than it saves LLM passes here."""


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
        written = generate(pair, ids, max_new_tokens)
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


def generate(pair: Pair, ids: Sequence[int], max_new_tokens: int) -> list[int]:
    """Greedy assisted generation; returns the new token ids, the end token included."""
    llm: Any = pair.llm.model
    tensor = torch.tensor([list(ids)], device=pair.llm.device)
    outside = list(range(pair.llm.vocabulary, llm.config.vocab_size))  # the padded end of the vocabulary
    # Models padded to different lengths count as having different vocabularies, unless their tokenizers are given.
    differ = llm.config.vocab_size != pair.slm.model.config.vocab_size
    tokenizers = {"tokenizer": pair.tokenizer, "assistant_tokenizer": pair.tokenizer} if differ else {}
    drafter: Any = pair.slm.model
    drafter.generation_config.num_assistant_tokens = DRAFT
    drafter.generation_config.num_assistant_tokens_schedule = "constant"
    # transformers warns of arguments that it passes to itself here.
    logging.getLogger("transformers.generation.utils").setLevel(logging.ERROR)
    output = llm.generate(
        tensor,
        attention_mask=torch.ones_like(tensor),
        assistant_model=drafter,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(pair.end_ids),
        pad_token_id=pair.end_id,
        suppress_tokens=outside or None,
        **tokenizers,
    )
    return output[0, len(ids) :].tolist()


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
