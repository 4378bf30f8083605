"""The trainer's command line: `python -m trainer <command>`.

Knows the names of the commands. Their options are in `trainer.commands`; what a command does lives in its own module,
imported only when it runs, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence

from engine.errors import EngineError
from trainer.commands import COMMANDS
from trainer.errors import TrainerError


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    whole = argparse.ArgumentParser(prog="python -m trainer", description="Build and measure token routers.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        about = f"{command.summary[0].upper()}{command.summary[1:]}."
        command.add_options(commands.add_parser(name, help=command.summary, description=about))
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows `python -m trainer`; the process's own arguments when None.

    Returns:
        The exit status: 0, or 2 when the user can put something right.
    """
    options = parser().parse_args(arguments)
    try:
        COMMANDS[options.command].run(options)
    except (TrainerError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
