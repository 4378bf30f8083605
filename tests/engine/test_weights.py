"""From a GGUF file to a loaded pair, and what happens when the cache is damaged, full, or left in the middle."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer

from engine.errors import WeightsError
from engine.models import files as storage
from engine.models import store
from engine.models.files import known_sha256, read_json
from engine.models.load import MANIFEST, load_models
from engine.models.sources import PRESETS, Preset, Source
from engine.settings import load_settings
from engine.tokenizer import PADDING, tokenizer_fingerprint
from tests.support.converted_pair import LOADED, Files
from tests.support.mutations import no_file_larger_than
from tests.support.paths import ROOT
from tests.support.random_gguf import WORDS, by_bitsandbytes, logits, random_qwen

READY = ["loading small", "loading large"]


def same(model, dense):
    """Whether a loaded model says what bitsandbytes' quantisation of the dense one says, up to the order of sums."""
    expected = logits(dense if store.cpu_layout() == "int8" else by_bitsandbytes(copy.deepcopy(dense))).float()
    return (logits(model).float() - expected).norm() < 0.04 * expected.norm()


# The cache


def test_a_pair_is_converted_from_gguf_with_its_tokenizer_and_needs_the_files_no_more(files):
    shutil.rmtree(files.settings.cache_dir / "gguf")
    pair, said = files.load()
    for model, dense in ((pair.slm, files.slm_dense), (pair.llm, files.llm_dense)):
        assert same(model, dense)
    assert (pair.quantisation, pair.slm.device.type, said) == (store.form(store.cpu_layout()), "cpu", READY)
    assert pair.tokenizer.decode(pair.tokenizer("the thing")["input_ids"]) == "the thing"
    assert len(pair.tokenizer) == 256 + len(WORDS) + 2
    assert not [token for token in pair.tokenizer.get_vocab() if PADDING.fullmatch(token)], "padding is no token"
    os.truncate(files.folder("small") / store.WEIGHTS, 1000)
    with pytest.raises(WeightsError, match="no repo is known"):
        files.load()


@pytest.mark.skipif(store.cpu_layout() == "int8", reason="all are in int8 here")
def test_int8_weights_are_made_from_the_file_and_lie_beside_those_in_nf4(files):
    pair, said = files.load(cpu_weights="int8")
    assert (pair.quantisation, sum("converting" in each for each in said) > 0) == ("int8", True)
    expected = logits(files.slm_dense).float()
    assert (logits(pair.slm) - expected).norm() < 0.04 * expected.norm()
    assert files.load(cpu_weights="int8")[1] == files.load()[1] == READY


def put(path, make):
    path.unlink()
    make(path)


DAMAGE = {
    "cut off": lambda folder: os.truncate(folder / store.WEIGHTS, 1000),
    "no JSON": lambda folder: (folder / MANIFEST).write_text("[" * 100_000),
    "another model": lambda folder: (folder / MANIFEST).write_text(json.dumps({"bitsandbytes": "0.1"})),
    "a pipe": lambda folder: put(folder / MANIFEST, os.mkfifo),
    "a folder": lambda folder: put(folder / store.WEIGHTS, os.mkdir),
    "a link to itself": lambda folder: put(folder / "tokenizer.json", lambda path: path.symlink_to(path)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_made_again(files, damage):
    damage(files.folder("small"))
    pair, said = files.load()
    assert same(pair.slm, files.slm_dense)
    assert any("converting small" in line for line in said)
    assert not any("converting large" in line for line in said)


def test_a_whole_cache_stays_where_loading_it_fails_for_another_reason(files, monkeypatch):
    def fails(*_args):
        raise MemoryError

    before = files.folder("small").stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr("engine.models.store.load", fails)
        with pytest.raises(WeightsError, match="small"):
            files.load()
    assert files.folder("small").stat().st_ino == before and files.load()[1] == READY


# Hashes


def test_a_large_file_is_hashed_once_and_again_after_any_change(tmp_path, monkeypatch):
    hashed, real, path = [], storage.sha256_of, tmp_path / "weights"
    monkeypatch.setattr(storage, "_SMALL", 0)
    monkeypatch.setattr(storage, "sha256_of", lambda path: hashed.append(path.name) or real(path))
    path.write_bytes(b"abc")
    assert known_sha256(path, tmp_path) == known_sha256(path, tmp_path) and len(hashed) == 1
    os.utime(path, ns=(1, 1))
    assert known_sha256(path, tmp_path) and len(hashed) == 2
    shutil.copy2(path, tmp_path / "new")
    (tmp_path / "new").replace(path)
    assert known_sha256(path, tmp_path) and len(hashed) == 3, "another inode"


# In the middle

KILLED = """
import os, threading
from engine.models import store
save, saved = store.save, []
def half(tensors, path):
    save(tensors, path)
    saved.append(path)
    if len(saved) == 2:
        os.truncate(path, path.stat().st_size // 2)
        print("in the middle", flush=True)
        threading.Event().wait()
store.save = half
"""


def test_a_conversion_that_is_killed_leaves_nothing_under_the_final_name_and_is_begun_again(tmp_path):
    files = Files(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED + LOADED.format(files=files)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n", "half of the second model is on the disk"
    process.kill()
    process.communicate()
    left = {path.name for path in (files.folder("small").parent).iterdir() if path.is_dir()}
    assert left == {files.folder("small").name, files.folder("large").name + ".tmp"}
    pair, said = files.load()
    assert same(pair.slm, files.slm_dense)
    assert same(pair.llm, files.llm_dense)
    assert not any("converting small" in line for line in said) and any("converting large" in line for line in said)
    assert not [path for path in (files.folder("small").parent).iterdir() if path.suffix == ".tmp"]
    assert files.load()[1] == READY


@pytest.mark.parametrize("size", [1_000, 200_000], ids=["tokenizer", "weights"])
def test_a_disk_that_fills_up_in_mid_conversion_is_called_so_and_nothing_is_left(tmp_path, size):
    files = Files(tmp_path)
    with no_file_larger_than(size), pytest.raises(WeightsError, match=r"no space in .*(nf4|int8): .* CITER_CACHE_DIR"):
        files.load()
    assert not [path for path in (files.folder("small").parent).iterdir() if path.suffix != ".lock"]


# Tokenizers, and what is no pair


def test_other_tokenizers_are_no_pair_and_padding_makes_no_difference(files, tmp_path):
    pair, _ = files.load()
    fingerprint = tokenizer_fingerprint(pair.tokenizer)
    assert read_json(files.folder("small") / MANIFEST)["tokenizer"] == fingerprint
    padded = AutoTokenizer.from_pretrained(files.settings.cache_dir / "gguf", gguf_file="small.gguf")
    assert len(padded) > len(pair.tokenizer) and tokenizer_fingerprint(padded) == fingerprint
    pair.tokenizer.save_pretrained(tmp_path / "saved")
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path / "saved")) == fingerprint
    other = copy.deepcopy(pair.tokenizer)
    other.eos_token = "<|endoftext|>"
    assert tokenizer_fingerprint(other) != fingerprint
    foreign = files.add("foreign", random_qwen(4), words=["to", "on", "at"])
    files.preset = Preset("test", files.preset.slm, foreign)
    with pytest.raises(WeightsError, match=r"small and foreign .*tokenizers differ"):
        files.load()


def test_a_pair_of_folders_or_for_a_gpu_that_cannot_be_loaded_is_told_why(files, tmp_path, monkeypatch):
    small = random_qwen(1)
    small.resize_token_embeddings(200)
    small.save_pretrained(tmp_path / "few")
    few = Source("few", tmp_path / "few", files.folder("small"))
    with pytest.raises(WeightsError, match="200 rows"):
        load_models(Preset("mine", few, few, "cpu", "fp32"), load_settings())
    with pytest.raises(WeightsError, match=r"s: .*nowhere"):
        load_models(Preset("mine", Source("s", tmp_path / "nowhere"), few), load_settings())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WeightsError, match="CITER_PRESET=cpu"):
        load_models(PRESETS["gpu"], load_settings())
