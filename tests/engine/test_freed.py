"""What was freed is given back where the C library does that, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace

from engine.endpoint import heap
from engine.endpoint.heap import give_back_freed_memory
from tests.support.served_endpoint import eventually


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
