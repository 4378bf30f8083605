"""The parts of a batch in progress, which `engine.decoding` moves: rows, slots, and what each row does in one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from engine.events import Alternative, FinishReason, Revealed, Role, TokenEvent, Verdict, tokens_read
from engine.judge import Judge
from engine.policy import Policy, State
from engine.request import Dial, Forced, Request
from engine.tokenizer import TextStream


class Choice(NamedTuple):
    """What the LLM would draw at a position, and the ratio of the token drafted there (`TokenEvent.ratio`)."""

    own: int
    ratio: float


@dataclass
class Row:
    """One text being written.

    Attributes:
        slot: Its row in the KV caches; rows with the same text so far may share one.
        prompt_tokens: How many of `tokens` are the prompt.
        limit: Generated tokens at most; the smaller of the request's and what the context leaves.
        dial: Holds the dials in force; may be moved between any two steps.
        settled: Tokens from the start that the LLM can no longer take back.
        choices: The LLM's by position, where it has read; also of what is settled.
        kept: Verdicts on this row's drafts so far by bin of their scores: [kept, all].
        read: Tokens each model has been charged for. The caches may be ahead: after a rollback, for alternatives, or
            for the sake of a row that shares the slot.
        prompt_hidden: The SLM's hidden state after the prompt [d], for policies that decide by it.
        judge: Decides instead of the ratio, if the request wants that.
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
    settled: int = 0
    choices: dict[int, Choice] = field(default_factory=dict)
    kept: dict[int, list[int]] = field(default_factory=dict)
    judge: Judge | None = None
    finish_reason: FinishReason | None = None

    @property
    def provisional(self) -> list[TokenEvent]:
        """What the SLM drafted and the LLM has not read, as far as it may take it back."""
        return [event for event in self.events[self.settled :] if event.judged]

    @property
    def position(self) -> int:
        """Index of the next token in the generated text."""
        return len(self.events)


@dataclass(eq=False)
class Slot:
    """One slot in one step: what the models say at the end of the text that its rows share.

    Attributes:
        number: Its row in the KV caches.
        hidden, logits: Per model that was asked: [d] and [vocabulary].
        logit_features: Of the SLM's logits, where a policy looks at them [LOGIT_FEATURES].
        seconds: This slot's share of the time spent in each model.
    """

    number: int
    tokens: list[int]
    steps: list[RowStep] = field(default_factory=list)
    hidden: dict[Role, torch.Tensor] = field(default_factory=dict)
    logits: dict[Role, torch.Tensor] = field(default_factory=dict)
    logit_features: torch.Tensor | None = None
    seconds: dict[Role, float] = field(default_factory=lambda: dict.fromkeys(Role, 0.0))

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


@dataclass(eq=False)
class RowStep:
    """One row in one step, while it is being decided.

    Attributes:
        number: The row's number in the batch.
        threshold, acceptance: In force.
        forced: What a person decided here instead of the policy, if anything.
        judges: Whether the LLM's choices matter: this row has a draft, or may get one.
        drafted: Whether the SLM wrote a token at the end of the slot's text; the LLM may have taken it back since.
        asked: Whether the LLM was asked for this row's sake.
        verdicts: Of drafts that are kept.
        taken_back: The events of those that are not.
        text: What became certain with the token written.
        alternatives, entropy, revealed: What became known of the models' candidates, for this position and for earlier
            ones; entropy in bits.
    """

    number: int
    row: Row
    slot: Slot
    threshold: float
    acceptance: float = 0.0
    role: Role = Role.SLM
    score: float | None = None
    forced: Forced | None = None
    text: str = ""
    judges: bool = False
    drafted: bool = False
    asked: bool = False
    verdicts: list[Verdict] = field(default_factory=list)
    taken_back: list[TokenEvent] = field(default_factory=list)
    alternatives: dict[Role, tuple[Alternative, ...]] = field(default_factory=dict)
    entropy: dict[Role, float] = field(default_factory=dict)
    revealed: list[Revealed] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        """Whether the LLM's verdict decides about the token that the SLM drafted in this step."""
        return self.drafted and self.forced is None and self.acceptance > 0


def state_of(policy: Policy, steps: Sequence[RowStep]) -> State:
    """One state per step, with what the policy looks at."""

    def stack(tensors: Iterable[torch.Tensor | None]) -> torch.Tensor:
        return torch.stack([tensor for tensor in tensors if tensor is not None])

    def agree(slot: Slot) -> bool:
        return int(slot.logits[Role.SLM].argmax()) == int(slot.logits[Role.LLM].argmax())

    per_token = policy.needs_state and not policy.by_prompt
    return State(
        seeds=[step.row.request.seed for step in steps],
        positions=[step.row.position for step in steps],
        hidden=stack(step.slot.hidden[Role.SLM] for step in steps) if per_token else None,
        logit_features=stack(step.slot.logit_features for step in steps) if policy.needs_logits else None,
        agree=torch.tensor([agree(step.slot) for step in steps]) if policy.sees_llm else None,
        prompt_hidden=stack(step.row.prompt_hidden for step in steps) if policy.by_prompt else None,
    )


def record(step: RowStep, seconds: float) -> TokenEvent:
    """Adds the event of what happened to the row. A model is charged for what this row alone would have made it do."""
    event = replace(_written(step), seconds=seconds)
    row = step.row
    if step.taken_back:
        if step.drafted:  # what drafting cost is in the event of that draft
            event = replace(event, router=False, slm_head=False, slm_seconds=0.0)
        first = step.taken_back[0]
        event = replace(
            event,
            score=first.score,
            threshold=first.threshold,
            acceptance=first.acceptance,
            ratio=first.ratio,
            slm_alternatives=first.slm_alternatives,
            slm_entropy=first.slm_entropy,
            llm_alternatives=first.llm_alternatives,
            llm_entropy=first.llm_entropy,
            taken_back=tuple(step.taken_back),
        )
    row.read = {role: tokens_read(read, 0, row.prompt_tokens, event.index) for role, read in row.read.items()}
    if not event.judged and row.settled == event.index:
        row.settled += 1
    row.events.append(event)
    return event


def drafted_event(step: RowStep) -> TokenEvent:
    """The event of a token that the SLM drafted in this step and the LLM takes back in it."""
    draft = _written(replace(step, asked=False, verdicts=[], revealed=[]))
    return replace(draft, finish_reason=None)


def _written(step: RowStep) -> TokenEvent:
    """The event of the row's last token, as if nothing were taken back; the row's models have read what it says."""
    row, policy = step.row, step.row.policy
    end = len(step.slot.tokens)
    position = end - row.prompt_tokens
    charged = {Role.SLM: step.drafted or policy.reads(position), Role.LLM: step.asked}
    fed = {role: end - row.read[role] if charged[role] else 0 for role in Role}
    row.read = {role: end if charged[role] else row.read[role] for role in Role}
    kept = step.judged and step.asked and not step.taken_back
    ratio = row.choices[position].ratio if kept else None
    return TokenEvent(
        row=step.number,
        index=row.position,
        id=row.tokens[-1],
        text=step.text,
        role=step.role,
        score=step.score,
        router=policy.runs_router and policy.reads(position),
        threshold=step.threshold,
        acceptance=step.acceptance,
        ratio=ratio,
        verdicts=tuple(step.verdicts),
        slm_fed=fed[Role.SLM],
        llm_fed=fed[Role.LLM],
        slm_head=step.drafted or policy.needs_logits,
        llm_head=max(1, min(fed[Role.LLM], position + 1)) if step.judges else 1,
        seconds=0.0,
        slm_seconds=step.slot.seconds[Role.SLM] * charged[Role.SLM],
        llm_seconds=step.slot.seconds[Role.LLM] * charged[Role.LLM],
        slm_alternatives=step.alternatives.get(Role.SLM, ()),
        llm_alternatives=step.alternatives.get(Role.LLM, ()),
        slm_entropy=step.entropy.get(Role.SLM),
        llm_entropy=step.entropy.get(Role.LLM),
        revealed=tuple(step.revealed),
        forced=step.forced is not None,
        finish_reason=row.finish_reason,
    )
