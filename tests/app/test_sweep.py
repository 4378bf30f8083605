"""The sweep: one prompt at many settings of the dials, on the tiny pair, and what the page is sent of it."""

from __future__ import annotations

import json
from functools import cache

import pytest

from app.running.host import Host
from app.running.session import Session
from app.stream.updates import JobUpdates
from app.sweep import Sweep
from engine import Request, build_request, costs
from engine.grading import is_right
from tests.support.browser import eventually

PROMPT = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""
ANSWER = "66"


@pytest.fixture(scope="module")
def swept(tiny_pair):
    """Sweeps; the same is swept once."""

    @cache
    def sweep(**options) -> Sweep:
        host = Host(lambda preset, progress: tiny_pair)
        host.answers = {PROMPT: ANSWER}
        sweep = Sweep(build_request(PROMPT, max_new_tokens=40, max_draft=8, **options)).start(host)
        assert sweep.finished.wait(300), sweep.state
        return sweep

    return sweep


@pytest.mark.parametrize("policy", ["router", "confidence"])
def test_every_setting_has_the_text_and_the_figures_of_a_run_of_its_own(tiny_pair, swept, policy):
    sweep = swept(policy=policy)
    assert sweep.state == "done" and sweep.points[-1].threshold > 1
    for row in range(0, len(sweep.points), 5):
        alone = tiny_pair.generate(sweep.at(row))
        assert [(e.id, e.role) for e in sweep.events[row]] == [(e.id, e.role) for e in alone.events]
        total = costs(alone.events, alone.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost)
        (moved, *_), _, right = sweep.figures[row]
        assert right == is_right(alone.text, ANSWER)
        if sweep.points[row].threshold > 1:
            assert moved == (0, 1), "neither the SLM nor the router is needed"
        elif any(sweep.points[row]):  # without the router's cost where only the SLM writes
            assert sum(moved) == pytest.approx(total.run.bytes / total.llm_only.bytes, rel=5e-3)


def test_the_map_is_told_whole_and_texts_of_the_same_tokens_have_one_number(swept):
    sweep, session = swept(), Session()
    session.jobs["sweep"] = sweep
    (told,) = map(json.loads, JobUpdates("sweep", session, -1).due())
    assert [tuple(point) for point in told["points"]] == sweep.points and told["prompt"] == PROMPT
    texts = [[event.id for event in events] for events in sweep.events]
    numbers = [number for _, number, _ in told["figures"]]
    assert all((numbers[a] == numbers[b]) == (texts[a] == texts[b]) for a in range(31) for b in range(a))
    own = [number for point, number in zip(sweep.points, numbers, strict=True) if point.acceptance == 1]
    assert set(own) == {numbers[-1]} and len(set(numbers)) > 3, "the LLM's own text"


def test_settings_are_positions_of_the_slider_once_each_and_one_without_scores_is_refused(swept):
    sweep = swept()
    assert len(sweep.points) == len(set(sweep.points)) and sum(point.threshold > 1 for point in sweep.points) == 1
    refused = swept(policy="slm")
    assert refused.state == "failed" and "'slm'" in refused.error


def test_stopping_keeps_what_is_there(tiny_pair, monkeypatch):
    take = Sweep._take
    monkeypatch.setattr(Sweep, "_take", lambda self, event: take(self, event) or self.cancel.wait(300))
    sweep = Sweep(Request(PROMPT)).start(Host(lambda *_, **__: tiny_pair))
    eventually(lambda: any(sweep.events))
    sweep.cancel.set()
    assert sweep.finished.wait(300) and sweep.state == "stopped" and any(sweep.events)
