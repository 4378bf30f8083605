"""The event of what a step did to a text: the one place where a text is charged."""

from __future__ import annotations

from dataclasses import replace

from engine.batch.step import Step
from engine.events import Role, TokenEvent, tokens_read


def record(step: Step) -> TokenEvent:
    """Adds the event of what happened to a text. A model is charged for what this text alone would have made it do."""
    text, event = step.text, _written(step, step.slot.elapsed)
    if step.taken_back:
        if step.drafted:  # the event of the draft has the cost of drafting
            event = replace(event, router=False, slm_head=False)
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
    text.read = {role: tokens_read(read, 0, text.prompt_tokens, event.index) for role, read in text.read.items()}
    if not event.judged and text.settled == event.index:
        text.settled += 1
    text.events.append(event)
    return event


def drafted_event(step: Step) -> TokenEvent:
    """The event of a token that the SLM drafted in this step and the LLM takes back in it."""
    draft = _written(replace(step, asked=False, verdicts=[], revealed=[]), seconds=0.0)
    return replace(draft, finish_reason=None)


def _charged(step: Step) -> dict[Role, bool]:
    """Whether each model read for this text's sake."""
    policy, position = step.text.policy, len(step.slot.tokens) - step.text.prompt_tokens
    return {Role.SLM: step.drafted or policy.reads(position), Role.LLM: step.asked}


def _written(step: Step, seconds: float) -> TokenEvent:
    """The event of the last token, as if nothing were taken back; from now on the models have read what it says."""
    text, policy = step.text, step.text.policy
    end = len(step.slot.tokens)
    position = end - text.prompt_tokens
    charged = _charged(step)
    fed = {role: end - text.read[role] if charged[role] else 0 for role in Role}
    looks = max(1, min(fed[Role.LLM], position + 1)) if step.judges else 1
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
        slm_alternatives=step.alternatives.get(Role.SLM, ()),
        llm_alternatives=step.alternatives.get(Role.LLM, ()),
        slm_entropy=step.entropy.get(Role.SLM),
        llm_entropy=step.entropy.get(Role.LLM),
        revealed=tuple(step.revealed),
        forced=step.forced is not None and not step.taken_back,  # the LLM's token may stand at an earlier position
        finish_reason=text.finish_reason,
    )
