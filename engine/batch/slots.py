"""Which slot of both models' KV caches a row has: rows come, part, and go, and what is free is used again.

A free slot may keep what it holds until another row needs it: one that begins alike, as the next message of a
conversation does, goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from types import MappingProxyType

from engine.batch.rows import NOWHERE, Row, Slot
from engine.events import Role
from engine.model.any_model import AnyCache, AnyModel
from engine.model.language_model import SHORTEST


class Slots:
    """The KV caches of a batch.

    Attributes:
        caches: Per model, with a row for each slot.
    """

    def __init__(
        self, models: Mapping[Role, AnyModel], rows: Sequence[Row], context: int, most: int | None = None
    ) -> None:
        """Empty caches for rows that are added later.

        Args:
            models, context: Of the batch.
            rows: The batch's own list, in which they will be.
            most: So many rows there will be at most, where that is known: no room is made for more.
        """
        self.caches: dict[Role, AnyCache] = {role: model.new_cache(0, 0) for role, model in models.items()}
        self._rows, self._context, self._most = rows, context, most
        self._left: dict[int, list[int]] = {}  # per free slot that keeps what it holds, the text of that

    def reserve(self, slots: int, capacity: int) -> None:
        """Makes room for so many slots of so many tokens; what has to grow is doubled, so that it seldom does."""
        for cache in self.caches.values():
            have = len(cache.lengths)
            if slots > have or capacity > cache.capacity:
                tokens = min(self._context, max(capacity, 2 * cache.capacity))
                cache.grow(
                    max(slots, 2 * have if self._most is None else min(2 * have, self._most)) if slots > have else have,
                    tokens if capacity > cache.capacity else cache.capacity,
                )

    def enter(self, rows: Sequence[Row], known: int | None = None) -> None:
        """Gives new rows their slots: one for all that have the same text.

        It begins with what is there of it already: in a free slot, or as a copy of what a row has read.

        Args:
            rows: In the batch's list, in no slot yet; there must be room for them.
            known: Tokens of each text, at most, that may be copied; the others are to be read again.
        """
        sharing: dict[tuple[int, ...], list[Row]] = {}
        for row in rows:
            sharing.setdefault(tuple(row.tokens), []).append(row)
        for tokens, own in sharing.items():
            shared = self._shared_with(tokens)
            slot = self._free(shared)
            for role, cache in self.caches.items():
                end = min(len(tokens) if known is None else known, *(row.cached(role) for row in own))
                lengths = {other: min(end, length, cache.lengths[other]) for other, length in shared.items()}
                best = max(lengths, key=lengths.__getitem__, default=NOWHERE)
                length = lengths.get(best, 0)
                if best == slot or length < SHORTEST:
                    cache.truncate(slot, length if best == slot else 0)
                else:
                    cache.fork(best, slot, length)
            for row in own:
                row.slot = slot

    def leave(self, row: Row, clear: bool = False, keep: bool = False) -> None:
        """Takes a row out of its slot, which is free if no other shares it.

        `clear` where its values may be NaN; else with `keep` a text that begins alike may go on from what it holds.
        """
        slot, row.slot = row.slot, NOWHERE
        if slot == NOWHERE or self.sharing(slot):
            return
        for cache in self.caches.values():
            if clear:
                cache.clear(slot)
            else:
                cache.leave(slot)
        if keep and not clear:
            self._left[slot] = list(row.tokens)

    def sharing(self, slot: int) -> list[Row]:
        """The rows that are in a slot."""
        return [row for row in self._rows if row.slot == slot]

    def lengths(self, slot: int) -> dict[Role, int]:
        """How many tokens each model has read of a slot's text."""
        return {role: cache.lengths[slot] for role, cache in self.caches.items()}

    def own(self, row: Row) -> None:
        """Gives a row a slot that no other row shares."""
        self.split([row])

    def split(self, rows: Iterable[Row]) -> None:
        """Parts rows from all others that share a slot with them."""
        told = set(rows)
        for slot in {row.slot for row in told}:
            others = [row for row in self.sharing(slot) if row not in told]
            if others:
                self.move(others)

    def move(self, rows: Sequence[Row]) -> None:
        """Rows leave the slot that they share for one of their own, with a copy of its caches."""
        source, target = rows[0].slot, self._free()
        for cache in self.caches.values():
            cache.fork(source, target)
        for row in rows:
            row.slot = target

    def truncate(self, slot: int, length: int) -> None:
        """Of a slot no more than so many tokens are kept."""
        for cache in self.caches.values():
            cache.truncate(slot, min(cache.lengths[slot], length))

    def back_to_start(self, slot: Slot) -> None:
        """Forgets what a step has read."""
        for role, cache in self.caches.items():
            cache.truncate(slot.number, min(cache.lengths[slot.number], slot.starts[role]))

    def _free(self, shared: Mapping[int, int] = MappingProxyType({})) -> int:
        """A slot that no row is in, to be filled anew: one that has more in common than any other, if there is one.

        Else the first: neighbours attend in one call, so low ones are used first.
        """
        used = {row.slot for row in self._rows}
        best = max(shared, key=shared.__getitem__, default=NOWHERE)
        alike = best in self._left and shared[best] > max((shared[slot] for slot in used & shared.keys()), default=0)
        free = best if alike else next(slot for slot in count() if slot not in used)
        self._left.pop(free, None)
        return free

    def _shared_with(self, tokens: Sequence[int]) -> dict[int, int]:
        """Per slot that holds a text, how many tokens that has in common with these."""
        texts = self._left | {row.slot: row.tokens for row in self._rows if row.slot != NOWHERE}
        return {slot: common(text, tokens) for slot, text in texts.items()}


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common from the start."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
