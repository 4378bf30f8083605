"""A link that carries the text itself: what is in it, the sweep beside it, and what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.fields import FIELDS
from app.handlers import Handlers
from app.running.host import Host
from app.running.session import SWEEP
from app.running.sessions import Sessions
from app.share.buttons import _ShareHandlers
from app.share.export import trace_json
from app.share.link import MAX_LINK_TOKENS, link_json
from app.share.open_trace import opened_run
from app.share.swept import opened_sweep, swept_of
from app.sweep import Sweep, sweep_message
from engine import InvalidRequest, Prices, Request, Trace, load_settings
from tests.support.fake_pair import FakePair
from tests.support.questions import QUESTIONS
from tests.support.shared_text import packed


@pytest.fixture(scope="module")
def sweep(tiny_pair) -> Sweep:
    """The tiny pair's texts at many settings."""
    host = Host(lambda preset, progress: tiny_pair)
    done = Sweep(Request(QUESTIONS[0][0], max_new_tokens=16, max_draft=8), [], Prices(), "both").start(host)
    assert done.finished.wait(120) and not done.error
    host.close()
    return done


@pytest.fixture(scope="module")
def text(sweep: Sweep) -> Trace:
    """A text of the sweep."""
    return sweep.pair.trace(sweep.at(3), sweep.events[3])


@pytest.fixture(scope="module")
def swept(sweep: Sweep, text: Trace) -> str:
    """The text as a file that has the sweep beside it."""
    return trace_json(text, "", swept_of(sweep, text.request))


def test_a_link_has_the_text_as_it_was_written_in_half_the_room():
    asked = Request("echo where do you come from?", 0.8, max_new_tokens=40, alternatives=5)
    trace = FakePair(1e6).generate(asked)
    back = Trace.parse(link_json(trace))
    assert back.text == trace.text and back.request == trace.request
    for one, other in zip(back.events, trace.events, strict=True):
        exact = ("id", "text", "role", "finish_reason")
        assert all(getattr(one, name) == getattr(other, name) for name in exact)
        assert one.score == pytest.approx(other.score, rel=1e-8)
        assert [each.text for each in one.llm_alternatives] == [each.text for each in other.llm_alternatives]
    assert len(packed(link_json(trace))) < len(packed(trace.to_json())) < 32_000
    assert link_json(replace(trace, events=trace.events * MAX_LINK_TOKENS)) == "", "far too long is not tried"


def test_a_swept_text_takes_its_sweep_along(sweep: Sweep, text: Trace):
    told = swept_of(sweep, text.request)
    assert told is not None and swept_of(sweep, replace(text.request, seed=5)) is None, "another text's is not its own"
    for written in (trace_json(text, "", told), link_json(text, told)):
        run = opened_run(written)
        opened = opened_sweep(written, run, Prices())
        assert opened is not None and not opened.active and Trace.from_json(written).text == text.text
        before, after = (json.loads(sweep_message(each, 0)[0]) for each in (sweep, opened))
        assert after["beside"] == run.id and before["beside"] is None
        for name in ("over", "points", "leaves", "replaced"):
            assert after[name] == before[name], name
        assert [node[1:] for node in after["nodes"]] == [node[1:] for node in before["nodes"]]
        again = swept_of(opened, run.request)
        assert again is not None and again["leaves"] == told["leaves"], "it can be passed on"


def test_an_opened_sweep_is_the_newest_and_is_priced_only_at_its_own_prices(sweep: Sweep, swept: str):
    window, sessions = SimpleNamespace(session_hash="a window"), Sessions()
    session, host = sessions.enter("a window"), Host(lambda *_, **__: None)
    sharing = _ShareHandlers(host, sessions, [None] * len(FIELDS))
    run, opened, figures = asyncio.run(sharing._read(swept, session))
    begun = session.jobs[SWEEP] = Sweep(run.request, [], Prices(), "both", opened)
    *_, message = sharing._show(session, run, opened, figures)
    assert opened is not None and json.loads(message)["n"] == opened.number > begun.number
    handlers = Handlers(host, sessions, load_settings(), [None] * len(FIELDS))

    def told(price: float) -> Any:
        *_, message = handlers.set_view("price", Prices().slm, price, window)  # pyright: ignore[reportArgumentType]
        return json.loads(message)

    other, own = told(4 * Prices().llm), told(Prices().llm)
    assert [row[:-1] for row in other["figures"]] == [list(row[:-1]) for row in own["figures"]], "other units stay"
    assert {row[-1] for row in other["figures"]} == {None}
    assert own["figures"] == [list(row) for row in sweep.figures if row] and own["view"] == other["view"] + 1


def test_a_sweep_that_would_keep_a_browser_busy_is_refused(swept: str):
    content = json.loads(swept)
    run, good = opened_run(swept), content["sweep"]
    ring = [[5, *good["nodes"][0][1:]], *good["nodes"][1:]]
    chain = [[i - 1, "x", 0.5] for i in range(19_000)]
    for change, named in (
        ({"nodes": ring}, "nodes.0"),
        ({"points": [[0, 0]] * 101}, "settings"),
        ({"nodes": chain, "leaves": [18_999] * len(good["points"]), "replaced": []}, "all texts"),
        ({"leaves": [len(good["nodes"])] * len(good["points"])}, "leaves"),
        ({"leaves": good["leaves"][1:]}, "leaves"),
        ({"replaced": [[0, 1.5]]}, "ratio"),
    ):
        with pytest.raises(InvalidRequest, match=named):
            opened_sweep(json.dumps({**content, "sweep": {**good, **change}}), run, Prices())
