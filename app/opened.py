"""A trace from a file as a finished run, to be shown and inspected like one that was just written, without any model.

The file may be a stranger's: it is parsed as data, its size, numbers and lengths are bounded here, and its texts are
nothing but text. Knows nothing of gradio.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from app.forms import ALTERNATIVES
from app.jobs import Job
from app.runs import Run
from engine import InvalidRequest, ModelCost, Request, TokenEvent, Trace
from engine.request import MAX_THRESHOLD, number, whole

MAX_BYTES = 20_000_000
MAX_TOKENS = 20_000
"""More than any context the page runs with; a browser still draws it."""

_LONGEST_NAME = 300
_LONGEST_PIECE = 10_000  # characters of one token's text
_LARGEST = 10**18  # of a model's bytes and FLOPs
_LONGEST = 1e7  # seconds of one step
_HINT = "the file was changed, or another program wrote it"


@dataclass(frozen=True)
class OpenedPair:
    """Stands where a run has its models: what the page shows of them, read from the trace. It writes nothing."""

    opened: Trace

    @property
    def slm_cost(self) -> ModelCost:
        """What a pass of the SLM costs."""
        return self.opened.slm_cost

    @property
    def llm_cost(self) -> ModelCost:
        """What a pass of the LLM costs."""
        return self.opened.llm_cost

    def trace(self, request: Request, events: object) -> Trace:
        """The trace itself; the arguments are those of `engine.Pair.trace`."""
        return self.opened


class OpenedRun(Run):
    """A run that was over before it came here."""

    fixed = True


def opened_run(text: str, after: Job | None = None) -> Run:
    """A finished run that has everything a trace's file says.

    Args:
        text: The file's content.
        after: The newest run of the session.

    Raises:
        InvalidRequest: Too large, not a trace, or a value is out of range; the message names it.
    """
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise InvalidRequest(f"The file has {size:,} bytes; a trace of at most {MAX_BYTES:,} can be opened.")
    trace = Trace.from_json(text)
    request = _request(trace)
    _check(trace)
    run = OpenedRun(request, after)
    run.events = list(trace.events)
    run.prompt_tokens = trace.prompt_tokens
    run.pair = OpenedPair(trace)
    run.state = "stopped" if trace.finish_reason == "cancelled" else "done"
    run.finished.set()
    return run


def _request(trace: Trace) -> Request:
    """What was asked; refuses what the engine would refuse."""
    return Request(
        prompt=trace.prompt,
        threshold=trace.threshold,
        policy=trace.policy,
        system=trace.system,
        raw=trace.raw,
        sampling=trace.sampling,
        max_new_tokens=trace.max_new_tokens,
        stop=trace.stop,
        seed=trace.seed,
        alternatives=ALTERNATIVES,
        forced=trace.forced,
    )


def _check(trace: Trace) -> None:
    whole("tokens of the trace", len(trace.events), 1, MAX_TOKENS, "an empty text cannot be shown, nor a longer one")
    whole("prompt_tokens", trace.prompt_tokens, 0, 10_000_000, _HINT)
    for name in ("preset", "slm", "llm", "router"):
        whole(f"length of {name}", len(getattr(trace, name) or ""), 0, _LONGEST_NAME, _HINT)
    for role, cost in (("slm_cost", trace.slm_cost), ("llm_cost", trace.llm_cost)):
        for value in astuple(cost):
            (whole if isinstance(value, int) else number)(role, value, 0, _LARGEST, _HINT)
    for position, event in enumerate(trace.events):
        _check_event(event, position)
    _refuse_unless(trace.text == "".join(event.text for event in trace.events), "text is not that of its tokens")
    ends = [event.finish_reason for event in trace.events]
    _refuse_unless(not any(ends[:-1]), "finish_reason is set before the last token")
    _refuse_unless((ends[-1] or "cancelled") == trace.finish_reason, "finish_reason is not that of the last token")


def _check_event(event: TokenEvent, position: int) -> None:
    where = f"events.{position}"
    whole(f"{where}.index", event.index, position, position, "tokens are numbered in their order")
    whole(f"{where}.id", event.id, 0, 2**31 - 1, _HINT)
    whole(f"{where}.row", event.row, 0, 0, "a trace is one text")
    if event.score is not None:
        number(f"{where}.score", event.score, 0, 1, _HINT)
    for name in ("slm_entropy", "llm_entropy"):
        if getattr(event, name) is not None:
            number(f"{where}.{name}", getattr(event, name), 0, 64, _HINT)
    number(f"{where}.threshold", event.threshold, 0, MAX_THRESHOLD, _HINT)
    for name in ("slm_fed", "llm_fed"):
        whole(f"{where}.{name}", getattr(event, name), 0, 10_000_000, _HINT)
    for name in ("seconds", "slm_seconds", "llm_seconds"):
        number(f"{where}.{name}", getattr(event, name), 0, _LONGEST, _HINT)
    candidates = (*event.slm_alternatives, *event.llm_alternatives)
    whole(f"{where}: candidates", len(candidates), 0, 100, _HINT)
    for candidate in candidates:
        number(f"{where}: probability of a candidate", candidate.probability, 0, 1.001, _HINT)  # rounding
    for text in (event.text, *(candidate.text for candidate in candidates)):
        whole(f"{where}: length of a text", len(text), 0, _LONGEST_PIECE, _HINT)
    _refuse_unless(not event.revealed, f"{where}.revealed is not empty")


def _refuse_unless(holds: bool, what: str) -> None:
    if not holds:
        raise InvalidRequest(f"The trace contradicts itself ({_HINT}): {what}.")
