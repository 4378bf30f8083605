"""What both models would have written at each token: candidates read off hidden states that are computed anyway.

Catch-up gives the LLM's hidden states of all the tokens it reads, so the alternatives of every token cost no further
pass, only `lm_head`. Knows models, caches and the parts of a batch; decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from tokenizers import Tokenizer

from engine.batch import Slot
from engine.cache import RaggedCache
from engine.events import Alternative, Revealed, Role
from engine.logits import ENTROPY, LOG_SUM_EXP, logit_features, top_k
from engine.models import LanguageModel


def reveal(
    model: LanguageModel, tokenizer: Tokenizer, role: Role, slot: Slot, start: int, hidden: torch.Tensor
) -> None:
    """Notes what a model would write after each token it just read: this position's, and earlier ones' late.

    Args:
        model: Has read.
        tokenizer: Of the pair.
        role: The model's.
        slot: The text; its turns that ask for alternatives get them.
        start: How many tokens the model had read before.
        hidden: Of the tokens it read now, [tokens, d], padding after them.
    """
    turns = [t for t in slot.turns if t.row.request.alternatives]
    prompt, position = turns[0].row.prompt_tokens, turns[0].row.position
    first = max(0, prompt - 1 - start)  # the hidden state before the first generated token
    logits = model.logits(hidden[first : len(slot.tokens) - start])
    slot.logits[role] = logits[-1]  # the decode loop need not apply `lm_head` again
    certainty = logit_features(logits)
    if role is Role.SLM:
        slot.logit_features = certainty[-1]  # nor the router's inputs be computed again
    top, indices = top_k(logits, max(t.row.request.alternatives for t in turns))
    probabilities = (top - certainty[:, LOG_SUM_EXP, None]).exp()
    bits = (certainty[:, ENTROPY] / math.log(2)).tolist()
    for offset, (values, ids) in enumerate(zip(probabilities, indices, strict=True)):
        index = start + first + offset + 1 - prompt
        found = tuple(
            Alternative(i, tokenizer.decode([i], skip_special_tokens=False), p)
            for i, p in zip(ids.tolist(), values.tolist(), strict=True)
        )
        for turn in turns:
            wanted = found[: turn.row.request.alternatives]
            if index == position:
                turn.alternatives[role], turn.entropy[role] = wanted, bits[offset]
            else:
                turn.revealed.append(Revealed(index, role, wanted, bits[offset]))


def reveal_rest(
    models: Mapping[Role, LanguageModel], caches: Mapping[Role, RaggedCache], tokenizer: Tokenizer, slot: Slot
) -> None:
    """At a text's end, both models read what is left of it, for its alternatives only: it is charged to nobody."""
    for role, model in models.items():
        start = caches[role].lengths[slot.number]
        chunk = slot.tokens[start:]
        if chunk:
            reveal(model, tokenizer, role, slot, start, model.feed(caches[role], [slot.number], [chunk])[0])
