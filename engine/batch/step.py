"""One step of a batch: what the models say at the end of each slot's text, what happens to each text, and its event.

`record` is the one place where a text is charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from engine.batch.text import Text
from engine.events import Revealed, Role, TokenEvent, Verdict, extend, tokens_read
from engine.model.logits import Certainty
from engine.policy import Policy, State
from engine.request import Forced
from engine.setting import Setting


@dataclass(eq=False)
class Slot:
    """One slot of the KV caches in one step, and what the models say at the end of its text.

    Attributes:
        number: Its row in the KV caches.
        tokens: The tokens so far, the same for all texts in the slot.
        starts: Tokens that each model had read before the step.
        hidden, logits: By model, the hidden state [d] and the logits [vocabulary] at the end of the text, if computed.
        certainty: How certain the SLM is of its next token; None if that was not computed.
        elapsed: Seconds of the steps in which its texts waited for the next token.
        put_off: Whether its texts are written in a later step: too much is unread, or a served LLM has yet to answer.
    """

    number: int
    tokens: list[int]
    starts: dict[Role, int]
    steps: list[Step] = field(default_factory=list)
    hidden: dict[Role, torch.Tensor] = field(default_factory=dict)
    logits: dict[Role, torch.Tensor] = field(default_factory=dict)
    certainty: Certainty | None = None
    elapsed: float = 0.0
    put_off: bool = False

    @property
    def wants_alternatives(self) -> bool:
        return any(step.text.request.alternatives for step in self.steps)

    @property
    def wants_choices(self) -> bool:
        return any(step.wants_choices for step in self.steps)

    @property
    def prompt_tokens(self) -> int:
        return self.steps[0].text.prompt_tokens

    def likeliest(self, role: Role) -> int | None:
        """A model's highest token, where it has been looked for already."""
        return self.certainty.likeliest if self.certainty and role is Role.SLM else None


@dataclass(eq=False)
class Step:
    """One text in one step, while its next token is being decided.

    Attributes:
        setting: The text's setting when the step began.
        forced: The author, and perhaps the token, that a person chose for this position; the policy is overruled.
        wants_choices: Whether the LLM's choices are wanted: this text has a draft, or may get one.
        rereads: Whether the LLM reads the whole text again to verify a draft, as vLLM does.
        drafted: Whether the SLM wrote a token at the end of the slot's text; the LLM may have taken it back since.
        asked: Whether the LLM has to read in this step for this text.
        said: Characters that became certain with the token written.
        probability: The token's probability by its author; None unless candidates are recorded.
        verdicts: The LLM's verdicts on earlier drafts that it keeps.
        taken_back: The events of drafts that the LLM takes back.
        learned: The models' candidates at this position, by the event's fields.
        revealed: The models' candidates at earlier positions.
    """

    text: Text
    slot: Slot
    setting: Setting
    forced: Forced | None = None
    wants_choices: bool = False
    rereads: bool = False
    role: Role = Role.SLM
    score: float | None = None
    said: str = ""
    drafted: bool = False
    asked: bool = False
    probability: float | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    taken_back: list[TokenEvent] = field(default_factory=list)
    learned: dict[str, Any] = field(default_factory=dict)
    revealed: list[Revealed] = field(default_factory=list)

    def __post_init__(self) -> None:
        text = self.text
        self._before: dict[str, Any] = {name: getattr(text, name) for name in _CHANGED}
        self._before["kept"] = {score: [*counts] for score, counts in text.kept.items()}
        self._length = len(text.tokens)

    @property
    def judged(self) -> bool:
        """Whether the LLM's verdict decides about the token that the SLM drafted in this step."""
        return self.drafted and self.forced is None and self.setting.acceptance > 0

    def undo(self) -> None:
        text = self.text
        written = text.tokens is not self._before["tokens"] or len(text.tokens) > self._length
        vars(text).update(self._before)
        del text.tokens[self._length :]
        text.choices = {place: choice for place, choice in text.choices.items() if place < text.position}
        if written:
            text.decoder = None


_CHANGED = ("tokens", "events", "choices", "read", "settled", "called", "finish_reason", "prompt_hidden")
"""What a step changes of a text, beside `kept`. Lists are added to at their end, or replaced."""


def going(steps: Iterable[Step]) -> list[Step]:
    return [step for step in steps if not step.slot.put_off]


def slots_of(steps: Iterable[Step]) -> list[Slot]:
    return list(dict.fromkeys(step.slot for step in steps))


def stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Some tensors as the rows of one; a single one is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack([*tensors])


def state_of(policy: Policy, steps: Sequence[Step]) -> State:
    """One state per step, with what the policy looks at."""
    slots, texts = [step.slot for step in steps], [step.text for step in steps]
    hidden = prompt_hidden = features = None
    if policy.by_prompt:
        prompt_hidden = stacked([text.prompt_hidden for text in texts if text.prompt_hidden is not None])
    elif policy.needs_state:
        hidden = stacked([slot.hidden[Role.SLM] for slot in slots])
    if policy.needs_logits:
        certain = [slot.certainty.features for slot in slots if slot.certainty]
        features = torch.tensor(certain, dtype=torch.float32, device=slots[0].logits[Role.SLM].device)
    seeds, positions = [text.request.seed for text in texts], [text.position for text in texts]
    return State(seeds, positions, hidden, features, prompt_hidden)


def record(step: Step) -> TokenEvent:
    """Adds the event of what happened to a text. A model is charged for what this text alone would have made it do."""
    text, event = step.text, _written(step, step.slot.elapsed)
    if step.taken_back:
        if step.drafted:  # the event of the draft has the cost of drafting
            event = replace(event, router=False, slm_head=False)
        first = {name: getattr(step.taken_back[0], name) for name in _OF_POSITION}
        event = replace(event, **first, taken_back=tuple(step.taken_back))
    text.read = {role: tokens_read(read, 0, text.prompt_tokens, event.index) for role, read in text.read.items()}
    if not event.judged and text.settled == event.index:
        text.settled += 1
    extend(text.events, event)
    return event


_OF_POSITION = ("score", "threshold", "acceptance", "ratio")
_OF_POSITION += ("slm_alternatives", "slm_entropy", "llm_alternatives", "llm_entropy")
"""What an event says of its position, whoever wrote there."""


def drafted_event(step: Step) -> TokenEvent:
    """The event of a token that the SLM drafted in this step and the LLM takes back in it."""
    draft = _written(replace(step, asked=False, verdicts=[], revealed=[]), seconds=0.0)
    return replace(draft, finish_reason=None)


def _written(step: Step, seconds: float) -> TokenEvent:
    """The event of the last token, as if nothing were taken back. Also notes in `text.read` what it charges."""
    text, policy = step.text, step.text.policy
    end = len(step.slot.tokens)
    position = end - text.prompt_tokens
    charged = {Role.SLM: step.drafted or policy.reads(position), Role.LLM: step.asked}  # who read for this text's sake
    fed = {role: end - text.read[role] if charged[role] else 0 for role in Role}
    looks = max(1, min(fed[Role.LLM], position + 1)) if step.wants_choices else 1
    if step.rereads and looks > 1 and step.asked:
        fed[Role.LLM] = end
    text.read = {role: end if charged[role] else text.read[role] for role in Role}
    kept = step.judged and step.asked and not step.taken_back
    ratio = text.choices[position].ratio if kept else None
    return TokenEvent(
        row=text.row,
        index=text.position,
        id=text.tokens[-1],
        text=step.said,
        role=step.role,
        probability=step.probability,
        score=step.score,
        router=policy.runs_router and policy.reads(position),
        threshold=step.setting.threshold,
        acceptance=step.setting.acceptance,
        ratio=ratio,
        verdicts=tuple(step.verdicts),
        slm_fed=fed[Role.SLM],
        llm_fed=fed[Role.LLM],
        slm_head=step.drafted or policy.needs_logits,
        llm_head=looks,
        seconds=seconds,
        revealed=tuple(step.revealed),
        forced=step.forced is not None and not step.taken_back,  # the LLM's token may stand at an earlier position
        finish_reason=text.finish_reason,
        **step.learned,
    )
