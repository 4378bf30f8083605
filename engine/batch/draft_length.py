"""When the LLM looks at a draft: after a fixed number of tokens, or when another would cost more than it is worth.

When it looks changes what a text costs, never the text. A pass over n drafted tokens settles those that are kept and,
where one is not, the LLM's own in its place. So of m tokens more the first is settled with the chance `kept` that the
draft so far is kept, the second with `kept` · `next`, and so on. They cost m passes of the SLM and a longer pass of the
LLM. The LLM looks when for no m

    kept · (1 + next + … + next^(m − 1)) · worth ≥ m · slm(1) + llm(n + m) − llm(n),

where llm(n) is the measured time of a pass over n tokens. Every m is tried, since a processor may do four tokens at
once: then a fifth costs much, and a sixth nothing. `kept` is the product of each token's chance, by how often drafts
with a similar score were kept in this text, and `next` is how often any draft was kept. `worth` is what a settled token
costs otherwise. At the best fixed length that is its share of a draft and a look. Where the router asks the LLM for the
token, it is a whole pass of each model, since that pass reads the draft, too. The mean of both is weighted by how often
the router asks.

To stop where the next unit costs more than the average one is what makes the average least (marginal value theorem,
Charnov 1976). SpecDec++ (Huang et al. 2024, arXiv 2405.19715) shows that a threshold on that chance is optimal; here it
follows from what passes cost.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import prod

from engine.batch.step import Step
from engine.batch.verify import score_bin
from engine.events.cost import ModelCost

LONGEST = 16
"""Tokens of a draft at most. Passes were timed up to twice as many, and a wrong guess must not cost a whole text."""

_PRIOR = 4.0
"""How many verdicts the expectation before the first of them is worth, and how many tokens of the SLM's."""
_LEAST, _MOST, _UNKNOWN = 0.45, 0.97, 0.8
"""The chance that is expected of a low score, of a high one, and without a score. Between the first two it is the
score. The LLM of the `cpu` pair kept two fifths of the drafts with scores below 0.1, and more at a lower acceptance
(docs/experiments.md, finding 9)."""


def due(step: Step, slm: ModelCost, llm: ModelCost) -> bool:
    """Whether the LLM looks now that the SLM has drafted another token. It always looks before a draft ends a text."""
    text = step.text
    scores = [event.score for event in text.provisional] + ([step.score] if step.judged else [])
    if not scores:
        return False
    if text.finish_reason is not None:
        return True
    limit = step.setting.max_draft
    if limit != "auto":
        return len(scores) >= limit
    if len(scores) >= LONGEST:
        return True
    kept = prod(_chance(text.kept, score) for score in scores)
    following = _expected(_UNKNOWN, *(sum(counts[n] for counts in text.kept.values()) for n in (0, 1)))
    called = _expected(0.0, text.called, text.position)
    looks = _looks(slm, llm)
    settled = list(accumulate(following**n for n in range(LONGEST)))  # of drafts of 1, 2, … tokens
    rate = min(cost / tokens for cost, tokens in zip(looks, settled, strict=True))
    worth = kept * (called * looks[0] + (1 - called) * rate)
    now, *later = looks[len(scores) - 1 :]
    return all(worth * tokens < cost - now for tokens, cost in zip(settled, later, strict=False))


@lru_cache(maxsize=16)
def _looks(slm: ModelCost, llm: ModelCost) -> tuple[float, ...]:
    """What drafts of 1, 2, … tokens cost with the pass that looks at them."""
    return tuple(n * _cost(slm) + _cost(llm, n, n) for n in range(1, LONGEST + 1))


def _cost(model: ModelCost, fed: int = 1, head: int = 1) -> float:
    """What a pass costs in seconds, or where none were measured, in bytes."""
    return model.seconds(fed, head) or model.forward(fed, 0, head, 0, 0).bytes


def _chance(counts: dict[int, list[int]], score: float | None) -> float:
    """The chance that a drafted token is kept, from verdicts in this text and an expectation before them."""
    expected = _UNKNOWN if score is None else min(_MOST, max(_LEAST, score))
    return _expected(expected, *counts.get(score_bin(score), (0, 0)))


def _expected(before: float, times: int, seen: int) -> float:
    """How often something happens that happened `times` out of `seen`, and was expected `before` of the time."""
    return (_PRIOR * before + times) / (_PRIOR + seen)
