"""Policies and the router's file: one polarity, one place of comparison, and no file that is trusted blindly."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import Request, Role, RouterError, Setting, WeightsError, build_request
from engine.model.logits import logit_features
from engine.policy import (
    ConfidencePolicy,
    RandomPolicy,
    RouterPolicy,
    State,
    decide,
)
from engine.router import Router, features
from tests.support.routers import make_router


@pytest.fixture
def hidden(random_pair):
    return torch.randn(6, random_pair.slm.hidden_size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def logits(random_pair, hidden):
    return random_pair.slm.logits(hidden)


@pytest.fixture
def state(hidden, logits):
    return State(range(6), range(6), hidden, logit_features(logits), prompt_hidden=hidden)


def test_scores_below_the_threshold_go_to_the_llm_and_no_others(state):
    policy = ConfidencePolicy()
    scores = policy.score(state).tolist()
    for threshold in [*scores, 0.0, 0.5, 1.5]:
        decided = decide(policy, state, range(6), [threshold] * 6)
        assert [role is Role.LLM for role, _ in decided] == [score < threshold for score in scores]
    decided = decide(policy, state, [2, 2, 5], [0.0, 1.5, 0.0])  # rows may share a state
    assert decided == [(Role.SLM, scores[2]), (Role.LLM, scores[2]), (Role.SLM, scores[5])]
    state = replace(state, logit_features=torch.full_like(state.logit_features, float("nan")))
    with pytest.raises(WeightsError, match="SLM's own certainty is nan"):
        decide(policy, state, range(6), [0.5] * 6)
    decided = decide(RandomPolicy(), State([3] * 4000, range(4000)), range(4000), [0.3] * 4000)
    assert abs(sum(role is Role.LLM for role, _ in decided) / 4000 - 0.3) < 0.03


def test_confidence_and_what_a_router_sees_of_the_logits_are_what_they_are_called(state, logits):
    probabilities = logits.softmax(-1)
    torch.testing.assert_close(ConfidencePolicy().score(state), probabilities.amax(-1))
    entropy = torch.distributions.Categorical(probabilities).entropy()
    found = logit_features(logits)
    torch.testing.assert_close(found[:, :5], logits.log_softmax(-1).topk(5).values)
    torch.testing.assert_close(found[:, 6], entropy)


@pytest.mark.parametrize("certain", [False, True])
def test_a_saved_router_loads_equal_and_reads_logits_only_if_it_was_trained_on_them(
    random_pair, state, tmp_path, certain
):
    router = make_router(random_pair, logits=certain)
    router.save(tmp_path / "r")
    again = Router.load(tmp_path / "r")
    inputs = features(state.hidden, state.logit_features if certain else None)
    assert torch.equal(router.score(inputs), again.score(inputs))
    assert again.card == router.card
    asked = Request("hello", Setting(threshold=1.5), raw=True, max_new_tokens=4)
    decoding = random_pair.start([asked], [RouterPolicy(again)])
    assert [text.events[-1].slm_head for _ in range(4) for text in decoding.step()] == [certain] * 4


def test_a_routed_text_uses_the_router_and_ends_where_it_gives_no_number(random_pair):
    router, asked = make_router(random_pair), build_request("hello", raw=True, max_new_tokens=30, threshold=0.5)
    random_pair.use_router(router)
    try:
        trace = random_pair.generate(asked)
        with torch.no_grad():  # finite, as a file may be, and still too large to calculate with
            router.network.mean.fill_(3e38)
            router.network.state_dict()["layers.0.weight"].normal_(std=1e30)
        random_pair.use_router(Router(router.network, router.card))
        with pytest.raises(RouterError, match=r"'test' .* nan"):
            random_pair.generate(asked)
    finally:
        random_pair.use_router(None)
    assert trace.router == "test" and all(event.router for event in trace.events)
    assert trace.slm_cost.router_flops == 2 * (32 * 64 + 64 * 32 + 32)
    assert trace.slm_cost.router_bytes == 4 * (32 * 64 + 64 + 64 * 32 + 32 + 32 + 1 + 2 * 32)
    assert all((event.score < 0.5) == (event.role is Role.LLM) for event in trace.events)


def test_a_router_for_another_slm_is_refused_with_the_reason_and_for_another_llm_taken_with_a_warning(random_pair):
    change: dict[str, Any]
    for change in ({"slm": "another"}, {"hidden_size": 64}, {"tokenizer": "0" * 64}):
        with pytest.raises(RouterError, match=r"was trained for .* not for small"):
            random_pair.use_router(make_router(random_pair, **change))  # pyright: ignore[reportArgumentType]
    router = make_router(random_pair, llm="huge")
    random_pair.use_router(router)
    random_pair.use_router(None)
    assert router.warning is not None and "huge" in router.warning


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("hidden_size", value) for value in (0, 10**9, "32", True)),
        *(("threshold", value) for value in (-1, 3, float("nan"), None)),
        *(("dropout", 1), ("acceptance", 2), ("name", ""), ("name", "x" * 1000), ("metrics", {"auc": float("nan")})),
        *(("polarity", "score is the LLM's"), ("logit_features", 1), ("format", 2), ("sha256", "0" * 64)),
    ],
)
def test_a_card_that_cannot_be_is_refused(random_pair, tmp_path, field, value):
    make_router(random_pair).save(tmp_path)
    path = tmp_path / "router.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(RouterError, match="router"):
        Router.load(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weights: weights["mean"].fill_(float("nan")),
        lambda weights: weights["scale"].zero_(),
        lambda weights: weights.update({name: each.to(torch.int32) for name, each in weights.items()}),
        lambda weights: weights.pop("mean"),
    ],
    ids=["no numbers", "a scale of zero", "whole numbers", "other tensors"],
)
def test_weights_that_cannot_be_are_refused_where_no_card_vouches_for_them(random_pair, tmp_path, spoil):
    make_router(random_pair).save(tmp_path)
    weights = load_file(tmp_path / "router.safetensors")
    spoil(weights)
    save_file(weights, tmp_path / "router.safetensors")
    card = json.loads((tmp_path / "router.json").read_text())
    del card["sha256"]
    (tmp_path / "router.json").write_text(json.dumps(card))
    with pytest.raises(RouterError, match="router"):
        Router.load(tmp_path)
