"""Pairs of the user's own: the TOML file that CITER_PAIRS names. No model is looked at here.

    [mine]                                    # CITER_PRESET=mine
    slm = "Qwen/Qwen2.5-0.5B-Instruct"        # as CITER_SLM: repo of the Hub, folder of safetensors, or GGUF file
    llm = "models/qwen2.5-3b-instruct-q4_k_m.gguf"
    router = "routers/mine"                   # as CITER_ROUTER; this and what follows may be left out
    weights = "4bit"                          # or "fp32": as they are, for small models
    device = "auto"                           # CUDA where it is; or "cpu", "cuda"

Paths are looked for beside the file first.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from engine.errors import SettingsError, first_fault, shown
from engine.models.files import read_object

PRESET_NAMES = ("auto", "gpu", "cpu", "tiny")

_Reference = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class OwnPair(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    slm: _Reference
    llm: _Reference
    router: _Reference | None = None
    weights: Literal["4bit", "fp32"] = "4bit"
    device: Literal["auto", "cpu", "cuda"] = "auto"


_PAIRS = TypeAdapter(Annotated[dict[_Name, OwnPair], Field(max_length=1000)])


def pair_of(name: str, path: Path | None) -> OwnPair | None:
    """The pair of this name in the file; None for a preset's name. A SettingsError if neither has it."""
    own = read_pairs(path) if path is not None else {}
    if name not in own and name not in PRESET_NAMES:
        where = f", or {', '.join(own)} of CITER_PAIRS" if own else "; pairs of your own are named in CITER_PAIRS"
        raise SettingsError(f"CITER_PRESET = {shown(name)}: must be one of {', '.join(PRESET_NAMES)}{where}")
    return own.get(name)


def read_pairs(path: Path) -> dict[str, OwnPair]:
    """All pairs of a file by name; a SettingsError names the first thing that is wrong with it."""
    try:
        pairs = _PAIRS.validate_python(read_object(path, parse=tomllib.loads))
        if taken := pairs.keys() & {*PRESET_NAMES}:
            raise ValueError(f"[{min(taken)}] is the name of a preset: choose another")
    except ValidationError as error:
        raise SettingsError(f"CITER_PAIRS = {shown(str(path))}: {first_fault(error)}") from None
    except ValueError as error:
        raise SettingsError(f"CITER_PAIRS = {shown(str(path))}: {error}") from None
    return {name: _resolved(pair, path) for name, pair in pairs.items()}


def _resolved(pair: OwnPair, file: Path) -> OwnPair:
    """The pair with paths that lead somewhere from the file's folder; other names may be repos, or lead from here."""
    found: dict[str, str] = {}
    for key in ("slm", "llm", "router"):
        try:
            there = file.resolve().parent / Path(getattr(pair, key) or "\0").expanduser()
            found |= {key: str(there)} if there.exists() else {}
        except (OSError, RuntimeError, ValueError):
            continue
    return pair.model_copy(update=found)
