"""A server's log, which counts repeated lines instead of writing them."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Once(logging.Filter):
    """Passes a log line once a minute, with the number of times that it was held back."""

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds, self._clock = seconds, clock
        # By line: when it was written, and how often it came since.
        self._seen: OrderedDict[tuple[Any, ...], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        line, now = (record.name, record.levelno, str(record.msg), str(record.args)[:200]), self._clock()
        then, count = self._seen.get(line, (-math.inf, 0))
        if now - then < self._seconds:
            self._seen[line] = (then, count + 1)
            return False
        if count:
            record.msg, record.args = f"{record.getMessage()} (and {count} times more since)", ()
        self._seen[line] = (now, 0)
        self._seen.move_to_end(line)
        if len(self._seen) > 1_000:
            self._seen.popitem(last=False)
        return True


def log_once() -> None:
    """Sends the log of the whole process to standard error, repeated lines counted."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(Once())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
