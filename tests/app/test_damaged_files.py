"""What the page reads from outside, with damage drawn by chance: refused by name in few words, or taken and sound.

What the engine reads has a file of its own, `tests/engine/test_formats.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from app.fields import FIELDS, fitting, page_request, read_query
from app.share.export import html_page, link_json
from app.share.open_trace import opened_run
from engine import POLICIES, InvalidRequest, Role, Trace, build_request
from engine.events import extend
from engine.request import Turn
from tests.support.browser import told
from tests.support.fake_pair import FakePair
from tests.support.limits import FORM
from tests.support.mutations import VALUES, damaged_json

TALK = (Turn("user", "a?"), Turn("assistant", "b c", ((Role.SLM, 2), (Role.LLM, 1))))
ASKED = build_request("echo a b c", max_new_tokens=9, threshold=0.5, acceptance=0.9, alternatives=2, turns=TALK)
TRACE = FakePair(1e6).generate(ASKED)


def read(take: Callable[[], Any]) -> Any:
    """What is taken, or None where it is refused in few words. Any other error is a fault."""
    try:
        return take()
    except InvalidRequest as error:
        assert 0 < len(str(error)) < 2000
        return None


@given(content=damaged_json(json.loads(TRACE.to_json())))
def test_a_damaged_trace_is_refused_or_everything_can_be_done_with_it(content):
    text = content.decode("utf-8", "surrogateescape")
    if (run := read(lambda: opened_run(text))) is None:
        return
    trace, shown = run.pair.opened, []
    for event in run.events:
        extend(shown, event)
    assert len(shown) == len(trace.events) > 0 and Trace.from_json(trace.to_json()) == trace
    assert told(run)["tokens"] and html_page(trace)
    assert Trace.from_json(link_json(trace)).text == trace.text


STRINGS = st.text(max_size=30) | st.text("a\\n\n\u2028\ud800", max_size=30) | VALUES.map(str) | st.integers().map(str)


@example(values={"stop": "x" * 1_001})
@example(values={"stop": "x\n" * 101})
@example(values={"max_draft": [], "policy": {}})
@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, STRINGS | VALUES)))
def test_any_link_and_whatever_a_browser_has_kept_fill_in_what_can_be_asked_and_name_the_rest(values):
    from_link = read_query({name: str(value) for name, value in values.items()}, POLICIES)
    for good, refused in (from_link, fitting(values, POLICIES)):
        assert len(good) + len(refused) == len(values) and all(len(reason) <= 161 for reason in refused)
    filled = {**FORM, **from_link[0]}
    page_request(**{**filled, "prompt": filled["prompt"] if filled["prompt"].strip() else "hi"})
    read(lambda: page_request(**{**FORM, **values}))
