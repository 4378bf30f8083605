"""Another pair, or another router, in the place of the one that is loaded: what it takes.

Nothing is loaded here but a router.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine import pair as pairs
from engine.model.language_model import LanguageModel, charged_bytes
from engine.model.linear import copy_dtype, four_bit_parameters
from engine.pair import Pair
from engine.pairs.presets import Preset, choose_preset
from engine.pairs.room import Room
from engine.router import WEIGHTS, Router
from engine.settings import Settings
from engine.weights.hub_repo import parse_repo
from engine.weights.load import room_for
from engine.weights.progress import Progress
from engine.weights.router_hub import LIMITS, find_router


@dataclass(frozen=True)
class Needs:
    """What another pair takes.

    Attributes:
        room: Of its models, with copies of 4-bit weights where the settings keep some; None where they stay.
        first: Whether the loaded pair has to go before, because memory does not hold both.
        fetched_router: The repo of the Hub that its router is fetched from; empty where it is here.
        router_most: Bytes that this router's weights may have.
    """

    room: Room | None
    first: bool = False
    fetched_router: str = ""
    router_most: int = LIMITS[WEIGHTS]


def needs_of(settings: Settings, loaded: Pair | None) -> Needs:
    """What the pair of some settings takes beside the loaded one, or in its place; see `room_for` for what is fetched.

    An EngineError as of `engine.load`, also where there is too little disk or memory for it even then.
    """
    preset = choose_preset(settings)
    router = _fetched(settings, preset)
    room = room_for(preset, settings)
    room = replace(room, memory=room.memory + room.copies)  # a page that runs must not be ended for want of memory
    beside = not room.memory_free or room.memory <= room.memory_free
    if loaded is None or (beside and room.gpu <= room.gpu_free):
        room.check()
        return Needs(room, fetched_router=router)
    here, on_gpu = _held(loaded, settings)
    room = replace(room, memory_free=room.memory_free and room.memory_free + here, gpu_free=room.gpu_free + on_gpu)
    room.check()
    return Needs(room, first=True, fetched_router=router)


def needs_of_router(settings: Settings) -> Needs:
    """The same where only the router is another."""
    return Needs(None, fetched_router=_fetched(settings, choose_preset(settings)))


def with_other_router(pair: Pair, settings: Settings, progress: Callable[[Progress], None] | None = None) -> Pair:
    """The same models with the router of some settings; raises RouterError if it does not fit. `pair` stays as it is.

    Both share the weights, so that only one of them may write at a time.
    """
    return with_router(pair, pairs.load_router(settings, choose_preset(settings), progress))


def with_router(pair: Pair, router: Router | None) -> Pair:
    """The same models with another router, or none; as `with_other_router`."""
    other = copy.copy(pair)
    other.slm = copy.copy(pair.slm)
    other.llm = copy.copy(pair.llm) if isinstance(pair.llm, LanguageModel) else pair.llm
    other.use_router(router)
    return other


def _held(pair: Pair, settings: Settings) -> tuple[int, int]:
    """Bytes of memory that a pair's weights take, copies included, and of a GPU's."""
    models = [model.weights for model in (pair.slm, pair.llm) if isinstance(model, LanguageModel)]
    sizes = [(each.device.type == "cuda", charged_bytes(each)) for model in models for each in model.parameters()]
    four_bit = sum(map(four_bit_parameters, models))
    dtype = copy_dtype(four_bit, settings.weights_copy)
    copies = four_bit * dtype.itemsize if dtype else 0
    return copies + sum(size for gpu, size in sizes if not gpu), sum(size for gpu, size in sizes if gpu)


def _fetched(settings: Settings, preset: Preset) -> str:
    """The repo that a router is fetched from; a RouterError where a name means nothing."""
    name = preset.router if settings.router == "auto" else settings.router
    if name is None or Path(name).is_dir() or (pairs.ROUTERS / name).is_dir():
        return ""
    if parse_repo(name) is None:
        find_router(name, pairs.ROUTERS, settings.cache_dir, setting="Router")  # which says so
    return name
