"""Records the text that a visitor of the page finds: one pair's answer to one prompt, all along the threshold.

`python -m tools.record` writes `assets/recorded.json.xz`, which `app.recorded` reads.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import engine
from app.recorded import FILE, Recorded
from engine import Request, Role, Settings, TokenEvent, Trace, at_setting, build_request, load_settings
from engine.batch.text import follow
from engine.errors import CommandParser, exit_status
from engine.events.progress import print_progress
from engine.provenance import machine, provenance
from engine.setting import LLM_ONLY

PROMPT = (
    "Anna reads 18 pages a day. Her book has 250 pages, and she has read for 9 days. How many pages are left? "
    "Answer in two short sentences."
)
ANSWER = "88"
ROWS = 25
"""Thresholds at most. Where the text has fewer decisions, there is one for each of its changes."""

_ROUNDING = 6e-8  # of a score with seven decimals


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
            lowest = min((e.score for e in events if e.role is Role.SLM and e.score is not None), default=math.inf)
            if max(before, lowest) < pair.threshold < (threshold or LLM_ONLY):
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
    for above in range(math.ceil(len(scores) / left), len(scores)):
        if found := _simplest(round(scores[above - 1], 7), round(scores[above], 7)):
            return found
    return None


def _simplest(low: float, high: float) -> float | None:
    """The threshold of fewest decimals above one score and at most another; None where seven do not tell them apart.

    As `between` in the browser: the ends are as sent, with seven decimals, so that a rounding is kept away from them.
    """
    for digits in range(1, 8):
        value = math.floor((high - _ROUNDING) * 10**digits) / 10**digits if high < 1 else 1.0
        if value > low + _ROUNDING:
            return value
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
    return Recorded(pair.threshold, traces=kept, answer=answer, **provenance("tools.record"))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m tools.record", description=__doc__)
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
