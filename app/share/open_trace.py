"""A trace from a file as a finished run, to be shown and inspected like one that was just written, without any model.

The file may be a stranger's: it is parsed as data, its size, numbers and lengths are bounded here, and its texts are
nothing but text.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import chain
from types import SimpleNamespace

from app.fields import ALTERNATIVES
from app.running.job import Job
from app.running.run import Run
from engine import InvalidRequest, TokenEvent, Trace
from engine.errors import check_number, check_whole
from engine.events import MAX_THRESHOLD, Role
from engine.events.cost import ModelCost

MAX_BYTES = 20_000_000
MAX_TOKENS = 20_000
"""More than any context the page runs with; a browser still draws it."""

MAX_PARTS = 1_000_000
"""Lists and objects of a file: one of the largest traces has some 800,000. Each takes twenty times its bytes."""

LONGEST_PIECE = 10_000
"""Characters of one token's text."""

_LONGEST_NAME = 300
_LONGEST_TABLE = 100
_LARGEST = 10**18  # of a model's bytes and FLOPs
_WHOLE = {2**31 - 1: ("id",), 0: ("row",), 10_000_000: ("slm_fed", "llm_fed", "llm_head")}
_NUMBERS = {
    1.0: ("score", "ratio", "probability", "acceptance"),
    64.0: ("slm_entropy", "llm_entropy"),
    MAX_THRESHOLD: ("threshold",),
    1e7: ("seconds",),
}
"""Fields of a token by what they are at most. A trace is one text, in row 0."""

_HINT = "the file was changed, or another program wrote it"


def opened_run(text: str, after: Job | None = None) -> Run:
    """A finished run that has everything a trace's file says; `after` is the newest run of the session.

    Raises:
        InvalidRequest: Too large, not a trace, or a value is out of range; the message names it.
    """
    size = max(len(text), 0 if len(text) > MAX_BYTES else len(text.encode(errors="replace")))
    if size > MAX_BYTES:
        raise InvalidRequest(f"The file has {size:,} bytes; a trace of at most {MAX_BYTES:,} can be opened.")
    check_whole("lists and objects of the file", text.count("[") + text.count("{"), 0, MAX_PARTS, _HINT)
    trace = Trace.parse(text)
    request = replace(trace.request, alternatives=ALTERNATIVES)
    _check(trace)
    trace.check_cost()
    run = Run(request, after)
    run.fixed = True
    run.size = size
    router = f", router {trace.router}" if trace.router else ""
    run.about = f"Opened from a trace: {trace.slm} ⇄ {trace.llm}{router}"
    run.opened = list(trace.events)
    run.prompt_tokens = trace.prompt_tokens
    run.pair = SimpleNamespace(  # what the page asks of the models that wrote it; these cannot write
        llm=SimpleNamespace(local=True),  # which no trace says
        opened=trace,
        slm_cost=trace.slm_cost,
        llm_cost=trace.llm_cost,
        trace=lambda request, events: trace,
    )
    run.state = "stopped" if trace.finish_reason == "cancelled" else "done"
    run.finished.set()
    return run


def _check(trace: Trace) -> None:
    check_whole(
        "tokens of the trace", len(trace.events), 1, MAX_TOKENS, "an empty text cannot be shown, nor a longer one"
    )
    check_whole("prompt_tokens", trace.prompt_tokens, 0, 10_000_000, _HINT)
    for name in ("preset", "slm", "llm", "router"):
        check_whole(f"length of {name}", len(getattr(trace, name) or ""), 0, _LONGEST_NAME, _HINT)
    for role, cost in (("slm_cost", trace.slm_cost), ("llm_cost", trace.llm_cost)):
        _check_cost(role, cost)
    taken_back = [len(event.taken_back) for event in trace.events]
    check_whole("tokens that were taken back", sum(taken_back), 0, MAX_TOKENS, "more cannot be shown")
    for position, event in enumerate(trace.events):
        where = f"events.{position}"
        _check_event(event, where, position)
        for n, draft in enumerate(event.taken_back):
            _check_draft(draft, f"{where}.taken_back.{n}", position + n)
        _refuse_unless(
            event.role is Role.LLM or not event.taken_back, f"{where}.taken_back is not empty of an SLM token"
        )
    _refuse_unless(trace.text == "".join(event.text for event in trace.events), "text is not that of its tokens")
    ends = [event.finish_reason for event in trace.events]
    _refuse_unless(not any(ends[:-1]), "finish_reason is set before the last token")
    _refuse_unless((ends[-1] or "cancelled") == trace.finish_reason, "finish_reason is not that of the last token")


def _check_cost(role: str, cost: ModelCost) -> None:
    tables = cost.pass_table, cost.head_table
    _refuse_unless(bool(tables[0]) == bool(tables[1]), f"{role} has one table of seconds without the other")
    for table in tables:
        check_whole(f"{role}: lengths measured", len(table), 0, _LONGEST_TABLE, _HINT)
    for value in chain(astuple(replace(cost, pass_table=(), head_table=())), *chain(*tables)):
        if value != ():
            (check_whole if isinstance(value, int) else check_number)(role, value, 0, _LARGEST, _HINT)


def _check_draft(event: TokenEvent, where: str, position: int) -> None:
    """Of a token that was taken back, which is no part of the text."""
    _check_event(event, where, position)
    _refuse_unless(not event.taken_back, f"{where}.taken_back is not empty")


def _check_event(event: TokenEvent, where: str, position: int) -> None:
    check_whole(f"{where}.index", event.index, position, position, "tokens are numbered in their order")
    for check, limits in ((check_whole, _WHOLE), (check_number, _NUMBERS)):
        for most, names in limits.items():
            for name in names:
                if (value := getattr(event, name)) is not None:
                    check(f"{where}.{name}", value, 0, most, _HINT)  # pyright: ignore[reportArgumentType]  # each has its own limits
    candidates = (*event.slm_alternatives, *event.llm_alternatives)
    check_whole(f"{where}: candidates", len(candidates), 0, 100, _HINT)
    for candidate in candidates:
        check_number(f"{where}: probability of a candidate", candidate.probability, 0, 1.001, _HINT)  # rounding
    for text in (event.text, *(candidate.text for candidate in candidates)):
        check_whole(f"{where}: length of a text", len(text), 0, LONGEST_PIECE, _HINT)
    for name in ("revealed", "verdicts"):
        _refuse_unless(not getattr(event, name), f"{where}.{name} is not empty")


def _refuse_unless(holds: bool, what: str) -> None:
    if not holds:
        raise InvalidRequest(f"The trace contradicts itself ({_HINT}): {what}.")
