"""Policies and the router's file: one polarity, one place of comparison, and no file that is trusted blindly."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from engine import Request, Role, RouterError
from engine.logits import LOGIT_FEATURES, logit_features
from engine.policy import (
    ConfidencePolicy,
    EntropyPolicy,
    FixedPolicy,
    MarginPolicy,
    RandomPolicy,
    RouterPolicy,
    State,
    decide,
)
from engine.router import Router, RouterCard, RouterNetwork, features, input_size


def make_router(pair, *, logits=False, **changes):
    torch.manual_seed(0)
    width = pair.slm.hidden_size
    card = RouterCard(
        **{
            "name": "test",
            "slm": pair.slm_name,
            "llm": pair.llm_name,
            "hidden_size": width,
            "tokenizer": pair.fingerprint,
            "logit_features": logits,
            **changes,
        }
    )
    return Router(RouterNetwork(input_size(card.hidden_size, logits), card.hidden_size), card)


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


def test_confidence_is_the_probability_of_the_likeliest_token(state, logits):
    torch.testing.assert_close(ConfidencePolicy().score(state), logits.softmax(-1).amax(-1))


def test_random_routing_reaches_its_share_and_repeats_itself():
    state = State([3] * 4000, range(4000))
    decided = decide(RandomPolicy(), state, range(4000), [0.3] * 4000)
    assert abs(sum(role is Role.LLM for role, _ in decided) / 4000 - 0.3) < 0.03
    assert decide(RandomPolicy(), state, range(4000), [0.3] * 4000) == decided


def test_a_fixed_policy_has_no_score(state):
    assert decide(FixedPolicy(Role.LLM), state, range(6), [0.0] * 6) == [(Role.LLM, None)] * 6


def test_rows_may_share_a_state_and_still_have_thresholds_of_their_own(state):
    scores = ConfidencePolicy().score(state).tolist()
    decided = decide(ConfidencePolicy(), state, [2, 2, 5], [0.0, 1.5, 0.0])
    assert decided == [(Role.SLM, scores[2]), (Role.LLM, scores[2]), (Role.SLM, scores[5])]


def test_entropy_and_margin_are_what_they_are_called(state, logits):
    probabilities = logits.softmax(-1)
    entropy = torch.distributions.Categorical(probabilities).entropy()
    torch.testing.assert_close(EntropyPolicy().score(state), (-entropy).exp())
    top = probabilities.topk(2).values
    torch.testing.assert_close(MarginPolicy().score(state), top[:, 0] - top[:, 1])


def test_lm_head_is_applied_for_scoring_only_if_the_router_looks_at_logits(random_pair):
    for logits in (False, True):
        policy = RouterPolicy(make_router(random_pair, logits=logits))
        asked = Request("hello", raw=True, threshold=1.5, max_new_tokens=4)
        decoding = random_pair.start([asked], [policy])
        events = [event for _ in range(4) for event in decoding.step()]
        assert [event.slm_head for event in events] == [logits] * 4


def test_the_logit_features_are_what_they_are_called(hidden, logits):
    found = logit_features(logits)
    assert found.shape == (6, LOGIT_FEATURES)
    torch.testing.assert_close(found[:, :5], logits.log_softmax(-1).topk(5).values)
    torch.testing.assert_close(found[:, 6], torch.distributions.Categorical(logits=logits).entropy())
    assert features(hidden, found).shape == (6, hidden.shape[1] + LOGIT_FEATURES)


@pytest.mark.parametrize("certain", [False, True])
def test_a_saved_router_loads_equal(random_pair, state, tmp_path, certain):
    router = make_router(random_pair, logits=certain)
    router.save(tmp_path / "r")
    again = Router.load(tmp_path / "r")
    inputs = features(state.hidden, state.logit_features if certain else None)
    assert torch.equal(router.score(inputs), again.score(inputs))
    assert again.card == router.card


def test_a_routed_text_uses_the_router(random_pair, tmp_path):
    random_pair.use_router(make_router(random_pair))
    try:
        trace = random_pair.generate(Request("hello", raw=True, max_new_tokens=30, threshold=0.5))
    finally:
        random_pair.use_router(None)
    assert trace.router == "test"
    assert trace.slm_cost.router_flops == 2 * (32 * 64 + 64 * 32 + 32)
    assert trace.slm_cost.router_bytes == 4 * (32 * 64 + 64 + 64 * 32 + 32 + 32 + 1 + 2 * 32)
    assert all(event.router for event in trace.events)
    assert all((event.score < 0.5) == (event.role is Role.LLM) for event in trace.events)
    assert not any(event.slm_head for event in trace.events if event.role is Role.LLM)


@pytest.mark.parametrize("change", [{"slm": "another"}, {"hidden_size": 64}, {"tokenizer": "0" * 64}])
def test_a_router_for_another_slm_is_refused_with_the_reason(random_pair, change):
    with pytest.raises(RouterError, match=r"was trained for .* not for small"):
        random_pair.use_router(make_router(random_pair, **change))


def test_a_router_for_another_llm_loads_with_a_warning(random_pair):
    router = make_router(random_pair, llm="huge")
    random_pair.use_router(router)
    random_pair.use_router(None)
    assert router.warning is not None
    assert "huge" in router.warning


def corrupt_weights(folder):
    (folder / "router.safetensors").write_bytes(b"\x00" * 100)


def truncated_weights(folder):
    path = folder / "router.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def pickled_weights(folder):
    (folder / "router.safetensors").write_bytes(pickle.dumps({"layers.0.weight": [1.0]}))


def missing_weights(folder):
    (folder / "router.safetensors").unlink()


def other_shapes(folder):
    save_file({"mean": torch.zeros(3)}, folder / "router.safetensors")


def not_finite(folder):
    router = Router.load(folder)
    router.network.mean[0] = float("nan")
    router.save(folder)


def corrupt_card(folder):
    (folder / "router.json").write_text("{")


def card_of_the_other_polarity(folder):
    path = folder / "router.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"polarity": "score is the LLM's"}))


@pytest.mark.parametrize(
    "damage",
    [
        corrupt_weights,
        truncated_weights,
        pickled_weights,
        missing_weights,
        other_shapes,
        not_finite,
        corrupt_card,
        card_of_the_other_polarity,
    ],
)
def test_a_damaged_router_is_refused(random_pair, tmp_path, damage):
    folder = tmp_path / "r"
    make_router(random_pair).save(folder)
    damage(folder)
    with pytest.raises(RouterError, match="router"):
        Router.load(folder)
