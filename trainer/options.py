"""Settings and command-line options in one: a dataclass whose fields say what they mean and what they may be.

A field made by `option` is an option of the command line. Its bounds belong to its type (`Annotated[..., Field(ge=0)]`)
and are checked wherever the object is made. Nothing here imports torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from engine.errors import first_fault, shown
from trainer import TrainerError

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

_Part = TypeVar("_Part", bound="Options")


def option(default: Any, meaning: str, metavar: str | None = None) -> Any:
    """A dataclass field that has a command-line option; `MISSING` as default makes it a required one."""
    made_of: dict[str, Any] = {"metadata": {"help": meaning, "metavar": metavar}}
    return field(default=default, **made_of)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all settings and commands. A value that its type does not allow is a TrainerError that names it."""

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            value = getattr(self, name)
            try:
                _adapter(kind).validate_python(value)
            except ValidationError as error:
                raise TrainerError(f"{name} {shown(value)}: {first_fault(error, whole='')}") from None

    def part(self, settings: type[_Part]) -> _Part:
        """The settings of one of its base classes."""
        return settings(**{each.name: getattr(self, each.name) for each in fields(settings)})

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Adds an option for each field that `option` made, with its default in the help."""
        for each in (each for each in fields(cls) if "help" in each.metadata):
            (kind, several), about = _plain(_kinds(cls)[each.name]), each.metadata["help"]
            if each.default not in (MISSING, None, "", (), False):
                about += f" (default: {' '.join(map(str, each.default)) if several else each.default})"
            how: dict[str, Any] = {"help": about, "required": each.default is MISSING}
            how["default"] = None if each.default is MISSING else each.default
            if kind is bool:
                how["action"] = "store_true"
            else:
                choices = get_args(kind) if get_origin(kind) is Literal else None
                how |= {"metavar": each.metadata["metavar"], "nargs": "+" if several else None}
                how |= {"choices": choices} if choices else {"type": kind}
            parser.add_argument(f"--{each.name.replace('_', '-')}", **how)

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        return cls(**{each.name: getattr(given, each.name) for each in fields(cls) if "help" in each.metadata})


@cache
def _kinds(settings: type) -> dict[str, Any]:
    hints = get_type_hints(settings, include_extras=True)
    return {each.name: hints[each.name] for each in fields(settings)}


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(kind: Any) -> tuple[Any, bool]:
    """What a word on the command line becomes, and whether there may be several."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Sequence, list, tuple):
        return _plain(get_args(kind)[0])[0], True
    return kind, False


Words = Sequence[str]
Paths = Sequence[Path]
