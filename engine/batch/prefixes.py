"""What both models have read, by slot of their KV caches: no beginning of a text is read twice.

For every token that a slot holds there is a number that stands for the text up to it. Comparing these
numbers finds where two texts part, as in a trie whose branches lie in the slots. All sharing is a walk in it:

- Texts that are the same share a slot, and get one each where they part: a sweep is a prefix tree.
- A new text goes on in the slot that the same owner's text left, or copies what any slot holds. So the next message of
  a conversation, or a text at another threshold, reads only what is new.
- Before a model reads, its slots copy what others hold. Of several that begin alike the first reads, the others copy.
- Evaluations also remember hidden states. There a text reads nothing of a beginning that another has read
  (as vLLM and SGLang do by blocks, without hidden states: Kwon et al., SOSP 2023; Zheng et al., NeurIPS 2024).

What a text is charged does not change: it pays for what it would read alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import torch

from engine.batch.text import NOWHERE, Text
from engine.events import Role
from engine.model.kv_cache import Span
from engine.model.language_model import LENGTHS
from engine.served.model import AnyModel

SHORTEST = 16
"""Tokens that are worth a copy instead of being read."""

MOST = 2**16
"""How many hidden states an evaluation remembers. One of the `cpu` pair's takes 5 kB."""


class Wanted(NamedTuple):
    """What a model is to read in a slot.

    Attributes:
        tokens: The text from its beginning.
        looks: At how many of its last tokens the hidden states are wanted.
    """

    slot: int
    tokens: Sequence[int]
    looks: int


class Prefixes:
    """The KV caches of both models, and which text is in which slot.

    Attributes:
        texts: Those that have a slot.
        caches: Per model, with a row for each slot.
    """

    def __init__(
        self, models: Mapping[Role, AnyModel], context: int, most: int | None = None, remember: bool = False
    ) -> None:
        """Empty caches for texts that are added later.

        Args:
            models: Both.
            context: Tokens that a text may have.
            most: There will be at most so many texts, so no more slots are made.
            remember: Whether hidden states are remembered, as evaluations want it.
        """
        self.texts: list[Text] = []
        self.caches: dict[Role, Any] = {role: model.new_cache(0, 0) for role, model in models.items()}
        self._models, self._context, self._most = models, context, most
        self._keys: dict[Role, list[list[int]]] = {role: [] for role in models}  # per slot, one for each token
        self._left: dict[int, Text] = {}  # by free slot the text that was in it last, the oldest first
        self._remembers = {role: remember and model.local for role, model in models.items()}
        self._hidden: dict[Role, dict[int, torch.Tensor]] = {role: {} for role in models}  # by key [d]

    # Texts and their slots

    def add(self, texts: Sequence[Text]) -> None:
        """Gives texts their slots: one for all that are the same. What is held of their beginnings is not read again.

        Args:
            texts: In no slot yet. Where there is no memory for all, none gets a slot.
        """
        same: dict[tuple[int, ...], list[Text]] = {}
        for text in texts:
            same.setdefault(tuple(text.tokens), []).append(text)
        keys = {tokens: prefix_keys([], tokens) for tokens in same}
        # Texts that slots hold most of come first, before another text takes such a slot.
        order = sorted(same, key=lambda tokens: -max(self._held(keys[tokens]), default=0)) if len(same) > 1 else same
        try:
            self.reserve(len(self.texts) + len(texts), 0)
            for tokens in order:
                self._place(same[tokens], keys[tokens])
            self.texts[len(self.texts) - len(texts) :] = texts  # in the order in which they were given
        except BaseException:
            for text in [text for text in texts if text.slot != NOWHERE]:
                self.remove(text)
            raise

    def _place(self, same: Sequence[Text], keys: Sequence[int]) -> None:
        """Gives a slot to texts that are the same."""
        slot = self._free_slot(self._held(keys), same[0].owner)
        self.reserve(slot + 1, max(text.prompt_tokens + text.limit for text in same))
        self._left.pop(slot, None)
        for role in self.caches:
            end = min(text.cached(role) for text in same)
            here = min(end, common(self._keys[role][slot], keys))
            self._truncate(role, slot, here if here >= SHORTEST else 0)
            self._copy(role, [(slot, keys[:end])], SHORTEST)
        for text in same:
            text.slot = slot
        self.texts += same

    def remove(self, text: Text, clear: bool = False, keep: bool = False) -> None:
        """Takes a text out of its slot, which is free if no other text shares it.

        With `clear` the slot is set to zero, because its values may be NaN. Else with `keep` its content stays, so that
        texts that begin alike may go on from it.
        """
        slot, text.slot = text.slot, NOWHERE
        self.texts.remove(text)
        if self.sharing(slot):
            return
        for role, cache in self.caches.items():
            if clear:
                cache.clear(slot)
                self._keys[role][slot] = []
            else:
                cache.leave(slot)
        if keep and not clear:
            self._left[slot] = text
        else:
            self.truncate(slot, 0)

    def forget(self, unwanted: Callable[[Text], bool]) -> None:
        """Empties the slots of removed texts that are unwanted, so that no text goes on from them."""
        for slot in [slot for slot, text in self._left.items() if unwanted(text)]:
            del self._left[slot]
            self.truncate(slot, 0)

    def sharing(self, slot: int) -> list[Text]:
        return [text for text in self.texts if text.slot == slot]

    def split(self, texts: Iterable[Text]) -> None:
        """Parts texts from all others that share a slot with them."""
        parting = set(texts)
        for slot in {text.slot for text in parting}:
            others = [text for text in self.sharing(slot) if text not in parting]
            if others:
                self.move(others)

    def move(self, texts: Sequence[Text]) -> None:
        """Texts leave the slot that they share for one of their own, with a copy of what it holds."""
        source, target = texts[0].slot, self._free_slot()
        self.reserve(target + 1, 0)
        self._left.pop(target, None)
        self.truncate(target, 0)
        for role, keys in self._keys.items():
            self._copy_spans(role, [Span(source, target, 0, len(keys[source]))])
        for text in texts:
            text.slot = target

    def _free_slot(self, held: Sequence[int] = (), owner: Hashable = None) -> int:
        """Chooses a slot that no text uses; `held` is the number of tokens of the new text that each slot holds.

        If the new text goes on from one that the same owner left, its slot is chosen. Else it is the first empty slot,
        since neighbours attend in one call. If none is empty, it is the slot that was left first, so that the content
        of the others stays.
        """
        used = {text.slot for text in self.texts}
        most_used = max((held[slot] for slot in used if held), default=0)
        for slot, text in reversed(self._left.items()):
            if held and text.owner == owner and held[slot] >= max(SHORTEST, text.prompt_tokens - 1, most_used + 1):
                return slot
        empty = next(slot for slot in count() if slot not in used and slot not in self._left)
        most = len(self._keys[Role.SLM]) if self._most is None else self._most
        return next(iter(self._left)) if self._left and empty >= most else empty

    def _held(self, keys: Sequence[int]) -> list[int]:
        """Per slot, how many tokens of a text it holds, for the model that has read more of it."""
        return [max(common(own, keys) for own in of_slot) for of_slot in zip(*self._keys.values(), strict=True)]

    def reserve(self, slots: int, capacity: int) -> None:
        """Makes room for so many slots of so many tokens; what has to grow is doubled, so that it seldom does."""
        for role, cache in self.caches.items():
            have = len(cache.lengths)
            if slots > have or capacity > cache.capacity:
                rows = max(slots, 2 * have if self._most is None else min(2 * have, self._most))
                tokens = min(self._context, max(capacity, 2 * cache.capacity))
                cache.grow(rows if slots > have else have, tokens if capacity > cache.capacity else cache.capacity)
                self._keys[role] += [[] for _ in range(len(cache.lengths) - have)]

    # What was read

    def lengths(self, slot: int) -> dict[Role, int]:
        return {role: cache.lengths[slot] for role, cache in self.caches.items()}

    def truncate(self, slot: int, length: int | Mapping[Role, int]) -> None:
        """Rolls a slot back to so many tokens at most, for both models or each."""
        for role in self.caches:
            self._truncate(role, slot, length if isinstance(length, int) else length[role])

    def _truncate(self, role: Role, slot: int, length: int) -> None:
        cache = self.caches[role]
        if cache.lengths[slot] > length:
            cache.truncate(slot, length)
            del self._keys[role][slot][length:]

    def copy_held(self, role: Role, wanted: Sequence[Wanted]) -> None:
        """Copies what other slots hold of these texts, up to the first hidden state that is wanted and not known."""
        texts: list[tuple[int, list[int]]] = []
        least = 1 if self._remembers[role] else SHORTEST
        for slot, tokens, looks in wanted:
            before = self._keys[role][slot]
            if len(tokens) - len(before) < least:
                continue
            keys = [*before, *prefix_keys(before, tokens[len(before) :])]
            end = len(tokens) - looks
            while self._remembers[role] and end < len(tokens) and keys[end] in self._hidden[role]:
                end += 1
            if looks and end == len(tokens) <= len(before) + LENGTHS[-1]:
                continue  # nothing is to be read; see `_read`
            if end - len(before) >= least:
                texts.append((slot, keys[:end]))
        if texts:
            self._copy(role, texts, least)

    def read(self, role: Role, wanted: Sequence[Wanted]) -> list[torch.Tensor | None]:
        """A model reads what its cache does not hold of some texts.

        Of texts that begin alike the first is read, and the others copy.

        Returns:
            Per text the hidden states that are wanted [looks, d]; None where a server has yet to answer.
        """
        found: dict[int, torch.Tensor | None] = {}
        left = list(wanted)
        while left:
            if not self._models[role].local or len(left) == 1:
                now, later = left, []
            else:
                now, later = self._firsts(role, left)
            found |= self._read(role, now)
            self.copy_held(role, later)
            left = later
        return [found[each.slot] for each in wanted]

    def _firsts(self, role: Role, wanted: Sequence[Wanted]) -> tuple[list[Wanted], list[Wanted]]:
        """Splits texts into those that are read now and those that wait, because they can copy from the first."""
        least = 1 if self._remembers[role] else SHORTEST
        now: list[Wanted] = []
        later: list[Wanted] = []
        claimed: set[int] = set()
        for each in sorted(wanted, key=lambda each: -len(each.tokens)):
            before = self._keys[role][each.slot]
            unread = len(each.tokens) - len(before)
            new = prefix_keys(before, each.tokens[len(before) :]) if unread >= least else []
            if new and unread - (0 if self._remembers[role] else each.looks) >= least and new[least - 1] in claimed:
                later.append(each)
            else:
                now.append(each)
                claimed.update(new)
        return now, later

    def _read(self, role: Role, wanted: Sequence[Wanted]) -> dict[int, torch.Tensor | None]:
        """Reads these texts in one pass; hidden states by slot."""
        keys, cache, known = self._keys[role], self.caches[role], self._hidden[role]
        found: dict[int, torch.Tensor | None] = {}
        reading: list[Wanted] = []
        for each in wanted:
            new = len(each.tokens) - cache.lengths[each.slot]
            near = self._remembers[role] and each.looks and new <= LENGTHS[-1]
            if near and (states := self._remembered(role, each)) is not None:
                found[each.slot] = states  # the tokens are read with later ones, if those are unknown
            elif new:
                reading.append(each)
            else:
                found[each.slot] = torch.empty(0, self._models[role].hidden_size)
        if not reading:
            return found
        chunks = [each.tokens[cache.lengths[each.slot] :] for each in reading]
        looks = [min(each.looks, len(chunk)) for each, chunk in zip(reading, chunks, strict=True)]
        states = self._models[role].feed(cache, [each.slot for each in reading], chunks, looks)
        for each, chunk, look, state in zip(reading, chunks, looks, states, strict=True):
            if state is not None:
                own = keys[each.slot]
                own += prefix_keys(own, chunk)
                if self._remembers[role] and look:
                    kept = state if look == len(chunk) else state.clone()  # else all of a prompt's states would stay
                    known |= zip(own[len(own) - look :], kept, strict=True)
                    state = self._remembered(role, each)
            found[each.slot] = state
        for key in list(islice(known, max(0, len(known) - MOST))):  # the oldest
            del known[key]
        return found

    def _remembered(self, role: Role, wanted: Wanted) -> torch.Tensor | None:
        """The hidden states at the last tokens of a text [looks, d], if all are known."""
        before, known = self._keys[role][wanted.slot], self._hidden[role]
        keys = [*before[-wanted.looks :], *prefix_keys(before, wanted.tokens[len(before) :])][-wanted.looks :]
        return torch.stack([known[key] for key in keys]) if known.keys() >= set(keys) else None

    def _copy(self, role: Role, texts: Sequence[tuple[int, Sequence[int]]], least: int) -> None:
        """Extends slots by what others hold of the same text, which is given by its keys, if it is `least` tokens."""
        all_keys, spans = self._keys[role], []
        for slot, keys in texts:
            start = len(all_keys[slot])
            if start + least > len(keys):
                continue
            place, key = start + least - 1, keys[start + least - 1]
            holders = (n for n, own in enumerate(all_keys) if len(own) > place and own[place] == key)
            lengths = {holder: common(all_keys[holder], keys) for holder in holders}
            if lengths:
                best = max(lengths, key=lengths.__getitem__)
                spans.append(Span(best, slot, start, lengths[best]))
        self._copy_spans(role, spans)

    def _copy_spans(self, role: Role, spans: Sequence[Span]) -> None:
        if spans:
            self.caches[role].copy(spans)
            for source, target, start, stop in spans:
                self._keys[role][target] += self._keys[role][source][start:stop]


def prefix_keys(before: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """For each token a number that stands for the text up to it; `before` are the numbers of the tokens before."""
    key, keys = before[-1] if before else 0, []
    for token in tokens:
        key = hash((key, token))
        keys.append(key)
    return keys


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts, given by their keys, have in common from the start."""
    most = min(len(one), len(other))
    return bisect_left(range(most), True, key=lambda n: one[n] != other[n])
