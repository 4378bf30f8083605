"""The parts of a batch in progress: a row is one text, a slot is a row of the caches, a turn is a row in one step.

Holds data and no logic; `engine.decoding` moves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from engine.dial import Dial
from engine.events import Alternative, FinishReason, Revealed, Role, TokenEvent
from engine.policy import Policy, State
from engine.request import Forced, Request
from engine.text import TextStream


@dataclass
class Row:
    """One text being written.

    Attributes:
        request: What was asked.
        policy: Decides who writes.
        slot: Its row in the caches; rows with the same text so far may share one.
        prompt_tokens: How many of `tokens` are the prompt.
        tokens: Prompt and generated ids.
        limit: Generated tokens at most; the smaller of the request's and what the context leaves.
        dial: Holds the threshold in force; may be turned between any two steps.
        text: Incremental text.
        events: What happened so far.
        read: Tokens each model has been charged for. The caches may be ahead: after a rollback, for alternatives, or
            for the sake of a row that shares the slot.
        prompt_hidden: The SLM's hidden state after the prompt [d], for policies that decide by it.
        finish_reason: None while the text goes on.
    """

    request: Request
    policy: Policy
    slot: int
    prompt_tokens: int
    tokens: list[int]
    limit: int
    dial: Dial
    text: TextStream
    events: list[TokenEvent] = field(default_factory=list)
    read: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    prompt_hidden: torch.Tensor | None = None
    finish_reason: FinishReason | None = None

    @property
    def position(self) -> int:
        """Index of the next token in the generated text."""
        return len(self.events)


@dataclass
class Slot:
    """One slot in one step: what the models make of the text that its rows share.

    Attributes:
        number: Its row in the caches.
        tokens: The text.
        turns: Of the rows that share it.
        hidden, logits: At the text's end, per model that was asked: [d] and [vocabulary].
        logit_features: Of the SLM's logits, where a policy looks at them [LOGIT_FEATURES].
        seconds: This slot's share of the time spent in each model.
    """

    number: int
    tokens: list[int]
    turns: list[Turn] = field(default_factory=list)
    hidden: dict[Role, torch.Tensor] = field(default_factory=dict)
    logits: dict[Role, torch.Tensor] = field(default_factory=dict)
    logit_features: torch.Tensor | None = None
    seconds: dict[Role, float] = field(default_factory=lambda: dict.fromkeys(Role, 0.0))

    @property
    def wants_alternatives(self) -> bool:
        """Whether any of its rows asks for both models' candidates."""
        return any(turn.row.request.alternatives for turn in self.turns)


@dataclass
class Turn:
    """One row in one step, while it is being decided.

    Attributes:
        number: The row's number in the batch.
        row, slot: What it is about.
        threshold: In force.
        role, score: As decided.
        forced: What a person decided here instead, if anything.
        alternatives, entropy, revealed: What became known of the models' candidates, for this position and for earlier
            ones; entropy in bits.
    """

    number: int
    row: Row
    slot: Slot
    threshold: float
    role: Role = Role.SLM
    score: float | None = None
    forced: Forced | None = None
    alternatives: dict[Role, tuple[Alternative, ...]] = field(default_factory=dict)
    entropy: dict[Role, float] = field(default_factory=dict)
    revealed: list[Revealed] = field(default_factory=list)


def state_of(policy: Policy, turns: Sequence[Turn]) -> State:
    """The states of turns, with what the policy looks at."""

    def stack(tensors: Iterable[torch.Tensor | None]) -> torch.Tensor:
        return torch.stack([tensor for tensor in tensors if tensor is not None])

    per_token = policy.needs_state and not policy.by_prompt
    return State(
        seeds=[t.row.request.seed for t in turns],
        positions=[t.row.position for t in turns],
        hidden=stack(t.slot.hidden[Role.SLM] for t in turns) if per_token else None,
        logit_features=stack(t.slot.logit_features for t in turns) if policy.needs_logits else None,
        agree=torch.tensor([_agree(t.slot) for t in turns]) if policy.sees_llm else None,
        prompt_hidden=stack(t.row.prompt_hidden for t in turns) if policy.by_prompt else None,
    )


def _agree(slot: Slot) -> bool:
    return int(slot.logits[Role.SLM].argmax()) == int(slot.logits[Role.LLM].argmax())
