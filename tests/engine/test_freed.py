"""What was freed is given back where the C library does that, and nowhere else."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

from engine.endpoint import heap
from engine.endpoint.heap import give_back_freed_memory
from engine.model.freed import give_back
from tests.support.served_endpoint import eventually


def test_what_was_freed_is_left_where_it_is_on_a_system_without_a_c_library_of_no_name(monkeypatch):
    def library(name):
        raise TypeError(f"LoadLibrary() argument 1 must be str, not {type(name).__name__}")

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(sys, "platform", "win32")
    give_back()
    give_back_freed_memory()


def test_freed_memory_is_given_back_again_and_again_where_the_c_library_can(monkeypatch):
    asked: list[tuple[int, ...]] = []
    library = SimpleNamespace(malloc_trim=lambda *a: asked.append(a), mallopt=lambda *a: asked.append(a))
    monkeypatch.setattr(heap, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: library)
    give_back_freed_memory()
    eventually(lambda: asked.count((0,)) > 2)
    assert asked[0] == (heap._ARENA_MAX, 2)
    monkeypatch.setattr(heap, "EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: SimpleNamespace())
    give_back_freed_memory()  # another C library
