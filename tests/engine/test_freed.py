"""What was freed is given back where the C library does that, and nowhere else."""

from __future__ import annotations

import ctypes
import sys

from engine.endpoint.heap import give_back_freed_memory
from engine.model.freed import give_back


def test_what_was_freed_is_left_where_it_is_on_a_system_without_a_c_library_of_no_name(monkeypatch):
    def library(name):
        raise TypeError(f"LoadLibrary() argument 1 must be str, not {type(name).__name__}")

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(sys, "platform", "win32")
    give_back()
    give_back_freed_memory()
