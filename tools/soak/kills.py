"""What `tools/soak` does on the disk: processes killed in mid-work.

A killed conversion or training run is run again and must leave the same bytes as one that nobody disturbed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.provenance import ROOT
from tools.soak.tally import Tally

_LONGEST = 300.0  # seconds of a process
_READY = b"ready\n"
CONVERSION = """
import sys
from pathlib import Path
from tests.support.converted_pair import Files
files = Files(Path(sys.argv[1]))
print("ready", flush=True)
files.load()
"""
TRAINING = """
import sys
import engine
from trainer.__main__ import main
from trainer.labels import answers
print("ready", flush=True)
sys.exit(main(["answer", "--preset", "tiny", "--questions", "300", "--max-new-tokens", "4", "--out", sys.argv[1]]))
"""
_PASSING = (".lock", ".tmp")  # ends of names that say nothing of what was made


def run(count: int, seed: int, tally: Tally) -> None:
    """Kills a conversion and a training run `count` times each."""
    drawn = random.Random(f"kills {seed}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for what, program in (("conversions killed", CONVERSION), ("training runs killed", TRAINING)):
            _kill_often(what, program, Path(folder) / what.replace(" ", "-"), count, drawn, tally)


def _kill_often(what: str, program: str, folder: Path, count: int, drawn: random.Random, tally: Tally) -> None:
    """Kills a program at moments drawn from its whole run, runs it again, and compares what it made."""
    fault, seconds = _started(program, folder / "whole", None)
    whole = contents(folder / "whole")
    if fault or not whole:
        tally.lost(what, f"nobody disturbed it, and {fault or 'it made nothing'}")
        return
    for number in range(count):
        here = folder / str(number)
        _started(program, here, drawn.uniform(0, seconds))
        fault, _ = _started(program, here, None)
        if fault:
            tally.lost(what, f"run again, {fault}")
        elif (found := contents(here)) != whole:
            names = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
            tally.lost(what, f"other bytes than undisturbed in {', '.join(names)}")
        else:
            tally.held(what)


def _started(program: str, folder: Path, kill_after: float | None) -> tuple[str, float]:
    """Runs a program until its end, or kills it so many seconds after it was ready.

    Returns:
        What went wrong, if anything, where it was to run to its end; and the seconds from when it was ready.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, str(folder)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        try:
            while (line := process.stdout.readline()) not in (_READY, b""):
                pass
            began = time.perf_counter()
            try:
                process.communicate(timeout=_LONGEST if kill_after is None else kill_after)
            except subprocess.TimeoutExpired:
                if kill_after is None:
                    return f"no end after {_LONGEST:.0f} s", _LONGEST
            seconds = time.perf_counter() - began
        finally:
            process.kill()
            process.communicate()
        said.seek(0)
        lines = said.read().decode(errors="replace").split("\n")
    if kill_after is None and (process.returncode or line != _READY):
        return f"status {process.returncode}: {' '.join(lines)[-200:]}", seconds
    return "", seconds


def contents(folder: Path) -> dict[str, bytes]:
    """The files that were made, by their paths."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not str(path.relative_to(folder)).endswith(_PASSING)
    }
