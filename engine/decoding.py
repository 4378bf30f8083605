"""The decode loop: two models write one text, token by token, for any number of rows at once.

All routed text (page, sweeps, rollouts, evaluation, benchmark) is written by `Decoding.step`, one token per row:

1. **Plan.** Rows whose texts are the same so far share a slot of the KV caches, and with it every forward pass.
2. **Read.** Where a policy looks at its hidden state, the SLM reads the tokens it has not seen: at first the prompt,
   then one. Its `lm_head` is applied only where a policy looks at logits.
3. **Decide.** The policy turns the state into a score, and score < threshold → LLM (CITER, section 3).
4. **Draft.** Where it was chosen, the SLM writes: its `lm_head` is applied, only now.
5. **Verify.** Where it was chosen, the LLM reads all tokens it has not seen in one pass (lazy catch-up). With an
   acceptance above 0 it looks at drafts, too, before they get long or end the text. It keeps of a draft what it finds
   likely enough; from the first token that is not, the draft is taken back, and the LLM writes there.
6. **Part.** Rows that now have another text than the first row of their slot get a slot with a copy of the caches.
7. **Record.** One frozen event per row says what happened.

So a sweep is a prefix tree: its rows part only where two of them write different tokens. Threshold 0 with acceptance 1
is speculative decoding (Leviathan et al., ICML 2023); acceptance 0 is CITER. What routing is compared with in seconds
has loops of its own in `engine/benchmark/writers.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import torch
from tokenizers import Tokenizer

from engine.batch.draft_length import due
from engine.batch.reveal import reveal
from engine.batch.rows import Row, RowStep, Slot, record, state_of
from engine.batch.verification import note_choices, note_drafts, take_back, verify
from engine.events import Revealed, Role, TokenEvent, charged_reads, fold_revealed
from engine.judge import Judge
from engine.model.language_model import LanguageModel, prefill_shared
from engine.model.logits import logit_features
from engine.model.sampling import sample, uniform
from engine.policy import Policy, decide
from engine.request import Dial, Request
from engine.tokenizer import TextStream

LOOK = 64  # positions to which `lm_head` is applied at once: float32 logits of the cpu pair take 0.6 MB each


class Decoding:
    """A batch of texts (`rows`) in progress, with the caches of both models."""

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
        judge: Judge | None = None,
    ) -> None:
        """Prepares a batch; nothing is run before the first step.

        Args:
            slm, llm, tokenizer: Of the pair.
            end_ids: Token ids that end a text, by either model.
            policies, requests: One per row; rows with the same policy object are scored together.
            prompts: The rendered prompts as token ids, each shorter than `context`.
            context: Tokens a row may have in all.
            judge: For the requests that want it to decide what is kept.
        """
        self._models = {Role.SLM: slm, Role.LLM: llm}
        self._tokenizer, self._end_ids, self._judge = tokenizer, end_ids, judge
        first: dict[tuple[int, ...], int] = {}
        self.rows = [
            Row(
                request=request,
                policy=policy,
                slot=first.setdefault(tuple(prompt), number),
                prompt_tokens=len(prompt),
                tokens=list(prompt),
                limit=min(request.max_new_tokens, context - len(prompt)),
                dial=Dial.of(request),
                text=TextStream(tokenizer, request.stop),
                judge=self._judge_of(request),
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
        """Writes one token in every unfinished row; returns one event per such row, in row order."""
        started = time.perf_counter()
        # 1. Plan
        steps, slots = self._plan()
        # 2. Read: the SLM, as far as policies look at it
        self._read_for_policies(steps)
        # 3. Decide: a score, and from it a role
        self._decide(steps)
        # 4. Draft: the SLM applies its `lm_head` and writes
        self._draft([step for step in steps if step.role is Role.SLM])
        # 5. Verify: the LLM catches up in one pass, keeps or takes back what was drafted, and writes
        self._verify(steps)
        # 6. Part: rows whose texts differ from now on
        for slot in slots:
            self._part(slot)
        # 7. Record
        seconds = (time.perf_counter() - started) / len(slots)
        return [record(step, seconds) for step in steps]

    def run(self, cancel: threading.Event | None = None) -> Iterator[TokenEvent]:
        """Steps until every row is finished, `cancel` is set or the generator is closed; yields each event at once."""
        while self.active and not (cancel is not None and cancel.is_set()):
            yield from self.step()

    def finish(self) -> None:
        """Steps until every row is finished; the events are in the rows."""
        while self.active:
            self.step()

    def resume(self, row: int, request: Request, events: Sequence[TokenEvent]) -> None:
        """Makes a row's text that of some events, ready to go on from there as another request wants it.

        What the caches hold of the same text stays; the rest, and the last token for its hidden state, is read in one
        pass with the next step. So a slider that is moved costs the tokens after the first decision that flips, and
        going back to an earlier branch costs one pass.

        Args:
            row: Its prompt stays.
            request: With the same prompt and `max_new_tokens`; threshold, forced tokens and seed may be others.
            events: Of a text with that prompt, from the first token on; complete where the last has a finish reason.
        """
        self._own(row)
        this = self.rows[row]
        this.request, this.judge, dial = request, self._judge_of(request), this.dial
        dial.threshold, dial.acceptance, dial.max_draft = request.threshold, request.acceptance, request.max_draft
        this.events = list(fold_revealed(events))
        old, this.tokens = this.tokens, this.tokens[: this.prompt_tokens] + [event.id for event in events]
        same = next((n for n, (a, b) in enumerate(zip(old, this.tokens, strict=False)) if a != b), len(old))
        this.read = charged_reads(this.events, this.prompt_tokens)
        this.finish_reason = events[-1].finish_reason if events else None
        this.choices, this.kept = {}, {}
        this.settled = next((n for n, event in enumerate(this.events) if event.provisional), len(events))
        this.text = TextStream(self._tokenizer, request.stop, this.tokens[this.prompt_tokens :])
        ends = dict.fromkeys(Role, min(same, len(this.tokens) - 1))
        if this.settled < len(events):  # the LLM's choice at a position is known from the pass over the token before it
            ends[Role.LLM] = min(ends[Role.LLM], this.prompt_tokens + this.settled - 1)
        for role, cache in self._caches.items():
            cache.truncate(this.slot, min(cache.lengths[this.slot], ends[role]))

    def rollback(self, row: int, generated: int) -> None:
        """Takes a row back to its first `generated` tokens, ready to go on from there; see `resume`."""
        this = self.rows[row]
        self.resume(row, this.request, [replace(event, finish_reason=None) for event in this.events[:generated]])

    def reveal(self, row: int) -> list[Revealed]:
        """Both models read the rest of a text that was cut short, for its candidates; this is not charged."""
        self._own(row)
        this = self.rows[row]
        slot = Slot(this.slot, this.tokens[:-1])  # the next step reads the last token, for its hidden state
        step = RowStep(row, this, slot, this.dial.threshold, judges=bool(this.provisional))
        slot.steps.append(step)
        self._read_rest(slot)
        return step.revealed

    def fork(self, source: int, target: int) -> None:
        """Makes row `target` a copy of row `source`, caches included; its dial stays its own."""
        self._own(target)
        old, replaced = self.rows[source], self.rows[target]
        self.rows[target] = replace(
            old,
            slot=replaced.slot,
            dial=replaced.dial,
            tokens=list(old.tokens),
            events=list(old.events),
            read=dict(old.read),
            choices=dict(old.choices),
            kept={score: list(counts) for score, counts in old.kept.items()},
            text=TextStream(self._tokenizer, old.request.stop, old.tokens[old.prompt_tokens :]),
        )
        self._copy(old.slot, replaced.slot)

    def _plan(self) -> tuple[list[RowStep], list[Slot]]:
        """Step 1: the unfinished rows, and the slots that they share."""
        steps: list[RowStep] = []
        slots: dict[int, Slot] = {}
        for number, row in enumerate(self.rows):
            if row.finish_reason is None:
                if row.slot not in slots:
                    slots[row.slot] = Slot(row.slot, list(row.tokens))
                slot = slots[row.slot]
                forced = next((f for f in row.request.forced if f.index == row.position), None)
                threshold, acceptance = row.dial.threshold, row.dial.acceptance
                judges = acceptance > 0 or bool(row.provisional)
                steps.append(RowStep(number, row, slot, threshold, acceptance, forced=forced, judges=judges))
                slot.steps.append(steps[-1])
        return steps, list(slots.values())

    def _read_for_policies(self, steps: Sequence[RowStep]) -> None:
        """Step 2: what policies look at, once per slot however many rows share it."""
        reading = [step for step in steps if step.row.policy.reads(step.row.position)]
        self._read(Role.SLM, [step.slot for step in reading])
        for step in reading:
            if step.row.policy.by_prompt:
                step.row.prompt_hidden = step.slot.hidden[Role.SLM]
        certain = [step.slot for step in steps if step.row.policy.needs_logits]
        compared = [step.slot for step in steps if step.row.policy.sees_llm]
        self._predict(Role.SLM, certain + compared)
        self._predict(Role.LLM, compared)
        new = list(dict.fromkeys(slot for slot in certain if slot.logit_features is None))
        if new:
            features = logit_features(torch.stack([slot.logits[Role.SLM] for slot in new]))
            for slot, own in zip(new, features, strict=True):
                slot.logit_features = own

    def _decide(self, steps: Sequence[RowStep]) -> None:
        """Step 3: roles and scores; each policy scores a state once, however many rows share it."""
        for policy in dict.fromkeys(step.row.policy for step in steps):
            own = [step for step in steps if step.row.policy is policy]
            keys = [(step.slot, step.row.request.seed) for step in own]
            sharing = dict(zip(keys, own, strict=True))
            order = {key: n for n, key in enumerate(sharing)}
            state = state_of(policy, list(sharing.values()))
            decided = decide(policy, state, [order[key] for key in keys], [step.threshold for step in own])
            for step, (role, score) in zip(own, decided, strict=True):
                step.role, step.score = step.forced.role if step.forced else role, score

    def _draft(self, steps: Sequence[RowStep]) -> None:
        """Step 4: the SLM writes in these rows."""
        self._predict(Role.SLM, [step.slot for step in steps])
        self._write(steps)
        for step in steps:
            step.drafted = True

    def _verify(self, steps: Sequence[RowStep]) -> None:
        """Step 5: the LLM writes where it was chosen and where it does not keep a draft that it looks at."""
        costs = self._models[Role.SLM].cost, self._models[Role.LLM].cost
        for step in steps:
            step.asked = step.role is Role.LLM or due(step, *costs)
        asked = [step for step in steps if step.asked]
        self._predict(Role.LLM, [step.slot for step in asked])
        for slot in dict.fromkeys(step.slot for step in steps):
            note_drafts(slot)
        refused = {step: index for step in asked if (index := verify(step)) is not None}
        for step, index in refused.items():
            own = step.row.choices[index].own
            take_back(step, index)
            step.role = Role.LLM
            step.row.text = TextStream(
                self._tokenizer, step.row.request.stop, step.row.tokens[step.row.prompt_tokens :]
            )
            self._add(step, own)
        self._write([step for step in asked if step.role is Role.LLM and step not in refused])
        for step in steps:
            if step.row.finish_reason:
                step.text += step.row.text.finish()

    def _write(self, steps: Sequence[RowStep]) -> None:
        """Draws each row's token from its author's logits and adds it."""
        drawn: dict[tuple[object, ...], int] = {}  # rows that share all of a draw share its token
        for step in steps:
            row, request = step.row, step.row.request
            token = step.forced.id if step.forced else None
            if token is None:
                key = (step.slot, step.role, request.sampling, request.seed)
                if key not in drawn:
                    draw = uniform(request.seed, row.position)
                    drawn[key] = sample(step.slot.logits[step.role], request.sampling, row.tokens, draw)
                token = drawn[key]
            self._add(step, token)

    def _add(self, step: RowStep, token: int) -> None:
        """Adds a token to a row's text, and says whether the text ends with it."""
        row = step.row
        row.tokens.append(token)
        step.text = row.text.push(token)
        if token in self._end_ids:
            row.finish_reason = "eos"
        elif row.text.stopped:
            row.finish_reason = "stop"
        elif row.position + 1 >= row.limit:
            row.finish_reason = "length"

    def _read(self, role: Role, slots: Sequence[Slot]) -> None:
        """A model reads what it has not seen of these texts, in one pass: prefill, next token or catch-up."""
        asked = list(dict.fromkeys(slot for slot in slots if role not in slot.hidden))
        if not asked:
            return
        started = time.perf_counter()
        model, cache = self._models[role], self._caches[role]
        # Of what is generated, alternatives and verdicts need every hidden state: no copy of another's prefix there.
        ends = {slot: slot.prompt_tokens if slot.judges else None for slot in asked if not slot.wants_alternatives}
        prefill_shared(model, cache, {slot.number: slot.tokens[:end] for slot, end in ends.items()})
        starts = [cache.lengths[slot.number] for slot in asked]
        chunks = [slot.tokens[start:] for slot, start in zip(asked, starts, strict=True)]
        hidden = model.feed(cache, [slot.number for slot in asked], chunks)
        seconds = (time.perf_counter() - started) / len(asked)
        for slot, start, states in zip(asked, starts, hidden, strict=True):
            slot.hidden[role] = states[-1]
            slot.seconds[role] += seconds
            self._look(role, slot, start, states)

    def _look(self, role: Role, slot: Slot, start: int, hidden: torch.Tensor) -> None:
        """Applies `lm_head` to all that was read of a generated text, where candidates or verdicts are wanted of it.

        `start`: how many tokens the model had read before. `hidden`: its states of the rest, [tokens, d].
        """
        judges = role is Role.LLM and slot.judges
        if not (judges or slot.wants_alternatives):
            return
        first = max(0, slot.prompt_tokens - 1 - start)  # the hidden state before the first generated token
        index = start + first + 1 - slot.prompt_tokens
        for place in range(first, len(hidden), LOOK):
            started = time.perf_counter()
            logits = self._models[role].logits(hidden[place : place + LOOK])
            slot.logits[role] = logits[-1]  # what comes next is known as well
            if judges:
                note_choices(slot, hidden[place : place + LOOK], logits, index)
                slot.seconds[role] += time.perf_counter() - started
            if slot.wants_alternatives:
                reveal(self._tokenizer, role, slot, index, logits)
            index += len(logits)

    def _predict(self, role: Role, slots: Sequence[Slot]) -> None:
        """A model's logits at the end of these texts, where they are not known in this step yet."""
        self._read(role, [slot for slot in slots if role not in slot.logits])
        asked = list(dict.fromkeys(slot for slot in slots if role not in slot.logits))
        if not asked:
            return
        started = time.perf_counter()
        logits = self._models[role].logits(torch.stack([slot.hidden[role] for slot in asked]))
        seconds = (time.perf_counter() - started) / len(asked)
        for slot, own in zip(asked, logits, strict=True):
            slot.logits[role] = own
            slot.seconds[role] += seconds

    def _part(self, slot: Slot) -> None:
        """Step 5: rows that just wrote another token than the slot's first row move to a slot of their own.

        A slot's number is the lowest row that shares it, so the lowest row of those that leave names a free one.
        """
        if slot.wants_alternatives and any(step.row.finish_reason and not step.taken_back for step in slot.steps):
            self._read_rest(slot)
        by_text: dict[tuple[int, int], list[RowStep]] = {}
        for step in slot.steps:
            by_text.setdefault((len(step.row.tokens), step.row.tokens[-1]), []).append(step)
        for leaving in list(by_text.values())[1:]:
            self._move([step.number for step in leaving], slot.number)
        for (length, _), (step, *_) in by_text.items():
            for cache in self._caches.values():  # what was taken back has been read
                cache.truncate(step.row.slot, min(cache.lengths[step.row.slot], length - 1))

    def _read_rest(self, slot: Slot) -> None:
        """Both models read what is left of a text, for its alternatives only: this is not charged."""
        for role, model in self._models.items():
            start = self._caches[role].lengths[slot.number]
            chunk = slot.tokens[start:]
            if chunk:
                self._look(role, slot, start, model.feed(self._caches[role], [slot.number], [chunk])[0])

    def _judge_of(self, request: Request) -> Judge | None:
        return self._judge if request.judge == "learned" else None

    def _own(self, row: int) -> None:
        """Gives a row a slot that no other row shares."""
        this = self.rows[row]
        others = [n for n, other in enumerate(self.rows) if other.slot == this.slot and n != row]
        if others:
            self._move(others if this.slot == row else [row], this.slot)

    def _move(self, rows: Sequence[int], slot: int) -> None:
        """Rows leave a slot for the one that the first of them names, with a copy of its caches."""
        self._copy(slot, rows[0])
        for row in rows:
            self.rows[row].slot = rows[0]

    def _copy(self, source: int, target: int) -> None:
        for cache in self._caches.values():
            cache.fork(source, target)
