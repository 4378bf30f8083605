"""The text that a visitor finds: a real pair's answer to one prompt all along the threshold, to be dragged through.

It needs no model. `python -m app.recorded` writes it, as traces, into `assets/recorded.json.xz`; the browser is sent
them as a sweep, in the page itself.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engine
from app.compare.comparison import Comparison, comparison_message
from app.components import to_json
from app.figures import dial, pair_name, simplest, token_ratios
from app.scale import STEPS
from app.sweep import Sweep, SweptPoint, sweep_message
from engine import (
    Prices,
    Request,
    Role,
    Settings,
    TokenEvent,
    Trace,
    at_setting,
    build_request,
    load_settings,
    same_text,
)
from engine.batch.text import follow
from engine.errors import CommandParser, exit_status
from engine.events.progress import print_progress
from engine.grading import is_right
from engine.operating_points import LLM_ONLY
from engine.provenance import machine, provenance

FILE = Path(__file__).resolve().parent.parent / "assets" / "recorded.json.xz"
PROMPT = (
    "Tom has 3 boxes with 24 pencils each. He gives a third of all pencils to his sister and 10 to a friend. "
    "How many does he keep? Answer in two short sentences."
)
ANSWER = "38"
ROWS = 25
"""Thresholds at most. Where the text has fewer decisions, there is one for each of its changes."""

_LARGEST = 20_000_000  # bytes, unpacked


@dataclass(frozen=True)
class Recorded:
    """Texts of one prompt, from SLM-only to LLM-only, with where they come from.

    Attributes:
        threshold: Where the slider starts: the router's own, or that of the cheapest text with the right answer.
        command, revision, hardware: See `engine.provenance`.
        traces: By threshold, the last LLM-only.
        answer: The right answer, empty where none is known.
    """

    threshold: float
    command: str
    revision: str
    hardware: str
    traces: tuple[Trace, ...]
    answer: str = ""

    @cached_property
    def sweep(self) -> Sweep:
        """Its texts as a sweep that has ended, a row for each trace."""
        return _RecordedSweep(self.traces)

    @property
    def start(self) -> int:
        """The number of the text that a visitor finds."""
        return max(n for n, trace in enumerate(self.traces) if trace.threshold <= self.threshold)

    @property
    def slider(self) -> str:
        """Where the slider stands when the page is opened, as a message for it (see `app.scale.slider_message`)."""
        place, first = round(STEPS * self.start / max(1, len(self.traces) - 1)), self.traces[0]
        return to_json({"place": place, "ratios": token_ratios(first.slm_cost, first.llm_cost, Prices())})

    def message(self) -> str:
        """A sweep's message (see `sweep_message`) with `recorded`: the prompt, and what is said of its texts."""
        first = self.traces[0]
        said = (
            f"Recorded, not written now: {pair_name(first.slm, first.llm)} on {self.hardware} ({self.command}), "
            f"{first.policy}, acceptance {dial(first.acceptance)}."
        )
        recorded = {
            "prompt": first.prompt,
            "said": said,
            "verdicts": [is_right(self.traces[n].text, self.answer) for n in (0, self.start, -1)]
            if self.answer
            else [],
        }
        message = json.loads(sweep_message(self.sweep, 0)[0]) | {"run": self.sweep.id}
        return to_json({**message, "recorded": recorded})

    def race(self) -> str:
        """The three texts of the verdicts as a comparison that has ended (see `comparison_message`)."""
        chosen = [self.traces[n] for n in (0, self.start, -1)]
        job = Comparison(chosen[1].request, Prices(), self.answer)
        job.pair = SimpleNamespace(slm_cost=chosen[1].slm_cost, llm_cost=chosen[1].llm_cost)
        for text, trace in zip(job.texts.values(), chosen, strict=True):
            text.prompt_tokens = trace.prompt_tokens
            for event in trace.events:
                job.add(text, event)
        job.compare()
        job.number, job.state = 0, "done"
        job.finished.set()
        return comparison_message(job, 0)

    def save(self, path: Path) -> None:
        """Writes it, compressed: a line that says where it comes from, and a trace per line."""
        about = json.dumps({name: getattr(self, name) for name in (*_ABOUT, "answer")}, ensure_ascii=False)
        lines = [about, *(trace.to_json() for trace in self.traces)]
        path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))


_ABOUT = ("threshold", "command", "revision", "hardware")


class _RecordedSweep(Sweep):
    """The traces as a sweep that has ended."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        first = traces[0]
        super().__init__(first.request, Prices())
        self.number, self.state = 0, "done"
        self.prompt_tokens = first.prompt_tokens
        self._begin_rows([SweptPoint(trace.threshold, trace.acceptance) for trace in traces])
        for row, trace in enumerate(traces):
            self.pair = SimpleNamespace(slm_cost=trace.slm_cost, llm_cost=trace.llm_cost)
            for event in trace.events:
                self._grow(replace(event, row=row))
        self.finished.set()


def load_recorded(path: Path = FILE) -> Recorded | None:
    """Reads what the command wrote; None where there is no such file. Raises InvalidRequest for any other."""
    if not path.is_file():
        return None
    try:
        text = lzma.LZMADecompressor(memlimit=2**28).decompress(path.read_bytes(), _LARGEST)
        first, *lines = text.decode().split("\n")
        about, traces = json.loads(first), tuple(map(Trace.parse, lines))
        if not traces:
            raise ValueError("it has no text")
        return Recorded(**{name: about[name] for name in _ABOUT}, traces=traces, answer=str(about.get("answer", "")))
    except (lzma.LZMAError, ValueError, KeyError, TypeError, engine.InvalidRequest) as error:
        raise engine.InvalidRequest(f"{path.name} is not what `python -m app.recorded` writes: {error}") from None


def record(pair: Any, request: Request, rows: int = ROWS) -> Iterator[Trace]:
    """One text after another, from SLM-only to LLM-only, at the next threshold that changes it, written on from there.

    The first is the SLM alone, the others are at the request's acceptance. Where there are more decisions than rows, it
    is the next but some, so that what is left to change is shared out evenly. The router's own threshold is among them,
    where the text is another there.
    """
    threshold: float | None = 0.0
    scheduler, events = engine.Scheduler(pair, 1), []
    try:
        for left in range(rows - 1, -1, -1):
            acceptance = request.setting.acceptance if threshold != 0 else 0.0
            at = LLM_ONLY if threshold is None else threshold
            setting = replace(request.setting, threshold=at, acceptance=acceptance)
            asked, kept = at_setting(request, events, setting)
            events = [*kept, *follow([scheduler.submit(asked, "recorded", events=kept)])]
            yield pair.trace(asked, events)
            if threshold is None:
                return
            before, threshold = threshold, _next(events, left) if left > 1 else None
            if before < pair.threshold < (threshold or LLM_ONLY) and pair.threshold > same_text(events)[1]:
                threshold = pair.threshold
    finally:
        scheduler.close()


def untimed(trace: Trace) -> Trace:
    """A trace without seconds, its own and those of the passes from which others would be modelled."""
    slow: dict[str, Any] = {"pass_seconds": 0.0, "token_seconds": 0.0, "pass_table": (), "head_table": ()}
    return replace(
        trace,
        events=tuple(replace(event, seconds=0.0) for event in trace.events),
        slm_cost=replace(trace.slm_cost, **slow),
        llm_cost=replace(trace.llm_cost, **slow),
    )


def _next(events: Sequence[TokenEvent], left: int) -> float | None:
    """A threshold above the lowest scores that went to the SLM, as many of them as leave the rest to `left` texts."""
    scores = sorted(event.score for event in events if event.role is Role.SLM and event.score is not None)
    for above in range(ceil(len(scores) / left), len(scores)):
        if found := simplest(round(scores[above - 1], 7), round(scores[above], 7)):
            return found
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Records; returns the exit status: 0, 2 for an error of the user's, 130 if interrupted."""
    return exit_status(partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> None:
    settings = load_settings()
    asked = _parser().parse_args(arguments)
    settings = settings.model_copy(update={"preset": asked.preset})
    recorded = _recorded(settings, Request(asked.prompt, max_new_tokens=asked.max_new_tokens), asked.answer)
    recorded.save(asked.output)
    texts = len({trace.text for trace in recorded.traces})
    print(f"{asked.output}: {len(recorded.traces)} thresholds, {texts} texts, {asked.output.stat().st_size:,} bytes")


def _recorded(settings: Settings, request: Request, answer: str) -> Recorded:
    pair = engine.load(settings.preset, settings, print_progress)
    traces = []
    for trace in record(pair, build_request(request, acceptance=pair.acceptance)):
        print(f"{trace.threshold:.7g}: {100 * trace.llm_share:.0f} % LLM, {trace.text[-60:]!r}", flush=True)
        traces.append(trace)
    return finished(pair, traces, os.getloadavg()[0], answer)


def finished(pair: Any, traces: Sequence[Trace], load: float, answer: str = "") -> Recorded:
    """What was recorded; without its seconds where the machine's load says that it did other work too."""
    busy = load > 1.5 * machine()["threads"]
    kept = tuple(map(untimed, traces)) if busy else tuple(traces)
    return Recorded(pair.threshold, traces=kept, answer=answer, **provenance("app.recorded"))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m app.recorded", description=__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT, help="what the pair answers (default: %(default)s)")
    parser.add_argument(
        "--answer", default=ANSWER, help="the right one, empty where there is none (default: %(default)s)"
    )
    parser.add_argument("--preset", default="cpu", help="the pair (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=160, help="of each text (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=FILE, help="the file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
