"""When the LLM looks by itself ("auto"), with made-up costs of passes; and the table of passes measured at load."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.batch.verify import LONGEST, due
from engine.events.cost import ModelCost

SETTLED = 4  # tokens before the draft


def model(*seconds: float) -> ModelCost:
    """A model whose passes over 1, 2, … tokens take so long, and whose `lm_head` costs the same at any number."""
    passes = tuple(enumerate(seconds, 1))
    return ModelCost(1000, 100, 1, 1, 1, 1, 1, pass_seconds=seconds[0], pass_table=passes, head_table=((1, 0), (8, 0)))


IN_SEQUENCE = model(*(1.0 * n for n in range(1, 2 * LONGEST + 1)))  # a pass costs what its tokens cost one by one
FREE = model(*[1.0] * (2 * LONGEST))  # a longer pass costs nothing more
SLM = model(0.2, 0.2)


def drafted(
    *scores: float | None, limit: Any = "auto", counts: Any = None, finish: str | None = None, called: int = 0
) -> Any:
    """A text's step after the SLM has drafted a token per score, the last of them in this step."""
    earlier, last = scores[:-1], scores[-1:]
    text = SimpleNamespace(
        provisional=[SimpleNamespace(index=SETTLED + n, score=score) for n, score in enumerate(earlier)],
        position=SETTLED + len(earlier),
        finish_reason=finish,
        kept=counts or {},
        called=called,
    )
    setting = SimpleNamespace(max_draft=limit)
    return SimpleNamespace(text=text, setting=setting, score=last[0] if last else None, judged=bool(last))


def waits(score: float | None, llm: ModelCost, **options: Any) -> int:
    """How many tokens of a score are drafted before the LLM looks."""
    return next(n for n in range(1, 100) if due(drafted(*[score] * n, **options), SLM, llm))


@pytest.mark.parametrize("score", [0.15, 0.35, 0.55, 0.75, 0.85, 0.95])
@pytest.mark.parametrize("slope", [0.0, 0.03, 0.1, 0.3])
def test_where_each_token_is_kept_with_one_chance_it_looks_after_the_length_at_which_a_settled_token_costs_least(
    score, slope
):
    """A pass settles what is kept of a draft, and the LLM's own token where something is not."""
    llm = model(*(1 + slope * n for n in range(2 * LONGEST)))

    def per_settled_token(length: int) -> float:
        return (length * SLM.seconds(1) + llm.seconds(length)) / sum(score**n for n in range(length))

    known = {int(10 * score): [round(1e6 * score), 1_000_000]}
    best = min(range(1, LONGEST + 1), key=per_settled_token)
    assert per_settled_token(waits(score, llm, counts=known)) <= 1.001 * per_settled_token(best)


@pytest.mark.parametrize(("score", "tokens"), [(0.5, 2), (0.8, 5), (0.97, LONGEST), (1.0, LONGEST)])
def test_before_any_verdict_it_expects_what_the_scores_say(score, tokens):
    assert waits(score, FREE) == tokens


def test_a_text_whose_drafts_were_not_kept_is_looked_at_sooner_than_its_scores_say_and_the_other_way_round():
    assert waits(0.95, FREE, counts={9: [0, 20]}) == 1
    assert waits(0.15, FREE, counts={1: [40, 40]}) > waits(0.15, FREE) == 2
    assert waits(0.15, FREE, counts={1: [0, 40]}) == 1


def test_before_a_draft_ends_a_text_the_llm_reads_it_and_without_a_draft_there_is_nothing_to_read():
    assert due(drafted(1.0, finish="eos"), SLM, FREE)
    assert due(drafted(1.0, finish="length", limit=8), SLM, FREE)
    assert not due(drafted(finish="eos"), SLM, FREE)


@pytest.mark.parametrize("length", [1, 3, 40])
@pytest.mark.parametrize("llm", [IN_SEQUENCE, FREE])
def test_a_fixed_number_of_tokens_is_that_number_whatever_passes_cost(length, llm):
    assert waits(0.5, llm, limit=length) == length
