"""Costs are folds over events, checked against examples counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import ModelCost, Prices, Role, TokenEvent, costs
from engine.events import taken_back

# Round numbers, so that every sum below can be checked in the head.
SLM = ModelCost(1000, 100, 1, 10, 2000, 200, 4, pass_seconds=1.0, token_seconds=0.1)
LLM = ModelCost(10_000, 1000, 2, 20, 20_000, 2000, 8, pass_seconds=5.0, token_seconds=0.5)


def event(role, slm_fed, llm_fed, seconds=1.0, slm_head=None, **more):
    head = role is Role.SLM if slm_head is None else slm_head
    return TokenEvent(1, "x", role, 0.5, 0.5, slm_fed, llm_fed, head, seconds, **more)


def placed(*events: TokenEvent) -> list[TokenEvent]:
    """Events of one text, each at its place."""
    return [replace(each, index=index) for index, each in enumerate(events)]


# A prompt of 3 tokens; the SLM writes two tokens, then the LLM two, catching up on 5 for the first of them.
EVENTS = placed(event(Role.SLM, 3, 0), event(Role.SLM, 1, 0), event(Role.LLM, 1, 5, seconds=7.0), event(Role.LLM, 0, 1))


def test_bytes_and_flops_of_a_run_counted_by_hand():
    first = 1000 + 100 + 3 * 1 + (0 + 2 * 3) * 10  # weights, lm_head, 3 rows, 3 keys written and read
    second = 1000 + 100 + 1 + (3 + 2 * 1) * 10
    third_slm = 1000 + 0 + 1 + (4 + 2 * 1) * 10  # the LLM wrote: the SLM's lm_head is not applied
    third_llm = 10_000 + 1000 + 5 * 2 + (0 + 2 * 5) * 20
    fourth = 10_000 + 1000 + 2 + (5 + 2 * 1) * 20
    assert costs(EVENTS, 3, SLM, LLM).run.bytes == first + second + third_slm + third_llm + fourth
    first = 3 * 2000 + 200 + (1 + 2 + 3) * 4  # each query sees itself and all before it
    second = 2000 + 200 + 4 * 4
    third_slm = 2000 + 5 * 4
    third_llm = 5 * 20_000 + 2000 + (1 + 2 + 3 + 4 + 5) * 8
    fourth = 20_000 + 2000 + 6 * 8
    assert costs(EVENTS, 3, SLM, LLM).run.flops == first + second + third_slm + third_llm + fourth


def test_a_pass_that_reads_the_whole_text_again_finds_nothing_in_the_cache():
    drafts = [event(Role.SLM, n, 0, acceptance=0.5) for n in (3, 1)]
    looks = [event(Role.SLM, 1, n, llm_head=2, acceptance=0.5) for n in (5, 6)]  # the text has 5 tokens, then 6
    run = costs(placed(*drafts, *looks), 3, SLM, LLM).run
    alone = costs(placed(*drafts, *(replace(each, llm_fed=0) for each in looks)), 3, SLM, LLM).run
    assert run.bytes - alone.bytes == 2 * 11_000 + (5 + 6) * 2 + 2 * (5 + 6) * 20
    assert run.flops - alone.flops == (5 + 6) * 20_000 + 2 * 2 * 2000 + (15 + 21) * 8


def test_price_bills_one_position_per_pass_in_full_and_what_is_read_at_the_ratio():
    prices = Prices(slm=1.0, llm=10.0, reading_ratio=0.25)
    beside = costs(EVENTS, 3, SLM, LLM, prices)
    assert beside.run.price * 1e6 == pytest.approx((1 + 2 * 0.25) + 1 + 1 + 10 * (2 + 4 * 0.25))
    assert beside.slm_only.price * 1e6 == pytest.approx(4 + 2 * 0.25)
    assert beside.llm_only.price * 1e6 == pytest.approx(10 * (4 + 2 * 0.25))


def test_seconds_are_those_of_measured_passes_whatever_the_clock_said():
    events = placed(*(event(Role.LLM, 0, fed, seconds=9.0) for fed in (3, 1, 1, 1)))
    alone = costs(events, 3, SLM, LLM)
    assert alone.run.seconds == alone.llm_only.seconds == pytest.approx(4 * 5.0 + 2 * 0.5)


def test_a_score_of_the_router_is_charged_to_the_run_and_to_neither_extreme():
    slm = replace(SLM, router_bytes=70, router_flops=30)
    plain, routed = (costs([event(Role.SLM, 3, 0, router=scored)], 3, slm, LLM) for scored in (False, True))
    assert routed.run.bytes - plain.run.bytes == 70
    assert routed.run.flops - plain.run.flops == 30
    assert (routed.slm_only, routed.llm_only) == (plain.slm_only, plain.llm_only)


def test_a_models_bytes_and_flops_are_those_of_its_parameters(random_pair):
    model = random_pair.slm.model
    trunk = sum(p.numel() for n, p in model.model.named_parameters() if not n.startswith("embed_tokens"))
    assert random_pair.slm_cost.trunk_bytes == 4 * trunk
    assert random_pair.slm_cost.head_bytes == 4 * 264 * 32  # padded vocabulary × width, tied to the embedding
    assert random_pair.slm_cost.embedding_bytes == 4 * 32
    assert random_pair.slm_cost.kv_bytes == 4 * 2 * 2 * 2 * 8  # fp32 × (keys, values) × layers × heads × head_dim
    per_layer = 32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 64
    assert random_pair.slm_cost.trunk_flops == 2 * 2 * per_layer
    assert random_pair.slm_cost.attention_flops == 4 * 2 * 32


def test_what_is_taken_back_is_charged_as_counted_by_hand():
    # A prompt of 3 tokens. The SLM drafts three; the LLM reads prompt and two of them for its opinion of all three,
    # takes two back and writes the second. Then the SLM, whose cache ends after the first draft, reads the LLM's token
    # and writes one more.
    lost = tuple(event(Role.SLM, 1, 0, index=n, acceptance=0.5) for n in (1, 2))
    first = event(Role.SLM, 3, 0, index=0, acceptance=0.5)
    look = event(Role.LLM, 0, 5, index=1, acceptance=0.5, ratio=0.1, taken_back=lost, llm_head=3)
    last = event(Role.SLM, 1, 0, index=2)
    drafted = (1100 + 3 + 6 * 10) + (1100 + 1 + (3 + 2) * 10) + (1100 + 1 + (4 + 2) * 10)
    read = 10_000 + 1000 + 5 * 2 + 2 * 5 * 20
    again = 1100 + 1 + (4 + 2) * 10  # prompt and first draft are in the cache
    beside = costs([first, look, last], 3, SLM, LLM)
    assert beside.run.bytes == drafted + read + again
    assert beside.run.seconds == pytest.approx((1.2 + 1 + 1) + (5 + 4 * 0.5) + 1)
    assert taken_back([first, look, last]) == 2
    # Of three tokens, whatever was taken back.
    assert beside.llm_only.bytes == 3 * 11_000 + 5 * 2 + (6 + 5 + 6) * 20
    read_flops = 5 * 20_000 + 3 * 2000 + (1 + 2 + 3 + 4 + 5) * 8  # the LLM's lm_head at three positions
    drafted_flops = (3 * 2000 + 200 + 6 * 4) + (2000 + 200 + 4 * 4) + (2000 + 200 + 5 * 4)
    assert beside.run.flops == drafted_flops + read_flops + (2000 + 200 + 5 * 4)
