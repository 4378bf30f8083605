"""What a pair holds in memory: what it has read of its files, the copies that were made, and what is only mapped."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from engine.benchmark.__main__ import main
from engine.benchmark.measure import PeakMemory
from engine.endpoint.heap import give_back_freed_memory
from engine.model.held import give_back, held_by, process_memory
from engine.model.language_model import LanguageModel
from engine.weights import store
from engine.weights.load import load_models


@pytest.mark.skipif(store.cpu_layout("nf4") != "packed", reason="only packed weights have copies")
def test_copies_are_held_once_they_are_made_and_an_embedding_is_mapped(files):
    loaded = load_models(files.preset, files.settings, plain=False).slm
    model = LanguageModel(loaded, "small", 200, torch.bfloat16)
    weights, embedding = held_by(model)
    assert weights.bytes == model.cost.trunk_bytes + model.cost.head_bytes and not weights.mapped
    assert embedding.mapped and embedding.bytes == 2 * loaded.config.vocab_size * loaded.config.hidden_size
    model.make_copies()
    (copy,) = [part for part in held_by(model) if part not in (weights, embedding)]
    assert copy.bytes == 2 * (model.cost.trunk_flops + model.cost.head_flops) // 2  # two bytes of each weight


def test_a_tied_embedding_of_a_dense_model_is_counted_once(tiny_pair):
    assert [part.what for part in held_by(tiny_pair.slm)] == ["weights"]


def test_a_system_that_does_not_count_something_is_an_os_error_and_no_peak_is_known(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t  200 kB\n", encoding="ascii")
    monkeypatch.setattr("engine.model.held._STATUS", tmp_path / "status")
    monkeypatch.setattr("engine.benchmark.measure._CLEAR", tmp_path / "clear_refs")
    assert process_memory("VmRSS") == 200 * 1024
    with pytest.raises(OSError, match="it says no RssAnon"):
        process_memory("RssAnon")
    peak = PeakMemory(torch.device("cpu"))
    peak.start()
    assert peak.stop() is None


def test_what_was_freed_is_left_where_it_is_on_a_system_without_a_c_library_of_no_name(monkeypatch):
    def library(name):
        raise TypeError(f"LoadLibrary() argument 1 must be str, not {type(name).__name__}")

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(sys, "platform", "win32")
    give_back()
    give_back_freed_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_the_command_adds_up_to_the_process(capsys):
    assert main(["--preset", "tiny", "memory"]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    sizes = {what.strip("| "): int(size.replace(",", "")) for what, size, _ in lines[2:]}
    whole = sizes.pop("**process**")
    assert len(sizes) == 4 and sum(sizes.values()) == pytest.approx(whole, abs=4)  # each is rounded
