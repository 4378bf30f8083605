"""How often a client may ask, how many jobs there may be at once, and how much all requests may bring together."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from typing import Literal, Protocol

from engine.errors import EngineError

PER_SECOND, AT_ONCE = 40.0, 800.0
"""Requests that an address may send: so many a second, and so many more after a pause. A page is 250 small files."""

ALL_PER_SECOND, ALL_AT_ONCE = 400.0, 4_000.0
"""The same of all clients whose address is not known, together."""

MAX_TOGETHER = 96_000_000
"""Bytes of all large bodies that are being answered; one address may bring half of it."""

LITTLE = 65_536
"""Bytes that a request may bring whatever others bring."""

_ADDRESSES = 10_000  # whose buckets are kept; the least recently used is full again by then
Entrance = Literal["page", "api"]
LATER = "Come back in a minute."


class Rate:
    """A token bucket for each address, and one for all clients without an address.

    Attributes:
        clock: Seconds that never go back; tests set it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._buckets: OrderedDict[str | None, tuple[float, float]] = OrderedDict()  # what is left, and when

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


class Bodies:
    """Bytes of the large bodies that are being answered now."""

    def __init__(self) -> None:
        self._held: Counter[str | None] = Counter()  # by address

    def take(self, size: int, address: str | None) -> bool:
        """Counts so many more bytes, if there is room for them."""
        room = self._held.total() + size <= MAX_TOGETHER
        room &= address is None or self._held[address] + size <= MAX_TOGETHER // 2
        if room:
            self._held[address] += size
        return room

    def give_back(self, size: int, address: str | None) -> None:
        """Counts so many less."""
        self._held[address] -= size
        self._held += Counter()  # drops what is 0


class Placed(Protocol):
    """Something that takes a place."""

    @property
    def entrance(self) -> Entrance:
        """By which it came."""
        ...

    @property
    def cancel(self) -> threading.Event:
        """Set where it is to end."""
        ...

    @property
    def active(self) -> bool:
        """Whether it has not ended yet."""
        ...


class Busy(EngineError):
    """There is no place for another job, or another visitor, now."""


class Places:
    """Jobs that wait or work: the page's and programs' each at most `each`, and of one client address `share`."""

    def __init__(self, each: int, share: int) -> None:
        self._each, self._share = each, share
        self._taken: dict[Entrance, list[tuple[Placed, str | None]]] = {"page": [], "api": []}
        self._lock = threading.Lock()

    def take(self, job: Placed, address: str | None = None, replaced: Collection[Placed | None] = ()) -> None:
        """Gives a job a place until it has ended or is cancelled.

        Args:
            job: Not started yet.
            address: The client's; where it is not known, no share is counted.
            replaced: Jobs that will be cancelled for this one.

        Raises:
            Busy: All are taken.
        """
        with self._lock:
            entrance = job.entrance
            taken = [(other, of) for other, of in self._taken[entrance] if other.active and not other.cancel.is_set()]
            self._taken[entrance] = taken
            staying = [of for other, of in taken if other not in replaced]
            if address is not None and staying.count(address) >= self._share:
                raise Busy(
                    f"{self._share} texts for your network address are waiting or being written, which is its share. "
                    "Stop one, or come back when one is done."
                )
            if len(staying) >= self._each:
                raise Busy(f"{self._each} texts are waiting or being written, which is all there is room for. {LATER}")
            taken.append((job, address))
