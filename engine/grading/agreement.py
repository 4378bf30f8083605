"""How much of the LLM's own text another text is, where no answer is right or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def agreement(tokens: Sequence[int], llm_tokens: Sequence[int]) -> float:
    """1 − edit distance / length of the longer text, both as token ids: 1 is the same text, 0 has nothing in common.

    Takes time in proportion to the product of both lengths.
    """
    b = np.array(llm_tokens)
    row = steps = np.arange(len(b) + 1)
    for number, token in enumerate(tokens, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (b != token))  # deleted, or replaced where it differs
        row = np.minimum.accumulate(np.concatenate([[number], changed]) - steps) + steps  # or some of b inserted
    return 1 - int(row[-1]) / max(len(tokens), len(llm_tokens), 1)
