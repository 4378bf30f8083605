"""The vocabulary of a run: roles, alternatives, and the one event that a generated token leaves behind.

Knows no torch and no models, so the page and the terminal can import it in milliseconds. Everything that is shown,
priced or stored about a run is a fold over these events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple

FinishReason = Literal["eos", "stop", "length", "cancelled"]
"""Why a text ended: an end token, a stop string, the token or context limit, or a person."""


class Role(StrEnum):
    """The two authors of a text."""

    SLM = "slm"
    LLM = "llm"


def role_at(score: float, threshold: float) -> Role:
    """Who writes a token with this routing score: score < threshold → LLM. The one place where the two are compared."""
    return Role.LLM if score < threshold else Role.SLM


class Alternative(NamedTuple):
    """One candidate for a position: token id, its text, and its probability in [0, 1] before sampling settings."""

    id: int
    text: str
    probability: float


class Revealed(NamedTuple):
    """What a model would have written at an earlier position, learned from the hidden states of its catch-up."""

    index: int
    role: Role
    alternatives: tuple[Alternative, ...]
    entropy: float | None = None


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token and everything known about it.

    Attributes:
        row: Row of the batch it belongs to; 0 for a single stream.
        index: Position in the generated text, from 0.
        id: Token id in the pair's tokenizer.
        text: The text this token completed; empty while a character or stop string is incomplete, and for end tokens.
        role: Who wrote it.
        score: Routing score in [0, 1]; None for policies that do not score.
        threshold: Threshold in force when it was decided.
        slm_fed, llm_fed: Tokens each model had to read for this decision, with the first the prompt; 0 = not consulted.
        slm_head: Whether the SLM's `lm_head` was applied (the LLM's is whenever it is fed).
        router: Whether the learned router's network was run for the score.
        seconds: Wall-clock seconds of the step, divided by the rows that took part in it.
        slm_seconds, llm_seconds: The share of `seconds` spent in each model.
        slm_alternatives, llm_alternatives: Top-k candidates of each model at this position, where asked for and known.
        slm_entropy, llm_entropy: How undecided each model was here, in bits; known where its candidates are.
        revealed: Candidates for earlier positions that became known in this step (see `Revealed`).
        forced: Whether a person chose the author here (see `engine.request.Forced`), so that the threshold did not.
        finish_reason: Set on the last event of a text only.
    """

    id: int
    text: str
    role: Role
    score: float | None
    threshold: float
    slm_fed: int
    llm_fed: int
    slm_head: bool
    seconds: float
    slm_seconds: float = 0.0
    llm_seconds: float = 0.0
    row: int = 0
    index: int = 0
    router: bool = False
    slm_alternatives: tuple[Alternative, ...] = ()
    llm_alternatives: tuple[Alternative, ...] = ()
    slm_entropy: float | None = None
    llm_entropy: float | None = None
    revealed: tuple[Revealed, ...] = ()
    forced: bool = False
    finish_reason: FinishReason | None = None


def fold_revealed(events: Iterable[TokenEvent]) -> tuple[TokenEvent, ...]:
    """Moves each `Revealed` to the event it is about; the result has none left."""
    folded: list[TokenEvent] = []
    late: list[Revealed] = []
    for event in events:
        late.extend(event.revealed)
        folded.append(replace(event, revealed=()) if event.revealed else event)
    for index, role, alternatives, entropy in late:
        known = {f"{role.value}_alternatives": alternatives, f"{role.value}_entropy": entropy}
        folded[index] = replace(folded[index], **known)
    return tuple(folded)
