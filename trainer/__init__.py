"""Builds routers offline: preference labels, router training and evaluation."""

from collections.abc import Callable

import engine  # noqa: F401  # before torch, whose threads it settles


class TrainerError(Exception):
    """Something the user can put right: the message names the bad value and the way out."""


Report = Callable[[str], None]
"""Gets lines of progress."""
