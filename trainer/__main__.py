"""The trainer's command line: `python -m trainer <command>`; the commands are in `trainer.commands`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from engine.errors import CommandParser, exit_status, shown
from engine.models.files import FULL, disk_error
from trainer import TrainerError
from trainer.commands import COMMANDS


def parser() -> argparse.ArgumentParser:
    whole = CommandParser(prog="python -m trainer", description="Build and measure token routers.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        command.add_to(commands.add_parser(name, help=command.__doc__, description=command.__doc__))
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0, 2 if the user can put something right, 130 if they stopped it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file is read while hours pass
    return exit_status(partial(_run, arguments), TrainerError)


def _run(arguments: Sequence[str] | None) -> None:
    given = parser().parse_args(arguments)
    command = COMMANDS[given.command].of(given)
    for name in ("out", "results", "routers"):
        _require_folder(name, getattr(command, name, None))
    try:
        command.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; run the same command again to go on") from None
    except Exception as error:
        if disk_error(error) not in FULL:
            raise
        raise TrainerError(
            f"there is no space left ({error}): free some, and run the same command again to go on"
        ) from error


def _require_folder(name: str, path: Path | None) -> None:
    """Refuses an option that cannot become a folder before hours are spent on what goes there."""
    if path is not None:
        there = next((each for each in (path, *path.parents) if os.path.lexists(each)), Path())
        if not there.is_dir():
            raise TrainerError(f"--{name} {shown(str(path))}: {shown(str(there))} is no folder; name another")


if __name__ == "__main__":
    sys.exit(main())
