"""`python -m engine.benchmark`: the table of one pair, a profile of its steps, or one of three other commands.

Progress goes to stderr, the result to stdout, errors a user can cause to stderr with exit status 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import EngineError, exit_status
from engine.settings import MODEL_OPTIONS, add_model_options, load_settings, with_models
from engine.weights.files import write_json
from engine.weights.progress import print_progress

DESCRIPTION = "Measure the engine here: the table of one pair. Run it on an otherwise idle machine."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns the exit status: 0, 2 for an error of the user's, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    commands = {None: _table, "weights": _weights, "report": _report}
    return exit_status(lambda: commands[options.command](options))


def _table(options: argparse.Namespace) -> None:
    # Late: torch takes seconds, and `--help` can do without.
    from engine.benchmark.measure import Plan
    from engine.benchmark.profile import profile, render_profile
    from engine.benchmark.report import SUMMARIES, render, rewrite
    from engine.benchmark.subject import from_settings, from_shapes
    from engine.benchmark.table import NAMES, run

    unknown = sorted(set(options.only) - set(NAMES))
    if unknown:
        raise EngineError(f"--only {', '.join(unknown)}: known are {', '.join(NAMES)}")
    plan = Plan(options.prompt, options.tokens, options.rounds, tuple(options.first), options.context)
    if options.random_weights:
        subject = from_shapes(options.random_weights, plan.longest, options.device)
    else:
        named = {name: value for name in MODEL_OPTIONS if (value := getattr(options, name)) is not None}
        subject = from_settings(load_settings(**named, context=plan.longest), print_progress)
    if options.profile:
        summary = profile(subject, plan)
        print(render_profile(summary))
    else:
        summary = run(subject, plan, options.only, lambda text: print(text, file=sys.stderr, flush=True))
        print(render(summary))
    if options.json:
        _write(options.json, summary)
    if options.readme and not options.profile:
        _write(SUMMARIES / f"{subject.name}.json", summary)
        rewrite()


def _weights(options: argparse.Namespace) -> None:
    from engine.benchmark.agreement import weights
    from engine.benchmark.subject import PROMPTS
    from engine.pairs.presets import choose_preset
    from engine.provenance import provenance

    settings = with_models(load_settings(preset="cpu"), options)
    prompts = json.loads(PROMPTS.read_text(encoding="utf-8"))[: options.prompts]
    references = _references(options.data, options.questions) if options.data else []
    found = weights(choose_preset(settings), settings, prompts, options.tokens, references)
    print(json.dumps({**provenance("engine.benchmark"), **found}, indent=2, allow_nan=False))


def _references(path: Path, most: int) -> list[tuple[str, str]]:
    """Questions and their references, from a file of one JSON object a line."""
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, most)]
        if not rows:
            raise ValueError("it is empty")
        return [(str(row["question"]), str(row["reference"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} has no lines of JSON with a question and a reference: {error!r}") from None


def _report(_: argparse.Namespace) -> None:
    from engine.benchmark.report import rewrite

    print(f"docs/speed.md and README.md are {'rewritten' if rewrite() else 'up to date'}")


def _write(path: Path, summary: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, summary, indent=1, ensure_ascii=False)
    print(f"wrote {path}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine.benchmark", description=DESCRIPTION)
    add = parser.add_argument
    add_model_options(add)
    add(
        "--random-weights",
        nargs=2,
        metavar=("SLM", "LLM"),
        help="a pair with random NF4 weights instead: names of known shapes (qwen2.5-coder-0.5b, -1.5b, -7b) or paths "
        "of config.json files",
    )
    add("--device", choices=["cpu", "cuda"], help="of random weights; a GPU if there is one")
    add("--rounds", type=_positive, default=3, metavar="N", help="how often everything is measured (%(default)s)")
    add("--prompt", type=_positive, default=100, metavar="N", help="tokens of a prompt (%(default)s)")
    add("--tokens", type=_positive, default=200, metavar="N", help="new tokens of a text (%(default)s)")
    add(
        "--first",
        type=_positive,
        nargs="*",
        default=[50, 500, 2000],
        metavar="N",
        help="lengths of prompts whose time to the first token is measured (50 500 2000)",
    )
    add("--context", type=_positive, default=2000, metavar="N", help="the long context (%(default)s)")
    add("--only", nargs="+", default=[], metavar="ROW", help="some rows only; a wrong name lists them all")
    add("--profile", action="store_true", help="instead of the table: where the time of a step goes")
    add("--json", type=Path, metavar="PATH", help="write the summary there")
    add(
        "--readme",
        action="store_true",
        help="write the summary to assets/benchmarks/PRESET.json, and from that folder docs/speed.md and the README's "
        "table of speed",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    forms = commands.add_parser("weights", help="how near NF4 and int8 are to the original weights, of the cpu pair")
    forms.add_argument("--prompts", type=_positive, default=20, metavar="N", help="how many of assets/prompts.json")
    forms.add_argument("--tokens", type=_positive, default=64, metavar="N", help="per text, at most")
    forms.add_argument("--data", type=Path, metavar="PATH", help="JSON lines whose `reference` each form is judged by")
    forms.add_argument("--questions", type=_positive, default=24, metavar="N", help="how many of them")
    commands.add_parser("report", help="rewrite docs/speed.md and the README's table; measures nothing")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
