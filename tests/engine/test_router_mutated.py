"""Routers' folders with damage drawn by chance: refused by name, or a router that gives numbers; nothing in between."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RouterError
from engine.events import MAX_THRESHOLD
from engine.operating_points import FILE
from engine.policy import RouterPolicy, State, decide
from engine.router import CARD, WEIGHTS, Router
from engine.weights.cache_folder import sha256_of
from tests.engine.test_router import make_router
from tests.support.mutations import damaged_bytes, damaged_json

POINT = {"threshold": 0.5, "accuracy": 0.6, "accuracy_low": 0.5, "accuracy_high": 0.7, "llm_share": 0.2}
POINT |= {"bytes": 1.0, "flops": 1.0, "seconds": 1.0, "acceptance": 0.0}
NAMES = dict.fromkeys(("task", "pair", "command", "revision", "hardware"), "x")
CURVE = {**NAMES, "questions": 9, "slm": POINT, "llm": POINT, "points": [POINT]}


@pytest.fixture(scope="module")
def whole(random_pair, tmp_path_factory):
    """The files of a whole router with operating points, by name."""
    folder = tmp_path_factory.mktemp("whole")
    make_router(random_pair).save(folder)
    points = {"format": 1, "router": sha256_of(folder / WEIGHTS), "curves": [CURVE]}
    (folder / FILE).write_text(json.dumps(points))
    assert Router.load(folder).operating_points
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("router")


def put(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def scores_or_refusal(router, hidden):
    """All that a loaded router may do: decide by finite scores, or say that its scores are none."""
    state = State(range(3), range(3), hidden)
    try:
        decided = decide(RouterPolicy(router), state, range(3), [router.card.threshold] * 3)
    except RouterError as error:
        assert "no number" in str(error)
    else:
        assert all(0 <= score <= 1 for _, score in decided if score is not None)


@given(data=st.data())
def test_a_damaged_card_is_refused_by_name_or_says_what_it_may_say(whole, folder, data):
    put(folder, {**whole, CARD: data.draw(damaged_json(json.loads(whole[CARD])))})
    try:
        router = Router.load(folder)
    except RouterError as error:
        assert "router" in str(error) and len(str(error)) < 1000
        return
    card = router.card
    assert 0 <= card.threshold <= MAX_THRESHOLD and 0 <= card.acceptance <= 1 and 0 <= card.dropout < 1
    assert card.hidden_size == 32 and isinstance(card.name, str) and card.name
    json.dumps(card.metrics, allow_nan=False)
    scores_or_refusal(router, torch.randn(3, 32))


@given(data=st.data())
def test_damaged_weights_are_always_refused(whole, folder, data):
    put(folder, {**whole, WEIGHTS: data.draw(damaged_bytes(whole[WEIGHTS]))})
    with pytest.raises(RouterError, match="router"):
        Router.load(folder)


@given(data=st.data())
def test_damaged_weights_that_no_card_vouches_for_are_refused_or_give_numbers(whole, folder, data):
    card = json.loads(whole[CARD])
    del card["sha256"]
    put(folder, {**whole, CARD: json.dumps(card).encode(), WEIGHTS: data.draw(damaged_bytes(whole[WEIGHTS]))})
    try:
        router = Router.load(folder)
    except RouterError:
        return
    assert router.warning is not None and router.operating_points is None, "they were measured with other weights"
    scores_or_refusal(router, torch.randn(3, 32))


@given(data=st.data())
def test_damaged_operating_points_are_refused_by_name_or_within_their_ranges(whole, folder, data):
    put(folder, {**whole, FILE: data.draw(damaged_json(json.loads(whole[FILE])))})
    try:
        router = Router.load(folder)
    except RouterError as error:
        assert FILE in str(error) and len(str(error)) < 1000
        return
    for curve in router.operating_points.curves if router.operating_points else ():
        assert all(0 <= point.accuracy <= 1 and point.bytes >= 0 for point in curve.measured)
        assert curve.best(0.1) in curve.measured
