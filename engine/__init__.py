"""Token-level routing between a small and a large language model (CITER, Zheng et al., COLM 2025).

The public names. What needs torch is imported when first used, so that the page and `--help` appear at once.
"""

from __future__ import annotations

import logging
import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, InvalidRequest, RouterError, ServerError, SettingsError, WeightsError
from engine.events import Role, TokenEvent, extend, fold_revealed, llm_share
from engine.events.cost import ModelCost, Prices, costs
from engine.events.trace import Trace, at_setting, first_flip
from engine.policy import POLICIES
from engine.request import Forced, Request, Sampling, build_request
from engine.setting import DEFAULT_THRESHOLD, Setting
from engine.settings import Settings, load_settings

# How often an idle thread of a product looks for work before it sleeps. libgomp reads it when torch is loaded, so it is
# set here, which every program imports first. By default it spins for milliseconds, which stalls all where another
# process wants the same processor: with two busy loops beside it, 20 texts took 30 s instead of 1.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# bitsandbytes warns at import that an optional package is missing. Its own kernels do without it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

# `python -m engine.settings` prints the settings, which are imported above: the warning is harmless.
warnings.filterwarnings("ignore", r"'engine\.settings' found in sys\.modules", RuntimeWarning)

if TYPE_CHECKING:
    from engine.pair import Pair, load
    from engine.router import Router
    from engine.scheduler import Scheduler

_LAZY = {"Pair": "pair", "load": "pair", "Router": "router", "Scheduler": "scheduler"}

__all__ = [
    "DEFAULT_THRESHOLD", "POLICIES", "EngineError", "Forced", "InvalidRequest", "ModelCost", "Pair", "Prices",
    "Request", "Role", "Router", "RouterError", "Sampling", "Scheduler", "ServerError", "Setting", "Settings",
    "SettingsError", "TokenEvent", "Trace", "WeightsError", "at_setting", "build_request", "costs", "extend",
    "first_flip", "fold_revealed", "llm_share", "load", "load_settings",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"engine.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
