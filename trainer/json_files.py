"""JSON that the trainer wrote earlier, read back and checked: errors name the file and its first fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.errors import first_fault
from trainer import TrainerError

AGAIN = "delete the file and run the same command again"


def read_json(path: Path, kind: Any, way_out: str) -> Any:
    """A file's content, validated by pydantic as `kind`; a TrainerError names the first fault and the way out."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror or error}; {way_out}") from None
    except ValidationError as error:
        raise TrainerError(f"{path}: {first_fault(error, whole='')}; {way_out}") from None
