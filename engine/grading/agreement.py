"""How much of the LLM's own text another text is, where no answer is right or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def agreement(tokens: Sequence[int], llm_tokens: Sequence[int]) -> float:
    """1 − edit distance / length of the longer text, both as token ids: 1 is the same text, 0 has nothing in common.

    Takes time in proportion to the product of both lengths.
    """
    longer = max(len(tokens), len(llm_tokens))
    same = next((i for i, (a, b) in enumerate(zip(tokens, llm_tokens, strict=False)) if a != b), None)
    if same is None:  # one begins with the other
        return min(len(tokens), len(llm_tokens)) / longer if longer else 1.0
    a, b = np.array(tokens[same:]), np.array(llm_tokens[same:])
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for number, token in enumerate(a, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (b != token))  # deleted, or replaced where it differs
        row = np.minimum.accumulate(np.concatenate([[number], changed]) - steps) + steps  # or some of b inserted
    return 1 - int(row[-1]) / longer
