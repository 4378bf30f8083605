"""Has both models read the texts of a step, and notes hidden states, logits, the LLM's choices, and candidates.

A long text may be read in pieces, so that other texts need not wait for it. Each step reads a limited number of its
tokens, and its slot is put off until all are read. A slot is also put off until a served LLM has answered for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from tokenizers import Tokenizer

from engine.batch.prefixes import Prefixes, Wanted
from engine.batch.step import Slot, Step, going, stacked
from engine.batch.verify import note_choices
from engine.events import Alternative, Revealed, Role, known
from engine.model.language_model import LENGTHS
from engine.model.logits import ENTROPY, LOG_SUM_EXP, certainties, top_k
from engine.served.model import AnyModel
from engine.tokenizer import token_text

LOOK = 64  # positions to which `lm_head` is applied at once: float32 logits of the cpu pair take 0.6 MB each
SHORT = LENGTHS[-1]
"""Tokens that are always read at once: a next token, a draft, what the LLM has to catch up with now and then."""


class Reader:
    def __init__(self, models: Mapping[Role, AnyModel], prefixes: Prefixes, tokenizer: Tokenizer) -> None:
        self._models, self._prefixes, self._tokenizer = models, prefixes, tokenizer
        self._left: dict[Role, int] | None = None

    def allow(self, tokens: int | None) -> None:
        """Limits the tokens of long texts that each model reads in this step. A long text has over `SHORT` unread."""
        self._left = None if tokens is None else dict.fromkeys(Role, tokens)

    def read_for_policies(self, steps: Sequence[Step]) -> None:
        """What policies look at, once per slot however many texts share it."""
        reading = [step for step in steps if step.text.policy.reads(step.text.position)]
        self.read(Role.SLM, [step.slot for step in reading])
        for step in going(reading):
            if step.text.policy.by_prompt:
                step.text.prompt_hidden = step.slot.hidden[Role.SLM]
        certain = [step.slot for step in steps if step.text.policy.needs_logits]
        self.predict(Role.SLM, certain)
        new = list(dict.fromkeys(slot for slot in certain if slot.certainty is None and not slot.put_off))
        if new:
            found = certainties(stacked([slot.logits[Role.SLM] for slot in new]))
            for slot, own in zip(new, found, strict=True):
                slot.certainty = own

    def predict(self, role: Role, slots: Sequence[Slot]) -> None:
        """A model's logits at the end of these texts, where they are not known in this step yet; see `read`."""
        self.read(role, [slot for slot in slots if role not in slot.logits])
        asked = list(dict.fromkeys(slot for slot in slots if role not in slot.logits and not slot.put_off))
        if not asked:
            return
        hidden = stacked([slot.hidden[role] for slot in asked])
        for slot, own in zip(asked, self._models[role].logits(hidden), strict=True):
            slot.logits[role] = own

    def read(self, role: Role, slots: Sequence[Slot]) -> None:
        """Has a model read the unread tokens of these texts, unless it did so in this step.

        Stores the hidden state at the end of each text in its slot, and notes the choices and candidates that are
        wanted.
        """
        asked = list(dict.fromkeys(slot for slot in slots if role not in slot.hidden and not slot.put_off))
        if not asked:
            return
        lengths = self._prefixes.caches[role].lengths
        wanted = {slot: self._wanted(role, slot, len(slot.tokens)) for slot in asked}
        self._prefixes.copy_held(role, [*wanted.values()])
        for slot, end in self._pieces(role, wanted).items():
            wanted[slot] = self._wanted(role, slot, end)
        wanted = {slot: each for slot, each in wanted.items() if each.looks or len(each.tokens) > lengths[slot.number]}
        looked: list[tuple[Slot, torch.Tensor, int]] = []
        for (slot, each), hidden in zip(wanted.items(), self._prefixes.read(role, [*wanted.values()]), strict=True):
            if hidden is None:
                slot.put_off = True
                continue
            if len(each.tokens) == len(slot.tokens):
                slot.hidden[role] = hidden[-1]
            looked.append((slot, hidden, len(each.tokens)))
        self._look(role, looked)

    def read_rest(self, slot: Slot) -> None:
        """Both models read what is left of a text, for its candidates only: this is not charged.

        A served model is not asked, since its passes cost money. Nor does a model here read more than is left of this
        step: then the last candidates are missing.
        """
        for role, model in self._models.items():
            end = len(slot.tokens)
            unread = end - self._prefixes.caches[role].lengths[slot.number]
            room = math.inf if self._left is None else max(SHORT, self._left[role])
            if model.local and 0 < unread <= room:
                (hidden,) = self._prefixes.read(role, [self._wanted(role, slot, end)])
                assert hidden is not None
                self._look(role, [(slot, hidden, end)])

    def _wanted(self, role: Role, slot: Slot, end: int) -> Wanted:
        """What a model is to read of a slot's text up to a token.

        Its hidden states are wanted at the end of the text, and wherever candidates or verdicts are.
        """
        first = len(slot.tokens) - 1
        if slot.wants_alternatives and self._models[role].local:
            first = slot.prompt_tokens - 1
        elif role is Role.LLM and slot.wants_choices:
            first = min(first, *(step.text.cached(role) for step in slot.steps if step.wants_choices))
        unread = end - self._prefixes.caches[role].lengths[slot.number]
        tokens = slot.tokens if end == len(slot.tokens) else slot.tokens[:end]
        return Wanted(slot.number, tokens, max(0, min(unread, end - first)))

    def _pieces(self, role: Role, wanted: Mapping[Slot, Wanted]) -> dict[Slot, int]:
        """Puts off the slots that have more to read than this step allows. Returns up to which token each is read now.

        The slot with the least to read comes first, so that texts that only have to catch up do not wait for a long
        prompt. A piece ends before the first hidden state that is wanted.
        """
        pieces: dict[Slot, int] = {}
        if self._left is None or not self._models[role].local:
            return pieces
        lengths = self._prefixes.caches[role].lengths
        for slot in sorted(wanted, key=lambda slot: len(slot.tokens) - lengths[slot.number]):
            left, start = self._left[role], lengths[slot.number]
            unread = len(slot.tokens) - start
            if unread <= SHORT:
                continue
            if unread > left and unread > wanted[slot].looks:
                slot.put_off = True
                unread = min(left, unread - wanted[slot].looks)
                pieces[slot] = start + unread
            self._left[role] = max(0, left - unread)
        return pieces

    def _look(self, role: Role, read: Sequence[tuple[Slot, torch.Tensor, int]]) -> None:
        """Applies `lm_head` where choices or candidates are wanted.

        One product computes up to `LOOK` positions, since it reads the same weights for one position as for many.

        Args:
            read: For each slot, the model's hidden states at consecutive tokens [tokens, d], and the number of the
                text's tokens up to the last of these.
        """
        judges = role is Role.LLM
        wanted = [
            (slot, hidden, end)
            for slot, hidden, end in read
            if len(hidden) and ((judges and slot.wants_choices) or slot.wants_alternatives)
        ]
        if not wanted:
            return
        ends = [(slot, last - len(own) + 1 + n) for slot, own, last in wanted for n in range(len(own))]
        hidden = torch.cat([own for _, own, _ in wanted]) if len(wanted) > 1 else wanted[0][1]
        for place in range(0, len(ends), LOOK):
            logits, own = self._models[role].logits(hidden[place : place + LOOK]), ends[place : place + LOOK]
            parts = _stretches(own)
            for slot, part in parts:
                if judges and slot.wants_choices:
                    note_choices(slot, logits[part], own[part.start][1] - slot.prompt_tokens)
            for slot, part in parts:
                if own[part.stop - 1][1] == len(slot.tokens):
                    slot.logits[role] = logits[part.stop - 1]  # what comes next is known as well
                if slot.wants_alternatives:
                    _note_candidates(self._tokenizer, role, slot, own[part.start][1] - slot.prompt_tokens, logits[part])


def _stretches(ends: Sequence[tuple[Slot, int]]) -> list[tuple[Slot, slice]]:
    """For each slot the part of the list that has its positions, which follow each other."""
    found, start = [], 0
    for slot, own in groupby(ends, key=lambda each: each[0]):
        stop = start + len(list(own))
        found.append((slot, slice(start, stop)))
        start = stop
    return found


def _note_candidates(tokenizer: Tokenizer, role: Role, slot: Slot, index: int, logits: torch.Tensor) -> None:
    """Notes a model's candidates, for those of the slot's texts that ask for them.

    Args:
        index: The first position in the generated text that the logits are about.
        logits: The model's, float32 [positions, vocabulary].
    """
    steps = [step for step in slot.steps if step.text.request.alternatives]
    certain = certainties(logits)
    if role is Role.SLM:
        slot.certainty = certain[-1]
    top, indices = top_k(logits, max(step.text.request.alternatives for step in steps))
    probabilities = (top - top.new_tensor([[each.features[LOG_SUM_EXP]] for each in certain])).exp().tolist()
    bits = [each.features[ENTROPY] / math.log(2) for each in certain]
    per_position = zip(probabilities, indices.tolist(), bits, strict=True)
    for place, (values, ids, entropy) in enumerate(per_position, index):
        candidates = tuple(Alternative(i, token_text(tokenizer, i), p) for i, p in zip(ids, values, strict=True))
        for step in steps:
            revealed = Revealed(place, role, candidates[: step.text.request.alternatives], entropy)
            if place == step.text.position:
                step.learned |= known(revealed)[1]
            elif place < step.text.position:  # a text whose draft was just taken back has no token there
                step.revealed.append(revealed)
