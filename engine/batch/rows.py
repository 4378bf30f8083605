"""The parts of a batch in progress, which `engine.decoding` moves: rows, slots, and what each row does in one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from tokenizers import Tokenizer

from engine.events import (
    Alternative,
    FinishReason,
    Revealed,
    Role,
    TokenEvent,
    Verdict,
    charged_reads,
    fold_revealed,
)  # fmt: skip
from engine.model.logits import Certainty
from engine.policy import Policy, State
from engine.request import Forced, Request
from engine.setting import Setting
from engine.tokenizer import TextStream


class Choice(NamedTuple):
    """What the LLM would draw at a position, and the ratio of the token drafted there (`TokenEvent.ratio`).

    `probability` is the LLM's of its own token, where candidates are recorded.
    """

    own: int
    ratio: float
    probability: float | None = None


NOWHERE = -1


@dataclass(eq=False)
class Row:
    """One text being written.

    Attributes:
        slot: Its row in the KV caches; rows with the same text so far may share one. `NOWHERE` before the row enters a
            batch, and once it is removed.
        prompt_tokens: How many of `tokens` are the prompt.
        limit: Generated tokens at most; the smaller of the request's and what the context leaves.
        setting: In force; it may be replaced between any two steps.
        settled: Tokens from the start that the LLM can no longer take back.
        choices: The LLM's by position, where it has read; also of what is settled.
        kept: Verdicts on this row's drafts so far by bin of their scores: [kept, all].
        called: How often the LLM was asked for a token before the SLM had drafted one there.
        read: Tokens each model has been charged for. The caches may be ahead: after a rollback, for alternatives, or
            for the sake of a row that shares the slot.
        prompt_hidden: The SLM's hidden state after the prompt [d], for policies that decide by it.
        finish_reason: None while the text goes on.
    """

    request: Request
    policy: Policy
    prompt_tokens: int
    tokens: list[int]
    limit: int
    setting: Setting
    text: TextStream
    slot: int = NOWHERE
    events: list[TokenEvent] = field(default_factory=list)
    read: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    prompt_hidden: torch.Tensor | None = None
    settled: int = 0
    choices: dict[int, Choice] = field(default_factory=dict)
    kept: dict[int, list[int]] = field(default_factory=dict)
    called: int = 0
    finish_reason: FinishReason | None = None

    @property
    def provisional(self) -> list[TokenEvent]:
        """What the SLM drafted and the LLM has not read, as far as it may take it back."""
        return [event for event in self.events[self.settled :] if event.judged]

    @property
    def position(self) -> int:
        """Index of the next token in the generated text."""
        return len(self.events)

    @property
    def unfinished(self) -> bool:
        """Whether it may be written on; not where it was removed."""
        return self.finish_reason is None and self.slot != NOWHERE

    def cached(self, role: Role) -> int:
        """How many of its tokens may come from a cache of the same text.

        The last is read for its hidden state, and drafts for what the LLM thinks of them: its choice at a position is
        known from the pass over the token before it.
        """
        drafts = role is Role.LLM and self.settled < self.position
        return self.prompt_tokens + self.settled - 1 if drafts else len(self.tokens) - 1

    def go_on(self, request: Request, events: Sequence[TokenEvent], tokenizer: Tokenizer) -> None:
        """Makes its text that of some events, to be written on as a request with the same prompt wants it."""
        self.request, self.setting = request, request.setting
        self.events = list(fold_revealed(events))
        self.tokens = self.tokens[: self.prompt_tokens] + [event.id for event in events]
        self.read = charged_reads(self.events, self.prompt_tokens)
        self.finish_reason = events[-1].finish_reason if events else None
        self.choices, self.kept, self.called = {}, {}, 0
        self.settled = next((n for n, event in enumerate(self.events) if event.provisional), len(events))
        self.text = TextStream(tokenizer, request.stop, self.tokens[self.prompt_tokens :])

    def copy(self) -> Row:
        """A row that nothing done to this one changes, but for its `text`."""
        twin = copy(self)
        twin.tokens, twin.events = list(self.tokens), list(self.events)
        twin.read, twin.choices = dict(self.read), dict(self.choices)
        twin.kept = {score: list(counts) for score, counts in self.kept.items()}
        return twin


@dataclass(eq=False)
class Slot:
    """One slot in one step: what the models say at the end of the text that its rows share.

    Attributes:
        number: Its row in the KV caches.
        hidden, logits: Per model that was asked: [d] and [vocabulary].
        certainty: Of the SLM, where a policy looks at its logits.
        elapsed: Seconds of the steps that its rows have waited for the next token.
        starts: Tokens that each model had read before the step.
        put_off: Whether more is to be read than this step may, so that its rows write in a later one.
    """

    number: int
    tokens: list[int]
    starts: dict[Role, int]
    steps: list[RowStep] = field(default_factory=list)
    hidden: dict[Role, torch.Tensor] = field(default_factory=dict)
    logits: dict[Role, torch.Tensor] = field(default_factory=dict)
    certainty: Certainty | None = None
    elapsed: float = 0.0
    put_off: bool = False

    @property
    def wants_alternatives(self) -> bool:
        """Whether any of its rows asks for both models' candidates."""
        return any(step.row.request.alternatives for step in self.steps)

    @property
    def judges(self) -> bool:
        """Whether what the LLM reads is to be judged, for any of its rows."""
        return any(step.judges for step in self.steps)

    @property
    def prompt_tokens(self) -> int:
        """How many of its tokens are the prompt."""
        return self.steps[0].row.prompt_tokens

    def likeliest(self, role: Role) -> int | None:
        """A model's highest token, where it has been looked for already."""
        return self.certainty.likeliest if self.certainty and role is Role.SLM else None


@dataclass(eq=False)
class RowStep:
    """One row in one step, while it is being decided.

    Attributes:
        number: The row's number in the batch.
        before: A copy of the row as it was.
        threshold, acceptance: In force.
        forced: What a person decided here instead of the policy, if anything.
        judges: Whether the LLM's choices matter: this row has a draft, or may get one.
        alone: Whether the SLM writes alone, because the LLM's server is gone; drafts then stay unread.
        rereads: Whether the LLM reads the whole text again to judge a draft.
        drafted: Whether the SLM wrote a token at the end of the slot's text; the LLM may have taken it back since.
        asked: Whether the LLM was asked for this row's sake.
        probability: Of the token, by its author, where candidates are recorded.
        verdicts: Of drafts that are kept.
        taken_back: The events of those that are not.
        text: What became certain with the token written.
        alternatives, entropy, revealed: What became known of the models' candidates, for this position and for earlier
            ones; entropy in bits.
    """

    number: int
    row: Row
    slot: Slot
    before: Row
    threshold: float
    acceptance: float = 0.0
    role: Role = Role.SLM
    score: float | None = None
    forced: Forced | None = None
    text: str = ""
    judges: bool = False
    alone: bool = False
    rereads: bool = False
    drafted: bool = False
    asked: bool = False
    probability: float | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    taken_back: list[TokenEvent] = field(default_factory=list)
    alternatives: dict[Role, tuple[Alternative, ...]] = field(default_factory=dict)
    entropy: dict[Role, float] = field(default_factory=dict)
    revealed: list[Revealed] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        """Whether the LLM's verdict decides about the token that the SLM drafted in this step."""
        return self.drafted and self.forced is None and self.acceptance > 0

    def take_over(self, earlier: RowStep) -> None:
        """Goes on from what an earlier step has found out before it was put off."""
        self.alternatives, self.entropy, self.revealed = earlier.alternatives, earlier.entropy, earlier.revealed

    def undo(self, tokenizer: Tokenizer) -> None:
        """Makes the row what it was before the step."""
        row, before, written = self.row, self.before, self.row.tokens != self.before.tokens
        vars(row).update(vars(before))
        if written:
            row.text = TextStream(tokenizer, row.request.stop, row.tokens[row.prompt_tokens :])


def going(steps: Iterable[RowStep]) -> list[RowStep]:
    """Those that are not put off."""
    return [step for step in steps if not step.slot.put_off]


def slots_of(steps: Iterable[RowStep]) -> list[Slot]:
    """The slots that some rows share, each once."""
    return list(dict.fromkeys(step.slot for step in steps))


def side_by_side(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Some tensors as the rows of one; a single one is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack([*tensors])


def state_of(policy: Policy, steps: Sequence[RowStep]) -> State:
    """One state per step, with what the policy looks at."""

    def stack(tensors: Iterable[torch.Tensor | None]) -> torch.Tensor:
        return side_by_side([tensor for tensor in tensors if tensor is not None])

    def certainty(slots: Sequence[Slot]) -> torch.Tensor:
        features = [slot.certainty.features for slot in slots if slot.certainty]
        return torch.tensor(features, dtype=torch.float32, device=slots[0].logits[Role.SLM].device)

    def agree(slot: Slot) -> bool:
        return int(slot.logits[Role.SLM].argmax()) == int(slot.logits[Role.LLM].argmax())

    per_token = policy.needs_state and not policy.by_prompt
    return State(
        seeds=[step.row.request.seed for step in steps],
        positions=[step.row.position for step in steps],
        hidden=stack(step.slot.hidden[Role.SLM] for step in steps) if per_token else None,
        logit_features=certainty([step.slot for step in steps]) if policy.needs_logits else None,
        agree=torch.tensor([agree(step.slot) for step in steps]) if policy.sees_llm else None,
        prompt_hidden=stack(step.row.prompt_hidden for step in steps) if policy.by_prompt else None,
    )
