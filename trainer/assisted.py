"""Speculative decoding beside the routers, with the same pair (Leviathan et al., ICML 2023; greedy).

It is lossless: the text is the LLM's own, drafted by the SLM and checked by the LLM, several tokens a pass. A router is
only worth having where it beats that, so it stands beside them on the same questions in the same units: bytes, FLOPs
and modelled seconds follow from each text's passes as they do for routed texts. transformers' assisted generation does
the same for one text at a time, with passes of its own on top (prompts read in parts, tokens read again); the benchmark
times that one. Here the texts of a shard are drafted and checked side by side, and each is charged as if alone.

Knows the engine's models and caches; there is no routing here, so it is not the decode loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine import Request
from engine.assisted import DRAFT
from engine.cache import RaggedCache
from engine.cost import Cost
from engine.models import LanguageModel
from engine.pair import Pair
from engine.prompt import render
from trainer.data import Question, prompt
from trainer.grading import grade
from trainer.provenance import provenance
from trainer.shards import Shards, write_lines

METHOD = "assisted"
SHARD = 50  # questions


@dataclass
class _Text:
    """A text being written.

    Attributes:
        row: In the caches.
        tokens: Prompt and what is checked.
        prompt: Tokens of the prompt.
        slm, llm: Each pass of a model: tokens fed, and tokens cached before.
        draft: Not checked yet.
        finish: Why it ended.
    """

    row: int
    tokens: list[int]
    prompt: int
    slm: list[tuple[int, int]] = field(default_factory=list)
    llm: list[tuple[int, int]] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    finish: str | None = None


def assist(
    pair: Pair,
    questions: Sequence[Question],
    folder: Path,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
) -> bool:
    """Answers questions by speculative decoding, as lines like those of `trainer.evaluate`, into the same folder.

    Args:
        pair: The models; the SLM drafts.
        questions: Those of the evaluation.
        folder: Of the evaluation.
        max_new_tokens: Of an answer.
        report: Told of progress.

    Returns:
        Whether all answers are there now; other processes may still be writing theirs.

    Raises:
        TrainerError: The folder holds such answers to other questions.
    """

    def make(some: Sequence[Question], path: Path) -> None:
        texts = write(pair, [render(pair.tokenizer, Request(prompt(q))) for q in some], max_new_tokens)
        write_lines(path, [_line(pair, *each) for each in zip(some, texts, strict=True)])

    settings = {"preset": pair.preset, "max_new_tokens": max_new_tokens, "draft": DRAFT}
    return Shards(folder, METHOD, SHARD, ".jsonl").run(settings, questions, make, report, notes=provenance())


@torch.inference_mode()
def write(pair: Pair, prompts: Sequence[list[int]], max_new_tokens: int) -> list[_Text]:
    """Writes texts greedily: rounds of at most `DRAFT` tokens drafted by the SLM and one pass of the LLM.

    Args:
        pair: The models.
        prompts: Token ids.
        max_new_tokens: Of each text.
    """
    texts = [_Text(row, list(ids), len(ids)) for row, ids in enumerate(prompts)]
    room = max(map(len, prompts)) + max_new_tokens + DRAFT
    slm, llm = (model.new_cache(len(texts), room) for model in (pair.slm, pair.llm))
    while going := [text for text in texts if text.finish is None]:
        for count in range(DRAFT):
            # The LLM adds a token of its own to every draft, so the last one is never drafted.
            drafting = [
                text
                for text in going
                if len(text.draft) == count
                and len(text.tokens) + count < text.prompt + max_new_tokens - 1
                and not pair.end_ids.intersection(text.draft)
            ]
            if drafting:
                states = _read(pair.slm, slm, drafting, [text.slm for text in drafting])
                found = pair.slm.logits(torch.stack([each[-1] for each in states])).argmax(-1).tolist()
                for text, token in zip(drafting, found, strict=True):
                    text.draft.append(token)
        states = _read(pair.llm, llm, going, [text.llm for text in going])
        for text, each in zip(going, states, strict=True):
            _check(pair, text, pair.llm.logits(each[-1 - len(text.draft) :]).argmax(-1).tolist(), max_new_tokens)
            for cache in (slm, llm):
                cache.truncate(text.row, min(cache.lengths[text.row], len(text.tokens) - 1))
    return texts


def _read(
    model: LanguageModel, cache: RaggedCache, texts: Sequence[_Text], passes: Sequence[list[tuple[int, int]]]
) -> list[torch.Tensor]:
    """A model reads what it has not seen of texts and drafts; notes the pass of each."""
    starts = [cache.lengths[text.row] for text in texts]
    chunks = [[*text.tokens, *text.draft][start:] for text, start in zip(texts, starts, strict=True)]
    for own, start, chunk in zip(passes, starts, chunks, strict=True):
        own.append((len(chunk), start))
    return model.feed(cache, [text.row for text in texts], chunks)


def _check(pair: Pair, text: _Text, choices: Sequence[int], max_new_tokens: int) -> None:
    """Keeps of a draft what the LLM would have written, and the token it wants next; `choices` are the LLM's."""
    agreed = next((n for n, (a, b) in enumerate(zip(text.draft, choices, strict=False)) if a != b), len(text.draft))
    for token in [*text.draft[:agreed], choices[agreed]]:
        text.tokens.append(token)
        if token in pair.end_ids:
            text.finish = "eos"
            break
    if text.finish is None and len(text.tokens) >= text.prompt + max_new_tokens:
        text.finish = "length"
    text.draft = []


def _line(pair: Pair, question: Question, text: _Text) -> dict[str, Any]:
    written = text.tokens[text.prompt :]
    answer = str(pair.tokenizer.decode(written, skip_special_tokens=True))
    spent = _cost(pair.slm, text.slm, checks=False) + _cost(pair.llm, text.llm, checks=True)
    return {
        "question": question.id,
        "method": METHOD,
        "threshold": 0.0,
        "correct": grade(question, answer),
        "tokens": len(written),
        "llm_tokens": len(written),  # the LLM has the last word on every token
        "bytes": spent.bytes,
        "flops": spent.flops,
        "seconds": round(spent.seconds, 4),
        "finish": text.finish,
        "text": answer,
    }


def _cost(model: LanguageModel, passes: Sequence[tuple[int, int]], checks: bool) -> Cost:
    """`lm_head` is read once a pass, and applied to all the tokens that a draft has to be checked against."""
    total = Cost()
    for number, (fed, cached) in enumerate(passes):
        checked = (min(fed, DRAFT + 1) if number == 0 else fed) - 1 if checks else 0
        total += model.cost.forward(fed, cached, True, 0, 0) + Cost(flops=checked * model.cost.head_flops)
    return total
