"""Speculative decoding with the same pair (Leviathan et al., ICML 2023; greedy): the rival of routing.

In the engine's loop it is threshold 0 with acceptance 1 and drafts of one length. It is lossless, and a router is only
worth having where it beats that. "assisted" drafts as many tokens as transformers' assisted generation does in the
benchmark. "assisted-tuned" also stops drafting where the SLM is unsure, in settings that
`trainer.fit.tune_speculative` chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from engine.bench.writers import DRAFT
from engine.events import Role, TokenEvent
from trainer.evaluation.method_names import Rate
from trainer.evaluation.record import Amount
from trainer.json_files import read_json

ASSISTED_DRAFT = DRAFT + 1
"""Of "assisted": with the token that the LLM adds to a full draft, as `max_draft` counts."""

FILE = "speculative.json"


@dataclass(frozen=True)
class TriedSpeculation:
    """A setting of speculative decoding, with what an answer cost on training questions on average.

    Attributes:
        max_draft: As the engine counts: the tokens settled by a pass of the LLM at most, its own one included.
        confidence: The SLM drafts no further where its likeliest token is less probable; 0 never stops it.
    """

    max_draft: Annotated[int, Field(ge=1)]
    confidence: Rate
    bytes: Amount
    seconds: Amount


@dataclass(frozen=True)
class TunedSpeculation:
    """Which setting was chosen, on how many questions, and among which others; a file beside the answers."""

    chosen: TriedSpeculation
    tried: tuple[TriedSpeculation, ...]
    preset: str
    questions: int
    command: str
    revision: str
    hardware: str


def load_tuned(folder: Path) -> TriedSpeculation:
    """The setting that `python -m trainer speculate` chose; a TrainerError if the folder has none."""
    return read_json(folder / FILE, TunedSpeculation, "choose it with `python -m trainer speculate`").chosen


def as_published(events: Sequence[TokenEvent], max_draft: int) -> list[TokenEvent]:
    """A text's events, charged as the published algorithm would be: after a full draft the LLM adds a token itself.

    The engine's loop has the SLM draft that token as well, since with less than acceptance 1 it may be kept. Text and
    passes of the LLM are the same, but of each full draft the SLM's last pass is spared here; what that pass would have
    read is read in the next one. Else the rival would be charged for more than it needs.
    """
    told: list[TokenEvent] = []
    owed = 0  # tokens that the SLM has not read, as its pass over them was spared
    for event in events:
        drafts = [*event.taken_back, event] if event.role is Role.SLM else list(event.taken_back)
        full = event.llm_fed > 0 and len(event.verdicts) + len(drafts) == max_draft > 1
        paid: list[TokenEvent] = []
        for each in (*event.taken_back, event):
            if full and each is drafts[-1]:
                owed += each.slm_fed if len(drafts) == 1 else 0  # else it read a draft that is taken back with it
                paid.append(replace(each, slm_fed=0, slm_head=False))
            elif each.slm_fed:
                paid.append(replace(each, slm_fed=each.slm_fed + owed))
                owed = 0
            else:
                paid.append(each)
        told.append(replace(paid[-1], taken_back=tuple(paid[:-1])))
    return told
