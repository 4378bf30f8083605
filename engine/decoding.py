"""The decode loop: two models write one text, token by token, for any number of texts at once.

All routed text (page, sweeps, rollouts, evaluation, benchmark) is written by `Decoding.step`, one token per text:

1. **Plan.** Texts that are the same so far share a slot of the KV caches, and with it every forward pass. Texts come
   and go between steps.
2. **Read.** Where a policy looks at its hidden state, the SLM reads the tokens it has not seen: at first the prompt,
   then one. Its `lm_head` is applied only where a policy looks at logits. A long text may be read in pieces: it is put
   off, and written in a later step.
3. **Decide.** The policy turns the state into a score, and score < threshold → LLM (CITER, section 3).
4. **Draft.** Where it was chosen, the SLM writes: its `lm_head` is applied, only now.
5. **Verify.** Where it was chosen, the LLM reads all tokens it has not seen in one pass (lazy catch-up). With an
   acceptance above 0 it looks at drafts, too, before they get long or end the text. It keeps of a draft what it finds
   likely enough; from the first token that is not, the draft is taken back, and the LLM writes there.
6. **Part.** Texts that now differ from the first text of their slot get a slot with a copy of the caches.
7. **Record.** One frozen event per text says what happened.

So a sweep is a prefix tree: its texts part only where two of them get different tokens. Threshold 0 with acceptance 1
is speculative decoding (Leviathan et al., ICML 2023); acceptance 0 is CITER. The speed benchmark's other writers are
in `engine/bench/writers.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import torch
from tokenizers import Tokenizer

from engine.batch.prefixes import Prefixes
from engine.batch.reading import Reader
from engine.batch.step import Slot, Step, going, record, slots_of, state_of
from engine.batch.text import Text
from engine.batch.verify import due, note_drafts, take_back, verify
from engine.events import Role, TokenEvent
from engine.model.logits import probability
from engine.model.sampling import sample, uniform
from engine.policy import decide
from engine.served.model import AnyModel
from engine.tokenizer import TextStream


class Decoding:
    """A batch of texts in progress, with the caches of both models.

    Attributes:
        texts: The texts that were added and not yet removed, finished ones included.
    """

    def __init__(
        self,
        slm: AnyModel,
        llm: AnyModel,
        tokenizer: Tokenizer,
        end_ids: AbstractSet[int],
        context: int,
        most: int | None = None,
        remember: bool = False,
    ) -> None:
        """Prepares an empty batch.

        Args:
            slm, llm, tokenizer: Of the pair.
            end_ids: Token ids that end a text, by either model.
            context: Tokens a text may have in all.
            most, remember: See `Prefixes`.
        """
        self._models: dict[Role, AnyModel] = {Role.SLM: slm, Role.LLM: llm}
        self._tokenizer, self._end_ids = tokenizer, end_ids
        self._prefixes = Prefixes(self._models, context, most, remember)
        self._caches, self.texts = self._prefixes.caches, self._prefixes.texts
        self._reader = Reader(self._models, self._prefixes, tokenizer)
        self._put_off: dict[int, Slot] = {}

    @torch.inference_mode()
    def add(self, texts: Sequence[Text]) -> None:
        """Adds texts between any two steps: new ones, or some that were removed. Nothing is run before the next step.

        What the caches hold of a text's beginning is not read again. So a text whose slider is moved costs the tokens
        after the first decision that flips, and going back to an earlier branch costs one pass.
        """
        self._prefixes.add(texts)

    @torch.inference_mode()
    def remove(self, text: Text, clear: bool = False, keep: bool = False) -> None:
        """Takes a text out, and frees its slot if no other shares it. It may be added again.

        Args:
            clear: Whether to set its slot to zero: after a failure it may hold values that are NaN.
            keep: Whether its slot keeps its content until it is used again, so that texts that begin alike can use it.
        """
        slot = text.slot
        self._prefixes.remove(text, clear, keep)
        if not self._prefixes.sharing(slot):
            self._put_off.pop(slot, None)

    def forget(self, unwanted: Callable[[Text], bool]) -> None:
        """Empties the slots of unwanted removed texts, so that no text goes on from them."""
        self._prefixes.forget(unwanted)

    @property
    def active(self) -> bool:
        return any(text.finish_reason is None for text in self.texts)

    @torch.inference_mode()
    def step(self, texts: Iterable[Text] | None = None, reading: int | None = None) -> list[Text]:
        """Writes one token in texts that are unfinished; returns these texts, each with a new event at its end.

        A step that fails changes no text.

        Args:
            texts: Those that take part, in the order in which they are read; None are all.
            reading: How many tokens of long texts each model reads in this step, at most. A text with more to read has
                no new event until a later step.
        """
        started = time.perf_counter()
        # 1. Plan
        planned = steps = self._plan(self.texts if texts is None else texts)
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
            # 6. Part: texts that differ from now on
            for slot in slots_of(steps):
                self._part(slot)
        except BaseException:
            self._undo(planned)
            raise
        # 7. Record
        self._note_time(slots_of(planned), time.perf_counter() - started)
        for step in steps:
            record(step)
        return [step.text for step in steps]

    def run(self) -> Iterator[TokenEvent]:
        """Steps until every text is finished or the generator is closed; yields each event at once."""
        while self.active:
            for text in self.step():
                yield text.events[-1]

    def finish(self) -> None:
        while self.active:
            self.step()

    def _plan(self, texts: Iterable[Text]) -> list[Step]:
        """Step 1: the texts that take part, and the slots that they share."""
        texts, llm = [text for text in texts if text.finish_reason is None], self._models[Role.LLM]
        self._prefixes.split(texts)
        steps: list[Step] = []
        slots: dict[int, Slot] = {}
        late: dict[Text, Step] = {}
        for text in texts:
            if text.slot not in slots:
                slots[text.slot] = self._slot_of(text, late)
            slot, setting = slots[text.slot], text.setting
            if text.decoder is None:
                text.decoder = self._decoder(text)
            forced = next((f for f in text.request.forced if f.index == text.position), None)
            judges = setting.acceptance > 0 or bool(text.provisional)
            step = Step(text, slot, setting, forced, judges, not llm.local)
            if (earlier := late.get(text)) is not None:
                step.learned, step.revealed = earlier.learned, earlier.revealed
            steps.append(step)
            slot.steps.append(step)
        return steps

    def _decoder(self, text: Text) -> TextStream:
        return TextStream(self._tokenizer, text.request.stop, text.tokens[text.prompt_tokens :])

    def _slot_of(self, text: Text, late: dict[Text, Step]) -> Slot:
        """A text's slot in a new step. One that was put off is used again if unchanged; `late` gets its old steps."""
        number, tokens = text.slot, text.tokens
        earlier = self._put_off.pop(number, None)
        if earlier is not None:
            lengths = self._prefixes.lengths(number)
            same = {step.text for step in earlier.steps} == set(self._prefixes.sharing(number))
            if same and earlier.tokens == tokens and all(lengths[role] == len(tokens) for role in earlier.hidden):
                late |= {step.text: step for step in earlier.steps}
                earlier.steps, earlier.put_off = [], False
                return earlier
            self._prefixes.truncate(number, earlier.starts)
        self._prefixes.truncate(number, len(tokens) - 1)
        return Slot(number, list(tokens), self._prefixes.lengths(number))

    def _decide(self, steps: Sequence[Step]) -> None:
        """Step 3: roles and scores; each policy scores a state once, however many rows share it."""
        for policy in dict.fromkeys(step.text.policy for step in steps):
            own = [step for step in steps if step.text.policy is policy]
            keys = [(step.slot, step.text.request.seed) for step in own]
            sharing = dict(zip(keys, own, strict=True))
            order = {key: n for n, key in enumerate(sharing)}
            state = state_of(policy, list(sharing.values()))
            decided = decide(policy, state, [order[key] for key in keys], [step.setting.threshold for step in own])
            for step, (role, score) in zip(own, decided, strict=True):
                step.role, step.score = step.forced.role if step.forced else role, score

    def _draft(self, steps: Sequence[Step]) -> None:
        """Step 4: the SLM writes in these texts."""
        self._reader.predict(Role.SLM, [step.slot for step in steps])
        self._write(going(steps))
        for step in going(steps):
            step.drafted = True

    def _verify(self, steps: Sequence[Step]) -> None:
        """Step 5: the LLM writes where it was chosen and where it does not keep a draft that it looks at."""
        costs = self._models[Role.SLM].cost, self._models[Role.LLM].cost
        for step in steps:
            step.asked = step.role is Role.LLM or due(step, *costs)
        self._reader.predict(Role.LLM, [step.slot for step in steps if step.asked])
        steps = going(steps)
        asked = [step for step in steps if step.asked]
        for slot in slots_of(steps):
            note_drafts(slot)
        refused = {step: index for step in asked if (index := verify(step)) is not None}
        for step, index in refused.items():
            own, _, probability_of_own = step.text.choices[index]
            take_back(step, index)
            step.role, step.probability = Role.LLM, probability_of_own
            step.text.decoder = self._decoder(step.text)
            self._add(step, own)
        called = [step for step in asked if step.role is Role.LLM and step not in refused]
        self._write(called)
        for step in called:
            step.text.called += 1
        for step in steps:
            if step.text.finish_reason and step.text.decoder is not None:
                step.said += step.text.decoder.finish()

    def _write(self, steps: Sequence[Step]) -> None:
        """Draws each text's token from its author's logits and adds it."""
        drawn: dict[tuple[object, ...], int] = {}  # texts that share all of a draw share its token
        for step in steps:
            text, request = step.text, step.text.request
            token = step.forced.id if step.forced else None
            if token is None:
                key = (step.slot, step.role, request.sampling, request.seed)
                if key not in drawn:
                    draw, highest = uniform(request.seed, text.position), step.slot.likeliest(step.role)
                    drawn[key] = sample(step.slot.logits[step.role], request.sampling, text.tokens, draw, highest)
                token = drawn[key]
            if request.alternatives:
                step.probability = probability(step.slot.logits[step.role], token)
            self._add(step, token)

    def _add(self, step: Step, token: int) -> None:
        """Adds a token to a text, and finds out whether the text ends with it."""
        text = step.text
        assert text.decoder is not None
        text.tokens.append(token)
        step.said = text.decoder.push(token)
        if token in self._end_ids:
            text.finish_reason = "eos"
        elif text.decoder.stopped:
            text.finish_reason = "stop"
        elif text.position + 1 >= text.limit:
            text.finish_reason = "length"

    def _part(self, slot: Slot) -> None:
        """Step 6: texts that now have another token than the slot's first text move to a slot of their own."""
        if slot.wants_alternatives and any(step.text.finish_reason and not step.taken_back for step in slot.steps):
            self._reader.read_rest(slot)
        same: dict[tuple[int, int], list[Text]] = {}
        for text in (step.text for step in slot.steps):
            same.setdefault((len(text.tokens), text.tokens[-1]), []).append(text)
        for leaving in list(same.values())[1:]:
            self._prefixes.move(leaving)
        for (length, _), (text, *_) in same.items():  # what was taken back has been read
            self._prefixes.truncate(text.slot, length - 1)

    def _note_time(self, slots: Sequence[Slot], seconds: float) -> None:
        """Notes a step's time, and keeps what is known of slots whose texts were put off."""
        for slot in slots:
            slot.elapsed += seconds
            if slot.put_off:
                self._put_off[slot.number] = slot
                for step in slot.steps:
                    step.undo()

    def _undo(self, steps: Sequence[Step]) -> None:
        for step in steps:
            step.undo()
        for slot in slots_of(steps):
            self._prefixes.truncate(slot.number, slot.starts)
