"""JSON that the trainer wrote earlier, read back as what it should be: errors name the file and its first fault.

Numbers that are not finite are neither written nor read.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.errors import first_fault
from engine.models.files import write_text
from trainer import TrainerError

AGAIN = "delete the file and run the same command again"


def read_json(path: Path, kind: Any, way_out: str) -> Any:
    """A file's content, validated by pydantic as `kind`; a TrainerError names the first fault and the way out."""
    try:
        return _adapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror or error}; {way_out}") from None
    except ValidationError as error:
        raise TrainerError(f"{path}: {first_fault(error, whole='')}; {way_out}") from None


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Writes what `read_json` reads, whole or not at all."""
    write_text(path, _dumped(value, path, indent=indent) + "\n")


def _dumped(value: Any, path: Path, indent: int | None = None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode("utf-8")
    except ValueError as error:  # NaN, or half a surrogate pair
        raise TrainerError(f"{path} is not written: {error}") from None
    return text


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
