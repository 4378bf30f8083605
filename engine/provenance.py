"""Where a figure comes from: command, revision, processor. Goes into results, cards and benchmarks."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(program: str) -> str:
    """What the user typed, without paths that lead out of the folder it was typed in, which only this machine has.

    Args:
        program: As in `python -m <program>`.
    """
    paths = [(each, Path(each)) for each in sys.argv[1:]]
    inside = [path.name if path.is_absolute() or ".." in path.parts else each for each, path in paths]
    return " ".join([f"python -m {program}", *inside])


def revision() -> str:
    """The code's revision, marked if the tree has changes; "unknown" outside a repository."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """The processor in words, as its maker or else the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
