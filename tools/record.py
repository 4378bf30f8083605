"""Records the text that a visitor of the page finds: one pair's answer to one prompt, all along the threshold.

`python -m tools.record` writes `assets/recorded.json.xz`, which `app.recorded` reads.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import engine
from app.recorded import FILE, Recorded
from app.scale import pair_scale
from engine import Request, Settings, Trace, at_setting, build_request, load_settings
from engine.batch.text import follow
from engine.errors import CommandParser, exit_status
from engine.events.progress import print_progress
from engine.provenance import machine, provenance
from engine.setting import LLM_ONLY

PROMPT = (
    "Tom has 15 apples. He gives 4 to Mia and buys 8 more. How many apples does he have? Answer in two short sentences."
)
ANSWER = "19"
CANDIDATES = 3  # of each model at each token


def record(pair: Any, request: Request, scale: Sequence[float]) -> Iterator[Trace]:
    """A text for each threshold of the slider where it changes, each written on from the one before.

    The first is the SLM alone, the others are at the request's acceptance. The last is the LLM alone.
    """
    scheduler, events = engine.Scheduler(pair, 1), []
    try:
        for threshold in scale:
            acceptance = request.setting.acceptance if threshold != 0 else 0.0
            setting = replace(request.setting, threshold=threshold, acceptance=acceptance)
            asked, kept = at_setting(request, events, setting)
            if events and len(kept) == len(events) and threshold < LLM_ONLY:
                continue
            events = [*kept, *follow([scheduler.submit(asked, "recorded", events=kept)])]
            yield pair.trace(asked, events)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Records; returns the exit status: 0, 2 for an error of the user's, 130 if interrupted."""
    return exit_status(partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> None:
    settings = load_settings()
    asked = _parser().parse_args(arguments)
    settings = settings.model_copy(update={"preset": asked.preset})
    request = Request(asked.prompt, max_new_tokens=asked.max_new_tokens, alternatives=CANDIDATES)
    recorded = _recorded(settings, request, asked.answer)
    recorded.save(asked.output)
    texts = len({trace.text for trace in recorded.traces})
    print(f"{asked.output}: {texts} texts, {asked.output.stat().st_size:,} bytes")


def _recorded(settings: Settings, request: Request, answer: str) -> Recorded:
    pair = engine.load(settings.preset, settings, print_progress)
    traces, scale = [], pair_scale(pair, "router")
    for trace in record(pair, build_request(request, acceptance=pair.acceptance), scale):
        print(f"{trace.threshold:.7g}: {100 * trace.llm_share:.0f} % LLM, {trace.text[-60:]!r}", flush=True)
        traces.append(trace)
    return finished(pair, traces, scale, os.getloadavg()[0], answer)


def finished(pair: Any, traces: Sequence[Trace], scale: Sequence[float], load: float, answer: str = "") -> Recorded:
    """What was recorded; without its seconds where the machine's load says that it did other work too."""
    busy = load > 1.5 * machine()["threads"]
    kept = tuple(map(untimed, traces)) if busy else tuple(traces)
    return Recorded(pair.threshold, scale=tuple(scale), traces=kept, answer=answer, **provenance("tools.record"))


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
