"""What an SLM learns: the LLM's own texts, each with its prompt, and the LLM's likeliest tokens along them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine import Request, Role
from engine.pair import Pair
from engine.provenance import ROOT
from engine.tokenizer import render
from trainer import TrainerError
from trainer.json_files import read_json
from trainer.labels.answers import Answer, answer, load_answers
from trainer.labels.labels import teacher_force
from trainer.questions.question import MAX_CHARACTERS, Question, prompt
from trainer.shards import Shards, identity_of

PROMPTS = ROOT / "assets" / "align_prompts.json"
"""General prompts by kind, written for this repository. Evaluations use others."""

TOP = 20
"""The LLM's likeliest tokens that are kept at each position."""

HELD_OUT = 10  # every so many texts one is held out, by chance
_SHARD, _ROWS = 32, 16  # general prompts in a shard, and texts that are written at once
_BATCH = 4  # texts that the LLM reads in one pass

_Prompt = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


@dataclass(frozen=True)
class LlmText:
    """A text by the LLM.

    Attributes:
        kind: A task's name, or a kind of general prompt.
        question: What was asked; its id is unique among all texts.
        prompt: Token ids of the rendered prompt.
        tokens: Token ids of the text, with the end token where the LLM ended it.
    """

    kind: str
    question: Question
    prompt: list[int]
    tokens: list[int]

    @property
    def length(self) -> int:
        """Tokens that a model reads to predict all of the text."""
        return len(self.prompt) + len(self.tokens) - 1

    @property
    def held_out(self) -> bool:
        """Whether nothing is learned from it. A text keeps its side, whatever else there is."""
        return int(hashlib.sha256(self.question.id.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


@dataclass(frozen=True)
class AnsweredTask:
    """A task's questions, and the folder with the LLM's answers to them."""

    kind: str
    questions: Sequence[Question]
    folder: Path


def read_general_prompts(path: Path = PROMPTS) -> dict[str, list[str]]:
    """General prompts by kind; a TrainerError for a file of another form."""
    return read_json(path, dict[str, list[_Prompt]], "give a JSON object: kinds, and a list of prompts for each")


def gather(
    pair: Pair,
    tasks: Sequence[AnsweredTask],
    general: Mapping[str, Sequence[str]],
    folder: Path,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
) -> list[LlmText]:
    """All texts to learn; the LLM writes those to general prompts that it has not written yet, into `folder`.

    Raises:
        TrainerError: A task's folder has no answers, those of another model, or those to other questions.
    """
    texts = [text for task in tasks for text in _of_task(pair, task)]
    asked = {f"{kind}/{n}": (kind, each) for kind, prompts in general.items() for n, each in enumerate(prompts)}
    questions = [Question(id, each, "", "") for id, (_, each) in asked.items()]
    if questions:
        answer(pair, Role.LLM, questions, folder, max_new_tokens, report, _asked, _SHARD, _ROWS)
        answers = load_answers(folder, Role.LLM, pair)
        texts += [_text(pair, asked[each.id][0], each, answers[each.id], _asked) for each in questions]
    if not texts:
        raise TrainerError("there is nothing to learn: give --data with --answers, or --prompts")
    return texts


def likeliest(
    pair: Pair, texts: Sequence[LlmText], folder: Path, report: Callable[[str], None] = print
) -> dict[str, tuple[Tensor, Tensor]]:
    """The LLM's likeliest tokens along its texts, read once into `folder`: ids and probabilities by question id.

    Ids are int64 [tokens, TOP]. Probabilities are float32 of that shape, as shares of the sum of the `TOP`.
    """
    by_id = {text.question.id: text for text in texts}

    def make(questions: Sequence[Question], path: Path) -> None:
        save_file(_likeliest(pair, [by_id[each.id] for each in questions]), path)

    shards = Shards(folder, "likeliest", _SHARD, ".safetensors")
    tokens = hashlib.sha256(json.dumps([[each.prompt, each.tokens] for each in texts]).encode()).hexdigest()
    settings = {"llm": pair.llm_name, "quantisation": pair.quantisation, "tokens": tokens, **identity_of(pair)}
    shards.run(settings, [text.question for text in texts], make, report)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for path in shards.load()[0]:
        tensors = load_file(path)
        for name in {each.rpartition(".")[0] for each in tensors}:
            found[name] = tensors[f"{name}.ids"].long(), tensors[f"{name}.probabilities"].float()
    return found


@torch.inference_mode()
def _likeliest(pair: Pair, texts: Sequence[LlmText]) -> dict[str, Tensor]:
    _, llm = pair.models
    tensors: dict[str, Tensor] = {}
    order = sorted(texts, key=lambda text: text.length)
    for batch in (order[n : n + _BATCH] for n in range(0, len(order), _BATCH)):
        states = teacher_force(llm, [(text.prompt, text.tokens) for text in batch])
        for text, hidden in zip(batch, states, strict=True):
            best = llm.logits(hidden).topk(TOP)
            tensors[f"{text.question.id}.ids"] = best.indices.to(torch.int32).cpu()
            tensors[f"{text.question.id}.probabilities"] = best.values.softmax(-1).half().cpu()
    return tensors


def _of_task(pair: Pair, task: AnsweredTask) -> list[LlmText]:
    answers = load_answers(task.folder, Role.LLM, pair)
    known = {question.id: question for question in task.questions}
    if missing := [id for id in answers if id not in known]:
        raise TrainerError(
            f"{task.folder}: {len(missing)} of {len(answers)} answers are to other questions than those of "
            f"{task.kind}, e.g. {missing[0]}: name each --data in the order of --answers"
        )
    return [_text(pair, task.kind, known[id], each, prompt) for id, each in answers.items()]


def _text(pair: Pair, kind: str, question: Question, answer: Answer, ask: Callable[[Question], str]) -> LlmText:
    named = question if "/" in question.id else replace(question, id=f"{kind}/{question.id}")
    return LlmText(kind, named, render(pair.tokenizer, Request(ask(question))), list(answer.tokens))


def _asked(question: Question) -> str:
    return question.question
