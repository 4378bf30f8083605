"""What an SLM learns: the LLM's own texts, each with its prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import Request, Role
from engine.pair import Pair
from engine.provenance import ROOT
from engine.tokenizer import render
from trainer import Report, TrainerError
from trainer.labels.answers import answer, load_answers
from trainer.questions import Prompt, Question, prompt
from trainer.stored import read_json

PROMPTS = ROOT / "assets" / "align_prompts.json"
"""General prompts by kind, written for this repository. Evaluations use others."""

HELD_OUT = 10  # one text in this many is held out, by a hash of its name
SHARD = 64  # general prompts in a shard; they are written together


@dataclass(frozen=True)
class LlmText:
    kind: str  # a task's name, or a kind of general prompt
    name: str  # unique among all texts
    prompt: list[int]  # token ids, rendered
    tokens: list[int]  # token ids of the text, with the end token where the LLM ended it

    @property
    def length(self) -> int:
        """Tokens that a model reads to predict all of the text."""
        return len(self.prompt) + len(self.tokens) - 1

    @property
    def held_out(self) -> bool:
        """Whether nothing is learned from it. Its name alone decides, whatever other texts there are."""
        return int(hashlib.sha256(self.name.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


@dataclass(frozen=True)
class AnsweredTask:
    """Questions of one kind, and the folder with the LLM's answers to them."""

    kind: str
    questions: Sequence[Question]
    folder: Path


def read_general_prompts(path: Path = PROMPTS) -> dict[str, list[str]]:
    """General prompts by kind; a TrainerError for a file of another form."""
    return read_json(path, dict[str, list[Prompt]], "give a JSON object: kinds, and a list of prompts for each")


def gather(
    pair: Pair,
    tasks: Sequence[AnsweredTask],
    general: Mapping[str, Sequence[str]],
    folder: Path,
    max_new_tokens: int,
    report: Report = print,
) -> list[LlmText]:
    """All texts to learn; the LLM writes those to general prompts that it has not written yet, into `folder`.

    Raises:
        TrainerError: A task's folder has no answers, or those of another model.
    """
    general_tasks = [
        AnsweredTask(kind, [Question(f"{kind}/{n}", each, "", "") for n, each in enumerate(prompts)], folder)
        for kind, prompts in general.items()
    ]
    if questions := [question for task in general_tasks for question in task.questions]:
        answer(pair, Role.LLM, questions, folder, max_new_tokens, report, SHARD)
    texts = []
    for task in (*tasks, *general_tasks):
        answers = load_answers(task.folder, Role.LLM, pair)
        for each in task.questions:
            name = each.id if "/" in each.id else f"{task.kind}/{each.id}"
            rendered = render(pair.tokenizer, Request(prompt(each)))
            texts.append(LlmText(task.kind, name, rendered, answers[each.id].tokens))
    if not texts:
        raise TrainerError("there is nothing to learn: give --data with --answers, or --prompts")
    return texts
