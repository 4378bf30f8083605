"""`python -m engine "prompt"`: a routed text in the terminal, coloured by its author, or its trace as JSON.

Knows the command line only. Errors a user can cause go to stderr, with exit status 2 and nothing on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from engine import (
    POLICIES,
    EngineError,
    Request,
    Role,
    Sampling,
    TokenEvent,
    Trace,
    costs,
    load_settings,
)
from engine.progress import print_progress
from engine.request import DEFAULT_THRESHOLD
from engine.settings import PRESET_NAMES, Settings

# Okabe–Ito sky blue and orange, as near as 256 colours come; the LLM is underlined as well, for who sees no colour.
_STYLE = {Role.SLM: "\x1b[38;5;74m", Role.LLM: "\x1b[4;38;5;214m"}
_RESET = "\x1b[0m"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        Exit status: 0, 2 for an error of the user's, 130 if interrupted.
    """
    try:
        settings = load_settings()
        options = _parser(settings).parse_args(arguments)
        return _run(options, settings)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def plain(text: str) -> str:
    """Text with control characters made visible, since a terminal would obey them; newline and tab stay."""
    return "".join(
        c if c in "\n\t" or (c.isprintable() or ord(c) > 0x9F) else chr(0x2400 + ord(c)) if ord(c) < 0x20 else "\ufffd"
        for c in text
    )


def meter(trace: Trace) -> str:
    """The run's cost in lines of plain text, beside both extremes."""
    beside = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost, trace.prices)
    seconds = sum(e.seconds for e in trace.events)
    count = len(trace.events)
    by_llm = sum(e.role is Role.LLM for e in trace.events)
    lines = [
        f"{count} tokens, {by_llm} by the LLM ({trace.llm_share:.0%}), {count / max(seconds, 1e-9):.1f} tok/s, "
        f"ended by {trace.finish_reason}",
        f"{'':14}{'this run':>12}{'SLM-only':>12}{'LLM-only':>12}{'of LLM-only':>13}",
    ]
    for unit, scale, name in (("bytes", 1e9, "GB moved"), ("flops", 1e9, "GFLOP"), ("seconds", 1, "seconds")):
        run, slm, llm = (getattr(cost, unit) for cost in (beside.run, beside.slm_only, beside.llm_only))
        # The extremes of seconds did not happen: they are modelled from measured passes, and marked so.
        mark = "~" if unit == "seconds" else ""
        lines.append(
            f"{name:14}{run / scale:>12.3f}{mark + format(slm / scale, '.3f'):>12}"
            f"{mark + format(llm / scale, '.3f'):>12}{run / max(llm, 1e-12):>13.0%}"
        )
    return "\n".join(lines)


def _run(options: argparse.Namespace, settings: Settings) -> int:
    request = Request(
        prompt=options.prompt,
        threshold=DEFAULT_THRESHOLD if options.threshold is None else options.threshold,
        policy=options.policy,
        system=options.system,
        raw=options.raw,
        sampling=Sampling(options.temperature, options.top_p, options.top_k, options.repetition_penalty),
        max_new_tokens=options.max_new_tokens,
        stop=tuple(options.stop),
        seed=options.seed,
        alternatives=options.alternatives,
    )
    from engine.pair import load  # torch takes seconds to import: only for a request that is in order

    pair = load(options.preset, settings, print_progress if sys.stderr.isatty() else None)
    if options.threshold is None and request.policy == "router":
        request = replace(request, threshold=pair.threshold)
    if pair.router is not None and pair.router.warning and request.policy == "router":
        print(f"warning: {pair.router.warning}", file=sys.stderr)
    if options.json:
        print(pair.generate(request).to_json())
        return 0
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    events: list[TokenEvent] = []
    try:
        for event in pair.stream(request):
            events.append(event)
            _show(event, colour, sys.stdout)
    finally:
        if events:
            print("\n\n" + meter(pair.trace(request, events)))
    return 0


def _show(event: TokenEvent, colour: bool, out: TextIO) -> None:
    text = plain(event.text)
    out.write(f"{_STYLE[event.role]}{text}{_RESET}" if colour and text else text)
    out.flush()


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine",
        description="Write a text with a small and a large model, routed token by token.",
        epilog="Defaults come from CITER_… variables and .env; `python -m engine.settings` lists them.",
    )
    add = parser.add_argument
    add("prompt", help="the question or instruction")
    add("--preset", choices=PRESET_NAMES, help=f"pair of models (default: {settings.preset})")
    add("--threshold", type=float, default=settings.threshold, help="score < threshold → LLM (default: router's own)")
    add("--policy", choices=POLICIES, default=settings.policy, help="who decides (default: %(default)s)")
    add("--max-new-tokens", type=int, default=settings.max_new_tokens, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=settings.seed, metavar="S", help="of sampling and of random routing")
    add("--alternatives", type=int, default=0, metavar="K", help="record each model's K likeliest tokens (with --json)")
    add("--json", action="store_true", help="print the trace as one JSON object instead")
    add("--system", metavar="TEXT", help="system message")
    add("--raw", action="store_true", help="continue the prompt as it is, without the chat template")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times")
    add("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    add("--top-p", type=float, default=1.0, metavar="P", help="keep the likeliest tokens of this total probability")
    add("--top-k", type=int, default=0, metavar="K", help="keep the K likeliest tokens; 0 keeps all")
    add("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 discourages what is there already")
    return parser


if __name__ == "__main__":
    sys.exit(main())
