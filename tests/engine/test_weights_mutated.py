"""Converted weights that were damaged on the disk: noticed, told by name, and made again; never loaded."""

from __future__ import annotations

import json
import os
import shutil
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SettingsError, WeightsError
from engine.pairs.config import check_gguf, read_config
from engine.pairs.gguf_header import GgufHeader
from engine.pairs.own import read_pairs
from engine.pairs.tensors import Tensors
from engine.weights import __main__ as command
from engine.weights import cache_folder, convert, manifest
from engine.weights.cache_folder import NOTE
from engine.weights.manifest import MANIFEST, Manifest
from tests.support.converted_pair import Files
from tests.support.mutations import damaged_bytes, damaged_json, no_file_larger_than
from tests.support.random_gguf import logits, random_qwen


@pytest.fixture(scope="module")
def folder(converted, tmp_path_factory):
    """One model's folder, spoilt anew by each example."""
    return converted.copied_to(tmp_path_factory.mktemp("spoilt") / "cache").folder("small")


def flip(path, at=-1000):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    with path.open("r+b") as file:  # in place, so that the inode stays
        file.write(content)


@given(data=st.data())
def test_damaged_weights_are_always_noticed(converted, folder, data):
    whole = (converted.folder("small") / convert.WEIGHTS).read_bytes()
    (folder / convert.WEIGHTS).write_bytes(data.draw(damaged_bytes(whole)))
    told = convert.problem(folder, converted.preset.slm.file.sha256)
    (folder / convert.WEIGHTS).write_bytes(whole)
    assert told is not None and convert.WEIGHTS in told
    assert convert.problem(folder, converted.preset.slm.file.sha256) is None


@given(data=st.data())
def test_a_damaged_manifest_is_noticed_or_vouches_for_the_same_files(converted, folder, data):
    content = (converted.folder("small") / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(data.draw(damaged_json(json.loads(content))))
    told = convert.problem(folder, converted.preset.slm.file.sha256)
    if told is None:
        found, whole = Manifest.load(folder), Manifest.load(converted.folder("small"))
        assert found.files.items() <= whole.files.items() and convert.WEIGHTS in found.files
        assert found.sha256 == {name: whole.sha256[name] for name in found.files}
    else:
        assert told.startswith("its ") and len(told) < 500


@given(data=st.data())
def test_a_damaged_gguf_header_is_refused_in_words_or_says_what_is_in_the_file(converted, tmp_path, data):
    whole = (converted.settings.cache_dir / "gguf" / "small.gguf").read_bytes()
    head = whole[:9_000]  # fields, tokens and tensors; the numbers themselves may be anything
    (tmp_path / "x.gguf").write_bytes(data.draw(damaged_bytes(head)) + whole[9_000:])
    try:
        header = GgufHeader.read(tmp_path / "x.gguf")
        check_gguf("small", header)
    except WeightsError as refused:
        assert len(str(refused)) < 1_000
    else:
        assert sum(tensor.bytes for tensor in header.tensors.values()) <= len(whole) + 20


def test_tensors_of_a_gguf_file_that_overlap_are_refused(converted, tmp_path):
    content = bytearray((converted.settings.cache_dir / "gguf" / "small.gguf").read_bytes())

    def offset(name: bytes) -> slice:
        end = content.index(name) + len(name)
        (sides,) = struct.unpack_from("<I", content, end)
        begin = end + 4 + 8 * sides + 4  # behind the number of sides, the sides and the format
        return slice(begin, begin + 8)

    content[offset(b"blk.0.ffn_up.weight")] = content[offset(b"blk.0.ffn_gate.weight")]
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match="two of its tensors overlap at byte"):
        GgufHeader.read(tmp_path / "x.gguf")


@given(data=st.data())
def test_a_damaged_configuration_is_refused_in_words_or_has_sane_sizes(tmp_path, data):
    random_qwen(1).config.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_bytes(data.draw(damaged_json(document)))
    try:
        config = read_config("small", tmp_path)
    except WeightsError as refused:
        assert len(str(refused)) < 1_000
    else:
        assert config.num_hidden_layers <= 512 and config.vocab_size <= 2_000_000


@given(data=st.data())
def test_damaged_safetensors_are_refused_in_words_or_hold_every_weight(tmp_path, data):
    model = random_qwen(1)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged_bytes(whole[:2_000])) + whole[2_000:])
    try:
        tensors = Tensors("small", [path])
        tensors.check(model)
    except WeightsError as refused:
        assert len(str(refused)) < 1_000
    else:
        for name, weight in model.state_dict().items():
            assert tensors.read(name, tied=model.config.tie_word_embeddings).shape == weight.shape


@given(data=st.data())
def test_a_damaged_file_of_pairs_is_refused_in_words(tmp_path, data):
    content = b"[mine]\nslm = 'owner/small'\nllm = 'owner/large@v1'\nweights = '4bit'\n"
    (tmp_path / "pairs.toml").write_bytes(data.draw(damaged_bytes(content)))
    try:
        read_pairs(tmp_path / "pairs.toml")
    except SettingsError as refused:
        assert len(str(refused)) < 1_000


def test_flipped_bytes_of_the_data_are_made_good(converted, files):
    before = logits(converted.load()[0].slm)
    flip(files.folder("small") / convert.WEIGHTS)
    pair, said = files.load()
    assert torch.equal(logits(pair.slm), before)
    assert "small in the cache is made again: its model.safetensors has changed" in said


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
    stat = weights.stat()
    flip(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert convert.problem(folder, model) is None, "nothing shows, as when a disk decays"
    assert convert.problem(folder, model, again=True) == "its model.safetensors has changed"
    assert convert.problem(folder, model) == "its model.safetensors has changed", (
        "what a request found is not forgotten"
    )


def test_what_a_request_finds_is_told_and_made_again(files, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "SMALL", 0)
    monkeypatch.setattr(command, "PRESETS", {"test": files.preset})
    monkeypatch.setattr(command, "load_settings", lambda: files.settings)
    assert command.main([]) == 0
    assert capsys.readouterr().out.count(": whole\n") == 4
    weights = files.folder("small") / convert.WEIGHTS
    stat = weights.stat()
    flip(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert command.main([]) == 2
    assert f"{weights.parent}: its model.safetensors has changed" in capsys.readouterr().out
    assert any("made again" in line for line in files.load()[1])
    assert command.main([]) == 0


def test_a_folder_of_an_earlier_version_gets_the_hash_that_it_lacks(files):
    folder = files.folder("small")
    stored = json.loads((folder / MANIFEST).read_text())
    whole = dict(stored["sha256"])
    del stored["sha256"][convert.WEIGHTS]
    (folder / MANIFEST).write_text(json.dumps(stored))
    assert not any("again" in line for line in files.load()[1])
    assert Manifest.load(folder).sha256 == whole
    flip(folder / convert.WEIGHTS)
    assert any("made again" in line for line in files.load()[1])


@pytest.mark.parametrize("name", [MANIFEST, convert.WEIGHTS, "config.json", "tokenizer.json", "", ".tmp"])
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


@pytest.mark.parametrize("size", [1_000, 20_000, 200_000])
def test_a_disk_that_fills_up_in_mid_conversion_is_called_so_and_nothing_is_left(tmp_path, size):
    """It stops at the tokenizer, which is another library's than the weights."""
    files = Files(tmp_path)
    with no_file_larger_than(size), pytest.raises(WeightsError, match=r"no space in .*nf4: .* CITER_CACHE_DIR"):
        files.load()
    assert not [path for path in (tmp_path / "nf4").iterdir() if path.suffix != ".lock"]
    files.load()


def test_a_large_files_note_that_cannot_be_kept_costs_time_only(files, monkeypatch):
    monkeypatch.setattr(manifest, "SMALL", 0)
    (files.folder("small") / (convert.WEIGHTS + NOTE)).mkdir()
    for _ in range(2):
        assert convert.problem(files.folder("small"), files.preset.slm.file.sha256) is None
