"""Continuous batching for work that nobody watches: as texts end, the next ones enter, so that passes stay full.

Answers end at different times. A batch that is written to its end runs nearly alone at last, and then reads all weights
for a few tokens. Here a text that has ended frees its row at once (Orca: Yu et al., OSDI 2022).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from engine import Request
from engine.batch.rows import Row
from engine.pair import Pair
from engine.policy import Policy
from engine.tokenizer import render
from trainer import TrainerError

EVERY = 60.0
"""Seconds between two reports of how many texts are written."""


@dataclass(frozen=True)
class WantedText:
    """A text to be written.

    Attributes:
        policy: Instead of the one that the request names.
        prompt: Token ids to go on from, instead of the rendered prompt.
    """

    request: Request
    policy: Policy | None = None
    prompt: Sequence[int] | None = None


def write(
    pair: Pair,
    groups: Sequence[Sequence[WantedText]],
    rows: int,
    report: Callable[[str], None] = lambda line: None,
) -> list[list[Row]]:
    """Writes groups of texts; a group enters as one, so that its texts share the passes of what they have in common.

    Those that may get longest come first, so that the caches never have to grow.

    Args:
        groups: Each with one text or more.
        rows: At most so many texts are written at once; a larger group alone.

    Returns:
        The finished rows, in the order of the groups.
    """
    rendered = [_rendered(pair, group) for group in groups]
    longest = [
        max(len(prompt) + text.request.max_new_tokens for text, prompt in zip(group, prompts, strict=True))
        for group, prompts in zip(groups, rendered, strict=True)
    ]
    waiting, decoding = deque(sorted(range(len(groups)), key=lambda n: -longest[n])), pair.open(prefix_cache=True)
    places: dict[int, tuple[int, int]] = {}  # of the numbers in the batch: group, and text of it
    finished: dict[tuple[int, int], Row] = {}
    told, total = time.monotonic(), sum(map(len, groups))
    while waiting or places:
        entering: list[tuple[int, int]] = []
        while waiting and _fits(len(places) + len(entering), len(groups[waiting[0]]), rows):
            group = waiting.popleft()
            entering += [(group, text) for text in range(len(groups[group]))]
        if entering:
            numbers = pair.add(
                decoding,
                [groups[group][text].request for group, text in entering],
                [groups[group][text].policy for group, text in entering],
                [rendered[group][text] for group, text in entering],
            )
            places |= zip(numbers, entering, strict=True)
        decoding.step()
        for number in [number for number in places if not decoding.rows[number].unfinished]:
            finished[places.pop(number)] = decoding.remove(number)
        if time.monotonic() - told >= EVERY:
            report(f"{len(finished):,} of {total:,} texts are written")
            told = time.monotonic()
    return [[finished[n, text] for text in range(len(group))] for n, group in enumerate(groups)]


def require_costs(pair: Pair) -> None:
    """A TrainerError where the bytes of the LLM's passes are not known, as of most on a server."""
    if not pair.llm_cost.forward(1, 0, True, 0, 0).bytes:
        raise TrainerError(
            f"the bytes of {pair.llm_name}'s passes are not known: set CITER_LLM_CONFIG to its config.json, or unset "
            "CITER_LLM_URL"
        )


def write_each(
    pair: Pair, texts: Iterable[WantedText], rows: int, report: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """Writes texts of which each enters alone; see `write`."""
    return [row for (row,) in write(pair, [[text] for text in texts], rows, report)]


def _rendered(pair: Pair, group: Sequence[WantedText]) -> list[Sequence[int]]:
    """Prompts as token ids, each different one rendered once."""
    known: dict[tuple[str, str | None, bool], Sequence[int]] = {}
    prompts: list[Sequence[int]] = []
    for text in group:
        key = text.request.prompt, text.request.system, text.request.raw
        if text.prompt is None and key not in known:
            known[key] = render(pair.tokenizer, text.request, pair.context)
        prompts.append(known[key] if text.prompt is None else text.prompt)
    return prompts


def _fits(running: int, group: int, rows: int) -> bool:
    return not running or running + group <= rows
