"""`python -m engine "prompt"`: a routed text in the terminal, coloured by its author, or its trace as JSON.

`python -m engine serve` is the endpoint for other programs (`engine.endpoint.serve`).

Errors a user can cause go to stderr, with exit status 2. Only text written before the error is on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from engine import (
    POLICIES,
    Role,
    Settings,
    TokenEvent,
    Trace,
    build_request,
    costs,
    load_settings,
)
from engine.errors import CommandParser, exit_status
from engine.events import SettledEvents, llm_passes, llm_tokens, taken_back
from engine.events.progress import print_progress
from engine.setting import stated
from engine.settings import MODEL_OPTIONS, add_model_options, with_models

# Okabe–Ito sky blue and orange, as near as 256 colours come; the LLM is underlined too, for those who see no colour.
_STYLE = {Role.SLM: "\x1b[38;5;74m", Role.LLM: "\x1b[4;38;5;214m"}
_TAKEN_BACK, _RESET = "\x1b[9m", "\x1b[0m"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 2 for an error of the user's, 130 if interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    run = partial(_run, given)
    if given[:1] == ["serve"]:
        from engine.endpoint.serve import serve

        run = partial(serve, given[1:])
    return exit_status(run)


def plain(text: str) -> str:
    """Text with control characters made visible, since a terminal would obey them; newline and tab stay."""
    return "".join(
        c if c in "\n\t" or (c.isprintable() or ord(c) > 0x9F) else chr(0x2400 + ord(c)) if ord(c) < 0x20 else "\ufffd"
        for c in text
    )


def meter(trace: Trace) -> str:
    """The run's cost in lines of plain text, beside both extremes."""
    cost = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost, trace.prices)
    count, speed = len(trace.events), len(trace.events) / max(cost.run.seconds, 1e-9)
    rows = [("", "this run", "SLM-only", "LLM-only", "of LLM-only")]
    for name, unit, scale in (("GB moved", "bytes", 1e9), ("GFLOP", "flops", 1e9), ("seconds", "seconds", 1)):
        run, slm, llm = (getattr(each, unit) / scale for each in (cost.run, cost.slm_only, cost.llm_only))
        # The extremes did not happen, so their seconds are marked. All seconds come from measured passes.
        mark = "~" if unit == "seconds" else ""
        own, alone, ratio = f"{run:.3f}", f"{mark}{llm:.3f}", f"{run / llm:.0%}" if llm > 0 else "–"
        if unit in cost.unknown:
            own, alone = "–", "not known"
        rows.append((name, own, f"{mark}{slm:.3f}", alone, ratio))
    passes = llm_passes(trace.events)
    back = f"{taken_back(trace.events)} taken back, " if trace.acceptance else ""
    return "\n".join(
        [
            f"{count} tokens, {llm_tokens(trace.events)} by the LLM ({trace.llm_share:.0%}), {back}"
            f"{passes} LLM passes, {speed:.1f} tok/s, ended by {trace.finish_reason}",
            *(f"{name:14}{run:>12}{slm:>12}{llm:>12}{ratio:>13}" for name, run, slm, llm, ratio in rows),
        ]
    )


def show(events: Sequence[TokenEvent], colour: bool) -> None:
    """Prints events of a text; in colour, tokens that were taken back stand struck through before the LLM's.

    A terminal cannot unwrite a line that has scrolled away, so the events must be settled.
    """

    def styled(event: TokenEvent, style: str = "") -> str:
        text = plain(event.text)
        return f"{_STYLE[event.role]}{style}{text}{_RESET}" if colour and text else text

    for event in events:
        lost = event.taken_back if colour else ()
        print(*(styled(each, _TAKEN_BACK) for each in lost), styled(event), sep="", end="", flush=True)


def _run(arguments: Sequence[str]) -> None:
    settings = load_settings()
    options = _parser(settings).parse_args(arguments)
    given = stated(options.setting) if options.setting else {}
    own = {*MODEL_OPTIONS, "json", "setting"}
    asked = {name: v for name, v in vars(options).items() if name not in own and v is not None}
    request = build_request(**asked, **{**settings.stated, **given})
    settings = with_models(settings, options)
    from engine.pair import load  # torch takes seconds to import: only for a request that is in order

    pair = load(None, settings, print_progress if sys.stderr.isatty() else None)
    request = build_request(request, setting=pair.setting(given, settings.stated))
    if pair.router is None and "policy" not in given and request.setting.policy == "confidence":
        print("note: no router belongs to this pair, so the SLM's confidence decides", file=sys.stderr)
    if request.setting.policy == "router" and pair.router is not None and pair.router.warning:
        print(f"warning: {pair.router.warning}", file=sys.stderr)
    if options.json:
        print(pair.generate(request).to_json())
        return
    text, colour = SettledEvents(), sys.stdout.isatty() and "NO_COLOR" not in os.environ
    try:
        for event in pair.stream(request):
            show(text.add(event), colour)
    finally:
        show(text.rest(), colour)
        if text.events:
            print("\n\n" + meter(pair.trace(request, text.events)))


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m engine",
        description="Write a text with a small and a large model, routed token by token.",
        epilog="`python -m engine serve` serves the pair to other programs. Defaults come from CITER_… variables and "
        ".env; `python -m engine.settings` lists them.",
    )
    add = parser.add_argument
    add("prompt", help="the question or instruction")
    add_model_options(add)
    add(
        "--setting",
        metavar="SETTING",
        help="who decides and how, e.g. 'router < 0.88 @ 0.3/8': policy, threshold (a lower score goes to the LLM), "
        "acceptance (0 keeps all that the SLM wrote, 1 only what the LLM would have written) and draft limit; any part "
        f"may be left out. Policies: {', '.join(POLICIES)} (default: CITER_SETTING, else the router's own)",
    )
    add("--max-new-tokens", type=int, default=settings.max_new_tokens, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=0, metavar="S", help="of sampling and of random routing")
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
