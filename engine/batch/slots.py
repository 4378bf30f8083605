"""Which slot of both models' KV caches a text has: texts come, part, and go, and free slots are used again.

A free slot may keep what it holds until another text needs it. A text that begins alike, as the next message of a
conversation does, or the same text at another threshold, goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

from engine.batch.step import Slot
from engine.batch.text import NOWHERE, Text
from engine.events import Role
from engine.model.any_model import AnyCache, AnyModel
from engine.model.language_model import SHORTEST


class Slots:
    """The KV caches of a batch.

    Attributes:
        texts: Those that have a slot.
        caches: Per model, with a row for each slot.
    """

    def __init__(self, models: Mapping[Role, AnyModel], context: int, most: int | None = None) -> None:
        """Empty caches for texts that are added later.

        Args:
            models, context: As for `Decoding`.
            most: There will be at most so many texts, so no more slots are made.
        """
        self.texts: list[Text] = []
        self.caches: dict[Role, AnyCache] = {role: model.new_cache(0, 0) for role, model in models.items()}
        self._context, self._most = context, most
        self._left: dict[int, tuple[Text, list[int]]] = {}  # by free slot what it holds, the oldest first

    def enter(self, texts: Sequence[Text], known: int | None = None) -> None:
        """Gives texts their slots: one for all that are the same.

        What the caches hold of a text's beginning stays, in a free slot that has it, or is copied from another's.

        Args:
            texts: In no slot yet. Where there is no memory for all, none gets a slot.
            known: Tokens of each text, at most, that need not be read again.
        """
        same: dict[tuple[int, ...], list[Text]] = {}
        for text in texts:
            same.setdefault(tuple(text.tokens), []).append(text)
        # Those of which most is there come first, before another text takes the slot that has it.
        most = {tokens: max(self._shared_with(tokens).values(), default=0) for tokens in same}
        try:
            self._reserve(len(self.texts) + len(texts), 0)
            for tokens in sorted(same, key=lambda tokens: -most[tokens]):
                self._place(tokens, same[tokens], known)
            self.texts[len(self.texts) - len(texts) :] = texts  # in the order in which they were given
        except BaseException:
            for text in [text for text in texts if text.slot != NOWHERE]:
                self.leave(text)
            raise

    def _place(self, tokens: Sequence[int], own: Sequence[Text], known: int | None) -> None:
        """Gives one slot to texts that are the same."""
        shared = self._shared_with(tokens)
        slot = self._free(shared)
        self._reserve(slot + 1, max(text.prompt_tokens + text.limit for text in own))
        for role, cache in self.caches.items():
            end = min(len(tokens) if known is None else known, *(text.cached(role) for text in own))
            lengths = {other: min(end, length, cache.lengths[other]) for other, length in shared.items()}
            best = max(lengths, key=lengths.__getitem__, default=NOWHERE)
            length = lengths.get(best, 0)
            if lengths.get(slot) == length:
                best = slot
            if length < SHORTEST:
                cache.truncate(slot, 0)
            elif best == slot:
                cache.truncate(slot, length)
            else:
                cache.fork(best, slot, length)
        self._left.pop(slot, None)
        for text in own:
            text.slot = slot
        self.texts += own

    def leave(self, text: Text, clear: bool = False, keep: bool = False) -> None:
        """Takes a text out of its slot, which is free if no other text shares it.

        `clear` where its values may be NaN; else with `keep` a text that begins alike may go on from what it holds.
        """
        slot, text.slot = text.slot, NOWHERE
        self.texts.remove(text)
        if self.sharing(slot):
            return
        for cache in self.caches.values():
            if clear:
                cache.clear(slot)
            else:
                cache.leave(slot)
        if keep and not clear:
            self._left[slot] = text, list(text.tokens)

    def forget(self, unwanted: Callable[[Text], bool]) -> None:
        """Keeps nothing of texts that have left and that nobody may go on from."""
        self._left = {slot: held for slot, held in self._left.items() if not unwanted(held[0])}

    def sharing(self, slot: int) -> list[Text]:
        """The texts that are in a slot."""
        return [text for text in self.texts if text.slot == slot]

    def lengths(self, slot: int) -> dict[Role, int]:
        """How many tokens each model has read of a slot's text."""
        return {role: cache.lengths[slot] for role, cache in self.caches.items()}

    def split(self, texts: Iterable[Text]) -> None:
        """Parts texts from all others that share a slot with them."""
        parting = set(texts)
        for slot in {text.slot for text in parting}:
            others = [text for text in self.sharing(slot) if text not in parting]
            if others:
                self.move(others)

    def move(self, texts: Sequence[Text]) -> None:
        """Texts leave the slot that they share for one of their own, with a copy of its caches."""
        source, target = texts[0].slot, self._free({})
        self._reserve(target + 1, 0)
        for cache in self.caches.values():
            cache.fork(source, target)
        self._left.pop(target, None)
        for text in texts:
            text.slot = target

    def truncate(self, slot: int, length: int) -> None:
        """Rolls a slot back to so many tokens at most."""
        for cache in self.caches.values():
            cache.truncate(slot, min(cache.lengths[slot], length))

    def back_to_start(self, slot: Slot) -> None:
        """Forgets what a step has read."""
        for role, cache in self.caches.items():
            cache.truncate(slot.number, min(cache.lengths[slot.number], slot.starts[role]))

    def _reserve(self, slots: int, capacity: int) -> None:
        """Makes room for so many slots of so many tokens; what has to grow is doubled, so that it seldom does."""
        for cache in self.caches.values():
            have = len(cache.lengths)
            if slots > have or capacity > cache.capacity:
                tokens = min(self._context, max(capacity, 2 * cache.capacity))
                cache.grow(
                    max(slots, 2 * have if self._most is None else min(2 * have, self._most)) if slots > have else have,
                    tokens if capacity > cache.capacity else cache.capacity,
                )

    def _free(self, shared: Mapping[int, int]) -> int:
        """A slot that no text is in, to be filled anew.

        It is one that has more in common with a text (`shared`, per slot) than any other, if there is one. Else it is
        the first that holds nothing, since neighbours attend in one call, or the one that was left first.
        """
        used = {text.slot for text in self.texts}
        best = max(self._left.keys() & shared.keys(), key=shared.__getitem__, default=NOWHERE)
        if best != NOWHERE and shared[best] > max((shared[slot] for slot in used & shared.keys()), default=0):
            return best
        empty = next(slot for slot in count() if slot not in used and slot not in self._left)
        most = len(self.caches[Role.SLM].lengths) if self._most is None else self._most
        return next(iter(self._left)) if self._left and empty >= most else empty

    def _shared_with(self, tokens: Sequence[int]) -> dict[int, int]:
        """Per slot that holds a text, how many tokens that has in common with these."""
        held = {slot: left for slot, (_, left) in self._left.items()} | {text.slot: text.tokens for text in self.texts}
        return {slot: common(own, tokens) for slot, own in held.items()}


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common from the start."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
