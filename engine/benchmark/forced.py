"""A policy that routes an exact share of a text to the LLM at the price of a real router."""

from __future__ import annotations

import random

import torch

from engine.pair import Pair
from engine.policy import Policy, State
from engine.router import Router, RouterCard, RouterNetwork, features, input_size


class ForcedShare(Policy):
    """Scores that are evenly spread over the text, in an order that the seed shuffles.

    Of a text of `length` tokens, threshold t gives the LLM exactly t · length tokens (rounded), so that speeds are
    compared at the same share. The router's network is run on every hidden state and its score thrown away: this is
    what routing costs, without what this pair's router happens to think. The first token is the LLM's at every share
    above 0, so that the time to the first token is the longest there is: both models have read the prompt.
    """

    runs_router = True

    def __init__(self, router: Router, length: int) -> None:
        """Prepares texts of `length` tokens."""
        self.router, self.length = router, length
        self.needs_logits = router.card.logit_features
        self._spread: dict[int, list[float]] = {}  # by seed

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        assert state.hidden is not None
        self.router.score(features(state.hidden, state.logit_features if self.needs_logits else None)).tolist()
        return torch.tensor([self.scores_of(s)[p] for s, p in zip(state.seeds, state.positions, strict=True)])

    def scores_of(self, seed: int) -> list[float]:
        """The scores of a text, by position."""
        if seed not in self._spread:
            self._spread[seed] = spread(self.length, seed)
        return self._spread[seed]


def spread(length: int, seed: int) -> list[float]:
    """0 for the first token, then evenly spread scores in (0, 1) in an order that depends on the seed."""
    order = list(range(1, length))
    random.Random(seed).shuffle(order)
    return [0.0, *((rank + 0.5) / length for rank in order)]


def router_of(pair: Pair) -> Router:
    """The pair's router, or one of the same size with random weights where it has none."""
    if pair.router is not None:
        return pair.router
    size = pair.slm.hidden_size
    card = RouterCard("random", pair.slm_name, pair.llm_name, size, pair.fingerprint)
    network = RouterNetwork(input_size(size, with_logits=False), size).to(pair.slm.device)
    return Router(network.requires_grad_(False), card)
