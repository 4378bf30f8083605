"""What the LLM made of the SLM's tokens in one text, in words: what acceptance did."""

from __future__ import annotations

from collections.abc import Sequence

from app.figures import counted
from app.lesson.words import Words, chip, ratio_text
from engine import Role, TokenEvent
from engine.events import taken_back


def judged(events: Sequence[TokenEvent]) -> list[Words]:
    """What acceptance did in this text, in paragraphs: a token that was taken back, one that stayed, and how many."""
    acceptance = events[-1].acceptance
    if acceptance == 0:
        return [_unjudged(events)]
    intro: Words = [
        "In this text acceptance is ",
        ["b", f"{acceptance:g}"],
        ". What the SLM writes is a draft. When the ",
    ]
    intro.append("LLM looks, it reads the draft in one pass, and compares each token with the one likeliest to itself.")
    kept = [event for event in events if event.role is Role.SLM and event.ratio is not None]
    refused = [event for event in events if event.refused]
    if not kept and not refused:
        return [intro, ["It has read no draft yet." if _drafts(events) else "Here the SLM drafted nothing."]]
    examples = [_taken(event) for event in refused[:1]]
    examples += [_stayed(event) for event in sorted(kept, key=lambda event: event.ratio or 0.0)[:1]]
    total: Words = ["In all, ", ["b", counted(len(kept), "drafted token")], " stayed, and "]
    total += [["b", f"{taken_back(events):,}"], " went back."]
    if all(event.acceptance == 1 for event in events) and not _drafts(events):
        total.append(" So this is the LLM’s own text, near ties apart.")
    return [intro, *examples, total]


def _unjudged(events: Sequence[TokenEvent]) -> Words:
    words: Words = ["In this text acceptance is ", ["b", "0"], ": what the SLM writes stays. "]
    # A pass reads the token that the LLM itself wrote last, too, or the prompt.
    read = max((min(event.llm_fed - 1, event.index) for event in events), default=0)
    if read > 0:
        words.append("When the LLM was asked, it also read what the SLM had written, up to ")
        words += [["b", counted(read, "token")], " in one pass. What it made of them was not used. "]
    return [*words, "Raise Acceptance in the Playground, and the LLM takes back what it finds too unlikely."]


def _drafts(events: Sequence[TokenEvent]) -> bool:
    """Whether there are tokens that the LLM is to read yet."""
    return any(event.provisional for event in events)


def _taken(event: TokenEvent) -> Words:
    draft, more = event.taken_back[0], len(event.taken_back) - 1
    ratio, acceptance = ratio_text(event.ratio or 0.0, draft.acceptance)
    words: Words = [
        f"Taken back: at token {event.index + 1:,} the SLM had written ",
        chip(draft, False),
        ", to the LLM ",
    ]
    words += [["b", ratio], " times as likely as its own choice. That is below ", ["b", acceptance]]
    words += [f", so it went, and {counted(more, 'token')} after it" if more else ", so it went"]
    return [*words, ". The LLM wrote ", chip(event, False), " instead."]


def _stayed(event: TokenEvent) -> Words:
    words: Words = [f"Kept: at token {event.index + 1:,} the SLM had written ", chip(event, False)]
    if event.ratio == 1:
        return [*words, ", which is what the LLM would have written. So it was everywhere that it kept a token."]
    ratio, acceptance = ratio_text(event.ratio or 0.0, event.acceptance)
    words += [", to the LLM ", ["b", ratio], " times as likely as its own choice. That is not below "]
    return [*words, ["b", acceptance], ", so it stayed."]
