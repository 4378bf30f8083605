"""A trace from a file as a finished run, to be shown and inspected like one that was just written, without any model.

The file may be a stranger's: it is parsed as data, its size is bounded here and its numbers and lengths by the engine,
and its texts are nothing but text.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from app.fields import ALTERNATIVES
from app.figures import pair_name
from app.running.job import Job
from app.running.run import Run
from engine import InvalidRequest, TokenEvent, Trace
from engine.errors import check_whole
from engine.events import Role

MAX_BYTES = 20_000_000
MAX_TOKENS = 20_000
"""More than any context the page runs with; a browser still draws it."""

MAX_PARTS = 1_000_000
"""Lists and objects of a file: one of the largest traces has some 800,000. Each takes twenty times its bytes."""

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
    trace = Trace.from_json(text)
    request = replace(trace.request, alternatives=ALTERNATIVES)
    _check(trace)
    run = Run(request, after)
    run.fixed = True
    run.size = size
    run.about = f"This text was opened, not written here. Its models: {pair_name(trace.slm, trace.llm)}"
    run.events = list(trace.events)
    run.prompt_tokens = trace.prompt_tokens
    run.pair = SimpleNamespace(  # what the page asks of the models that wrote it; these cannot write
        opened=trace,
        slm_cost=trace.slm_cost,
        llm_cost=trace.llm_cost,
        trace=lambda request, events: trace,
    )
    run.state = "stopped" if trace.finish_reason == "cancelled" else "done"
    run.finished.set()
    return run


def _check(trace: Trace) -> None:
    """Raises InvalidRequest for what contradicts itself; the engine has checked each value alone."""
    check_whole(
        "tokens of the trace", len(trace.events), 1, MAX_TOKENS, "an empty text cannot be shown, nor a longer one"
    )
    taken_back = [len(event.taken_back) for event in trace.events]
    check_whole("tokens that were taken back", sum(taken_back), 0, MAX_TOKENS, "more cannot be shown")
    for position, event in enumerate(trace.events):
        where = f"events.{position}"
        _check_place(event, where, position)
        for n, draft in enumerate(event.taken_back):
            _check_place(draft, f"{where}.taken_back.{n}", position + n)
            _refuse_unless(not draft.taken_back, f"{where}.taken_back.{n}.taken_back is not empty")
        kept = event.role is Role.LLM or not event.taken_back
        _refuse_unless(kept, f"{where}.taken_back is not empty of an SLM token")
    _refuse_unless(trace.text == "".join(event.text for event in trace.events), "text is not that of its tokens")
    ends = [event.finish_reason for event in trace.events]
    _refuse_unless(not any(ends[:-1]), "finish_reason is set before the last token")
    _refuse_unless((ends[-1] or "cancelled") == trace.finish_reason, "finish_reason is not that of the last token")


def _check_place(event: TokenEvent, where: str, position: int) -> None:
    check_whole(f"{where}.index", event.index, position, position, "tokens are numbered in their order")
    check_whole(f"{where}.row", event.row, 0, 0, _HINT)


def _refuse_unless(holds: bool, what: str) -> None:
    if not holds:
        raise InvalidRequest(f"The trace contradicts itself ({_HINT}): {what}.")
