"""The tests of what is parsed, as counts: how many damaged files crashed something or were silently taken.

A plugin of pytest (`-p tools.soak.mutations`). It runs the properties of `FILES` unchanged, but counts a
failure instead of stopping at it. A failed assertion counts as silently accepted, any other error as a crash.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.errors import HypothesisException, StopTest

from engine.provenance import ROOT

_COUNT, _OUT = "SOAK_MUTATIONS", "SOAK_OUT"
_NOT_OURS = HypothesisException, StopTest, KeyboardInterrupt, GeneratorExit  # how hypothesis steers
FILES = {
    "tests/engine/test_formats.py": "the engine's files",
    "tests/app/test_damaged_files.py": "the page's files",
    "tests/trainer/test_files.py": "the trainer's files",
    "tests/trainer/test_damaged_questions.py": "questions",
}
"""Where damaged documents are drawn, and what they are called."""

_found: dict[str, Counter[str]] = {}


def run(each: int, seed: int) -> dict[str, Counter[str]]:
    """Draws so many damaged documents of each kind; by property "tried", "accepted", and crashes by their error."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        env = {**os.environ, "PYTHONPATH": str(ROOT), _COUNT: str(each), _OUT: str(out)}
        options = ["-q", "-p", "tools.soak.mutations", "--hypothesis-profile", "soak", "--hypothesis-seed", str(seed)]
        command = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "--timeout", "3600", *FILES]
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not out.exists():
            return {"the properties could not be run": Counter({"tried": 1, done.stdout[-300:]: 1})}
        found = {name: Counter(counts) for name, counts in json.loads(out.read_text()).items()}
    if done.returncode:
        found["pytest itself"] = Counter({"tried": 1, f"status {done.returncode}: {done.stdout[-300:]}": 1})
    return found


def counting(inner: Any, counts: Counter[str]) -> Any:
    """A property that counts what becomes of its examples in place of failing."""

    @functools.wraps(inner)
    def counted(*args: Any, **options: Any) -> None:
        counts["tried"] += 1
        try:
            inner(*args, **options)
        except _NOT_OURS:
            counts["tried"] -= 1
            raise
        except (AssertionError, pytest.fail.Exception) as error:
            counts[f"accepted: {' '.join(str(error).split())[:80] or 'an assertion'}"] += 1
        except BaseException as error:
            counts[f"crash: {type(error).__name__}: {' '.join(str(error).split())[:80]}"] += 1

    return counted


if _COUNT in os.environ:
    settings.register_profile(
        "soak",
        max_examples=int(os.environ[_COUNT]),
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=[*HealthCheck],
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves only properties, each counting."""
    kept = []
    for item in items:
        property_ = getattr(getattr(item, "obj", None), "hypothesis", None)
        if property_ is not None:
            kind = FILES[str(item.path.relative_to(ROOT))]
            counts = _found.setdefault(f"{kind}: {item.name.removeprefix('test_').replace('_', ' ')}", Counter())
            property_.inner_test = counting(property_.inner_test, counts)
            kept.append(item)
    items[:] = kept


def pytest_sessionfinish() -> None:
    """Leaves what was counted where `run` looks for it."""
    if _OUT in os.environ:
        Path(os.environ[_OUT]).write_text(json.dumps(_found))
