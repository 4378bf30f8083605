"""The page's examples: what they ask for is answered whole within the default number of new tokens."""

from __future__ import annotations

import json

import pytest

from app.components import ASSETS
from engine import Request, load_settings

EXAMPLES = json.loads((ASSETS / "examples.json").read_text("utf-8"))


def answered(pair, prompt: str) -> str:
    """How the text ended that the page writes for a prompt where nobody has touched anything."""
    settings = load_settings()
    dials = {"threshold": pair.threshold, "acceptance": pair.acceptance}
    asked = Request(prompt, policy=settings.policy, max_new_tokens=settings.max_new_tokens, seed=settings.seed, **dials)
    return pair.generate(asked).finish_reason


@pytest.mark.parametrize("example", EXAMPLES["tiny"], ids=lambda example: example["title"])
def test_the_tiny_pair_ends_its_examples(tiny_pair, example):
    assert answered(tiny_pair, example["prompt"]) == "eos"


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES["cpu"], ids=lambda example: example["title"])
def test_the_cpu_pair_ends_its_examples(cpu_pair, example):
    assert answered(cpu_pair, example["prompt"]) == "eos"
