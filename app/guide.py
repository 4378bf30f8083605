"""A help that teaches: a short guide on the first visit, and the method explained with the visitor's own last text.

Knows a run's events and costs, and turns them into sentences and a picture of one step. Drawn by `assets/page/guide.js`
and `how_it_works.js`; tokens are a model's words, so they travel as JSON and are written with `textContent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import ASSETS, drawn, to_json
from app.meter import UNITS, amount, percent
from app.runs import Run
from app.sessions import Sessions, View
from engine import ModelCost, Request, Role, TokenEvent, costs

CONTEXT = 6
"""Tokens before the explained one that the picture shows."""

_VERBS = {"bytes": "moved", "flops": "took", "seconds": "took", "price": "cost"}
_Words = list[str | list[str]]  # plain text, or [kind, text] with kind "b" (a figure), "slm" or "llm" (a token)


def guide() -> gr.HTML:
    """The "?" button and the guide it shows; on the first visit the guide shows itself."""
    return drawn("guide", "guide")


def how_it_works(tab: gr.Tab, sessions: Sessions) -> None:
    """The tab's content; the explanation is made anew from the text on the page whenever the tab is selected.

    Args:
        tab: The tab around it.
        sessions: Where the text on a visitor's page is found.
    """
    before, after = (ASSETS / "how_it_works.md").read_text("utf-8").split("<!-- lesson -->\n")
    gr.Markdown(before, elem_classes="how-text")
    explained = drawn("how_it_works", "how-it-works", to_json(lesson(None, View())))
    gr.Markdown(after, elem_classes="how-text")

    def explain(request: gr.Request) -> str:
        session = sessions.get(request.session_hash)
        return to_json(lesson(session.shown, session.view))

    tab.select(explain, outputs=explained, queue=False, api_visibility="private", show_progress="hidden")


def lesson(run: Run | None, view: View) -> dict[str, Any]:
    """The method explained with the figures of one text, and one of its steps as a picture.

    Args:
        run: Whose text; None, or one without a token yet, gives a made-up example.
        view: Unit and prices of its cost.

    Returns:
        `own` (whether it is the visitor's text); `title`, `hint`; `intro` and `outro` as words (plain text, or [kind,
        text] with kind "b", "slm" or "llm"); `steps`, three of `title` and `text` (words); `prompt` ([tokens, whether
        the SLM, whether the LLM read them in this step]), `hidden` (how many tokens after the prompt are left out),
        `context` ([text, author, SLM read it now, LLM read it now] of the tokens before), `token` ([text, author]);
        `gauge` ([score, threshold] and both as texts), None where there was no score.
    """
    events = tuple(run.events) if run else ()
    own = bool(run and events)
    told = run if run and events else _example()
    events = events or tuple(told.events)
    place = next((i for i, event in enumerate(events) if event.role is Role.LLM and not event.forced), 0)
    event = events[place]
    return {
        "own": own,
        "title": "One step of your last text" if own else "One step of a text",
        "hint": ""
        if own
        else "These figures are made up. Write a text in the Playground, and come back: then this page explains yours.",
        "intro": _intro(events, place, "your last text" if own and not told.on else "your text so far" if own else ""),
        "steps": [
            _reading(event, place, told.request.policy),
            _scoring(event, told.request.policy),
            _writing(event, place, _last(events, place)),
        ],
        "prompt": [told.prompt_tokens, event.slm_fed > place, event.llm_fed > place],
        "hidden": max(0, place - CONTEXT),
        "context": _context(events, place),
        "token": [_spelled(event, _last(events, place)), event.role.value],
        "gauge": None if event.score is None else [event.score, event.threshold, *_apart(event.score, event.threshold)],
        "outro": _outro(events, told, view),
    }


def _intro(events: Sequence[TokenEvent], place: int, whose: str) -> _Words:
    by_llm = sum(event.role is Role.LLM for event in events)
    event, last = events[place], _last(events, place)
    first = f". The first token that went to the LLM was token {place + 1:,}, "
    if event.role is Role.SLM:
        first = ". None went to the LLM; the first token was "
    return [
        f"In {whose} of " if whose else "In a text of ",
        *_figures(_tokens(len(events)), " the SLM wrote ", f"{len(events) - by_llm:,}"),
        " and the LLM ",
        ["b", f"{by_llm:,}"],
        first,
        _chip(event, last),
        ":",
    ]


def _reading(event: TokenEvent, place: int, policy: str) -> dict[str, Any]:
    if event.slm_fed == 0:
        return {"title": "The SLM is not run", "text": ["Nobody needs its hidden state, and it does not write here."]}
    uses = {"router": ": all that the router looks at", "confidence": ", and with it how sure it is of its next token"}
    text = f". What it makes of the text so far is its hidden state{uses.get(policy, '')}."
    return {"title": "The SLM reads", "text": ["It reads ", *_unseen(event.slm_fed, place), text]}


def _scoring(event: TokenEvent, policy: str) -> dict[str, Any]:
    if event.forced:
        return {"title": "You chose", "text": ["You chose this token, so the threshold did not decide who writes."]}
    if event.score is None:
        return {"title": "Nobody is asked", "text": [f"Always the {_name(event)}: there is no score."]}
    title, asked = {
        "router": ("The router scores", "How safe is it to let the SLM write on? "),
        "confidence": ("The SLM’s confidence is the score", "How likely does the SLM think its own token is? "),
    }.get(policy, ("Chance scores", "A number is drawn: "))
    score, threshold = _apart(event.score, event.threshold)
    below = "below" if event.role is Role.LLM else "not below"
    text = [asked, ["b", score], f". That is {below} the threshold ", ["b", threshold], f": the {_name(event)} writes."]
    return {"title": title, "text": text}


def _writing(event: TokenEvent, place: int, last: bool) -> dict[str, Any]:
    if event.role is Role.SLM:
        text: _Words = [
            "Its own token stands: ",
            _chip(event, last),
            ". The LLM is not run; should it write later, it ",
        ]
        return {"title": "The SLM writes", "text": [*text, "reads all that it has not seen by then."]}
    first: _Words = ["First it reads ", *_unseen(event.llm_fed, place), ", in one pass. Then it writes "]
    return {"title": "The LLM writes", "text": [*first, _chip(event, last), "."]}


def _outro(events: Sequence[TokenEvent], told: Any, view: View) -> _Words:
    passes = [event.llm_fed for event in events if event.llm_fed]
    words: _Words = ["Then the next token, in the same way. "]
    if passes:
        words += ["The LLM was run ", ["b", _times(len(passes))], f" for {_tokens(len(events))}"]
        words += [
            f"; after the first time it read at most {_tokens(max(passes[1:]))} at once. " if passes[1:] else ". "
        ]
    cost = costs(events, told.prompt_tokens, told.pair.slm_cost, told.pair.llm_cost, view.prices)
    spent, whole = getattr(cost.run, view.unit), getattr(cost.llm_only, view.unit)
    words += [f"The text {_VERBS[view.unit]} ", ["b", amount(spent, view.unit)]]
    words += [f" in {UNITS[view.unit]}"] if view.unit == "price" else []
    modelled = ", which is modelled" if view.unit == "seconds" else ""
    return [*words, *([", ", ["b", percent(spent / whole)], f" of LLM-only{modelled}."] if whole > 0 else ["."])]


def _context(events: Sequence[TokenEvent], place: int) -> list[list[Any]]:
    event, start = events[place], max(0, place - CONTEXT)
    return [
        [_spelled(old, False), old.role.value, place - i <= event.slm_fed, place - i <= event.llm_fed]
        for i, old in enumerate(events[start:place], start)
    ]


def _unseen(fed: int, written: int) -> _Words:
    """What a model had not seen, of the prompt and the tokens written so far."""
    if fed <= written:
        return _figures(_tokens(fed), " that it had not seen", "")
    prompt: _Words = ["the prompt’s ", ["b", _tokens(fed - written)]]
    return prompt if not written else [*prompt, " and the ", ["b", f"{written:,}"], " written so far"]


def _figures(first: str, between: str, second: str) -> _Words:
    return [["b", first], between, *([["b", second]] if second else [])]


def _apart(score: float, threshold: float) -> tuple[str, str]:
    """Both with as many decimals, two to four, as it takes to tell them apart."""
    texts = [(f"{score:.{digits}f}", f"{threshold:.{digits}f}") for digits in (2, 3, 4)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])


def _chip(event: TokenEvent, last: bool) -> list[str]:
    return [event.role.value, _spelled(event, last)]


def _spelled(event: TokenEvent, last: bool) -> str:
    """A token's text with everything in it visible, as in the token stream."""
    if not event.text:
        return "end" if last and event.finish_reason == "eos" else "part of a character"
    seen = event.text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(
        c if c.isprintable() else chr(0x2400 + ord(c)) if ord(c) < 32 else "\N{REPLACEMENT CHARACTER}" for c in seen
    )


def _last(events: Sequence[TokenEvent], place: int) -> bool:
    return place == len(events) - 1


def _name(event: TokenEvent) -> str:
    return event.role.value.upper()


def _tokens(count: int) -> str:
    return f"{count:,} token{'s' if count != 1 else ''}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


@cache
def _example() -> Any:
    """A made-up text of a pair whose LLM is about three times its SLM."""
    scores = [0.93, 0.98, 0.99, 0.96, 0.95, 0.97, 0.41, 0.88, 0.99, 0.98, 0.52, 0.96]
    texts = ["Ben", " has", " 20", " +", " 6", " =", " 26", " dollars", " now", ":", " 26", "."]
    events, unseen, prompt_tokens = [], 24, 24
    for index, (text, score) in enumerate(zip(texts, scores, strict=True)):
        role = Role.LLM if score < 0.8 else Role.SLM
        fed, slm_fed = unseen if role is Role.LLM else 0, prompt_tokens if index == 0 else 1
        events.append(TokenEvent(index, text, role, score, 0.8, slm_fed, fed, role is Role.SLM, 0.0, index=index))
        unseen = 1 if fed else unseen + 1
    pair = SimpleNamespace(
        slm_cost=ModelCost(280_000_000, 76_000_000, 1_000, 24_000, 720_000_000, 272_000_000, 90_000, 0.03, 0.002),
        llm_cost=ModelCost(740_000_000, 131_000_000, 1_700, 57_000, 2_620_000_000, 466_000_000, 172_000, 0.08, 0.005),
    )
    request = Request("made up", threshold=0.8)
    return SimpleNamespace(request=request, events=events, prompt_tokens=prompt_tokens, pair=pair, on=False)
