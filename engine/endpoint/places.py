"""How many jobs there may be at once, and of whom.

A page and other programs have places of their own, so that neither locks the other out, and of each one client address
has a share.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Literal, Protocol

from engine.errors import EngineError

Entrance = Literal["page", "api"]
LATER = "Come back in a minute."


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
    """Jobs of each entrance that wait or work: at most `each`, and at most `share` of one client address."""

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
