"""The trainer's command line: `python -m trainer <command>`; the commands are in `trainer.commands`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import CommandParser, exit_status, shown
from engine.files import FULL, disk_error
from trainer import TrainerError
from trainer.commands import COMMANDS


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    whole = CommandParser(prog="python -m trainer", description="Build and measure token routers.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.summary, description=command.summary)
        command.add_options(partial(add_option, one))
    return whole


def add_option(parser: argparse.ArgumentParser, option: str, help: str, default: Any = None, **argument: Any) -> None:
    """Adds an option of its default's type, with the default in its help; a switch where the default is a bool."""
    if isinstance(default, bool):
        argument |= {"action": "store_const", "const": not default}
    elif default not in (None, "", []) and "action" not in argument:
        several = isinstance(default, list)
        argument["type"] = type(default[0] if several else default)
        help += f" (default: {' '.join(map(str, default)) if several else default})"
    parser.add_argument(option, default=default, help=help, **argument)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0, 2 if the user can put something right, 130 if they stopped it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file that it is told to is read while hours pass. `accelerate launch` starts its processes unbuffered: their
        # lines would be two writes each, one for the end, and run into each other.
        sys.stdout.reconfigure(line_buffering=True, write_through=False)
    return exit_status(partial(_run, arguments), TrainerError)


def _run(arguments: Sequence[str] | None) -> None:
    options = parser().parse_args(arguments)
    for name in ("out", "results", "routers"):
        _require_folder(name, getattr(options, name, None))
    try:
        COMMANDS[options.command].run(options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; run the same command again to go on") from None
    except Exception as error:
        if disk_error(error) not in FULL:
            raise
        raise TrainerError(
            f"there is no space left ({error}): free some, and run the same command again to go on"
        ) from error


def _require_folder(name: str, path: Any) -> None:
    """Refuses an option that cannot become a folder before hours are spent on what goes there."""
    if isinstance(path, Path):
        there = next((each for each in (path, *path.parents) if os.path.lexists(each)), Path())
        if not there.is_dir():
            raise TrainerError(f"--{name} {shown(str(path))}: {shown(str(there))} is no folder; name another")


if __name__ == "__main__":
    sys.exit(main())
