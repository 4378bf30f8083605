"""What `tools/soak` does on the disk: processes killed in mid-work, downloads from a server that misbehaves.

A killed conversion or training run is run again and must leave the same bytes as one that nobody disturbed. A download
gives the right bytes or a clear word, and the right bytes when it is tried again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import WeightsError
from engine.models.download import fetch
from engine.provenance import ROOT
from engine.settings import Settings, load_settings
from tests.support.fake_sources import CONTENT, FILE, Hub
from tools.soak.tally import Tally

_LONGEST = 300.0  # seconds of a process
_READY = b"ready\n"
CONVERSION = """
import sys
from pathlib import Path
from tests.support.converted_pair import Files
from engine.models import convert
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
_STATUSES = (200, 200, 200, 200, 403, 404, 429, 500, 503)
_TIMEOUT = 0.5  # seconds that the Hub may be silent


def run(count: int, seed: int, tally: Tally) -> None:
    """Kills a conversion and a training run `count` times each, and downloads `count` times."""
    drawn = random.Random(f"kills {seed}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for what, program in (("conversions killed", CONVERSION), ("training runs killed", TRAINING)):
            _kill_often(what, program, Path(folder) / what.replace(" ", "-"), count, drawn, tally)
        _download_often(Path(folder) / "downloads", count, drawn, tally)


def _kill_often(what: str, program: str, folder: Path, count: int, drawn: random.Random, tally: Tally) -> None:
    """The moments are anywhere between the first line of work and the last."""
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


def _download_often(folder: Path, count: int, drawn: random.Random, tally: Tally) -> None:
    what = "downloads from a server that misbehaves"
    with _hub() as hub:
        for number in range(count):
            settings = load_settings(cache_dir=folder / str(number), mirror=False, hub_timeout=_TIMEOUT)
            _misbehave(hub, drawn)
            word = _fetched(settings)
            hub.behave()
            again = _fetched(settings)
            if " " not in (word or "a word"):
                tally.lost(what, f"no clear word: {word}")
            elif again is not None:
                tally.lost(what, f"tried again: {again}")
            elif word is None:
                tally.held(what)
            else:
                tally.refused(what, word.replace(hub.url, "http://hub").replace(str(folder), "…"))


@contextmanager
def _hub() -> Iterator[_DrawnHub]:
    """A server that the engine takes for the Hub."""
    hub = _DrawnHub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    names = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield hub
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        hub.shutdown()
        hub.server_close()


class _DrawnHub(Hub):
    def __init__(self) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def behave(self) -> None:
        self.status, self.hang, self.pause, self.cut_after, self.ranges, self.content = 200, 0.0, 0.0, [], True, CONTENT


def _misbehave(hub: _DrawnHub, drawn: random.Random) -> None:
    """Each kind of fault now and then, also several at once."""
    hub.status = drawn.choice(_STATUSES)
    hub.hang = drawn.choice([0, 0, 0, 4 * _TIMEOUT])
    hub.pause = drawn.choice([0, 0, 0, 0.3])
    hub.cut_after = [drawn.randrange(len(CONTENT)) for _ in range(drawn.choice([0, 0, 1, 2, 8]))]
    hub.ranges = drawn.random() < 0.7
    other = bytearray(CONTENT)
    other[drawn.randrange(len(other))] ^= drawn.randrange(1, 256)
    hub.content = drawn.choice(
        [CONTENT, CONTENT, CONTENT, bytes(other), CONTENT[:-1], CONTENT * 2, b"<html>log in</html>"]
    )


def _fetched(settings: Settings) -> str | None:
    """None if the right bytes came, else what is said; a fault of another kind than a WeightsError has no spaces."""
    try:
        path = fetch(FILE, settings)
    except WeightsError as error:
        return str(error)
    except Exception as error:
        return type(error).__name__
    return None if path.read_bytes() == CONTENT else "other-bytes-were-taken"
