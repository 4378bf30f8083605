"""Links to settings: what was asked for a text goes through an address and back.

Values that no field takes are in `tests/app/test_limits.py`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fields import FIELDS, MAX_TEXT, link_query, page_request, read_query
from app.share.buttons import taken
from engine import POLICIES, Request, Role, Sampling, Trace, build_request
from engine.request import Forced, Turn
from tests.support.fake_pair import FakePair

STARTS = dict(zip(FIELDS, ("", 0.5, 0, "router", "", False, 0, 1, 0, 1, 0, 256, "", 0, ""), strict=True))
PLAIN: Trace = FakePair(1e6).generate(Request("echo a b", max_new_tokens=9))

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1, max_size=20)
prompts = texts.filter(str.strip)


def through_a_link(trace: Trace) -> Request:
    """The request of a page that was opened with the link."""
    values, refused = read_query(dict(parse_qsl(link_query(trace)[0], strict_parsing=True)), POLICIES)
    assert refused == []
    return replace(page_request(**{**STARTS, **values}), alternatives=0)


@given(
    prompt=prompts,
    threshold=st.floats(0, 2),
    policy=st.sampled_from(POLICIES),
    system=st.none() | prompts,
    raw=st.booleans(),
    sampling=st.builds(
        Sampling, st.floats(0, 2), st.floats(0.01, 1), st.integers(0, 100), st.floats(0.5, 2, exclude_min=True)
    ),
    max_new_tokens=st.integers(1, 999),
    stop=st.lists(texts | st.sampled_from(["\n", "a\\n", "\\", "\t|", " "]), max_size=3).map(tuple),
    seed=st.integers(0, 2**53 - 1),
    acceptance=st.floats(0, 1),
    max_draft=st.just("auto") | st.integers(1, 32),
    turns=st.sampled_from([(), (Turn("user", "a&b\n"), Turn("assistant", "é"))]),
)
def test_a_link_brings_back_what_was_asked(**asked: Any):
    if asked["raw"]:
        asked["turns"] = ()  # which no raw prompt has
    original = build_request(**asked)
    last = {"threshold": original.setting.threshold, "acceptance": original.setting.acceptance}
    events = tuple(replace(event, **last) for event in PLAIN.events)
    trace = replace(PLAIN, events=events, **asked)
    query, missing = link_query(trace)
    if any("stop" in said for said in missing):
        assert "stop=" not in query
        original = replace(original, stop=())
    assert through_a_link(trace) == original


@pytest.mark.parametrize(("letter", "fits"), [("x", MAX_TEXT), ("é", MAX_TEXT // 6)])
def test_what_is_too_long_for_a_link_is_left_out_by_name(letter: str, fits: int):
    assert link_query(replace(PLAIN, prompt=letter * fits))[1] == []
    long_talk = (Turn("user", "a" * 6000), Turn("assistant", "b"))
    for change, named, stays in (
        ({"prompt": letter * (fits + 1)}, "prompt", "threshold="),
        ({"prompt": "p" * 4000, "system": "s" * 4000}, "prompt", "s" * 4000),
        ({"turns": long_talk}, "conversation", "prompt=echo%20a%20b"),
    ):
        query, (said,) = link_query(replace(PLAIN, **change))
        assert named in said and stays in query and f"{named}=" not in query


def test_what_no_field_holds_is_said_of_links_and_programs():
    def said(trace: Trace) -> list[str]:
        programs = json.loads(taken(trace, None, "program") or "")["notes"]
        assert len(programs) == len(link_query(trace)[1])
        return [*link_query(trace)[1], *programs]

    (first, *others), last = PLAIN.events, PLAIN.events[-1]
    assert first.score is not None and said(PLAIN) == []
    by_hand = replace(PLAIN, forced=(Forced(0, Role.LLM),), events=(replace(first, forced=True), *others))
    turned = replace(PLAIN, events=(replace(first, role=Role.LLM, threshold=first.score + 0.1), *others))
    kept = (replace(first, acceptance=0.5, ratio=0.1), *others[:-1], replace(last, acceptance=0.5))
    told = ((by_hand, "hand"), (turned, "threshold"), (replace(PLAIN, events=kept), "acceptance"))
    assert all(word in said(trace)[0] for trace, word in told)
    moved = replace(PLAIN, events=(*PLAIN.events[:-1], replace(last, threshold=0.25)))
    assert "threshold=0.25&" in link_query(moved)[0]
