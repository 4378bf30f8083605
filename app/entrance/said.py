"""Reads the JSON that the page's scripts send with an event. Anybody can send such JSON, so each value is checked."""

from __future__ import annotations

from typing import Any

from engine import InvalidRequest
from engine.errors import check_whole, shown

_LARGEST = 2**53 - 1  # a browser's whole numbers


def said_fields(data: Any) -> dict[str, Any]:
    """The fields of an object; none for None. Raises InvalidRequest for anything else."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidRequest(f"{shown(data, True)} is no object of names and values, as the page's scripts send.")
    return data


def said_number(fields: dict[str, Any], name: str, missing: int = 0) -> int:
    """A field that is a whole number, or `missing` where it is absent. Raises InvalidRequest for anything else."""
    value = fields.get(name)
    if value is None:
        return missing
    check_whole(name, value, -1, _LARGEST, "as the page's scripts send")
    return value


def said_text(fields: dict[str, Any], name: str) -> str:
    """A field that is a text; an empty one where it is absent. Raises InvalidRequest for anything else."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} = {shown(value, True)} is no text.")
    return value or ""
