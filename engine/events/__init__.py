"""What a run leaves behind: one event for each token. All that is shown, priced or stored is a fold over these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, FiniteFloat

from engine.events.parsing import FEW, Count, Many, Nothing, Seconds, Share

# Why a text ended: an end token, a stop string, the token or context limit, or a person.
FinishReason = Literal["eos", "stop", "length", "cancelled"]


MAX_THRESHOLD = 2.0
"""Scores end at 1, so anything above 1 is LLM-only; beyond 2 is more likely a percentage or a typo."""


Threshold = Annotated[FiniteFloat, Field(ge=0, le=MAX_THRESHOLD)]


class Role(StrEnum):
    """The two authors of a text."""

    SLM = "slm"
    LLM = "llm"


def role_at(score: float, threshold: float) -> Role:
    """Who writes a token with this routing score. The one place where score and threshold are compared."""
    return Role.LLM if score < threshold else Role.SLM


def keeps(ratio: float, acceptance: float) -> bool:
    """Whether a drafted token is kept. The one place where ratio and acceptance are compared."""
    return ratio >= acceptance


def llm_tokens(events: Iterable[TokenEvent]) -> int:
    return sum(event.role is Role.LLM for event in events)


def llm_share(events: Collection[TokenEvent]) -> float:
    """LLM-written tokens / tokens of the text, in [0, 1]; 0 of no tokens."""
    return llm_tokens(events) / max(1, len(events))


_Piece = Annotated[str, Field(max_length=10_000)]


class Alternative(NamedTuple):
    """One candidate for a position: token id, its text, and its probability in [0, 1] before sampling settings."""

    id: int
    text: _Piece
    probability: Annotated[FiniteFloat, Field(ge=0, le=1.001)]  # a sum of rounded numbers


Candidates = Annotated[Many[Annotated[Alternative, FEW]], Field(max_length=50)]
_Entropy = Annotated[FiniteFloat, Field(ge=0, le=64)]


class Revealed(NamedTuple):
    """A model's candidates at an earlier position, learned from the hidden states of its catch-up."""

    index: int
    role: Role
    alternatives: Candidates
    entropy: float | None = None


class Verdict(NamedTuple):
    """The ratio of an earlier drafted token that the LLM keeps, learned when it read the draft."""

    index: int
    ratio: float


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token and everything known about it. The limits of its fields hold where it is read from a file.

    Attributes:
        row, index: Number of the text among those requested together, and position in the text; both from 0.
        text: The text this token completed; empty while a character or stop string is incomplete, and for end tokens.
        probability: The token's probability by its author, before sampling settings; None unless candidates were
            asked for.
        score: Routing score in [0, 1]; None for policies that do not score.
        threshold, acceptance: The values of the setting when this token was decided.
        ratio: The LLM's verdict on the token that the SLM drafted here; None if there is none. It is 1 if the LLM would
            draw the same token. Else it is the token's probability by the LLM, divided by that of the LLM's likeliest
            token, and below 1. The drafted token is this one, or if the LLM wrote it the first of `taken_back`.
        taken_back: Drafts that the LLM took back when it wrote this token, in order from this index on. They are
            charged, but they are no part of the text.
        verdicts: The LLM's verdicts on drafts before this index that it read and kept in the step of this token.
        slm_fed, llm_fed: Tokens that each model had to read for this decision, the prompt included the first time; 0 if
            the model did not read.
        slm_head: Whether the SLM's `lm_head` was applied.
        llm_head: Positions to which the LLM's `lm_head` was applied if it was fed: one, or all of a draft.
        router: Whether a router's network was run for the score.
        seconds: The clock's time of the steps in which this token came. Other texts may have been written in them, too.
        slm_alternatives, llm_alternatives: Top-k candidates of each model at this position, where asked for and known.
        slm_entropy, llm_entropy: How undecided each model was here, in bits; known where its candidates are.
        forced: Whether a person chose the author here (see `engine.request.Forced`), so that the threshold did not.
        finish_reason: Set on the last event of a text only.
    """

    id: Annotated[int, Field(ge=0, lt=2**31)]
    text: _Piece
    role: Role
    score: Share | None
    threshold: Threshold
    slm_fed: Count
    llm_fed: Count
    slm_head: bool
    seconds: Seconds = 0.0
    row: int = 0
    index: int = 0
    router: bool = False
    slm_alternatives: Candidates = ()
    llm_alternatives: Candidates = ()
    slm_entropy: _Entropy | None = None
    llm_entropy: _Entropy | None = None
    revealed: Nothing[Revealed] = ()
    forced: bool = False
    finish_reason: FinishReason | None = None
    acceptance: Share = 0.0
    ratio: Share | None = None
    taken_back: Many[TokenEvent] = ()
    verdicts: Nothing[Verdict] = ()
    llm_head: Count = 1
    probability: Share | None = None

    @property
    def judged(self) -> bool:
        """Whether the LLM's verdict decides about this token: it is a draft, and not all drafts are kept."""
        return self.role is Role.SLM and not self.forced and self.acceptance > 0

    @property
    def provisional(self) -> bool:
        """Whether the LLM may still take this token back."""
        return self.judged and self.ratio is None

    @property
    def refused(self) -> bool:
        """Whether the LLM wrote this token because it did not keep the SLM's."""
        return self.role is Role.LLM and self.ratio is not None


def extend(text: list[TokenEvent], event: TokenEvent) -> None:
    """Adds the next event to a text. Removes the events that it takes back, and fills in what it reveals of others."""
    del text[event.index :]
    late = [known(revealed) for revealed in event.revealed]
    late += [(verdict.index, {"ratio": verdict.ratio}) for verdict in event.verdicts]
    for index, fields in late:
        text[index] = replace(text[index], **fields)
    text.append(event)


class SettledEvents:
    """Takes the events of a stream; gives those of the text once the LLM can no longer take them back.

    It is for readers to whom a token can be given only once.

    Attributes:
        events: Of the text so far, drafts included.
    """

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []
        self._given = 0

    def add(self, event: TokenEvent) -> list[TokenEvent]:
        """Takes the next event; returns those that are settled with it, in order, with the LLM's verdicts on them."""
        extend(self.events, event)
        left = range(self._given, len(self.events))
        return self._give(next((n for n in left if self.events[n].provisional), len(self.events)))

    def rest(self) -> list[TokenEvent]:
        """The events that were not given yet, drafts included. Called once nothing more comes."""
        return self._give(len(self.events))

    def _give(self, end: int) -> list[TokenEvent]:
        given, self._given = self.events[self._given : end], end
        return given


def charged(events: Iterable[TokenEvent]) -> Iterator[TokenEvent]:
    """All that was paid for: each event of a text after the drafts that it took back."""
    for event in events:
        yield from event.taken_back
        yield event


def llm_passes(events: Iterable[TokenEvent]) -> int:
    return sum(event.llm_fed > 0 for event in charged(events))


def tokens_read(read: int, fed: int, prompt_tokens: int, index: int) -> int:
    """How many tokens a model has read of a text that goes up to an index. What it read beyond was taken back."""
    return min(read + fed, prompt_tokens + index)


def charged_reads(events: Iterable[TokenEvent], prompt_tokens: int) -> dict[Role, int]:
    """The tokens of a text that each model was charged for."""
    read = dict.fromkeys(Role, 0)
    for event in charged(events):
        for role, fed in ((Role.SLM, event.slm_fed), (Role.LLM, event.llm_fed)):
            read[role] = tokens_read(read[role], fed, prompt_tokens, event.index)
    return read


def taken_back(events: Iterable[TokenEvent]) -> int:
    return sum(len(event.taken_back) for event in events)


def fold_revealed(events: Iterable[TokenEvent]) -> tuple[TokenEvent, ...]:
    """Moves each `Revealed` and `Verdict` to the event it is about; the result has none left."""
    text: list[TokenEvent] = []
    for event in events:
        extend(text, event)
    return tuple(
        replace(event, revealed=(), verdicts=()) if event.revealed or event.verdicts else event for event in text
    )


def known(revealed: Revealed) -> tuple[int, dict[str, Any]]:
    """The index of the event that something revealed is about, and its fields that become known."""
    index, role, alternatives, entropy = revealed
    return index, {f"{role.value}_alternatives": alternatives, f"{role.value}_entropy": entropy}
