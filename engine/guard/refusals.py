"""How a request is refused, and for what: a client asks too often, or has too many jobs.

A refusal has one form: OpenAI's clients read its `error`, gradio's page its `detail`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from starlette.responses import JSONResponse, Response

from engine.errors import EngineError

PREFIX = "/v1/"
"""The endpoint's paths begin with it."""

PER_SECOND, AT_ONCE = 40.0, 800.0
"""The requests of one address: so many a second, and so many at once after a pause. A page has 250 small files."""

ALL_PER_SECOND, ALL_AT_ONCE = 400.0, 4_000.0
"""The same for all clients without a known address together."""

_ADDRESSES = 10_000  # with a bucket; the least recently used one is full again by then
LATER = "Come back in a minute."

_KINDS = {
    401: ("authentication_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "unavailable"),
}
_LONGEST_WAIT = 600  # seconds


class Refusal(EngineError):
    """A request that is not served.

    Args:
        status: Of HTTP.
        message: For people.
        param: The field that is to blame, if one is.
        code: For programs; None takes the status's own.
        after: Seconds after which it may be tried again.
        close: Whether the connection ends, so that nothing more of the body is read.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        after: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        kind, own_code = _KINDS.get(status, ("invalid_request_error", None))
        self.status = status
        error = {"message": message, "type": kind, "param": param, "code": code or own_code}
        self.body = {"error": error, "detail": message}
        self.headers = {"Connection": "close"} if close else {}
        if after is not None:
            self.headers["Retry-After"] = str(min(_LONGEST_WAIT, max(1, math.ceil(after))))
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def response(self) -> Response:
        return JSONResponse(self.body, self.status, self.headers)


class Rate:
    """A token bucket for each address, and one for all clients without an address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        # By address: tokens left, and when they were counted.
        self._buckets: OrderedDict[str | None, tuple[float, float]] = OrderedDict()

    def take(self, address: str | None, cost: float = 1.0) -> float:
        """Takes `cost` out of a client's bucket; returns 0, or the seconds after which there is enough."""
        per_second, most = (ALL_PER_SECOND, ALL_AT_ONCE) if address is None else (PER_SECOND, AT_ONCE)
        now = self.clock()
        left, then = self._buckets.get(address, (most, now))
        left = min(most, left + per_second * (now - then))
        wait = max(0.0, (cost - left) / per_second)
        self._buckets[address] = (left if wait else left - cost), now
        self._buckets.move_to_end(address)
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class Busy(EngineError):
    """There is no place for another job, or another visitor, now."""


class Places:
    """Bounds jobs that wait or work. The page and programs each have their own.

    One address has at most a quarter of the places that others leave, so that a few addresses cannot take all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: list[tuple[Any, str | None]] = []
        self._lock = threading.Lock()

    def take(self, job: Any, address: str | None = None, replaced: Collection[Any] = ()) -> None:
        """Gives a job a place until it has ended or is cancelled.

        Args:
            job: Not started yet. Its place is free again once `job.active` is false or the event `job.cancel` is set.
            address: The client's; where it is not known, no share is counted.
            replaced: Jobs that will be cancelled for this one.

        Raises:
            Busy: All places, or the client's share of them, are taken.
        """
        with self._lock:
            self._taken = [each for each in self._taken if each[0].active and not each[0].cancel.is_set()]
            staying = [of for other, of in self._taken if other not in replaced]
            mine, free = staying.count(address), self._most - len(staying)
            if address is not None and mine >= max(1, (free + mine) // 4):
                said = f"Your network address has {mine} of the texts that wait or are written, which is its share. "
                raise Busy(said + "Stop one, or come back when one is done.")
            if not free:
                raise Busy(f"{self._most} texts are waiting or being written, which is all there is room for. {LATER}")
            self._taken.append((job, address))
