"""Reads a stranger's JSON, and stops at its first fault.

Pydantic by itself goes on to the last item of a list and keeps the value of every fault. A file of 4 MB that is wrong
everywhere would take gigabytes, and no other thread would run meanwhile.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, FailFast, Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic_core import from_json

from engine.errors import InvalidRequest, first_fault

_MOST_VALUES = 16
"""Values of a short tuple that is written as a list: more than any such tuple has."""

Item = TypeVar("Item")
Kind = TypeVar("Kind")


def _few(value: Any) -> Any:
    if isinstance(value, list | dict) and len(value) > _MOST_VALUES:
        raise ValueError(f"{len(value):,} values are too many")
    return value


FEW = BeforeValidator(_few)
"""Refuses a long list for a named tuple, before pydantic reports each value that the tuple has no name for."""

Many = Annotated[tuple[Item, ...], FailFast()]
"""A tuple of any length that is checked up to its first bad item."""

Nothing = Annotated[tuple[Item, ...], FailFast(), Field(max_length=0)]
"""A tuple that is empty wherever it is read from a file."""

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10_000_000)]
Seconds = Annotated[FiniteFloat, Field(ge=0, le=1e7)]
Amount = Annotated[int, Field(ge=0, le=10**18)]
"""Bytes or floating-point operations."""

Name = Annotated[str, Field(max_length=300)]


def parsed(adapter: TypeAdapter[Kind], text: str | bytes, what: str) -> Kind:
    """The value of some JSON, checked by `adapter`. Raises InvalidRequest, which says that it is not `what`."""
    try:
        # Not `validate_json`: it makes the value of each fault anew.
        return adapter.validate_python(from_json(text.encode() if isinstance(text, str) else text))
    except ValidationError as error:
        fault = first_fault(error)
    except ValueError as error:  # no JSON, or no text
        reason = "no text" if isinstance(error, UnicodeError) else str(error)
        fault = f"the file: it is no JSON ({reason})"
    raise InvalidRequest(f"This is not {what} written by this program: {fault}")
