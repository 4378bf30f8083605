"""Prompts of an exact number of tokens, made of the questions in `assets/prompts.json`.

A speculative decoder's speed depends on how well the SLM guesses the LLM, so the texts are of the kind that a pair is
used for: several questions in one message, whose answer is longer than what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from engine.prompt import render
from engine.provenance import ROOT
from engine.request import Request

PROMPTS = ROOT / "assets" / "prompts.json"


def prompt_of(tokenizer: PreTrainedTokenizerBase, length: int, number: int = 0) -> list[int]:
    """Token ids of a prompt.

    Args:
        tokenizer: The pair's; its chat template is used where it has one and there is room for it.
        length: Tokens, at least 1.
        number: Prompts of different numbers begin with different questions, as far as there are.

    Returns:
        Exactly `length` ids: the message is cut in the middle of its last question.
    """
    questions: list[str] = json.loads(PROMPTS.read_text(encoding="utf-8"))
    first = number % len(questions)
    questions = questions[first:] + questions[:first]
    raw, text, ids = not tokenizer.chat_template, "", []
    while len(ids) < length:
        text += "\n".join(questions) + "\n"
        ids = render(tokenizer, Request(text, raw=raw))
    ending = 0 if raw else _common_ending(ids, render(tokenizer, Request("?")))
    ending = ending if ending < length else 0
    return ids[: length - ending] + ids[len(ids) - ending :]


def _common_ending(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two rendered prompts end with alike: what the template puts after the message."""
    same = 0
    while same < min(len(first), len(second)) and first[-1 - same] == second[-1 - same]:
        same += 1
    return same
