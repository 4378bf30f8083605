"""The page's examples: what they ask for is answered whole within the default number of new tokens."""

from __future__ import annotations

import json

import pytest

from app.components import ASSETS
from engine import Request, load_settings

EXAMPLES = json.loads((ASSETS / "examples.json").read_text("utf-8"))


@pytest.mark.parametrize("preset", ["tiny", pytest.param("cpu", marks=pytest.mark.slow)])
def test_a_pair_ends_its_examples_where_nobody_has_touched_anything(request, preset: str):
    pair, settings = request.getfixturevalue(f"{preset}_pair"), load_settings()
    asked = {"threshold": pair.threshold, "acceptance": pair.acceptance, "policy": settings.policy}
    for example in EXAMPLES[preset]:
        prompt = Request(example["prompt"], max_new_tokens=settings.max_new_tokens, seed=settings.seed, **asked)
        assert pair.generate(prompt).finish_reason == "eos", example["title"]
