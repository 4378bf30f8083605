"""The decode loop: two models write one text, token by token, for any number of rows at once.

All routed text (page, sweeps, rollouts, evaluation, benchmark) is written by `Decoding.step`, one token per row:

1. **Plan.** Rows whose texts are the same so far share a slot of the KV caches, and with it every forward pass. Rows
   come and go between steps.
2. **Read.** Where a policy looks at its hidden state, the SLM reads the tokens it has not seen: at first the prompt,
   then one. Its `lm_head` is applied only where a policy looks at logits. A long text may be read in pieces: its rows
   are put off, and write in a later step.
3. **Decide.** The policy turns the state into a score, and score < threshold → LLM (CITER, section 3).
4. **Draft.** Where it was chosen, the SLM writes: its `lm_head` is applied, only now.
5. **Verify.** Where it was chosen, the LLM reads all tokens it has not seen in one pass (lazy catch-up). With an
   acceptance above 0 it looks at drafts, too, before they get long or end the text. It keeps of a draft what it finds
   likely enough; from the first token that is not, the draft is taken back, and the LLM writes there.
6. **Part.** Rows that now have another text than the first row of their slot get a slot with a copy of the caches.
7. **Record.** One frozen event per row says what happened.

So a sweep is a prefix tree: its rows part only where two of them write different tokens. Threshold 0 with acceptance 1
is speculative decoding (Leviathan et al., ICML 2023); acceptance 0 is CITER. What routing is compared with in seconds
has loops of its own in `engine/bench/writers.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import torch
from tokenizers import Tokenizer

from engine.batch.draft_length import due
from engine.batch.reading import Reader
from engine.batch.record import record
from engine.batch.rows import NOWHERE, Row, RowStep, Slot, going, slots_of, state_of
from engine.batch.slots import Slots, common
from engine.batch.verification import note_drafts, take_back, verify
from engine.events import Revealed, Role, TokenEvent
from engine.model.any_model import AnyModel, check_acceptance
from engine.model.logits import probability
from engine.model.sampling import sample, uniform
from engine.policy import Policy, decide
from engine.request import Request
from engine.tokenizer import TextStream


class Decoding:
    """A batch of texts (`rows`) in progress, with the caches of both models.

    Attributes:
        rows: By number. Where one was removed it stays, in no slot, until another takes its number.
    """

    def __init__(
        self,
        slm: AnyModel,
        llm: AnyModel,
        tokenizer: Tokenizer,
        end_ids: AbstractSet[int],
        context: int,
        most: int | None = None,
        prefix_cache: bool = False,
    ) -> None:
        """Prepares an empty batch.

        Args:
            slm, llm, tokenizer: Of the pair.
            end_ids: Token ids that end a text, by either model.
            context: Tokens a row may have in all.
            most: See `Slots`.
            prefix_cache: Whether what texts have in common is read once for all, at any time; see `PrefixCache`.
        """
        self._models: dict[Role, AnyModel] = {Role.SLM: slm, Role.LLM: llm}
        self._tokenizer, self._end_ids, self._context = tokenizer, end_ids, context
        self.rows: list[Row] = []
        self._slots = Slots(self._models, self.rows, context, most)
        self._caches = self._slots.caches
        self._reader = Reader(self._models, self._caches, tokenizer, prefix_cache)
        self._put_off: dict[int, Slot] = {}

    def add(
        self,
        requests: Sequence[Request],
        policies: Sequence[Policy],
        prompts: Sequence[Sequence[int]],
        texts: Sequence[Sequence[TokenEvent]] = (),
        known: int | None = None,
    ) -> list[int]:
        """Adds texts, between any two steps; nothing is run before the next one. Returns their numbers.

        Args:
            requests, policies: One per text; those with the same policy object are scored together.
            prompts: The rendered prompts as token ids, each shorter than the context.
            texts: Per text the events it goes on from, as for `resume`; none for those that begin.
            known: See `enter`.
        """
        rows = [
            Row(
                request=request,
                policy=policy,
                prompt_tokens=len(prompt),
                tokens=list(prompt),
                limit=min(request.max_new_tokens, self._context - len(prompt)),
                setting=request.setting,
                text=TextStream(self._tokenizer, request.stop),
            )
            for request, policy, prompt in zip(requests, policies, prompts, strict=True)
        ]
        for row, events in zip(rows, texts, strict=False):
            row.go_on(row.request, events, self._tokenizer)
        return self.enter(rows, known)

    def enter(self, rows: Sequence[Row], known: int | None = None) -> list[int]:
        """Gives rows a place: new ones, or such as were removed, which go on as if they had stayed.

        What rows that are there have read of the same text, or of its beginning, is copied and not read again, but for
        what lies behind the first `known` tokens. Returns the rows' numbers.
        """
        free = [number for number, row in enumerate(self.rows) if row.slot == NOWHERE][: len(rows)]
        numbers = [*free, *range(len(self.rows), len(self.rows) + len(rows) - len(free))]
        capacity = max((row.prompt_tokens + row.limit for row in rows), default=0)
        self._slots.reserve(len(self.rows) + len(rows) - len(free), capacity)
        self.rows += rows[len(free) :]
        for number, row in zip(free, rows, strict=False):
            self.rows[number] = row
        try:
            self._slots.enter(rows, known)
        except BaseException:
            for number, row in zip(numbers, rows, strict=True):
                row.slot = NOWHERE
                self.rows[number] = row.copy()
            raise
        return numbers

    def remove(self, row: int, clear: bool = False, keep: bool = False) -> Row:
        """Frees a row's number, and its slot if no other shares it; it may `enter` again.

        Args:
            row: Its number.
            clear: After a failure, which may have left something in the caches that is no number.
            keep: Until its slot is used again, texts that begin alike may go on from what the caches hold of this one.
        """
        this, slot = self.rows[row], self.rows[row].slot
        self._slots.leave(this, clear, keep)
        if not self._slots.sharing(slot):
            self._put_off.pop(slot, None)
        self.rows[row] = this.copy()  # the row itself may enter again, with any number
        return this

    @property
    def active(self) -> bool:
        """Whether any row is unfinished."""
        return any(row.unfinished for row in self.rows)

    @torch.inference_mode()
    def step(self, rows: Iterable[int] | None = None, reading: int | None = None) -> list[TokenEvent]:
        """Writes one token in rows that are unfinished; returns their events. A step that fails changes no text.

        Args:
            rows: Those that take part, in the order in which they are read; None are all.
            reading: How many tokens of long texts each model reads in this step, at most. A row of whose text more is
                to be read first has no event, until in a later step it is.
        """
        started = time.perf_counter()
        # 1. Plan
        planned = steps = self._plan(range(len(self.rows)) if rows is None else rows)
        self._reader.allow(reading)
        try:
            # 2. Read: the SLM, as far as policies look at it
            self._reader.read_for_policies(steps)
            steps = going(steps)
            # 3. Decide: a score, and from it a role
            self._decide(steps)
            # 4. Draft: the SLM applies its `lm_head` and writes
            self._draft([step for step in steps if step.role is Role.SLM])
            steps = going(steps)
            # 5. Verify: the LLM catches up in one pass, keeps or takes back what was drafted, and writes
            self._verify(steps)
            steps = going(steps)
            # 6. Part: rows whose texts differ from now on
            for slot in slots_of(steps):
                self._part(slot)
        except BaseException:
            self._undo(planned)
            raise
        # 7. Record
        self._share(slots_of(planned), time.perf_counter() - started)
        return [record(step) for step in steps]

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
        this = self.rows[row]
        self._slots.own(this)
        old = this.tokens
        this.go_on(request, events, self._tokenizer)
        same = common(old, this.tokens)
        for role, cache in self._caches.items():
            cache.truncate(this.slot, min(cache.lengths[this.slot], same, this.cached(role)))

    @torch.inference_mode()
    def reveal(self, row: int, reading: int | None = None) -> tuple[list[Revealed], bool]:
        """Both models read the rest of a text that was cut short, for its candidates; this is not charged.

        Each reads `reading` tokens at most, where that is given. Returns what was found, and whether that is all.
        """
        this = self.rows[row]
        self._slots.own(this)
        self._slots.truncate(this.slot, len(this.tokens) - 1)  # the next step reads the last, for its hidden state
        slot = Slot(this.slot, this.tokens[:-1], {})
        step = RowStep(row, this, slot, this, this.setting.threshold, judges=bool(this.provisional))
        slot.steps.append(step)
        self._reader.allow(reading)
        whole = self._reader.read_rest(slot, pieces=True)
        return step.revealed, whole

    def _plan(self, rows: Iterable[int]) -> list[RowStep]:
        """Step 1: the rows that take part, and the slots that they share."""
        numbers, llm = [number for number in rows if self.rows[number].unfinished], self._models[Role.LLM]
        alone = llm.gone
        self._slots.split(self.rows[number] for number in numbers)
        steps: list[RowStep] = []
        slots: dict[int, Slot] = {}
        late: dict[Row, RowStep] = {}
        for number in numbers:
            row, setting = self.rows[number], self.rows[number].setting
            if row.slot not in slots:
                slots[row.slot] = self._slot_of(row, late)
            slot, acceptance = slots[row.slot], 0.0 if alone else setting.acceptance
            check_acceptance(llm, acceptance)
            forced = next((f for f in row.request.forced if f.index == row.position), None)
            judges = acceptance > 0 or bool(row.provisional)
            step = RowStep(
                number,
                row,
                slot,
                row.copy(),
                0.0 if alone else setting.threshold,
                acceptance,
                forced=forced,
                judges=judges,
                alone=alone,
                rereads=llm.rereads,
            )
            if row in late:
                step.take_over(late[row])
            steps.append(step)
            slot.steps.append(step)
        return steps

    def _slot_of(self, row: Row, late: dict[Row, RowStep]) -> Slot:
        """A row's slot in a new step. Where its rows were put off, what is known by now stays, also in `late`."""
        earlier = self._put_off.pop(row.slot, None)
        if earlier is not None:
            lengths = self._slots.lengths(row.slot)
            same = {step.row for step in earlier.steps} == set(self._slots.sharing(row.slot))
            if same and earlier.tokens == row.tokens and all(lengths[r] == len(row.tokens) for r in earlier.hidden):
                late |= {step.row: step for step in earlier.steps}
                earlier.steps, earlier.put_off = [], False
                return earlier
            self._slots.back_to_start(earlier)
        self._slots.truncate(row.slot, len(row.tokens) - 1)
        return Slot(row.slot, list(row.tokens), self._slots.lengths(row.slot))

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
        self._reader.predict(Role.SLM, [step.slot for step in steps])
        self._write(going(steps))
        for step in going(steps):
            step.drafted = True

    def _verify(self, steps: Sequence[RowStep]) -> None:
        """Step 5: the LLM writes where it was chosen and where it does not keep a draft that it looks at."""
        costs = self._models[Role.SLM].cost, self._models[Role.LLM].cost
        for step in steps:
            step.asked = step.role is Role.LLM or (not step.alone and due(step, *costs))
        others = [step.slot for step in steps if not step.asked]
        self._reader.predict(Role.LLM, [step.slot for step in steps if step.asked], ahead=others)
        steps = going(steps)
        asked = [step for step in steps if step.asked]
        for slot in slots_of(steps):
            note_drafts(slot)
        refused = {step: index for step in asked if (index := verify(step)) is not None}
        for step, index in refused.items():
            own, _, its = step.row.choices[index]
            take_back(step, index)
            step.role, step.probability = Role.LLM, its
            step.row.text = TextStream(
                self._tokenizer, step.row.request.stop, step.row.tokens[step.row.prompt_tokens :]
            )
            self._add(step, own)
        called = [step for step in asked if step.role is Role.LLM and step not in refused]
        self._write(called)
        for step in called:
            step.row.called += 1
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
                    draw, highest = uniform(request.seed, row.position), step.slot.likeliest(step.role)
                    drawn[key] = sample(step.slot.logits[step.role], request.sampling, row.tokens, draw, highest)
                token = drawn[key]
            if request.alternatives:
                step.probability = probability(step.slot.logits[step.role], token)
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

    def _part(self, slot: Slot) -> None:
        """Step 6: rows that just wrote another token than the slot's first row move to a slot of their own."""
        if slot.wants_alternatives and any(step.row.finish_reason and not step.taken_back for step in slot.steps):
            self._reader.read_rest(slot)
        by_text: dict[tuple[int, int], list[Row]] = {}
        for step in slot.steps:
            by_text.setdefault((len(step.row.tokens), step.row.tokens[-1]), []).append(step.row)
        for leaving in list(by_text.values())[1:]:
            self._slots.move(leaving)
        for (length, _), (row, *_) in by_text.items():  # what was taken back has been read
            self._slots.truncate(row.slot, length - 1)

    def _share(self, slots: Sequence[Slot], seconds: float) -> None:
        """Notes a step's time, and keeps what is known of slots whose rows were put off."""
        for slot in slots:
            slot.elapsed += seconds
            if slot.put_off:
                self._put_off[slot.number] = slot
                for step in slot.steps:
                    step.undo(self._tokenizer)

    def _undo(self, steps: Sequence[RowStep]) -> None:
        for step in steps:
            step.undo(self._tokenizer)
        for slot in slots_of(steps):
            self._slots.back_to_start(slot)
