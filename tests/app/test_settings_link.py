"""Links to settings: what was asked for a text goes through an address and back.

Values that no field takes are in `tests/app/test_limits.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st

from app.fields import FIELDS, page_request, read_query, request_fields
from engine import POLICIES, Sampling, build_request
from engine.request import Turn

STARTS = dict(zip(FIELDS, ("", 0.5, 0, "router", "", False, 0, 1, 0, 1, 0, 256, "", 0, ""), strict=True))

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
prompts = texts.filter(str.strip)


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
    query = {name: int(value) if isinstance(value, bool) else value for name, value in request_fields(original).items()}
    values, refused = read_query(dict(parse_qsl(urlencode(query), keep_blank_values=True)), POLICIES)
    assert not refused
    assert replace(page_request(**{**STARTS, **values}), alternatives=0) == original
