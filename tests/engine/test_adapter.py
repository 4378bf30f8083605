"""An adapter is merged into the SLM's weights as they are read, and is part of what the SLM is called."""

from __future__ import annotations

import shutil

import pytest
import torch

from engine import EngineError, SettingsError, WeightsError, load
from engine.model.adapter import Adapter, AdapterCard, save_adapter
from engine.models.model_files import files_of
from engine.models.sources import ADAPTER, PRESETS
from engine.settings import load_settings
from tests.support.paths import ROOT
from tests.support.random_gguf import logits

TINY_LAYER = "model.layers.1.mlp.up_proj"


def write(path, base, layer, inputs, outputs, rank=4, title="tiny SLM"):
    """An adapter that changes one layer by random numbers; returns the change [outputs, inputs]."""
    torch.manual_seed(1)
    down, up = torch.randn(rank, inputs), torch.randn(outputs, rank)
    save_adapter(path, {layer: (down, up)}, AdapterCard(title, base, rank))
    return up @ down


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An adapter of the tiny SLM, and its change."""
    path = tmp_path_factory.mktemp("adapter") / ADAPTER
    base = files_of(PRESETS["tiny"].slm, load_settings(preset="tiny")).base
    return path, write(path, base, TINY_LAYER, 64, 192)


def test_the_change_is_in_the_weights_and_the_digest_in_the_name(tiny, tiny_pair):
    path, change = tiny
    pair = load(None, load_settings(preset="tiny", adapter=str(path)))
    assert pair.slm_name == f"tiny SLM (aligned {Adapter.load(path).digest[:8]})"
    before, after = (each.slm.model.get_submodule(TINY_LAYER).weight for each in (tiny_pair, pair))
    apart = (after - before - change).abs().max() / change.abs().max()
    assert 0 < apart < 0.02, "int8 rounds it a little"
    assert pair.identity == tiny_pair.identity, "the LLM's own answers stay those of this pair"
    assert pair.router is None, "the shipped router was fitted to the SLM as it was"


def test_auto_takes_the_one_beside_the_router_and_none_takes_the_slm_as_it_is(tiny, tmp_path, tiny_pair):
    shutil.copytree(ROOT / "assets" / "routers" / "tiny", tmp_path / "mine")
    about = {"preset": "tiny", "router": str(tmp_path / "mine")}
    assert load(None, load_settings(**about)).slm_name == tiny_pair.slm_name
    shutil.copy(tiny[0], tmp_path / "mine" / ADAPTER)
    with pytest.raises(EngineError, match="was trained for tiny SLM, not for tiny SLM \\(aligned"):
        load(None, load_settings(**about))
    plain = load(None, load_settings(**about, adapter="none"))
    assert plain.slm_name == tiny_pair.slm_name and plain.router is not None


def test_a_converted_slm_has_a_place_of_its_own_in_the_cache(files, tmp_path):
    path, layer = tmp_path / ADAPTER, "model.layers.0.self_attn.q_proj"
    shape = files.slm_dense.get_submodule(layer).weight.shape
    base = files_of(files.preset.slm, files.settings).base
    write(path, base, layer, shape[1], shape[0], title="small")
    aligned, said = files.load(adapter=str(path))
    assert aligned.slm_name.startswith("small (aligned ") and any("small (aligned" in each for each in said)
    assert not torch.equal(logits(aligned.slm), logits(files.load()[0].slm))
    assert len(list(files.folder("small").parent.glob("small-*/model.safetensors"))) == 2


def test_a_damaged_file_is_refused_by_name_with_the_way_out(tiny, tmp_path):
    path, content = tmp_path / "mine.safetensors", tiny[0].read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    for spoilt in (flipped, content[: len(content) // 2], content.replace(b'\\"rank\\": 4', b'\\"rank\\": 5')):
        path.write_bytes(spoilt)
        with pytest.raises(WeightsError, match=r"mine\.safetensors is damaged: .*CITER_ADAPTER=none"):
            load(None, load_settings(preset="tiny", adapter=str(path)))


def test_one_for_other_weights_or_other_matrices_is_refused(tmp_path):
    path = tmp_path / ADAPTER
    write(path, "other weights", TINY_LAYER, 64, 192, title="another SLM")
    with pytest.raises(WeightsError, match=r"made for another SLM with other weights .*CITER_ADAPTER=none"):
        load(None, load_settings(preset="tiny", adapter=str(path)))
    base = files_of(PRESETS["tiny"].slm, load_settings(preset="tiny")).base
    for layer, inputs in ((TINY_LAYER, 65), ("model.layers.9.mlp.up_proj", 64)):
        write(path, base, layer, inputs, 192)
        with pytest.raises(WeightsError, match=f"changes {layer} .*tiny SLM lacks"):
            load(None, load_settings(preset="tiny", adapter=str(tmp_path)))
    with pytest.raises(SettingsError, match="CITER_ADAPTER = nowhere: no such file"):
        load(None, load_settings(preset="tiny", adapter="nowhere"))
