"""Damage, drawn by hypothesis: of a JSON document, and of the bytes of a file; and a disk that fills up.

How many are drawn is in `conftest.py`.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

_NUMBERS = [0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, *map(float, ("nan", "inf", "-inf"))]
_TEXTS = ["", "x", "0", "../../etc/passwd", "\x00\x1b[31m", "<script>alert(1)</script>", "x" * 5000, "\ud800"]
_OTHERS = [None, True, False, [], {}, [[]], [None], {"": None}, [1, "a", {}]]
_ANY = st.one_of(*map(st.sampled_from, (_NUMBERS, _TEXTS, _OTHERS)))
VALUES = _ANY.map(copy.deepcopy)  # else damage to a list would stay in it
"""What stands where another value should: of other types, out of every range, no texts."""


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, each in below for path in _paths(each, (*here, key)))]


@st.composite
def damaged_json(draw: st.DrawFn, document: Any) -> bytes:
    """A document with one to three values replaced, removed or buried deep; now and then with its bytes damaged."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(document)))
        if not path:
            document = draw(VALUES) if draw(st.booleans()) else document
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"])):
            case "replace":
                parent[path[-1]] = draw(VALUES)
            case "remove":
                del parent[path[-1]]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.text(max_size=5))] = parent.pop(path[-1])
            case _ if isinstance(parent, list):
                parent.extend([copy.deepcopy(parent[path[-1]])] * draw(st.sampled_from([1, 300])))
    content = json.dumps(document).encode()
    if draw(st.integers(0, 9)) == 0:
        depth = draw(st.sampled_from([100, 100_000]))
        content = b'{"a":' * depth + content + b"}" * depth
    return draw(damaged_bytes(content)) if draw(st.integers(0, 3)) == 0 else content


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that are flipped, cut off, overwritten, doubled or gone; never the same as before."""
    damaged = bytearray(content)
    at = draw(st.integers(0, max(0, len(content) - 1)))
    match draw(st.sampled_from(["flip", "flip", "cut", "zero", "insert", "empty"])):
        case "flip" if content:
            for _ in range(draw(st.integers(1, 4))):
                damaged[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
        case "cut":
            del damaged[at:]
        case "zero":
            length = draw(st.sampled_from([1, 16, 4096]))
            damaged[at : at + length] = bytes(len(damaged[at : at + length]))
        case "insert":
            damaged[at:at] = draw(st.binary(min_size=1, max_size=20))
        case _:
            damaged.clear()
    return bytes(damaged) if damaged != content else content + b"\x00"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write more into any file, in the middle of a write, as a full disk does.

    Python would leave half of what it compiles, and could not import it ever again.
    """
    compiles, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = compiles
