"""Speculative decoding with the same pair: transformers' assisted generation, what routing is compared with.

It is lossless: the text is the LLM's own, drafted by the SLM and checked by the LLM, several tokens a pass. The one
text here that the decode loop does not write. Knows transformers' `generate`; knows nothing of routing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

DRAFT = 5
"""Tokens drafted per check. transformers' own default of 20 costs more SLM passes than it saves LLM passes here."""


def assisted(
    slm: PreTrainedModel,
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    max_new_tokens: int,
    end_ids: Iterable[int],
    pad_id: int,
) -> list[int]:
    """Writes one text, greedily.

    Args:
        slm: Drafts.
        llm: Checks, and has the last word on every token.
        tokenizer: Of both.
        ids: The prompt's token ids.
        max_new_tokens: At most.
        end_ids: Token ids that end a text; an id that no model has never ends it.
        pad_id: Any id; transformers wants one.

    Returns:
        The new token ids, the end token included.
    """
    drafter: Any = slm
    checker: Any = llm
    tensor = torch.tensor([list(ids)], device=llm.device)
    outside = list(range(len(tokenizer), checker.config.vocab_size))  # the padded end of the vocabulary
    # Models padded to different lengths count as having different vocabularies, unless their tokenizers are given.
    differ = checker.config.vocab_size != drafter.config.vocab_size
    tokenizers = {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer} if differ else {}
    drafter.generation_config.num_assistant_tokens = DRAFT
    drafter.generation_config.num_assistant_tokens_schedule = "constant"
    # transformers warns of arguments that it passes to itself here.
    logging.getLogger("transformers.generation.utils").setLevel(logging.ERROR)
    output = checker.generate(
        tensor,
        attention_mask=torch.ones_like(tensor),
        assistant_model=drafter,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(end_ids),
        pad_token_id=pad_id,
        suppress_tokens=outside or None,
        **tokenizers,
    )
    return output[0, len(ids) :].tolist()
