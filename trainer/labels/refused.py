"""Refused drafts: what the LLM's state is where the SLM would write another token than the LLM's own answer has.

Teacher-forced on those answers, one pass per model and question. Rollouts say of some of these tokens whether they do
harm; from both `trainer.fit.fit_judge` learns which do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine import Request
from engine.pair import Pair
from engine.tokenizer import render
from trainer import TrainerError
from trainer.json_files import AGAIN
from trainer.labels.answers import Answer
from trainer.labels.labels import BATCH, digest_of, teacher_force
from trainer.questions.question import Question, prompt
from trainer.shards import MadeOf, Shards, identity_of

SHARD = 20  # questions: a minute or two on two cores


class _MadeOf(MadeOf):
    slm_name: str
    llm_name: str
    quantisation: str
    tokenizer: str


def gather(
    pair: Pair,
    questions: Sequence[Question],
    answers: Mapping[str, Answer],
    folder: Path,
    report: Callable[[str], None] = print,
) -> bool:
    """Writes the refused drafts of the LLM's answers to some questions; resumes where it stopped.

    Returns:
        Whether all are there; other processes may still be at theirs.

    Raises:
        TrainerError: The folder holds those of other questions or models; an answer is missing.
    """
    settings = {name: getattr(pair, name) for name in ("preset", "slm_name", "llm_name", "quantisation")}
    settings |= {"tokenizer": pair.fingerprint, **identity_of(pair)}
    if missing := [question.id for question in questions if question.id not in answers]:
        raise TrainerError(f"{len(missing)} of {len(questions)} questions have no answer, e.g. {missing[0]}")
    settings["answers"] = digest_of(answers, questions)

    def make(some: Sequence[Question], path: Path) -> None:
        parts = [row for n in range(0, len(some), BATCH) for row in _refused(pair, some[n : n + BATCH], answers, n)]
        save_file({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, path)

    return _shards(folder).run(settings, questions, make, report)


def load_refused(folder: Path) -> tuple[list[tuple[str, int]], dict[str, torch.Tensor], dict[str, Any]]:
    """All refused drafts of a folder: (question, position) of each, arrays by name, and what they were made with.

    The arrays: `token` int32 [n], which the SLM would write; `log_ratio` float32 [n], log of its probability by that of
    the LLM's likeliest; `hidden` float16 [n, d], the LLM's state before it. A TrainerError if some are missing.
    """
    shards = _shards(folder)
    paths, settings = shards.load()
    parts, places = [], []
    for number, path in enumerate(paths):
        names = settings["questions"][number * SHARD :]
        try:
            part = load_file(path)
            own = zip(part["question"].tolist(), part["position"].tolist(), part["log_ratio"].tolist(), strict=True)
            places += [(names[q], p) for q, p, _ in own]
            if not len(part["token"]) == len(part["hidden"]) == len(part["question"]):
                raise ValueError("its columns have different lengths")
        except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
            raise TrainerError(f"{path} is damaged ({error}); {AGAIN}") from None
        parts.append(part)
    wanted = ("token", "log_ratio", "hidden")
    return places, {name: torch.cat([part[name] for part in parts]) for name in wanted}, settings


def _shards(folder: Path) -> Shards:
    return Shards(folder, "refused", SHARD, ".safetensors", _MadeOf)


@torch.inference_mode()
def _refused(
    pair: Pair, questions: Sequence[Question], answers: Mapping[str, Answer], first: int
) -> list[dict[str, torch.Tensor]]:
    """Of a batch of questions; `first` is the number of the first in its shard."""
    tokens = [answers[question.id].tokens for question in questions]
    texts = [(render(pair.tokenizer, Request(prompt(q))), own) for q, own in zip(questions, tokens, strict=True)]
    parts = []
    slm, llm = pair.models
    states = zip(teacher_force(slm, texts), teacher_force(llm, texts), tokens, strict=True)
    for number, (slm_hidden, llm_hidden, own) in enumerate(states, first):
        token = slm.logits(slm_hidden).argmax(-1)
        where = (token != torch.tensor(own, device=token.device)).nonzero().squeeze(-1)
        logits = llm.logits(llm_hidden[where])
        drafted = logits.gather(1, token[where, None]).squeeze(-1)
        part = {
            "question": torch.full_like(where, number, dtype=torch.int32),
            "position": where.to(torch.int32),
            "token": token[where].to(torch.int32),
            "log_ratio": (drafted - logits.amax(-1)).float(),
            "hidden": llm_hidden[where].to(torch.float16),
        }
        parts.append({name: values.cpu().contiguous() for name, values in part.items()})
    return parts
