"""`python -m engine.bench`: measures one pair. Progress goes to stderr, the result to stdout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.errors import EngineError, exit_status
from engine.events.progress import print_progress
from engine.models.files import write_json
from engine.settings import add_model_options, load_settings, with_models

DESCRIPTION = "Measure the engine here, beside other ways to write. Run it on an otherwise idle machine."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.bench", description=DESCRIPTION)
    add = parser.add_argument
    add_model_options(add)
    add("--rounds", type=int, default=3, metavar="N", help="how often everything is measured (%(default)s)")
    add("--tokens", type=int, default=200, metavar="N", help="new tokens of a text (%(default)s)")
    add("--write", action="store_true", help="write it to assets/benchmarks and docs/speed.md")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    # Late: torch takes seconds, and `--help` can do without.
    from engine.bench.measure import Plan, run
    from engine.bench.table import SUMMARIES, render, rewrite

    if min(options.tokens, options.rounds) < 1:
        raise EngineError(f"{options.tokens} tokens, {options.rounds} rounds: --tokens and --rounds are at least 1.")
    plan = Plan(tokens=options.tokens, rounds=options.rounds)
    settings = with_models(load_settings(context=plan.longest), options)
    summary = run(settings, plan, print_progress)
    print(render(summary))
    if options.write:
        SUMMARIES.mkdir(exist_ok=True)
        write_json(SUMMARIES / f"{summary['preset']}.json", summary, indent=1, ensure_ascii=False)
        rewrite()


if __name__ == "__main__":
    sys.exit(main())
