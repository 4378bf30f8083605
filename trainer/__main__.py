"""The trainer's command line: `python -m trainer <command>`.

Knows the commands and their options. What a command does lives in its own module, imported only when it runs, so that
`--help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import EngineError
from trainer.errors import TrainerError


def _add_tiny(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("assets/tiny"), help="the pair's folder (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and questions (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=1600, help="optimiser steps of the LLM; the SLM takes fewer (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--evaluate-only", action="store_true", help="measure the pair in --out, train nothing")


def _run_tiny(options: argparse.Namespace) -> None:
    from trainer.tiny import run

    run(options.out, options.seed, options.steps, options.threads, options.evaluate_only)


def _add_label(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", default="tiny", choices=["tiny", "cpu", "gpu"], help="pair of models (default: %(default)s)")
    add(
        "--data",
        nargs="+",
        default=["arithmetic"],
        metavar="FILE",
        help="JSON lines with id, question, [choices], reference, answer; several are mixed evenly; "
        "'arithmetic' is the tiny pair's own language (default: %(default)s)",
    )
    add("--questions", type=int, default=600, metavar="N", help="how many questions to label (default: %(default)s)")
    add("--out", type=Path, required=True, help="folder of the labels; run again to go on where it stopped")


def _run_label(options: argparse.Namespace) -> None:
    from engine import load
    from trainer.data import load_questions
    from trainer.label import label

    questions = load_questions(options.data, options.questions)
    label(load(options.preset), questions, options.out)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--labels", type=Path, required=True, help="folder that `label` wrote")
    add("--out", type=Path, required=True, help="the router's folder, e.g. assets/routers/tiny")
    add("--hidden-only", action="store_true", help="do not show the router the SLM's logit features")
    add("--learning-rate", type=float, default=3e-4, help="of AdamW (default: %(default)s)")
    add("--weight-decay", type=float, default=0.01, help="of AdamW (default: %(default)s)")
    add("--dropout", type=float, default=0.1, help="after each hidden layer (default: %(default)s)")
    add("--epochs", type=int, default=40, help="at most; stops early (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights, order and dropout (default: %(default)s)")
    add("--description", default="", help="one line for people, shown on the page")


def _run_fit(options: argparse.Namespace) -> None:
    from trainer.fit import FitSettings, fit

    settings = FitSettings(
        logit_features=not options.hidden_only,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        dropout=options.dropout,
        epochs=options.epochs,
        seed=options.seed,
    )
    fit(options.labels, options.out, settings, options.description)


# name: (one line of help, adds the options, runs the command)
Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]
COMMANDS: dict[str, Command] = {
    "label": (
        "say for each token of reference answers which model is preferred, with both models",
        _add_label,
        _run_label,
    ),
    "fit": ("train a router on labels, and measure it on questions it never saw", _add_fit, _run_fit),
    "tiny": ("train the two small models that the tests and a machine without network use", _add_tiny, _run_tiny),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows `python -m trainer`; the process's own arguments when None.

    Returns:
        The exit status: 0, or 2 when the user can put something right.
    """
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Build and measure token routers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (summary, add_options, _) in COMMANDS.items():
        add_options(commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."))
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command][2](options)
    except (TrainerError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
