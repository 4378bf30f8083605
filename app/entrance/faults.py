"""What the log hears of an error: its kind and its place. Its message may hold a visitor's text."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path


def log_fault(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Writes one line: `what` failed, the error's kind, and the places in code that it came through, last first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    logger.error("%s: %s at %s", what, type(error).__name__, places or "an unknown place")
