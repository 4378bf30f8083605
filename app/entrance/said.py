"""What the page's scripts say with an event or a call: JSON that anybody can write, so it may be of any kind."""

from __future__ import annotations

from typing import Any

from engine import InvalidRequest
from engine.errors import check_whole, shown

_LARGEST = 2**53 - 1  # a browser's whole numbers


def said_fields(data: Any) -> dict[str, Any]:
    """Its fields; none where nothing came. Raises InvalidRequest where it is no object."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidRequest(f"{shown(data, True)} is no object of names and values, as the page's scripts send.")
    return data


def said_number(fields: dict[str, Any], name: str, missing: int = 0) -> int:
    """A whole number of it, or `missing` where there is none; raises InvalidRequest where it is anything else."""
    value = fields.get(name)
    if value is None:
        return missing
    check_whole(name, value, -1, _LARGEST, "as the page's scripts send")
    return value


def said_text(fields: dict[str, Any], name: str) -> str:
    """A text of it, empty where there is none; raises InvalidRequest where it is anything else."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} = {shown(value, True)} is no text.")
    return value or ""
