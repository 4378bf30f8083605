"""What both models read of the texts in a step, and what they say there: hidden states, logits, choices, candidates.

A long text may be read in pieces, so that the rows beside it need not wait: what is left of it after a step's share is
read in later steps, and its rows are put off until then. So are the rows that a served LLM has not answered yet. Where
the LLM reads for one text, it also reads ahead in others that it has fallen behind, which then wait less when they ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from tokenizers import Tokenizer

from engine.batch.prefix_cache import PrefixCache
from engine.batch.reveal import reveal
from engine.batch.step import Slot, Step, going, side_by_side
from engine.batch.verification import note_choices
from engine.events import Role
from engine.model.any_model import AnyCache, AnyModel
from engine.model.kv_cache import RaggedCache
from engine.model.language_model import LENGTHS, LanguageModel, prefill_shared
from engine.model.logits import certainties

LOOK = 64  # positions to which `lm_head` is applied at once: float32 logits of the cpu pair take 0.6 MB each
SHORT = LENGTHS[-1]
"""Tokens that are always read at once: a next token, a draft, what the LLM has to catch up with now and then."""
_BEHIND = 8  # tokens of a text that the LLM may not have read before it reads ahead

_Looked = tuple[Slot, torch.Tensor, int]
"""A slot, a model's hidden states at some last tokens [tokens, d], and after how many tokens of the text they end."""


class Reader:
    """Both models with their KV caches."""

    def __init__(
        self,
        models: Mapping[Role, AnyModel],
        caches: Mapping[Role, AnyCache],
        tokenizer: Tokenizer,
        prefix_cache: bool = False,
    ) -> None:
        """Prepares to read; with `prefix_cache` nothing twice that texts have in common, see `PrefixCache`."""
        self._models, self._caches, self._tokenizer = models, caches, tokenizer
        self._left: dict[Role, int] | None = None
        self._prefixes: dict[Role, PrefixCache] = {}
        for role, model in models.items() if prefix_cache else ():
            cache = caches[role]
            if isinstance(model, LanguageModel) and isinstance(cache, RaggedCache):
                self._prefixes[role] = PrefixCache(model, cache)

    def allow(self, tokens: int | None) -> None:
        """In this step each model may read so many tokens of texts of which it has more than `SHORT` to read."""
        self._left = None if tokens is None else dict.fromkeys(Role, tokens)

    def read_for_policies(self, steps: Sequence[Step]) -> None:
        """What policies look at, once per slot however many rows share it."""
        reading = [step for step in steps if step.text.policy.reads(step.text.position)]
        self.read(Role.SLM, [step.slot for step in reading])
        for step in going(reading):
            if step.text.policy.by_prompt:
                step.text.prompt_hidden = step.slot.hidden[Role.SLM]
        certain = [step.slot for step in steps if step.text.policy.needs_logits]
        compared = [step.slot for step in steps if step.text.policy.sees_llm]
        self.predict(Role.SLM, certain + compared)
        self.predict(Role.LLM, compared)
        new = list(dict.fromkeys(slot for slot in certain if slot.certainty is None and not slot.put_off))
        if new:
            entropy = any(step.text.policy.needs_entropy for step in steps if step.text.policy.needs_logits)
            found = certainties(side_by_side([slot.logits[Role.SLM] for slot in new]), entropy)
            for slot, own in zip(new, found, strict=True):
                slot.certainty = own

    def read(self, role: Role, slots: Sequence[Slot], ahead: Sequence[Slot] = ()) -> None:
        """A model reads what it has not seen of these texts, in one pass: prefill, next token or catch-up.

        In that pass it also reads some of the texts `ahead`, which do not ask it now; see `_early`.
        """
        asked = list(dict.fromkeys(slot for slot in slots if role not in slot.hidden and not slot.put_off))
        if not asked:
            return
        model, cache = self._models[role], self._caches[role]
        early = self._early(role, [slot for slot in dict.fromkeys(ahead) if slot not in asked])
        chunks = self._pieces(role, asked)
        whole = [slot for slot in asked if not slot.put_off]
        # Of what is generated, alternatives and verdicts need every hidden state: no copy of another's prefix there.
        ends = {slot: slot.prompt_tokens if slot.judges else None for slot in whole if not slot.wants_alternatives}
        if role not in self._prefixes:
            prefill_shared(model, cache, {slot.number: slot.tokens[:end] for slot, end in ends.items()})
        starts = {slot: cache.lengths[slot.number] for slot in whole}
        chunks |= {slot: slot.tokens[start:] for slot, start in starts.items()} | early
        if not chunks:
            return
        after = {slot: cache.lengths[slot.number] + len(chunk) for slot, chunk in chunks.items()}
        looks = [
            0 if slot.put_off else self._looks(role, slot, len(chunk), after[slot]) for slot, chunk in chunks.items()
        ]
        rows, known = [slot.number for slot in chunks], self._prefixes.get(role)
        fed = [*chunks.values()]
        read = known.feed(rows, fed, looks) if known else model.feed(cache, rows, fed, looks)
        looked: list[_Looked] = []
        for slot, hidden in zip(chunks, read, strict=True):
            if hidden is None:
                slot.put_off = True
                continue
            if slot in starts:
                slot.hidden[role] = hidden[-1]
            looked.append((slot, hidden, after[slot]))
        self._look(role, looked)

    def predict(self, role: Role, slots: Sequence[Slot], ahead: Sequence[Slot] = ()) -> None:
        """A model's logits at the end of these texts, where they are not known in this step yet; see `read`."""
        self.read(role, [slot for slot in slots if role not in slot.logits], ahead)
        asked = list(dict.fromkeys(slot for slot in slots if role not in slot.logits and not slot.put_off))
        if not asked:
            return
        hidden = side_by_side([slot.hidden[role] for slot in asked])
        logits = self._logits(role, hidden, [(slot, len(slot.tokens)) for slot in asked])
        for slot, own in zip(asked, logits, strict=True):
            slot.logits[role] = own

    def _logits(self, role: Role, hidden: torch.Tensor, ends: Sequence[tuple[Slot, int]]) -> torch.Tensor:
        """A model's logits at the ends of so many tokens of these slots' texts: hidden states [n, d]."""
        known = self._prefixes.get(role)
        if known is None:
            return self._models[role].logits(hidden)
        return known.logits([(slot.number, slot.tokens, end) for slot, end in ends], hidden)

    def read_rest(self, slot: Slot, pieces: bool = False) -> bool:
        """Both models read what is left of a text, for its alternatives only: this is not charged.

        A served one is not asked for what nobody pays. Nor does a model read more than is left of this step, for which
        other texts would wait: with `pieces` it reads so much, else nothing. Returns whether all is read.
        """
        whole = True
        for role, model in self._models.items():
            start = self._caches[role].lengths[slot.number]
            chunk = slot.tokens[start:] if model.local else []
            room = len(chunk) if self._left is None else self._left[role]
            if len(chunk) > (room if pieces else max(SHORT, room)):
                whole, chunk = False, chunk[: room if pieces else 0]
            if chunk:
                end = start + len(chunk)
                looks = self._looks(role, slot, len(chunk), end)
                hidden = model.feed(self._caches[role], [slot.number], [chunk], [looks])[0]
                assert hidden is not None
                self._look(role, [(slot, hidden, end)])
        return whole

    def _pieces(self, role: Role, slots: Sequence[Slot]) -> dict[Slot, list[int]]:
        """Puts off the slots that have more to read than is left in this step; returns what is read of them now.

        Who has the least to read comes first, so that a long prompt makes nobody wait who only has to catch up. A piece
        has no token whose hidden state is looked at.
        """
        pieces: dict[Slot, list[int]] = {}
        if self._left is None or not self._models[role].local:
            return pieces
        lengths = self._caches[role].lengths
        for slot in sorted(slots, key=lambda slot: len(slot.tokens) - lengths[slot.number]):
            left, start = self._left[role], lengths[slot.number]
            unread, plain = len(slot.tokens) - start, _plain(role, slot) - start
            if unread <= SHORT:
                continue
            if unread > left and plain > 0:
                slot.put_off = True
                unread = min(left, plain)
                if unread:
                    pieces[slot] = slot.tokens[start : start + unread]
            self._left[role] = max(0, left - unread)
        return pieces

    def _early(self, role: Role, slots: Sequence[Slot]) -> dict[Slot, list[int]]:
        """What is read of texts before they ask: it takes half of what long texts leave room for, at most.

        Whose model has fallen behind furthest comes first. Only a text that has asked before is read ahead, since one
        that never does would be read for nothing, and none whose drafts are judged, which has its own time to look.
        """
        early: dict[Slot, list[int]] = {}
        if self._left is None or not self._models[role].local:
            return early
        room, lengths = self._left[role] // 2, self._caches[role].lengths
        for slot in sorted(slots, key=lambda slot: lengths[slot.number] - len(slot.tokens)):
            start = lengths[slot.number]
            end = min(len(slot.tokens) - 1, start + room)  # the last is read for its hidden state, once it is asked for
            asks = not (slot.judges or slot.put_off) and any(step.text.read[role] for step in slot.steps)
            if asks and start < end and len(slot.tokens) - start > _BEHIND:
                early[slot] = slot.tokens[start:end]
                room -= end - start
                self._left[role] -= end - start
        return early

    def _looks(self, role: Role, slot: Slot, unread: int, end: int) -> int:
        """At how many of `unread` tokens before the one at `end` somebody looks: at all that were generated, or one.

        Where that is not the end of the slot's text, nobody looks at the one.
        """
        everywhere = slot.wants_alternatives and self._models[role].local
        if not (everywhere or _judges(role, slot)):
            return int(end == len(slot.tokens))
        return max(0, min(unread, end - slot.prompt_tokens + 1))  # also the last of the prompt

    def _look(self, role: Role, read: Sequence[_Looked]) -> None:
        """Applies `lm_head` to all that was read of generated texts, where candidates or verdicts are wanted of it.

        It is one product for all of them: this reads as much for one position as for some.
        """
        wanted = [each for each in read if len(each[1]) and (_judges(role, each[0]) or each[0].wants_alternatives)]
        if not wanted:
            return
        ends = [(slot, last - len(own) + 1 + n) for slot, own, last in wanted for n in range(len(own))]
        hidden = torch.cat([own for _, own, _ in wanted]) if len(wanted) > 1 else wanted[0][1]
        for place in range(0, len(ends), LOOK):
            some, own = hidden[place : place + LOOK], ends[place : place + LOOK]
            logits, parts = self._logits(role, some, own), _stretches(own)
            for slot, part in parts:
                if _judges(role, slot):
                    note_choices(slot, logits[part], own[part.start][1] - slot.prompt_tokens)
            for slot, part in parts:
                if own[part.stop - 1][1] == len(slot.tokens):
                    slot.logits[role] = logits[part.stop - 1]  # what comes next is known as well
                if slot.wants_alternatives:
                    reveal(self._tokenizer, role, slot, own[part.start][1] - slot.prompt_tokens, logits[part])


def _judges(role: Role, slot: Slot) -> bool:
    return role is Role.LLM and slot.judges


def _stretches(ends: Sequence[tuple[Slot, int]]) -> list[tuple[Slot, slice]]:
    """Where in a list the positions of each slot stand, which follow each other."""
    found, start = [], 0
    for slot, own in groupby(ends, key=lambda each: each[0]):
        stop = start + len(list(own))
        found.append((slot, slice(start, stop)))
        start = stop
    return found


def _plain(role: Role, slot: Slot) -> int:
    """How many of a slot's tokens are read for the next ones only: candidates or verdicts are wanted of the others."""
    if slot.wants_alternatives:
        return slot.prompt_tokens - 1
    return min(step.text.cached(role) if step.judges else len(slot.tokens) - 1 for step in slot.steps)
