"""Pairs of one's own: a TOML file that names them. No model is looked at here, so that a bad file is told at once.

    [mine]                                    # CITER_PRESET=mine
    slm = "Qwen/Qwen2.5-0.5B-Instruct"        # as CITER_SLM: repo of the Hub, folder of safetensors, or GGUF file
    llm = "models/qwen2.5-3b-instruct-q4_k_m.gguf"
    router = "routers/mine"                   # as CITER_ROUTER; optional, as is all below
    weights = "4bit"                          # or "fp32": as they are, for small models
    device = "auto"                           # "cpu" or "cuda" for one of them; auto takes CUDA where it is

Paths are looked for beside the file first.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import SettingsError, first_fault, shown
from engine.models.files import read_bytes

PRESET_NAMES = ("auto", "gpu", "cpu", "tiny")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as the names of results are
_MOST = 1000  # pairs of a file

_Reference = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class OwnPair(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    slm: _Reference
    llm: _Reference
    router: _Reference | None = None
    weights: Literal["4bit", "fp32"] = "4bit"
    device: Literal["auto", "cpu", "cuda"] = "auto"


def pair_of(name: str, path: Path | None) -> OwnPair | None:
    """The pair that a file gives a name to; None if the name is a preset's. A SettingsError if there is none."""
    own = read_pairs(path) if path is not None else {}
    if name not in own and name not in PRESET_NAMES:
        where = f", or {', '.join(own)} of CITER_PAIRS" if own else "; pairs of your own are named in CITER_PAIRS"
        raise SettingsError(f"CITER_PRESET = {shown(name)}: must be one of {', '.join(PRESET_NAMES)}{where}")
    return own.get(name)


def read_pairs(path: Path) -> dict[str, OwnPair]:
    """All pairs of a file by name; a SettingsError names the first thing that is wrong with it."""
    named = f"CITER_PAIRS = {shown(str(path))}"
    try:
        tables = tomllib.loads(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise SettingsError(f"{named}: it cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{named}: it is not TOML ({shown(str(error))})") from None
    if len(tables) > _MOST:
        raise SettingsError(f"{named}: it has {len(tables):,} pairs; at most {_MOST:,} are taken")
    return {name: _pair(path, name, table) for name, table in tables.items()}


def _pair(path: Path, name: str, table: object) -> OwnPair:
    where = f"CITER_PAIRS = {shown(str(path))}: [{shown(name)}]"
    if name in PRESET_NAMES or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{where} is no name for a pair of one's own: letters, digits and . - _ make one, "
            f"and {', '.join(PRESET_NAMES)} are taken"
        )
    try:
        own = OwnPair.model_validate(table)
    except ValidationError as error:
        raise SettingsError(f"{where}: {first_fault(error, 'the table')}") from None
    here = {key: _beside(path, value) for key in ("slm", "llm", "router") if (value := getattr(own, key)) is not None}
    return own.model_copy(update=here)


def _beside(path: Path, reference: str) -> str:
    """A path that leads from the file's folder to something; what does not may be a repo, or lead from here."""
    try:
        there = path.resolve().parent / Path(reference).expanduser()
        return str(there) if there.exists() else reference
    except (OSError, RuntimeError, ValueError):
        return reference
