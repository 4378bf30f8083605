"""Verification: what the LLM keeps of a draft, from the logits of the pass in which it reads the draft anyway.

At each drafted position the LLM's own token is drawn as if it wrote there, with the same seed. So with acceptance 1 the
text is the LLM-only text, greedy or sampled; with less it is that of a rule that looks at one position at a time, and
the same whenever the LLM reads. The rule for greedy texts is that of BiLD (Kim et al. 2023, arXiv 2302.07863).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from engine.batch.record import drafted_event
from engine.batch.step import Slot, Step
from engine.batch.text import Choice
from engine.events import Role, TokenEvent, Verdict, keeps, known
from engine.model.logits import probability
from engine.model.sampling import sample, uniform

_BELOW_ONE = math.nextafter(1.0, 0.0)


def note_choices(slot: Slot, logits: torch.Tensor, index: int) -> None:
    """Notes the LLM's choices at positions of the text so far, for all texts that share it.

    Args:
        logits: The LLM's, float32 [positions, vocabulary].
        index: The position in the generated text that the first of them is about. Where a text has no token yet,
            nothing is noted.
    """
    for step in slot.steps:
        if step.judges:
            written = len(step.text.tokens) - slot.prompt_tokens
            for place in range(index, min(written, index + len(logits))):
                step.text.choices[place] = _choice(step, logits[place - index], place)


def note_drafts(slot: Slot) -> None:
    """Notes the LLM's choice where the SLM drafted in this step, if the LLM had read the text before they did."""
    if Role.LLM in slot.logits:
        for step in slot.steps:
            if step.judged and step.text.position not in step.text.choices:
                step.text.choices[step.text.position] = _choice(step, slot.logits[Role.LLM], step.text.position)


def _choice(step: Step, logits: torch.Tensor, place: int) -> Choice:
    """The LLM's choice at a position of a text whose token there is known: float32 logits [vocabulary]."""
    text, request = step.text, step.text.request
    end = text.prompt_tokens + place
    own = sample(logits, request.sampling, text.tokens[:end], uniform(request.seed, place))
    token, its = text.tokens[end], probability(logits, own) if request.alternatives else None
    if token == own:
        return Choice(own, 1.0, its)
    ratio = float((logits[token] - logits.max()).exp())
    return Choice(own, min(_BELOW_ONE, ratio), its)


def verify(step: Step) -> int | None:
    """Settles a text's draft, which the LLM has read; the position of the first token that is not kept, if any.

    Those before it are kept: their verdicts are noted.
    """
    text = step.text
    drafts = [(event.index, event.acceptance, event.score) for event in text.provisional]
    if step.judged:
        drafts.append((text.position, step.setting.acceptance, step.score))
    for index, acceptance, score in drafts:
        ratio = text.choices[index].ratio
        kept = keeps(ratio, acceptance)
        count_verdict(text.kept, score, kept)
        if not kept:
            return index
        if index < text.position:
            step.verdicts.append(Verdict(index, ratio))
    text.settled = text.position + 1
    return None


def take_back(step: Step, index: int) -> None:
    """Takes a draft back from a position on; the tokens stay with the step, as events."""
    text = step.text
    drafts: Sequence[TokenEvent] = text.events[index:]
    if step.drafted:
        drafts = [*drafts, drafted_event(step)]
    about = [(where, fields) for where, fields in map(known, step.revealed) if where >= index]
    earlier = [each for draft in drafts for each in draft.revealed if each.index < index]
    for draft in drafts:
        fields = {name: value for where, each in about if where == draft.index for name, value in each.items()}
        ratio = text.choices[draft.index].ratio if draft.judged else draft.ratio
        step.taken_back.append(replace(draft, **fields, ratio=ratio))
    step.revealed = [*earlier, *(each for each in step.revealed if each.index < index)]
    text.events = text.events[:index]
    text.tokens = text.tokens[: text.prompt_tokens + index]
    text.choices = {place: choice for place, choice in text.choices.items() if place < index}
    text.settled = index + 1
    text.finish_reason = None


def count_verdict(counts: dict[int, list[int]], score: float | None, kept: bool) -> None:
    """Counts how often drafts of a score are kept; see `engine.batch.draft_length`."""
    here = counts.setdefault(score_bin(score), [0, 0])
    here[0] += kept
    here[1] += 1


def score_bin(score: float | None) -> int:
    """Scores that are taken together: tenths, and one for tokens without a score."""
    return -1 if score is None else min(9, int(10 * score))
