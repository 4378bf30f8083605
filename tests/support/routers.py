"""An untrained router that fits a pair."""

from __future__ import annotations

from typing import Any

import torch

from engine.pair import Pair
from engine.router import Router, RouterCard, RouterNetwork, input_size


def make_router(pair: Pair, *, logits: bool = False, **changes: Any) -> Router:
    """A router of this pair's SLM, always with the same random weights; `changes` are fields of its card."""
    torch.manual_seed(0)
    width = pair.slm.hidden_size
    about = {"slm": pair.slm_name, "llm": pair.llm_name, "hidden_size": width, "tokenizer": pair.fingerprint}
    card = RouterCard(**{"name": "test", "logit_features": logits, **about, **changes})
    return Router(RouterNetwork(input_size(card.hidden_size, logits), card.hidden_size), card)
