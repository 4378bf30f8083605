"""What a stranger's JSON is read with: it is checked up to its first fault, and what is wrong is kept once.

Pydantic goes on to the last item of a list, and keeps of each fault what it is about: a file of 4 MB that is wrong
everywhere would take gigabytes, in which no other thread runs.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, FailFast, TypeAdapter, ValidationError
from pydantic_core import from_json

from engine.errors import InvalidRequest, first_fault

_MOST_VALUES = 16
"""Of a short tuple that is written as a list: more than any of them has."""

Item = TypeVar("Item")
Kind = TypeVar("Kind")


def _few(value: Any) -> Any:
    if isinstance(value, list | dict) and len(value) > _MOST_VALUES:
        raise ValueError(f"{len(value):,} values are too many")
    return value


FEW = BeforeValidator(_few)
"""For a named tuple, which would complain of every value that it has no name for."""

Many = Annotated[tuple[Item, ...], FailFast()]
"""A tuple of any length whose first bad item is the last that is looked at."""

Listed = Annotated[list[Item], FailFast()]
"""A list of the same kind."""


def parsed(adapter: TypeAdapter[Kind], text: str | bytes, what: str) -> Kind:
    """What some JSON says, checked as `adapter` does; for anything else an InvalidRequest that it is not `what`."""
    try:
        # Not `validate_json`: it keeps with each fault what it is about as Python's values, made anew for each.
        return adapter.validate_python(from_json(text.encode() if isinstance(text, str) else text))
    except ValidationError as error:
        fault = first_fault(error)
    except ValueError as error:  # no JSON, or no text
        reason = "no text" if isinstance(error, UnicodeError) else str(error)
        fault = f"the file: it is no JSON ({reason})"
    raise InvalidRequest(f"This is not {what} written by this program: {fault}")
