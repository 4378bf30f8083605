"""From a GGUF file to a loaded NF4 pair, and what happens when the cache is damaged or a file is the wrong one."""

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
from engine.weights import convert, store
from engine.weights.load import load_models
from engine.weights.manifest import MANIFEST
from tests.support.converted_pair import Files
from tests.support.random_gguf import WORDS, by_bitsandbytes, logits, random_qwen

ROOT = Path(__file__).resolve().parent.parent.parent


# --- the cache -------------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_frozen(files):
    pair, _ = files.load()
    for model in (pair.slm, pair.llm):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_pair_is_converted_from_gguf_with_its_tokenizer(files):
    pair, _ = files.load()
    assert torch.equal(logits(pair.slm), logits(by_bitsandbytes(copy.deepcopy(files.slm_dense))))
    assert torch.equal(logits(pair.llm), logits(by_bitsandbytes(copy.deepcopy(files.llm_dense))))
    assert (pair.quantisation, pair.slm.device.type) == ("NF4", "cpu")
    assert pair.tokenizer.decode(pair.tokenizer("the thing")["input_ids"]) == "the thing"
    assert convert.fingerprint_of(files.folder("small")) == tokenizer_fingerprint(pair.tokenizer)


def test_padding_entries_of_a_gguf_vocabulary_are_no_tokens(files):
    pair, _ = files.load()
    assert len(pair.tokenizer) == 256 + len(WORDS) + 2
    assert not [token for token in pair.tokenizer.get_vocab() if PADDING.fullmatch(token)]


def test_a_converted_pair_needs_no_gguf_file_and_converts_nothing(files):
    for path in (files.settings.cache_dir / "gguf").iterdir():
        path.unlink()
    _, said = files.load()
    assert said == ["loading small", "loading large"]


def test_lm_head_can_be_either_without_another_conversion(files):
    pair, said = files.load(lm_head_4bit=False)
    assert isinstance(pair.slm.get_output_embeddings(), nn.Linear)
    assert pair.slm.get_output_embeddings().weight.dtype == torch.bfloat16
    expected = logits(by_bitsandbytes(copy.deepcopy(files.slm_dense), lm_head=False))
    assert torch.equal(logits(pair.slm), expected)
    assert said == ["loading small", "loading large"]


@pytest.mark.skipif(not int8.supported(), reason="fbgemm needs an x86 processor")
def test_int8_weights_are_made_from_the_file_and_lie_beside_those_in_nf4(files):
    pair, said = files.load(cpu_weights="int8")
    assert (pair.quantisation, sum("converting" in each for each in said) > 0) == ("int8", True)
    expected = logits(files.slm_dense).float()
    assert (logits(pair.slm) - expected).norm() < 0.04 * expected.norm()
    assert files.load(cpu_weights="int8")[1] == files.load()[1] == ["loading small", "loading large"]


def test_an_embedding_that_the_file_holds_twice_is_tied_again_by_the_better_copy(tmp_path):
    files = Files(tmp_path)
    dense = random_qwen(5)
    dense.get_input_embeddings().weight.data = dense.lm_head.weight.data * 1.05
    files.preset = Preset("test", files.add("twice", dense), files.preset.llm)
    pair, _ = files.load()
    assert pair.slm.config.tie_word_embeddings
    assert torch.equal(pair.slm.state_dict()["model.embed_tokens.weight"], dense.lm_head.weight)
    assert not pair.llm.config.tie_word_embeddings


def test_a_files_metadata_is_parsed_once_for_tokenizer_and_weights(tmp_path, monkeypatch):
    files, opened = Files(tmp_path), []
    real = gguf.GGUFReader

    def counting(path, *args):
        opened.append(Path(path).name)
        return real(path, *args)

    monkeypatch.setattr(gguf, "GGUFReader", counting)
    files.load()
    assert opened == ["small.gguf", "large.gguf"]
    assert gguf.GGUFReader is counting


@pytest.mark.parametrize("damage", ["header", "truncated", "missing", "manifest", "config", "other version"])
def test_a_damaged_cache_is_made_again_and_said_so(files, damage):
    folder = files.folder("small")
    stored = folder / convert.WEIGHTS
    if damage == "header":
        content = stored.read_bytes()
        stored.write_bytes(b"\xff" * 16 + content[16:])
    elif damage == "truncated":
        os.truncate(stored, 1000)
    elif damage == "missing":
        stored.unlink()
    elif damage == "manifest":
        (folder / MANIFEST).write_text("{", encoding="utf-8")
    elif damage == "config":
        size = (folder / "config.json").stat().st_size
        (folder / "config.json").write_text(" " * size, encoding="utf-8")
    else:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        (folder / MANIFEST).write_text(json.dumps({**manifest, "bitsandbytes": "0.1"}), encoding="utf-8")
    pair, said = files.load()
    assert torch.equal(logits(pair.slm), logits(by_bitsandbytes(copy.deepcopy(files.slm_dense))))
    assert any("small in the cache is" in line and "made again" in line for line in said)
    assert not any("large in the cache" in line for line in said)


def test_a_damaged_cache_without_its_source_is_an_error_that_names_the_doors(files):
    (files.settings.cache_dir / "gguf" / "small.gguf").unlink()
    os.truncate(files.folder("small") / convert.WEIGHTS, 1000)
    with pytest.raises(WeightsError, match="CITER_HUB is false"):
        files.load()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("no module"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError("it cannot be mapped"),
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
        with pytest.raises(WeightsError, match=r"small cannot be loaded from .*: .") as raised:
            files.load()
    assert raised.value.__cause__ is error
    assert files.folder("small").stat().st_ino == before
    assert files.load()[1] == ["loading small", "loading large"]


def test_a_folder_whose_content_no_library_takes_is_made_again_whatever_its_hashes_say(files, monkeypatch):
    faults = [SafetensorError("no header")]
    real = convert.load_folder

    def reading(*args: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(*args)

    monkeypatch.setattr("engine.weights.load.load_folder", reading)
    assert "small in the cache is damaged (no header) and is made again" in files.load()[1]


def test_a_killed_conversion_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    files = Files(tmp_path)

    def killed(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            files.load()
    assert not [path for path in (tmp_path / "nf4").iterdir() if path.is_dir()]
    files.load()


def test_two_files_with_other_tokenizers_are_no_pair(files):
    other = files.add("foreign", random_qwen(4), words=["to", "on", "at"])
    files.preset = Preset("test", files.preset.slm, other)
    with pytest.raises(WeightsError, match=r"small and foreign cannot be a pair.*token 256 is 'th' .* 'to' "):
        files.load()


def test_the_users_file_that_has_changed_since_it_was_named_is_refused(files, tmp_path):
    mine = tmp_path / "mine.gguf"
    shutil.copy(files.settings.cache_dir / "gguf" / "large.gguf", mine)
    files.preset = replace(files.preset, slm=replace(files.preset.slm, path=mine))
    shutil.rmtree(files.folder("small"))
    with pytest.raises(WeightsError, match=r"mine\.gguf is not the small\.gguf that it was"):
        files.load()


# --- tokenizers ------------------------------------------------------------------------------------------------------


def test_a_fingerprint_survives_saving_and_ignores_padding(files, tmp_path):
    pair, _ = files.load()
    fingerprint = tokenizer_fingerprint(pair.tokenizer)
    padded = AutoTokenizer.from_pretrained(files.settings.cache_dir / "gguf", gguf_file="small.gguf")
    assert len(padded) > len(pair.tokenizer)
    assert tokenizer_fingerprint(padded) == fingerprint
    pair.tokenizer.save_pretrained(tmp_path / "saved")
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path / "saved")) == fingerprint
    check_same_tokenizer("one", padded, "two", pair.tokenizer)


def test_another_end_token_is_another_tokenizer(files):
    pair, _ = files.load()
    other = copy.deepcopy(pair.tokenizer)
    other.eos_token = "<|endoftext|>"
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(pair.tokenizer)
    with pytest.raises(WeightsError, match=r"one and two cannot be a pair.*end token"):
        check_same_tokenizer("one", pair.tokenizer, "two", other)


# --- the other presets -----------------------------------------------------------------------------------------------


def test_the_gpu_preset_without_cuda_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WeightsError, match="CITER_PRESET=cpu"):
        load_models(PRESETS["gpu"], load_settings())


def test_a_local_pair_is_loaded_in_fp32(files, tmp_path):
    for name, dense in (("slm", files.slm_dense), ("llm", files.llm_dense)):
        dense.save_pretrained(tmp_path / name)
    words = files.folder("small")
    slm, llm = (FolderModel(name, tmp_path / name, words) for name in ("slm", "llm"))
    preset = Preset("mine", slm, llm, "cpu", "fp32")
    pair = load_models(preset, load_settings())
    assert (pair.slm.dtype, pair.quantisation) == (torch.float32, "fp32")
    assert not pair.llm.training


def test_a_local_folder_that_is_not_there_is_named(tmp_path):
    preset = Preset("mine", FolderModel("s", tmp_path / "a"), FolderModel("l", tmp_path / "b"))
    with pytest.raises(WeightsError, match=r"s: .*a is not there"):
        load_models(preset, load_settings())


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(files, tmp_path):
    small = random_qwen(1)
    small.resize_token_embeddings(200)
    small.save_pretrained(tmp_path / "slm")
    source = FolderModel("s", tmp_path / "slm", files.folder("small"))
    with pytest.raises(WeightsError, match="200 rows"):
        load_models(Preset("mine", source, source, "cpu", "fp32"), load_settings())


def test_a_conversion_prints_nothing_of_other_libraries(tmp_path):
    files = Files(tmp_path)
    code = f"""
from pathlib import Path
import engine.pair
from engine import load_settings
from engine.weights.load import load_models
from engine.weights.manifest import MANIFEST
from engine.pairs.presets import PinnedFile, GgufModel, Preset
settings = load_settings(cpu_weights="nf4", cache_dir=Path({str(tmp_path)!r}), hub=False, mirror=False)
load_models({files.preset!r}, settings)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert files.folder("large").is_dir()
