"""The real pair in NF4: what threshold 0 and above 1 write is what `generate` writes. Slow; needs the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine import Role, build_request, load_settings
from engine.bench.writers import plain_models
from tests.support.texts import assert_same_up_to_a_tie, ids

pytestmark = pytest.mark.slow

PROMPTS = [
    "Write a Python function that checks whether a string is a palindrome.",
    "Tom has 3 boxes with 12 pencils each. He gives away 9 pencils. How many are left?",
    "Translate into Japanese: good morning 👋",
]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("prompt", PROMPTS)
def test_both_ends_of_the_dial_write_what_generate_writes(cpu_pair, role, prompt):
    threshold = 0.0 if role is Role.SLM else 1.01
    request = build_request(prompt, threshold=threshold, policy="confidence", max_new_tokens=80)
    ours = ids(cpu_pair.generate(request).events)
    model: Any = plain_models(cpu_pair, load_settings(preset="cpu"))[role]
    start = torch.tensor([cpu_pair.texts([request])[0].tokens])
    theirs = model.generate(
        start, attention_mask=torch.ones_like(start), max_new_tokens=80, do_sample=False, repetition_penalty=1.0,
        eos_token_id=sorted(cpu_pair.end_ids), pad_token_id=0,
    )[0, start.shape[1] :].tolist()  # fmt: skip
    assert_same_up_to_a_tie(model, start, ours, theirs)
