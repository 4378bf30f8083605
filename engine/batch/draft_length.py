"""When the LLM looks at a draft: after a fixed number of tokens, or when another would cost more than it is worth.

When it looks changes what a text costs, never the text. A pass over n drafted tokens settles those that are kept and,
where one is not, the LLM's own in its place. So waiting for one token more settles one more with the chance `kept` that
the draft so far is kept, and costs a pass of the SLM and what the LLM's pass gets longer. It looks when

    kept · rate < slm(1) + llm(n + 1) − llm(n),

where llm(n) is the measured time of a pass over n tokens, `rate` what a settled token of this text costs at the best
fixed length, by how often its drafts were kept, and `kept` the product of each token's chance, by how often drafts with
a score like its own were kept in this text. To stop where the next unit costs more than the average one is what makes
the average least (marginal value theorem, Charnov 1976). SpecDec++ (Huang et al. 2024, arXiv 2405.19715) shows that a
threshold on that chance is optimal; here it follows from what passes cost.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import prod

from engine.batch.rows import RowStep
from engine.batch.verification import score_bin
from engine.events.cost import ModelCost

LONGEST = 16
"""Of a draft by itself: passes were timed up to twice as many tokens, and a wrong guess must not cost a whole text."""

_PRIOR = 4.0
"""How many verdicts the expectation before the first of them is worth."""
_MOST, _UNKNOWN = 0.97, 0.9
"""Of a high score, which may be overconfident, and without a score. Else the expectation is the score: at acceptance 1
the LLM of the `cpu` pair kept 44 % of what the SLM was 40 to 50 % sure of, up to 98 % (see docs/experiments.md)."""


def due(step: RowStep, slm: ModelCost, llm: ModelCost) -> bool:
    """Whether the LLM looks, now that the SLM has drafted another token: always before a draft ends a text."""
    row = step.row
    scores = [event.score for event in row.provisional] + ([step.score] if step.judged else [])
    if not scores:
        return False
    if row.finish_reason is not None:
        return True
    limit = row.dial.max_draft
    if limit != "auto":
        return len(scores) >= limit
    if len(scores) >= LONGEST:
        return True
    kept = prod(_chance(row.kept, score) for score in scores)
    unread = len(step.slot.tokens) - _first_unread(step)
    now, later = _cost(llm, unread, len(scores)), _cost(llm, unread + 1, len(scores) + 1)
    return kept * _rate(row.kept, slm, llm) < _cost(slm) + later - now


def _rate(counts: dict[int, list[int]], slm: ModelCost, llm: ModelCost) -> float:
    """What a settled token costs with drafts of the best length, each token of which is kept with the same chance."""
    kept, seen = (sum(each) for each in zip(*counts.values(), strict=True)) if counts else (0, 0)
    chance = (_PRIOR * _UNKNOWN + kept) / (_PRIOR + seen)
    settled = accumulate(chance**n for n in range(LONGEST))
    return min(cost / tokens for cost, tokens in zip(_looks(slm, llm), settled, strict=True))


@lru_cache(maxsize=16)
def _looks(slm: ModelCost, llm: ModelCost) -> tuple[float, ...]:
    """What drafts of 1, 2, … tokens cost with the pass that looks at them."""
    return tuple(n * _cost(slm) + _cost(llm, n, n) for n in range(1, LONGEST + 1))


def _cost(model: ModelCost, fed: int = 1, head: int = 1) -> float:
    """Of a pass in seconds, or where none were measured, in bytes."""
    return model.seconds(fed, head) or model.forward(fed, 0, head, 0, 0).bytes


def _first_unread(step: RowStep) -> int:
    """Where a pass of the LLM over the row's draft begins: at the last token that is settled."""
    row = step.row
    first = next((event.index for event in row.provisional), row.position)
    return row.prompt_tokens + first - 1


def _chance(counts: dict[int, list[int]], score: float | None) -> float:
    """The chance that a drafted token is kept, from verdicts in this text and an expectation before them."""
    kept, seen = counts.get(score_bin(score), (0, 0))
    expected = _UNKNOWN if score is None else min(_MOST, score)
    return (_PRIOR * expected + kept) / (_PRIOR + seen)
