"""What both models would have written at each token: candidates read off hidden states that are computed anyway.

Catch-up gives the LLM's hidden states of all the tokens it reads, so the alternatives of every token cost no further
pass, only `lm_head`.
"""

from __future__ import annotations

import math

import torch
from tokenizers import Tokenizer

from engine.batch.step import Slot
from engine.events import Alternative, Revealed, Role
from engine.model.logits import ENTROPY, LOG_SUM_EXP, certainties, top_k
from engine.tokenizer import token_text


def reveal(tokenizer: Tokenizer, role: Role, slot: Slot, index: int, logits: torch.Tensor) -> None:
    """Notes what a model would write at some positions, for those of the slot's texts that ask for it.

    Args:
        index: The first of the positions in the generated text.
        logits: The model's there, float32 [positions, vocabulary].
    """
    steps = [step for step in slot.steps if step.text.request.alternatives]
    certain = certainties(logits)
    if role is Role.SLM:
        slot.certainty = certain[-1]
    top, indices = top_k(logits, max(step.text.request.alternatives for step in steps))
    probabilities = (top - top.new_tensor([[each.features[LOG_SUM_EXP]] for each in certain])).exp().tolist()
    bits = [each.features[ENTROPY] / math.log(2) for each in certain]
    per_position = zip(probabilities, indices.tolist(), bits, strict=True)
    for place, (values, ids, entropy) in enumerate(per_position, index):
        candidates = tuple(Alternative(i, token_text(tokenizer, i), p) for i, p in zip(ids, values, strict=True))
        for step in steps:
            wanted = candidates[: step.text.request.alternatives]
            if place == step.text.position:
                step.alternatives[role], step.entropy[role] = wanted, entropy
            elif place < step.text.position:  # a text whose draft was just taken back has no token there
                step.revealed.append(Revealed(place, role, wanted, entropy))
