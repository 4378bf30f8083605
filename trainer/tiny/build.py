"""Builds and measures the tiny pair: two Qwen2 models with one tokenizer, trained on this CPU in minutes.

They know only worked arithmetic. The SLM writes the words and misses many digits; the LLM gets nearly all digits right.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from engine import Role, build_request, fold_revealed
from engine.grading import grade
from engine.models.files import filling
from engine.pair import Pair
from trainer import TrainerError
from trainer.continuous_batch import write_each
from trainer.tiny.arithmetic import questions
from trainer.tiny.training import MODELS, train_model, train_tokenizer

MAX_NEW_TOKENS = 120  # the longest reference has about 100 tokens
ROWS = 100  # texts written at once


def load(folder: Path) -> Pair:
    """Reads a pair in fp32 from a folder, without a router."""
    slm, llm = (
        Qwen2ForCausalLM.from_pretrained(folder / name, dtype=torch.float32, local_files_only=True) for name in MODELS
    )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True)
    return Pair(slm, llm, tokenizer, slm_name="tiny SLM", llm_name="tiny LLM", preset="tiny")


def build(folder: Path, steps: int, seed: int) -> None:
    """Trains the tokenizer and both models, and writes them to `tokenizer/`, `slm/` and `llm/` of a folder.

    Each model takes its share of the optimiser steps.

    Raises:
        TrainerError: `steps` is not positive.
    """
    if steps < 1:
        raise TrainerError(f"--steps must be at least 1, not {steps}")
    tokenizer = train_tokenizer(seed)
    tokenizer.save_pretrained(folder / "tokenizer")
    for name, shape in MODELS.items():
        train_model(shape, tokenizer, max(1, round(steps * shape.share)), seed, name).save_pretrained(folder / name)


def evaluate(folder: Path, count: int = 500) -> dict[str, float]:
    """Measures a stored pair on the first questions of the dev split (seed 0), which no training question equals.

    Returns:
        "slm" and "llm": shares of right answers, decoding greedily. "differ": the share of the tokens of the LLM's
        answers (end token included) where the SLM would write another.
    """
    pair, asked = load(folder), list(questions("dev", count, 0))
    right = dict.fromkeys(Role, 0)
    tokens = differ = 0
    for role in Role:
        dials = {"policy": role.value, "max_new_tokens": MAX_NEW_TOKENS, "alternatives": int(role is Role.LLM)}
        texts = pair.texts([build_request(question.question, **dials) for question in asked])
        for question, row in zip(asked, write_each(pair, texts, ROWS), strict=True):
            right[role] += grade(question, "".join(event.text for event in row.events))
            if role is Role.LLM:
                tokens += len(row.events)
                differ += sum(event.slm_alternatives[0].id != event.id for event in fold_revealed(row.events))
    return {"slm": right[Role.SLM] / count, "llm": right[Role.LLM] / count, "differ": differ / tokens}


def run(folder: Path, seed: int, steps: int) -> None:
    """Trains and measures a pair, which takes the place of the folder's own when all of it is there."""
    torch.set_num_threads(1)  # so small models are slower on more
    with filling(folder) as new:
        build(new, steps, seed)
        found = evaluate(new)
    slm, llm, differ = (found[name] for name in ("slm", "llm", "differ"))
    print(f"500 unseen questions: SLM {slm:.1%} and LLM {llm:.1%} right, tokens differ {differ:.1%}")
