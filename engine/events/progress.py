"""What slow steps say while they last: lines of text, for the page or the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

ProgressCallback = Callable[[str], None]


def say(callback: ProgressCallback | None, what: str) -> None:
    """Tells a step in words, such as "converting small"."""
    if callback is not None:
        callback(what)


def print_progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
