"""The one decode loop: two models write one text, token by token, for any number of rows at once.

Everything that generates (page, sweeps, rollouts, evaluation, benchmarks) goes through `Decoding.step`. Per row:

1. The SLM reads the tokens it has not seen, and its hidden state is taken at the last one.
2. The policy turns the state into a score and the score into a role (CITER, section 3).
3. The chosen model answers. SLM: its `lm_head` is applied, only now. LLM: it first reads all tokens it has not seen in
   one forward pass (lazy catch-up).
4. One frozen event says what happened.

Finished rows take no part in further steps. Knows token ids; knows nothing of presets, chat templates or files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer

from engine.dial import Dial
from engine.events import Alternative, FinishReason, Revealed, Role, TokenEvent
from engine.models import LanguageModel
from engine.policy import Policy, State, decide
from engine.request import Request
from engine.sampling import sample, uniform
from engine.text import TextStream


@dataclass
class Row:
    """One text being written.

    Attributes:
        request: What was asked.
        prompt_tokens: How many of `tokens` are the prompt.
        tokens: Prompt and generated ids.
        limit: Generated tokens at most; the smaller of the request's and what the context leaves.
        dial: Holds the threshold in force; may be turned between any two steps.
        text: Incremental text.
        events: What happened so far.
        read: Tokens each model has been charged for. The caches may be ahead, after a rollback or for alternatives.
        finish_reason: None while the text goes on.
    """

    request: Request
    prompt_tokens: int
    tokens: list[int]
    limit: int
    dial: Dial
    text: TextStream
    events: list[TokenEvent] = field(default_factory=list)
    read: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    finish_reason: FinishReason | None = None


@dataclass
class _Turn:
    """One row in one step, while it is being decided."""

    row: int
    role: Role = Role.SLM
    score: float | None = None
    threshold: float = 0.0
    logits: torch.Tensor | None = None
    slm_head: bool = False
    fed: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    seconds: dict[Role, float] = field(default_factory=lambda: dict.fromkeys(Role, 0.0))
    alternatives: dict[Role, tuple[Alternative, ...]] = field(default_factory=dict)
    revealed: list[Revealed] = field(default_factory=list)


class Decoding:
    """A batch of texts in progress, with the caches of both models.

    Attributes:
        rows: The texts. All share one policy; each has its own request, dial and lengths.
    """

    def __init__(
        self,
        slm: LanguageModel,
        llm: LanguageModel,
        tokenizer: Tokenizer,
        end_ids: AbstractSet[int],
        policy: Policy,
        requests: Sequence[Request],
        prompts: Sequence[Sequence[int]],
        context: int,
    ) -> None:
        """Prepares a batch; nothing is run before the first step.

        Args:
            slm, llm: The pair.
            tokenizer: Its tokenizer.
            end_ids: Token ids that end a text, whoever writes them.
            policy: Decides for every row.
            requests: One per row.
            prompts: Their rendered prompts as token ids, each shorter than `context`.
            context: Tokens a row may have in all.
        """
        self._models = {Role.SLM: slm, Role.LLM: llm}
        self._tokenizer, self._end_ids, self._policy = tokenizer, end_ids, policy
        self.rows = [
            Row(
                request=request,
                prompt_tokens=len(prompt),
                tokens=list(prompt),
                limit=min(request.max_new_tokens, context - len(prompt)),
                dial=Dial(request.threshold),
                text=TextStream(tokenizer, request.stop),
            )
            for request, prompt in zip(requests, prompts, strict=True)
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
        turns = [_Turn(i, threshold=r.dial.threshold) for i, r in enumerate(self.rows) if r.finish_reason is None]
        hidden = self._read(Role.SLM, turns) if self._policy.needs_state else None
        state = State(
            hidden,
            lambda h: self._lm_head(Role.SLM, h, turns),
            [self.rows[t.row].request.seed for t in turns],
            [len(self.rows[t.row].events) for t in turns],
        )
        decided = decide(self._policy, state, [t.threshold for t in turns])
        for turn, role, score in zip(turns, *decided, strict=True):
            turn.role, turn.score = role, score
        self._answer(Role.SLM, turns, state)
        self._answer(Role.LLM, turns, None)
        written = [self._write(turn) for turn in turns]
        seconds = (time.perf_counter() - started) / len(turns)
        return [self._event(turn, *what, seconds) for turn, what in zip(turns, written, strict=True)]

    def rollback(self, row: int, generated: int) -> None:
        """Takes a row back to its first `generated` tokens, ready to go on from there.

        The last token kept is read again, for its hidden state; everything before stays cached.
        """
        this = self.rows[row]
        del this.events[generated:]
        del this.tokens[this.prompt_tokens + generated :]
        this.read = {
            Role.SLM: sum(e.slm_fed for e in this.events),
            Role.LLM: sum(e.llm_fed for e in this.events),
        }
        this.finish_reason = None
        this.text = self._replay_text(this)
        for cache in self._caches.values():
            cache.truncate(row, min(cache.lengths[row], len(this.tokens) - 1))

    def fork(self, source: int, target: int) -> None:
        """Makes row `target` a copy of row `source`, caches included; its dial stays its own."""
        old = self.rows[source]
        new = Row(old.request, old.prompt_tokens, list(old.tokens), old.limit, self.rows[target].dial, old.text)
        new.events, new.read, new.finish_reason = list(old.events), dict(old.read), old.finish_reason
        new.text = self._replay_text(new)
        self.rows[target] = new
        for cache in self._caches.values():
            cache.fork(source, target)

    def _read(self, role: Role, turns: Sequence[_Turn]) -> torch.Tensor:
        """Lets a model read what it has not seen of these rows; returns its hidden states at their ends, [turns, d]."""
        started = time.perf_counter()
        model, cache = self._models[role], self._caches[role]
        rows = [self.rows[t.row] for t in turns]
        starts = [cache.lengths[t.row] for t in turns]
        chunks = [row.tokens[start:] for row, start in zip(rows, starts, strict=True)]
        hidden = model.feed(cache, [t.row for t in turns], chunks)
        last = hidden[range(len(turns)), [len(chunk) - 1 for chunk in chunks]]
        seconds = (time.perf_counter() - started) / len(turns)
        for number, (turn, row) in enumerate(zip(turns, rows, strict=True)):
            turn.fed[role] = len(row.tokens) - row.read[role]
            row.read[role] = len(row.tokens)
            turn.seconds[role] += seconds
            if row.request.alternatives:
                self._reveal(role, turn, starts[number], hidden[number, : len(chunks[number])])
        return last

    def _lm_head(self, role: Role, hidden: torch.Tensor, turns: Sequence[_Turn]) -> torch.Tensor:
        """Applies a model's `lm_head` for these rows; hidden [turns, d] → logits [turns, vocabulary]."""
        started = time.perf_counter()
        logits = self._models[role].logits(hidden)
        for turn in turns:
            turn.seconds[role] += (time.perf_counter() - started) / len(turns)
            turn.slm_head = turn.slm_head or role is Role.SLM
        return logits

    def _answer(self, role: Role, turns: Sequence[_Turn], state: State | None) -> None:
        """Sets the logits of the turns that this model writes; `state` may already hold what the SLM computed."""
        chosen = [number for number, turn in enumerate(turns) if turn.role is role]
        if not chosen:
            return
        mine = [turns[number] for number in chosen]
        if state is not None and state.has_logits:
            logits = state.logits()[chosen]
        elif state is not None and state.hidden is not None:
            logits = self._lm_head(role, state.hidden[chosen], mine)
        else:
            logits = self._lm_head(role, self._read(role, mine), mine)
        for turn, row_logits in zip(mine, logits, strict=True):
            turn.logits = row_logits

    def _write(self, turn: _Turn) -> tuple[int, int, str]:
        """Draws the token and adds it to the row. Returns its id, its position, and the text that became certain."""
        row = self.rows[turn.row]
        index = len(row.events)
        assert turn.logits is not None
        token = sample(turn.logits, row.request.sampling, row.tokens, uniform(row.request.seed, index))
        row.tokens.append(token)
        text = row.text.push(token)
        if token in self._end_ids:
            row.finish_reason = "eos"
        elif row.text.stopped:
            row.finish_reason = "stop"
        elif index + 1 >= row.limit:
            row.finish_reason = "length"
        if row.finish_reason:
            text += row.text.finish()
        return token, index, text

    def _event(self, turn: _Turn, token: int, index: int, text: str, seconds: float) -> TokenEvent:
        row = self.rows[turn.row]
        if row.finish_reason and row.request.alternatives:
            self._reveal_rest(turn)
        event = TokenEvent(
            row=turn.row,
            index=index,
            id=token,
            text=text,
            role=turn.role,
            score=turn.score,
            router=self._policy.runs_router,
            threshold=turn.threshold,
            slm_fed=turn.fed[Role.SLM],
            llm_fed=turn.fed[Role.LLM],
            slm_head=turn.slm_head,
            seconds=seconds,
            slm_seconds=turn.seconds[Role.SLM],
            llm_seconds=turn.seconds[Role.LLM],
            slm_alternatives=turn.alternatives.get(Role.SLM, ()),
            llm_alternatives=turn.alternatives.get(Role.LLM, ()),
            revealed=tuple(turn.revealed),
            finish_reason=row.finish_reason,
        )
        row.events.append(event)
        return event

    def _reveal(self, role: Role, turn: _Turn, start: int, hidden: torch.Tensor) -> None:
        """Notes what the model would write after each token it just read: this position's, and earlier ones' late.

        Catch-up computes these hidden states anyway, so both models' alternatives of every token cost no further pass.
        """
        row = self.rows[turn.row]
        first = max(0, row.prompt_tokens - 1 - start)  # the hidden state before the first generated token
        probabilities = self._models[role].logits(hidden[first:]).softmax(-1)
        for offset, (values, ids) in enumerate(zip(*probabilities.topk(row.request.alternatives), strict=True)):
            index = start + first + offset + 1 - row.prompt_tokens
            found = tuple(
                Alternative(i, self._tokenizer.decode([i], skip_special_tokens=False), p)
                for i, p in zip(ids.tolist(), values.tolist(), strict=True)
            )
            if index == len(row.events):
                turn.alternatives[role] = found
            else:
                turn.revealed.append(Revealed(index, role, found))

    def _reveal_rest(self, turn: _Turn) -> None:
        """At a text's end, both models read what is left, for its alternatives only: it is charged to nobody."""
        row = self.rows[turn.row]
        for role, model in self._models.items():
            start = self._caches[role].lengths[turn.row]
            chunk = row.tokens[start:-1]
            if chunk:
                self._reveal(role, turn, start, model.feed(self._caches[role], [turn.row], [chunk])[0])

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
