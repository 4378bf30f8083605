"""Continuous batching for work that nobody watches: a text that ends makes room for the next, so that passes stay full.

Source: Orca (Yu et al., OSDI 2022).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from engine.batch.text import Text
from engine.pair import Pair
from trainer import Report, TrainerError

EVERY = 60.0
"""Seconds between two reports of how many texts are written."""


def write(
    pair: Pair,
    groups: Sequence[Sequence[Text]],
    rows: int,
    report: Report = lambda line: None,
) -> None:
    """Writes groups of texts; a group enters as one, so that its texts share the passes of what they have in common.

    Those that may get longest come first, so that the caches never have to grow.

    Args:
        groups: Each with one text or more, of `Pair.texts`.
        rows: At most so many texts are written at once; a larger group alone.
    """
    longest = sorted(groups, key=lambda group: -max(text.prompt_tokens + text.limit for text in group))
    waiting, decoding = deque(longest), pair.open(remember=True)
    told, total, ended = time.monotonic(), sum(map(len, groups)), 0
    while waiting or decoding.texts:
        entering: list[Text] = []
        while waiting and _fits(len(decoding.texts) + len(entering), len(waiting[0]), rows):
            entering += waiting.popleft()
        decoding.add(entering)
        decoding.step()
        for text in [text for text in decoding.texts if text.finish_reason is not None]:
            decoding.remove(text, keep=True)
            ended += 1
        if time.monotonic() - told >= EVERY:
            report(f"{ended:,} of {total:,} texts are written")
            told = time.monotonic()


def require_costs(pair: Pair) -> None:
    """A TrainerError where the bytes of the LLM's passes are not known, as of most on a server."""
    if not pair.llm_cost.forward(1, 0, True, 0, 0).bytes:
        raise TrainerError(
            f"the bytes of {pair.llm_name}'s passes are not known: set CITER_LLM_CONFIG to its config.json, or unset "
            "CITER_LLM_URL"
        )


def write_each(pair: Pair, texts: Sequence[Text], rows: int, report: Report = lambda line: None) -> Sequence[Text]:
    """Writes texts, each of which enters alone, and returns them; see `write`."""
    write(pair, [[text] for text in texts], rows, report)
    return texts


def _fits(running: int, group: int, rows: int) -> bool:
    return not running or running + group <= rows
