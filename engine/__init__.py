"""Token-level routing between a small and a large language model (CITER, Zheng et al., COLM 2025).

The public names. What needs torch is imported when first used, so that the page and `--help` appear at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.audit import Audit, audit
from engine.cost import UNITS, Cost, Costs, ModelCost, Prices, Tally, costs, cumulative
from engine.dial import Dial
from engine.errors import EngineError, InvalidRequest, RouterError, SettingsError, WeightsError
from engine.events import Alternative, Revealed, Role, TokenEvent, fold_revealed
from engine.replay import at_threshold, first_flip, same_text
from engine.request import DEFAULT_THRESHOLD, POLICIES, Forced, Request, Sampling
from engine.settings import Settings, load_settings
from engine.trace import Trace

if TYPE_CHECKING:
    from engine.decoding import Decoding, decode
    from engine.pair import Pair, build_request, load
    from engine.router import Router

_LAZY = {
    "Pair": "pair", "load": "pair", "build_request": "pair", "Decoding": "decoding", "decode": "decoding",
    "Router": "router",
}  # fmt: skip

__all__ = [
    "DEFAULT_THRESHOLD",
    "POLICIES", "UNITS", "Alternative", "Audit", "Cost", "Costs", "Decoding", "Dial", "EngineError", "Forced",
    "InvalidRequest", "ModelCost", "Pair", "Prices", "Request", "Revealed", "Role", "Router", "RouterError", "Sampling",
    "Settings", "SettingsError", "Tally", "TokenEvent", "Trace", "WeightsError", "at_threshold", "audit",
    "build_request", "costs", "cumulative", "decode", "first_flip", "fold_revealed", "load", "load_settings",
    "same_text",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"engine.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
