"""One step of a text, told: what the models read, what the score was, who wrote, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.figures import UNITS, amount, counted, percent
from app.lesson.example import example
from app.lesson.judged import judged
from app.lesson.words import Words, apart, chip, spelled
from app.running.run import Run
from app.running.session import View
from engine import Role, TokenEvent, costs
from engine.events import fold_revealed, llm_tokens, role_at

CONTEXT = 6
"""Tokens before the explained one that the picture shows."""

_VERBS = {"bytes": "moved", "flops": "took", "seconds": "took", "price": "cost"}


def lesson(run: Run | None, view: View) -> dict[str, Any]:
    """The method explained with the figures of one text, and one of its steps as a picture.

    Where `run` is None or has no token yet, the text is a made-up example.

    Returns:
        `own` (whether it is the visitor's text); `title`, `hint`; `intro` and `outro` as words (plain text, or [kind,
        text] with kind "b", "slm" or "llm"); `steps`, three of `title` and `text` (words); `prompt` ([tokens, whether
        the SLM, whether the LLM read them in this step]), `hidden` (how many tokens after the prompt are left out),
        `context` ([text, author, SLM read it now, LLM read it now] of the tokens before), `token` ([text, author]);
        `gauge` ([score, threshold] and both as texts), None where there was no score; `dials` (threshold and
        acceptance), and `judged`, words about what the LLM made of the SLM's tokens.
    """
    own = fold_revealed(run.events) if run else ()
    source = run if run and own else example()
    events = own or tuple(source.events)
    place = _explained(events)
    event, policy, last = events[place], source.request.policy, place == len(events) - 1
    drafted, looks = _drafted(event), [i for i, old in enumerate(events[:place]) if old.llm_fed]
    # How much of the prompt is read in this step: all of it the first time that a model is run.
    slm_prompt = 0 if any(old.slm_fed for old in events[:place]) else source.prompt_tokens
    llm_prompt = 0 if looks else source.prompt_tokens
    start = max(0, place - CONTEXT)
    whose = "a text" if not own else "your text so far" if source.active else "your last text"
    made_up = "These figures are made up. Write a text in the Playground, and come back: then this page explains yours."
    return {
        "own": bool(own),
        "title": "One step of your last text" if own else "One step of a text",
        "hint": "" if own else made_up,
        "intro": _intro(events, place, whose),
        "steps": [
            _reading(drafted, slm_prompt, policy),
            _scoring(event, policy),
            _writing(event, llm_prompt, last),
        ],
        "prompt": [source.prompt_tokens, bool(drafted.slm_fed and slm_prompt), bool(event.llm_fed and llm_prompt)],
        "hidden": start,
        "context": [
            [spelled(old, False), old.role.value, place - i <= drafted.slm_fed, _llm_reads(event, i, looks)]
            for i, old in enumerate(events[start:place], start)
        ],
        "token": [spelled(event, last), event.role.value],
        "gauge": None if event.score is None else [event.score, event.threshold, *apart(event.score, event.threshold)],
        "outro": _outro(events, source, view),
        "dials": [events[-1].threshold, events[-1].acceptance],
        "judged": judged(events),
    }


def _explained(events: Sequence[TokenEvent]) -> int:
    """The first token that the score gave to the LLM, else the first that replaces a draft, else the first."""
    by_llm = [i for i, event in enumerate(events) if event.role is Role.LLM and not event.forced]
    return next((i for i in by_llm if not events[i].refused), by_llm[0] if by_llm else 0)


def _drafted(event: TokenEvent) -> TokenEvent:
    """The SLM's token in place of which it was written, if it was; else itself."""
    return event.taken_back[0] if event.refused else event


def _intro(events: Sequence[TokenEvent], place: int, whose: str) -> Words:
    by_llm = llm_tokens(events)
    event, last = events[place], place == len(events) - 1
    first = f". The first token that went to the LLM was token {place + 1:,}, "
    if event.refused:
        first = f". The first token that the LLM wrote in place of the SLM’s was token {place + 1:,}, "
    if event.role is Role.SLM:
        first = ". None went to the LLM; the first token was "
    return [
        f"In {whose} of ",
        ["b", counted(len(events), "token")],
        " the SLM wrote ",
        ["b", f"{len(events) - by_llm:,}"],
        " and the LLM ",
        ["b", f"{by_llm:,}"],
        first,
        chip(event, last),
        ":",
    ]


def _llm_reads(event: TokenEvent, index: int, looks: Sequence[int]) -> bool:
    """Whether the LLM reads an earlier token in the event's pass: what it wrote at its last look, and what followed."""
    return event.llm_fed > 0 and index >= (looks[-1] if looks else 0)


def _reading(event: TokenEvent, prompt: int, policy: str) -> dict[str, Any]:
    if event.slm_fed == 0:
        return {"title": "The SLM is not run", "text": ["Nobody needs its hidden state, and it does not write here."]}
    uses = {"router": ": all that the router looks at", "confidence": ", and with it how sure it is of its next token"}
    text = f". What it makes of the text so far is its hidden state{uses.get(policy, '')}."
    return {"title": "The SLM reads", "text": ["It reads ", *_unseen(event.slm_fed, prompt), text]}


def _scoring(event: TokenEvent, policy: str) -> dict[str, Any]:
    if event.forced:
        return {"title": "You chose", "text": ["You chose this token, so the threshold did not decide who writes."]}
    if event.score is None:
        writer = Role.SLM if event.refused else event.role
        return {"title": "Nobody is asked", "text": [f"Always the {writer.name}: there is no score."]}
    title, asked = {
        "router": ("The router scores", "How safe is it to let the SLM write on? "),
        "confidence": ("The SLM’s confidence is the score", "How likely does the SLM think its own token is? "),
    }.get(policy, ("Chance scores", "A number is drawn: "))
    score, threshold = apart(event.score, event.threshold)
    asked_of = role_at(event.score, event.threshold)
    below = "below" if asked_of is Role.LLM else "not below"
    words = [asked, ["b", score], f". That is {below} the threshold ", ["b", threshold]]
    if event.refused:
        return {"title": title, "text": [*words, ": the SLM drafts ", chip(_drafted(event), False), "."]}
    return {"title": title, "text": [*words, f": the {asked_of.name} writes."]}


def _writing(event: TokenEvent, prompt: int, last: bool) -> dict[str, Any]:
    if event.role is Role.SLM:
        stands = "stands" if event.acceptance == 0 or event.ratio is not None else "stands for now"
        text: Words = [f"Its own token {stands}: ", chip(event, last), ". The LLM is not run; when it is, "]
        judges = " and decides which of it stays" if event.acceptance > 0 else ""
        return {"title": "The SLM writes", "text": [*text, f"it reads all that it has not seen by then{judges}."]}
    first: Words = ["First it reads ", *_unseen(event.llm_fed, prompt), ", in one pass. Then it "]
    if event.refused:
        first += ["takes back ", chip(_drafted(event), False), " and writes "]
        return {"title": "The LLM looks", "text": [*first, chip(event, last), " instead."]}
    return {"title": "The LLM writes", "text": [*first, "writes ", chip(event, last), "."]}


def _outro(events: Sequence[TokenEvent], source: Any, view: View) -> Words:
    passes = [each.llm_fed for event in events for each in (*event.taken_back, event) if each.llm_fed]
    words: Words = ["Then the next token, in the same way. "]
    if passes:
        times = "once" if len(passes) == 1 else f"{len(passes):,} times"
        words += ["The LLM was run ", ["b", times], f" for {counted(len(events), 'token')}"]
        most = counted(max(passes[1:]), "token") if passes[1:] else ""
        words.append(f"; after the first time it read at most {most} at once. " if most else ". ")
    cost = costs(events, source.prompt_tokens, source.pair.slm_cost, source.pair.llm_cost, view.prices)
    spent, whole = getattr(cost.run, view.unit), getattr(cost.llm_only, view.unit)
    words += [f"The text {_VERBS[view.unit]} ", ["b", amount(spent, view.unit)]]
    words += [f" in {UNITS[view.unit]}"] if view.unit == "price" else []
    modelled = ", which is modelled" if view.unit == "seconds" else ""
    return [*words, *([", ", ["b", percent(spent / whole)], f" of LLM-only{modelled}."] if whole > 0 else ["."])]


def _unseen(fed: int, prompt: int) -> Words:
    """What a model reads; `prompt`: how many of these tokens are the prompt's."""
    if not prompt:
        return [["b", counted(fed, "token")], " that it had not seen"]
    words: Words = ["the prompt’s ", ["b", counted(prompt, "token")]]
    return words if fed <= prompt else [*words, " and the ", ["b", f"{fed - prompt:,}"], " written so far"]
