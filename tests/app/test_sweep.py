"""The sweep: one prompt at many settings of the dials, on the tiny pair, and what the page is sent of it."""

from __future__ import annotations

import json
from functools import cache

import pytest

from app.running.host import Host
from app.sweep import Sweep, sweep_message
from engine import Prices, Request, Role, build_request, costs
from engine.events import role_at
from tests.support.browser import eventually

PROMPT = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""


@pytest.fixture(scope="module")
def swept(tiny_pair):
    """Sweeps; the same is swept once."""

    @cache
    def sweep(**options) -> Sweep:
        host = Host(lambda preset, progress: tiny_pair)
        sweep = Sweep(build_request(PROMPT, max_new_tokens=40, max_draft=8, **options), Prices()).start(host)
        assert sweep.finished.wait(300), sweep.state
        return sweep

    return sweep


def message_of(sweep: Sweep, start: int = 0) -> dict:
    return json.loads(sweep_message(sweep, start)[0])


def path(message: dict, leaf: int) -> list[list]:
    """The nodes from the first token to a leaf, each with its number in front."""
    nodes = []
    while leaf >= 0:
        nodes.append([leaf, *message["nodes"][leaf]])
        leaf = message["nodes"][leaf][0]
    return nodes[::-1]


@pytest.mark.parametrize("policy", ["router", "confidence"])
def test_every_setting_has_the_text_and_the_figures_of_a_run_of_its_own(tiny_pair, swept, policy):
    sweep = swept(policy=policy)
    assert sweep.state == "done" and sweep.points[-1].threshold > 1
    for row in range(0, len(sweep.points), 5):
        alone = tiny_pair.generate(sweep.at(row))
        assert [(e.id, e.role) for e in sweep.events[row]] == [(e.id, e.role) for e in alone.events]
        total = costs(alone.events, alone.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost)
        share, (moved, *_) = sweep.figures[row]
        assert share == pytest.approx(alone.llm_share, abs=1e-4)
        if sweep.points[row].threshold <= 1:
            assert sum(moved) == pytest.approx(total.run.bytes / total.llm_only.bytes, rel=5e-3)
        else:
            assert moved == [0, 1], "neither the SLM nor the router is needed"


def test_every_token_of_the_tree_is_sent_once_and_authors_follow_from_scores_and_replaced_drafts(swept):
    sweep = swept()
    message = message_of(sweep)
    assert message["count"] == len(message["nodes"]) < sum(map(len, sweep.events)) / 2
    ratios = dict(message["replaced"])
    assert len(ratios) == len(message["replaced"]) > 0 and all(0 <= ratio < 1 for ratio in ratios.values())
    for (threshold, _), leaf, events in zip(sweep.points, message["leaves"], sweep.events, strict=True):
        sent = [
            (text, Role.LLM if node in ratios else role_at(score, threshold))
            for node, _, text, score, *_ in path(message, leaf)
        ]
        assert sent == [(event.text, event.role) for event in events]
    assert message_of(sweep, 7)["nodes"] == message["nodes"][7:]


def test_within_its_ranges_of_both_dials_a_text_is_the_same(tiny_pair, swept):
    sweep = swept()
    for row in range(0, len(sweep.points), 3):
        low, high, least, most = sweep.same[row]
        at = sweep.points[row]
        assert low < at.threshold <= high and least < at.acceptance <= most
        # Not at the end itself, but next to it: in a batch of other rows a ratio differs in its sixth digit.
        inside = 0.99 * min(most, 1.0) + 0.01 * at.acceptance
        other = build_request(sweep.at(row), threshold=max(0.0, (low + at.threshold) / 2), acceptance=inside)
        alone = tiny_pair.generate(other)
        assert [e.id for e in alone.events] == [e.id for e in sweep.events[row]], (at, other)


def test_settings_are_positions_of_the_slider_once_each_and_one_without_scores_is_refused(swept):
    sweep = swept()
    assert len(sweep.points) == len(set(sweep.points)) and len(set(sweep.leaves)) > 3
    assert sum(point.threshold > 1 for point in sweep.points) == 1
    own = [leaf for point, leaf in zip(sweep.points, sweep.leaves, strict=True) if point.acceptance == 1]
    assert set(own) == {sweep.leaves[-1]}, "the LLM's own text"
    refused = swept(policy="slm")
    assert refused.state == "failed" and "'slm'" in refused.error


def test_stopping_keeps_what_is_there(tiny_pair, monkeypatch):
    grow = Sweep._grow
    monkeypatch.setattr(
        Sweep, "_grow", lambda self, event: grow(self, event) or self.cancel.wait(300 * bool(self.nodes))
    )
    sweep = Sweep(Request(PROMPT), Prices()).start(Host(lambda *_, **__: tiny_pair))
    eventually(lambda: sweep.nodes)
    sweep.cancel.set()
    assert sweep.finished.wait(300) and sweep.state == "stopped" and sweep.nodes
