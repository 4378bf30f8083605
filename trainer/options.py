"""Settings and command-line options in one: pydantic models whose fields say what they mean and what they may be.

A field made by `option` is an option of the command line. Nothing here imports torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import shown
from trainer import TrainerError

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

_Part = TypeVar("_Part", bound="Options")


def option(default: Any, meaning: str, metavar: str | None = None) -> Any:
    """A field that has a command-line option; `...` as default makes it a required one."""
    return Field(default, description=meaning, json_schema_extra={"metavar": metavar})


class Options(BaseModel):
    """Base of all settings and commands. A value that its type does not allow is a TrainerError that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            raise TrainerError(f"{name} {shown(values.get(name))}: {first['msg']}") from None

    def part(self, settings: type[_Part]) -> _Part:
        """The settings of one of its base classes."""
        return settings(**{name: getattr(self, name) for name in settings.model_fields})

    def but(self, **changes: Any) -> Self:
        """The same with other values."""
        return type(self)(**{**dict(self), **changes})

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Adds an option for each field that `option` made, with its default in the help."""
        for name, each in cls.model_fields.items():
            if (about := each.description) is None or not isinstance(each.json_schema_extra, dict):
                continue
            kind, several = _plain(each.annotation)
            default = None if each.is_required() else each.default
            if default not in (None, "", (), False):
                about += f" (default: {' '.join(map(str, default)) if several else default})"
            how: dict[str, Any] = {"help": about, "required": each.is_required(), "default": default}
            if kind is bool:
                how["action"] = "store_true"
            else:
                choices = get_args(kind) if get_origin(kind) is Literal else None
                how |= {"metavar": each.json_schema_extra["metavar"], "nargs": "+" if several else None}
                how |= {"choices": choices} if choices else {"type": kind}
            parser.add_argument(f"--{name.replace('_', '-')}", **how)

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        return cls(**{name: value for name, value in vars(given).items() if name in cls.model_fields})


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
