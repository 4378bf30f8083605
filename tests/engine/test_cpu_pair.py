"""The real pair in NF4: what threshold 0 and above 1 write is what `generate` writes. Slow; needs the weights."""

from __future__ import annotations

import pytest
import torch

from engine import Role
from tests.support.texts import assert_same_up_to_a_tie

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
    trace = cpu_pair.generate(prompt, policy="confidence", threshold=threshold, max_new_tokens=80)
    ours = [event.id for event in trace.events]
    model = (cpu_pair.slm if role is Role.SLM else cpu_pair.llm).model
    start = prompt_ids(cpu_pair, prompt)
    theirs = model.generate(
        start, attention_mask=torch.ones_like(start), max_new_tokens=80, do_sample=False, repetition_penalty=1.0,
        eos_token_id=sorted(cpu_pair.end_ids), pad_token_id=0,
    )[0, start.shape[1] :].tolist()  # fmt: skip
    assert_same_up_to_a_tie(model, start, ours, theirs)


def prompt_ids(pair, prompt):
    from engine import Request
    from engine.tokenizer import render

    return torch.tensor([render(pair.tokenizer, Request(prompt))])
