"""Verification: what the LLM keeps of a draft, from the logits of the pass in which it reads the draft anyway.

At each drafted position the LLM's own token is drawn as if it wrote there, with the same seed. So with acceptance 1 the
text is the LLM-only text, greedy or sampled; with less, each position is judged by itself, so the text is the same
whenever the LLM reads. The rule for greedy texts is that of BiLD (Kim et al. 2023, arXiv 2302.07863).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate

import torch

from engine.batch.step import Slot, Step, drafted_event
from engine.batch.text import Choice, score_bin
from engine.events import Role, TokenEvent, Verdict, keeps, known
from engine.events.cost import ModelCost
from engine.model.logits import probability
from engine.model.sampling import sample, uniform

_BELOW_ONE = math.nextafter(1.0, 0.0)

LONGEST = 16
"""The most tokens of a draft with "auto". Passes were timed up to twice as many, and a wrong guess must not
cost a whole text."""

_PRIOR = 4.0
"""The weight of an expectation: as many verdicts, or for `called` as many tokens."""
_LEAST, _MOST, _UNKNOWN = 0.45, 0.97, 0.8
"""The expected chance that a draft is kept: its score, within the first two; the third without a score. The LLM of the
`cpu` pair kept two fifths of the drafts with scores below 0.1, and more at a lower acceptance (docs/experiments.md,
finding 9)."""


def note_choices(slot: Slot, logits: torch.Tensor, index: int) -> None:
    """Notes the LLM's choices at positions of the text so far, for all texts that share it.

    Args:
        logits: The LLM's, float32 [positions, vocabulary].
        index: The position in the generated text that the first of them is about. Where a text has no token yet,
            nothing is noted.
    """
    for step in slot.steps:
        if step.wants_choices:
            written = len(step.text.tokens) - slot.prompt_tokens
            for place in range(index, min(written, index + len(logits))):
                step.text.choices[place] = _choice(step, logits[place - index], place)


def note_drafts(slot: Slot) -> None:
    """Notes the LLM's choice where the SLM drafted in this step, if the LLM has read the text up to there."""
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
        text.count(score, kept)
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


def due(step: Step, slm: ModelCost, llm: ModelCost) -> bool:
    """Whether the LLM looks now that the SLM has drafted another token. It always looks before a draft ends a text.

    It looks after a fixed number of tokens, or with "auto" when another token would cost more than it is worth.
    When it looks changes what a text costs, never the text. A pass over n drafted tokens settles those that are
    kept and, where one is not, the LLM's own in its place. So of m tokens more the first is settled with the chance
    `kept` that the draft so far is kept, the second with `kept` · `next`, and so on. They cost m passes of the SLM
    and a longer pass of the LLM. The LLM looks when for no m

        kept · (1 + next + … + next^(m − 1)) · worth ≥ m · slm(1) + llm(n + m) − llm(n),

    where llm(n) is the measured time of a pass over n tokens. Every m is tried, since a processor may do four
    tokens at once: then a fifth costs much, and a sixth nothing. `kept` is the product of each token's chance, by
    how often drafts with a similar score were kept in this text, and `next` is how often any draft was kept.
    `worth` is what it costs to settle a token otherwise. If the policy chooses the LLM for it, that is a whole pass
    of each model: this pass of the LLM reads the draft, too. Else it is the token's share of a draft of the best
    fixed length with its look. The mean of both is weighted by how often the policy chose the LLM in this text.

    Stopping where the next unit costs more than the average one makes the average smallest (marginal value
    theorem, Charnov 1976). SpecDec++ (Huang et al. 2024, arXiv 2405.19715) shows that a threshold on that chance is
    optimal; here it follows from what passes cost.
    """
    text = step.text
    scores = [event.score for event in text.provisional] + ([step.score] if step.judged else [])
    if not scores:
        return False
    if text.finish_reason is not None:
        return True
    limit = step.setting.max_draft
    if limit != "auto":
        return len(scores) >= limit
    if len(scores) >= LONGEST:
        return True
    kept = math.prod(_chance(text.kept, score) for score in scores)
    following = _expected(_UNKNOWN, *(sum(counts[n] for counts in text.kept.values()) for n in (0, 1)))
    called = _expected(0.0, text.called, text.position)
    looks = _looks(slm, llm)
    settled = list(accumulate(following**n for n in range(LONGEST)))  # of drafts of 1, 2, … tokens
    rate = min(cost / tokens for cost, tokens in zip(looks, settled, strict=True))
    worth = kept * (called * looks[0] + (1 - called) * rate)
    now, *later = looks[len(scores) - 1 :]
    return all(worth * tokens < cost - now for tokens, cost in zip(settled, later, strict=False))


@lru_cache(maxsize=16)
def _looks(slm: ModelCost, llm: ModelCost) -> tuple[float, ...]:
    """What drafts of 1, 2, … tokens cost with the pass that looks at them."""
    return tuple(n * _cost(slm) + _cost(llm, n, n) for n in range(1, LONGEST + 1))


def _cost(model: ModelCost, fed: int = 1, head: int = 1) -> float:
    """What a pass costs in seconds, or where none were measured, in bytes."""
    return model.seconds(fed, head) or model.forward(fed, 0, head, 0, 0).bytes


def _chance(counts: dict[int, list[int]], score: float | None) -> float:
    """The chance that a drafted token is kept, from verdicts in this text and an expectation before them."""
    expected = _UNKNOWN if score is None else min(_MOST, max(_LEAST, score))
    return _expected(expected, *counts.get(score_bin(score), (0, 0)))


def _expected(before: float, times: int, seen: int) -> float:
    """Estimates a frequency from `times` out of `seen`, and from the expectation `before` with the weight `_PRIOR`."""
    return (_PRIOR * before + times) / (_PRIOR + seen)
