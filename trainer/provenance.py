"""Where a figure comes from: the command, the code's revision and the hardware. Goes into every result and card."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import torch


def provenance() -> dict[str, str]:
    """What made a result: the command, the code's revision and the hardware."""
    root = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        revision = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {"command": command(), "revision": revision, "hardware": hardware()}


def command() -> str:
    """What the user typed, without absolute paths, which are of no use on another machine."""
    arguments = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return " ".join(["python -m trainer", *arguments])


def hardware() -> str:
    """The processor or GPU, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{torch.get_num_threads()} threads of {model}"
