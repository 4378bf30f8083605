"""From a GGUF file to a loaded pair, and what happens when the cache is damaged, full, or left in the middle."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer

from engine.errors import WeightsError
from engine.model import int8
from engine.pairs.presets import PRESETS, FolderModel, Preset
from engine.settings import load_settings
from engine.tokenizer import PADDING, check_same_tokenizer, tokenizer_fingerprint
from engine.weights import __main__ as command
from engine.weights import cache_folder, convert, manifest
from engine.weights.cache_folder import NOTE
from engine.weights.load import load_models
from engine.weights.manifest import MANIFEST, Manifest
from tests.support.converted_pair import LOADED, Files
from tests.support.mutations import no_file_larger_than
from tests.support.paths import ROOT
from tests.support.random_gguf import WORDS, by_bitsandbytes, logits, random_qwen

READY = ["loading small", "loading large"]
"""What is said where nothing is to be converted."""


def quantised(dense, **options):
    return logits(by_bitsandbytes(copy.deepcopy(dense), **options))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0x40
    with path.open("r+b") as file:  # in place, so that the inode stays
        file.write(content)


def flip_unseen(path):
    """As when a disk decays."""
    stat = path.stat()
    flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# The cache


def test_a_pair_is_converted_from_gguf_with_its_tokenizer_and_frozen(files):
    pair, _ = files.load()
    for model, dense in ((pair.slm, files.slm_dense), (pair.llm, files.llm_dense)):
        assert torch.equal(logits(model), quantised(dense))
        assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    assert (pair.quantisation, pair.slm.device.type) == ("NF4", "cpu")
    assert pair.tokenizer.decode(pair.tokenizer("the thing")["input_ids"]) == "the thing"
    assert convert.fingerprint_of(files.folder("small")) == tokenizer_fingerprint(pair.tokenizer)
    assert len(pair.tokenizer) == 256 + len(WORDS) + 2
    assert not [token for token in pair.tokenizer.get_vocab() if PADDING.fullmatch(token)], "padding is no token"


def test_a_converted_pair_needs_no_gguf_file_and_has_lm_head_either_way(files):
    for path in (files.settings.cache_dir / "gguf").iterdir():
        path.unlink()
    pair, said = files.load(lm_head_4bit=False)
    assert isinstance(pair.slm.get_output_embeddings(), nn.Linear)
    assert pair.slm.get_output_embeddings().weight.dtype == torch.bfloat16
    assert torch.equal(logits(pair.slm), quantised(files.slm_dense, lm_head=False)) and said == READY


@pytest.mark.skipif(not int8.supported(), reason="fbgemm needs an x86 processor")
def test_int8_weights_are_made_from_the_file_and_lie_beside_those_in_nf4(files):
    pair, said = files.load(cpu_weights="int8")
    assert (pair.quantisation, sum("converting" in each for each in said) > 0) == ("int8", True)
    expected = logits(files.slm_dense).float()
    assert (logits(pair.slm) - expected).norm() < 0.04 * expected.norm()
    assert files.load(cpu_weights="int8")[1] == files.load()[1] == READY


def test_an_embedding_that_the_file_holds_twice_is_tied_again_and_metadata_are_parsed_once(tmp_path, monkeypatch):
    files, opened, real = Files(tmp_path), [], gguf.GGUFReader
    dense = random_qwen(5)
    dense.get_input_embeddings().weight.data = dense.lm_head.weight.data * 1.05
    files.preset = Preset("test", files.add("twice", dense), files.preset.llm)
    monkeypatch.setattr(gguf, "GGUFReader", lambda path, *rest: opened.append(Path(path).name) or real(path, *rest))
    pair, _ = files.load()
    assert pair.slm.config.tie_word_embeddings and not pair.llm.config.tie_word_embeddings
    assert torch.equal(pair.slm.state_dict()["model.embed_tokens.weight"], dense.lm_head.weight), "the better copy"
    assert opened == ["twice.gguf", "large.gguf"]


@pytest.mark.parametrize("damage", ["flipped", "truncated", "manifest", "config", "other version"])
def test_a_damaged_cache_is_made_again_and_said_so(files, damage):
    folder = files.folder("small")
    match damage:
        case "flipped":
            flip(folder / convert.WEIGHTS)
        case "truncated":
            os.truncate(folder / convert.WEIGHTS, 1000)
        case "manifest":
            (folder / MANIFEST).write_text("{", encoding="utf-8")
        case "config":
            size = (folder / "config.json").stat().st_size
            (folder / "config.json").write_text(" " * size, encoding="utf-8")
        case _:
            stored = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            (folder / MANIFEST).write_text(json.dumps({**stored, "bitsandbytes": "0.1"}), encoding="utf-8")
    pair, said = files.load()
    assert torch.equal(logits(pair.slm), quantised(files.slm_dense))
    assert any("small in the cache is" in line and "made again" in line for line in said)
    assert not any("large in the cache" in line for line in said)


@pytest.mark.parametrize("name", [MANIFEST, convert.WEIGHTS, "tokenizer.json", "", ".tmp"])
@pytest.mark.parametrize("instead", ["folder", "file", "link", "pipe"])
def test_whatever_stands_in_a_files_place_is_made_good(files, name, instead):
    folder = files.folder("small")
    path = folder / name if name not in ("", ".tmp") else folder.with_name(folder.name + name)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if name == ".tmp":
        shutil.rmtree(folder)  # so that it is in the way
    match instead:
        case "folder":
            (path / "below").mkdir(parents=True)
        case "file":
            path.write_text("[" * 100_000)
        case "link":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
    pair, said = files.load()
    assert torch.isfinite(logits(pair.slm)).all()
    assert any("converting small" in line for line in said)


def test_a_damaged_cache_without_its_source_is_an_error_that_names_the_doors(files):
    (files.settings.cache_dir / "gguf" / "small.gguf").unlink()
    os.truncate(files.folder("small") / convert.WEIGHTS, 1000)
    with pytest.raises(WeightsError, match="CITER_HUB is false"):
        files.load()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("can't allocate memory"),
        SafetensorError("Cannot allocate memory (os error 12)"),
    ],
    ids=str,
)
def test_a_whole_cache_stays_where_loading_it_fails_for_another_reason(files, monkeypatch, error):
    def fails(*_args):
        raise error

    before = files.folder("small").stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr("engine.weights.load.load_folder", fails)
        with pytest.raises(WeightsError, match="small") as raised:
            files.load()
    assert raised.value.__cause__ is error and files.folder("small").stat().st_ino == before
    assert files.load()[1] == READY


def test_a_folder_whose_content_no_library_takes_is_made_again_whatever_its_hashes_say(files, monkeypatch):
    faults, real = [SafetensorError("no header")], convert.load_folder

    def reading(*args: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(*args)

    monkeypatch.setattr("engine.weights.load.load_folder", reading)
    assert any("no header" in line and "made again" in line for line in files.load()[1])


# Hashes


def test_a_large_file_is_hashed_once_and_again_after_any_change(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "SMALL", 0)
    files = converted.copied_to(tmp_path / "cache")
    folder, model = files.folder("small"), files.preset.slm.file.sha256
    assert convert.problem(folder, model) is None, "copied files have other inodes, so they were hashed"
    hashed, real = [], cache_folder.sha256_of
    monkeypatch.setattr(cache_folder, "sha256_of", lambda path, *rest: hashed.append(path.name) or real(path, *rest))
    assert convert.problem(folder, model) is None and hashed == []
    weights = folder / convert.WEIGHTS
    os.utime(weights, ns=(1, 1))
    assert convert.problem(folder, model) is None and hashed == [convert.WEIGHTS]
    shutil.copy2(weights, folder / "new")
    (folder / "new").replace(weights)
    assert convert.problem(folder, model) is None and hashed == [convert.WEIGHTS] * 2, "another inode"
    flip_unseen(weights)
    assert convert.problem(folder, model) is None, "nothing shows"
    told = convert.problem(folder, model, again=True)
    assert told is not None and "changed" in told
    assert convert.problem(folder, model) == told, "what a request found is not forgotten"


def test_what_a_request_finds_is_told_and_made_again(files, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "SMALL", 0)
    monkeypatch.setattr(command, "PRESETS", {"test": files.preset})
    monkeypatch.setattr(command, "load_settings", lambda: files.settings)
    assert command.main([]) == 0 and capsys.readouterr().out.count(": whole\n") == 4
    weights = files.folder("small") / convert.WEIGHTS
    flip_unseen(weights)
    assert command.main([]) == 2 and f"{weights.parent}: its {weights.name}" in capsys.readouterr().out
    assert any("made again" in line for line in files.load()[1])
    assert command.main([]) == 0


def test_a_folder_of_an_earlier_version_gets_the_hash_that_it_lacks_and_a_note_that_cannot_be_kept_costs_time_only(
    files, monkeypatch
):
    folder = files.folder("small")
    stored = json.loads((folder / MANIFEST).read_text())
    whole = dict(stored["sha256"])
    del stored["sha256"][convert.WEIGHTS]
    (folder / MANIFEST).write_text(json.dumps(stored))
    assert files.load()[1] == READY and Manifest.load(folder).sha256 == whole
    monkeypatch.setattr(manifest, "SMALL", 0)
    (folder / (convert.WEIGHTS + NOTE)).mkdir()
    for _ in range(2):
        assert convert.problem(folder, files.preset.slm.file.sha256) is None
    flip(folder / convert.WEIGHTS)
    assert any("made again" in line for line in files.load()[1])


# In the middle

KILLED = """
import os, threading
from engine.weights import store
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
    left = {path.name for path in (tmp_path / "nf4").iterdir() if path.is_dir()}
    assert left == {files.folder("small").name, files.folder("large").name + ".tmp"}
    pair, said = files.load()
    assert torch.equal(logits(pair.slm), quantised(files.slm_dense))
    assert torch.equal(logits(pair.llm), quantised(files.llm_dense))
    assert not any("converting small" in line for line in said) and any("converting large" in line for line in said)
    assert not [path for path in (tmp_path / "nf4").iterdir() if path.suffix == ".tmp"]
    assert files.load()[1] == READY


@pytest.mark.parametrize("size", [1_000, 20_000, 200_000])
def test_a_disk_that_fills_up_in_mid_conversion_is_called_so_and_nothing_is_left(tmp_path, size):
    """It stops at the tokenizer, which is another library's than the weights."""
    files = Files(tmp_path)
    with no_file_larger_than(size), pytest.raises(WeightsError, match=r"no space in .*nf4: .* CITER_CACHE_DIR"):
        files.load()
    assert not [path for path in (tmp_path / "nf4").iterdir() if path.suffix != ".lock"]
    files.load()


def test_a_conversion_prints_nothing_of_other_libraries(tmp_path):
    files = Files(tmp_path)
    line = [sys.executable, "-c", LOADED.format(files=files)]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "") and files.folder("large").is_dir()


# Tokenizers, and what is no pair


def test_two_files_with_other_tokenizers_are_no_pair(files):
    other = files.add("foreign", random_qwen(4), words=["to", "on", "at"])
    files.preset = Preset("test", files.preset.slm, other)
    with pytest.raises(WeightsError, match=r"small and foreign .*token 256 is 'th' .* 'to' "):
        files.load()


def test_the_users_file_that_has_changed_since_it_was_named_is_refused(files, tmp_path):
    mine = tmp_path / "mine.gguf"
    shutil.copy(files.settings.cache_dir / "gguf" / "large.gguf", mine)
    files.preset = replace(files.preset, slm=replace(files.preset.slm, path=mine))
    shutil.rmtree(files.folder("small"))
    with pytest.raises(WeightsError, match=r"mine\.gguf .*small\.gguf"):
        files.load()


def test_a_fingerprint_survives_saving_and_ignores_padding_but_no_other_end_token(files, tmp_path):
    pair, _ = files.load()
    fingerprint = tokenizer_fingerprint(pair.tokenizer)
    padded = AutoTokenizer.from_pretrained(files.settings.cache_dir / "gguf", gguf_file="small.gguf")
    assert len(padded) > len(pair.tokenizer) and tokenizer_fingerprint(padded) == fingerprint
    pair.tokenizer.save_pretrained(tmp_path / "saved")
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path / "saved")) == fingerprint
    check_same_tokenizer("one", padded, "two", pair.tokenizer)
    other = copy.deepcopy(pair.tokenizer)
    other.eos_token = "<|endoftext|>"
    assert tokenizer_fingerprint(other) != fingerprint
    with pytest.raises(WeightsError, match=r"one and two .*end token"):
        check_same_tokenizer("one", pair.tokenizer, "two", other)


def test_the_gpu_preset_without_cuda_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WeightsError, match="CITER_PRESET=cpu"):
        load_models(PRESETS["gpu"], load_settings())


def test_a_local_pair_is_loaded_in_fp32_and_what_is_wrong_with_a_folder_is_named(files, tmp_path):
    for name, dense in (("slm", files.slm_dense), ("llm", files.llm_dense)):
        dense.save_pretrained(tmp_path / name)
    small = random_qwen(1)
    small.resize_token_embeddings(200)
    small.save_pretrained(tmp_path / "few")
    words = files.folder("small")
    slm, llm, few = (FolderModel(name, tmp_path / name, words) for name in ("slm", "llm", "few"))
    pair = load_models(Preset("mine", slm, llm, "cpu", "fp32"), load_settings())
    assert (pair.slm.dtype, pair.quantisation, pair.llm.training) == (torch.float32, "fp32", False)
    with pytest.raises(WeightsError, match="200 rows"):
        load_models(Preset("mine", few, few, "cpu", "fp32"), load_settings())
    with pytest.raises(WeightsError, match=r"s: .*nowhere"):
        load_models(Preset("mine", FolderModel("s", tmp_path / "nowhere"), llm), load_settings())
