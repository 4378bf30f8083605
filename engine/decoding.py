"""The one decode loop: two models write one text, token by token, for any number of rows at once.

Everything that generates (page, sweeps, rollouts, evaluation, benchmarks) goes through `Decoding.step`. Per row:

1. The SLM reads the tokens it has not seen, and its hidden state is taken at the last one.
2. The policy turns the state into a score and the score into a role (CITER, section 3).
3. The chosen model answers. SLM: its `lm_head` is applied, only now. LLM: it first reads all tokens it has not seen in
   one forward pass (lazy catch-up).
4. One frozen event says what happened.

Rows whose texts are the same so far share a slot of the caches, and with it every forward pass: a sweep is a batch of
one prompt at many thresholds, and its rows part only where two of them write different tokens (a prefix tree).

Finished rows take no part in further steps. Knows token ids; knows nothing of presets, chat templates or files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import torch
from tokenizers import Tokenizer

from engine.batch import Row, Slot, Turn, state_of
from engine.dial import Dial
from engine.events import Revealed, Role, TokenEvent, fold_revealed
from engine.logits import logit_features
from engine.models import LanguageModel
from engine.policy import Policy, decide
from engine.prefill import read_beginnings
from engine.request import Request
from engine.reveal import reveal, reveal_rest
from engine.sampling import sample, uniform
from engine.text import TextStream


class Decoding:
    """A batch of texts in progress, with the caches of both models.

    Attributes:
        rows: The texts. Each has its own request, policy, dial and lengths.
    """

    def __init__(
        self,
        slm: LanguageModel,
        llm: LanguageModel,
        tokenizer: Tokenizer,
        end_ids: AbstractSet[int],
        policies: Sequence[Policy],
        requests: Sequence[Request],
        prompts: Sequence[Sequence[int]],
        context: int,
    ) -> None:
        """Prepares a batch; nothing is run before the first step.

        Args:
            slm, llm: The pair.
            tokenizer: Its tokenizer.
            end_ids: Token ids that end a text, whoever writes them.
            policies: One per row; rows with the same object are scored together.
            requests: One per row.
            prompts: Their rendered prompts as token ids, each shorter than `context`.
            context: Tokens a row may have in all.
        """
        self._models = {Role.SLM: slm, Role.LLM: llm}
        self._tokenizer, self._end_ids = tokenizer, end_ids
        first: dict[tuple[int, ...], int] = {}
        self.rows = [
            Row(
                request=request,
                policy=policy,
                slot=first.setdefault(tuple(prompt), number),
                prompt_tokens=len(prompt),
                tokens=list(prompt),
                limit=min(request.max_new_tokens, context - len(prompt)),
                dial=Dial(request.threshold),
                text=TextStream(tokenizer, request.stop),
            )
            for number, (request, policy, prompt) in enumerate(zip(requests, policies, prompts, strict=True))
        ]
        capacity = max(row.prompt_tokens + row.limit for row in self.rows)
        self._caches = {role: model.new_cache(len(self.rows), capacity) for role, model in self._models.items()}

    @property
    def active(self) -> bool:
        """Whether any row is unfinished."""
        return any(row.finish_reason is None for row in self.rows)

    def step(self) -> list[TokenEvent]:
        """Writes one token in every unfinished row.

        Returns:
            One event per such row, in row order.
        """
        started = time.perf_counter()
        slots: dict[int, Slot] = {}
        turns: list[Turn] = []
        for number, row in enumerate(self.rows):
            if row.finish_reason is None:
                slot = slots.setdefault(row.slot, Slot(row.slot, list(row.tokens)))
                forced = next((f for f in row.request.forced if f.index == row.position), None)
                turns.append(Turn(number, row, slot, row.dial.threshold, forced=forced))
                slot.turns.append(turns[-1])
        self._decide(turns)
        for role in Role:
            self._logits(role, [turn.slot for turn in turns if turn.role is role])
        texts = self._write(turns)
        for slot in slots.values():
            self._part(slot)
        seconds = (time.perf_counter() - started) / len(slots)
        return [self._event(turn, text, seconds) for turn, text in zip(turns, texts, strict=True)]

    def resume(self, row: int, request: Request, events: Sequence[TokenEvent]) -> None:
        """Makes a row's text that of some events, ready to go on from there as another request wants it.

        What the caches hold of the same text stays; the rest is read again, in one pass, with the next step. The last
        token is always read again, for its hidden state. So a slider that is moved costs the tokens after the first
        decision that flips, and going back to an earlier branch costs one pass.

        Args:
            row: Its prompt stays.
            request: Asks for the same prompt and tokens at most; threshold, forced tokens and seed may be others.
            events: Of a text with the same prompt, in order, from the first token on. Where the last of them has a
                finish reason, the text is complete.
        """
        self._own(row)
        this = self.rows[row]
        this.request, this.dial.threshold = request, request.threshold
        this.events = list(fold_revealed(events))
        old, this.tokens = this.tokens, this.tokens[: this.prompt_tokens] + [event.id for event in events]
        same = next((n for n, (a, b) in enumerate(zip(old, this.tokens, strict=False)) if a != b), len(old))
        this.read = {Role.SLM: sum(e.slm_fed for e in events), Role.LLM: sum(e.llm_fed for e in events)}
        this.finish_reason = events[-1].finish_reason if events else None
        this.text = self._replay_text(this)
        for cache in self._caches.values():
            cache.truncate(this.slot, min(cache.lengths[this.slot], same, len(this.tokens) - 1))

    def rollback(self, row: int, generated: int) -> None:
        """Takes a row back to its first `generated` tokens, ready to go on from there; see `resume`."""
        this = self.rows[row]
        self.resume(row, this.request, [replace(event, finish_reason=None) for event in this.events[:generated]])

    def reveal(self, row: int) -> list[Revealed]:
        """Both models read what they have not seen of a row's text, for its candidates only: charged to nobody.

        A text that ended by itself has them all; one that was cut short lacks those since the LLM was last asked.
        """
        this = self.rows[row]
        # Without the last token, which the next step reads for its hidden state.
        slot = Slot(this.slot, this.tokens[:-1])
        turn = Turn(row, this, slot, this.dial.threshold)
        slot.turns.append(turn)
        reveal_rest(self._models, self._caches, self._tokenizer, slot)
        return turn.revealed

    def fork(self, source: int, target: int) -> None:
        """Makes row `target` a copy of row `source`, caches included; its dial stays its own."""
        self._own(target)
        old, slot = self.rows[source], self.rows[target].slot
        new = replace(old, slot=slot, tokens=list(old.tokens), dial=self.rows[target].dial)
        new.events, new.read = list(old.events), dict(old.read)
        new.text = self._replay_text(new)
        self.rows[target] = new
        self._copy(old.slot, slot)

    def _decide(self, turns: Sequence[Turn]) -> None:
        """Sets every turn's role and score; each policy scores a state once, however many rows share it."""
        reading = [t for t in turns if t.row.policy.reads(t.row.position)]
        self._hidden(Role.SLM, [t.slot for t in reading])
        for turn in reading:
            if turn.row.policy.by_prompt:
                turn.row.prompt_hidden = turn.slot.hidden[Role.SLM]
        looking = [t.slot for t in turns if t.row.policy.sees_llm]
        certain = [t.slot for t in turns if t.row.policy.needs_logits]
        self._logits(Role.SLM, certain + looking)
        self._logits(Role.LLM, looking)
        self._certainty(certain)
        for policy in {id(t.row.policy): t.row.policy for t in turns}.values():
            mine = [t for t in turns if t.row.policy is policy]
            keys = {(t.slot.number, t.row.request.seed): t for t in mine}
            order = {key: n for n, key in enumerate(keys)}
            states = [order[t.slot.number, t.row.request.seed] for t in mine]
            decided = decide(policy, state_of(policy, list(keys.values())), states, [t.threshold for t in mine])
            for turn, (role, score) in zip(mine, decided, strict=True):
                turn.role, turn.score = turn.forced.role if turn.forced else role, score

    def _hidden(self, role: Role, slots: Sequence[Slot]) -> None:
        """Lets a model read what it has not seen of these texts, in one pass, and keeps its last hidden states."""
        asked = list({s.number: s for s in slots if role not in s.hidden}.values())
        if not asked:
            return
        started = time.perf_counter()
        model, cache = self._models[role], self._caches[role]
        plain = {s.number: s.tokens for s in asked if not s.wants_alternatives}  # which need every hidden state
        read_beginnings(model, cache, plain)
        starts = [cache.lengths[s.number] for s in asked]
        chunks = [s.tokens[start:] for s, start in zip(asked, starts, strict=True)]
        hidden = model.feed(cache, [s.number for s in asked], chunks)
        for slot, states in zip(asked, hidden, strict=True):
            slot.hidden[role] = states[-1]
            slot.seconds[role] += (time.perf_counter() - started) / len(asked)
        for slot, start, states in zip(asked, starts, hidden, strict=True):
            if slot.wants_alternatives:
                reveal(model, self._tokenizer, role, slot, start, states)

    def _logits(self, role: Role, slots: Sequence[Slot]) -> None:
        """Applies a model's `lm_head` at the end of these texts, where that was not done in this step yet."""
        self._hidden(role, [s for s in slots if role not in s.logits])
        asked = list({s.number: s for s in slots if role not in s.logits}.values())
        if not asked:
            return
        started = time.perf_counter()
        logits = self._models[role].logits(torch.stack([s.hidden[role] for s in asked]))
        for slot, row in zip(asked, logits, strict=True):
            slot.logits[role] = row
            slot.seconds[role] += (time.perf_counter() - started) / len(asked)

    def _certainty(self, slots: Sequence[Slot]) -> None:
        """What the SLM's distribution says of its certainty, once per text for all policies that look at it."""
        asked = list({s.number: s for s in slots if s.logit_features is None}.values())
        if asked:
            found = logit_features(torch.stack([s.logits[Role.SLM] for s in asked]))
            for slot, row in zip(asked, found, strict=True):
                slot.logit_features = row

    def _write(self, turns: Sequence[Turn]) -> list[str]:
        """Draws each row's token and adds it. Returns the texts that became certain."""
        drawn: dict[tuple[object, ...], int] = {}
        texts = []
        for turn in turns:
            row, request = turn.row, turn.row.request
            chosen = turn.forced.id if turn.forced else None
            key = (turn.slot.number, turn.role, request.sampling, request.seed, chosen)
            if chosen is not None:
                drawn[key] = chosen
            elif key not in drawn:
                draw = uniform(request.seed, row.position)
                drawn[key] = sample(turn.slot.logits[turn.role], request.sampling, row.tokens, draw)
            row.tokens.append(drawn[key])
            text = row.text.push(drawn[key])
            if drawn[key] in self._end_ids:
                row.finish_reason = "eos"
            elif row.text.stopped:
                row.finish_reason = "stop"
            elif row.position + 1 >= row.limit:
                row.finish_reason = "length"
            texts.append(text + row.text.finish() if row.finish_reason else text)
        return texts

    def _part(self, slot: Slot) -> None:
        """Gives rows that just wrote another token than the slot's first row a slot of their own, with a copied cache.

        A slot's number is the lowest row that shares it, so the lowest row of those that leave names a free one.
        """
        if slot.wants_alternatives and any(t.row.finish_reason for t in slot.turns):
            reveal_rest(self._models, self._caches, self._tokenizer, slot)
        parting: dict[int, list[Turn]] = {}
        for turn in slot.turns:
            parting.setdefault(turn.row.tokens[-1], []).append(turn)
        for leaving in list(parting.values())[1:]:
            self._copy(slot.number, leaving[0].number)
            for turn in leaving:
                turn.row.slot = leaving[0].number

    def _own(self, row: int) -> None:
        """Gives a row a slot that no other row shares."""
        this = self.rows[row]
        others = [n for n, other in enumerate(self.rows) if other.slot == this.slot and n != row]
        if not others:
            return
        moving = others if this.slot == row else [row]
        self._copy(this.slot, moving[0])
        for number in moving:
            self.rows[number].slot = moving[0]

    def _copy(self, source: int, target: int) -> None:
        for cache in self._caches.values():
            cache.fork(source, target)

    def _event(self, turn: Turn, text: str, seconds: float) -> TokenEvent:
        """What happened in a turn. A model is charged for what this row alone would have made it do."""
        row, policy = turn.row, turn.row.policy
        position, end = row.position, len(turn.slot.tokens)
        charged = {Role.SLM: turn.role is Role.SLM or policy.reads(position), Role.LLM: turn.role is Role.LLM}
        fed = {role: end - row.read[role] if charged[role] else 0 for role in Role}
        row.read = {role: end if charged[role] else row.read[role] for role in Role}
        event = TokenEvent(
            row=turn.number,
            index=position,
            id=row.tokens[-1],
            text=text,
            role=turn.role,
            score=turn.score,
            router=policy.scores(position),
            threshold=turn.threshold,
            slm_fed=fed[Role.SLM],
            llm_fed=fed[Role.LLM],
            slm_head=turn.role is Role.SLM or policy.needs_logits,
            seconds=seconds,
            slm_seconds=turn.slot.seconds[Role.SLM] * charged[Role.SLM],
            llm_seconds=turn.slot.seconds[Role.LLM] * charged[Role.LLM],
            slm_alternatives=turn.alternatives.get(Role.SLM, ()),
            llm_alternatives=turn.alternatives.get(Role.LLM, ()),
            slm_entropy=turn.entropy.get(Role.SLM),
            llm_entropy=turn.entropy.get(Role.LLM),
            revealed=tuple(turn.revealed),
            forced=turn.forced is not None,
            finish_reason=row.finish_reason,
        )
        row.events.append(event)
        return event

    def _replay_text(self, row: Row) -> TextStream:
        text = TextStream(self._tokenizer, row.request.stop)
        for token in row.tokens[row.prompt_tokens :]:
            text.push(token)
        return text


def decode(decoding: Decoding, cancel: threading.Event | None = None) -> Iterator[TokenEvent]:
    """Steps until every row is finished; yields each event as it happens.

    Args:
        decoding: The batch.
        cancel: When set, no further step is taken. Closing the generator does the same.
    """
    while decoding.active and not (cancel is not None and cancel.is_set()):
        yield from decoding.step()
