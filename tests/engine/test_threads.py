"""Threads that wait for work sleep soon, in every program, so that a shared processor is not taken from others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

LOOK = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if "GOMP_SPINCOUNT" in os.environ:
            sys.exit("settled")  # long before all is imported
        if name == "torch":
            sys.exit("torch was first")

sys.meta_path.insert(0, Finder())
import {module}
"""


@pytest.mark.parametrize("module", ["engine.__main__", "trainer.__main__", "app.page"])
def test_a_program_settles_how_long_idle_threads_spin_before_it_loads_torch(module):
    free = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", LOOK.format(module=module)]
    done = subprocess.run(command, cwd=ROOT, env=free, capture_output=True, text=True)
    assert done.stderr.strip() == "settled"
