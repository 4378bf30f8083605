"""Any pair: from folders, GGUF files and repos to texts and a router; and what is refused before it costs anything."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine import Role, RouterError, SettingsError, WeightsError, build_request, load_settings
from engine.__main__ import main as terminal
from engine.models import store
from engine.models.sources import PRESETS, Preset, Source, choose_preset
from engine.pair import load
from tests.support.converted_pair import Files
from tests.support.fake_hub import Repo
from tests.support.own_pair import save_random, save_tiny
from tests.support.paths import ROOT
from tests.support.random_gguf import by_bitsandbytes, logits
from tests.support.routers import make_router
from trainer.__main__ import main as trainer

pytest_plugins = ["tests.support.fake_hub"]

FORM = store.form(store.cpu_layout())
TINY = ROOT / "assets" / "routers" / "tiny"
DIAL = {Role.SLM: 0.0, Role.LLM: 1.01}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of the random pair."""
    return save_random(tmp_path_factory.mktemp("own"))


@pytest.fixture
def own(saved, tmp_path):
    """The same, which the test may spoil."""
    return tuple(shutil.copytree(folder, tmp_path / folder.name) for folder in saved)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CITER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def named(folders, **settings):
    return load_settings(slm=str(folders[0]), llm=str(folders[1]), **settings)


def refused(folders, **settings):
    with pytest.raises(WeightsError) as told:
        load(None, named(folders, **settings))
    return str(told.value)


def near(model, dense: Any) -> bool:
    """Whether a loaded model says what the dense one says, in the same 4 bits up to the order of sums, or in bf16."""
    found = logits(model)
    expected = logits(by_bitsandbytes(copy.deepcopy(dense)) if FORM == "NF4" else dense)[..., : found.shape[-1]].float()
    return bool((found - expected).norm() < (0.04 if FORM == "NF4" else 0.1) * expected.norm())


def change(folder, name="config.json", **values):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | values))


# Folders


def test_a_pair_of_another_shape_writes_what_transformers_writes(saved, monkeypatch):
    small, large = Source("small", saved[0]), Source("large", saved[1])
    monkeypatch.setitem(PRESETS, "tiny", Preset("mine", small, large, device="cpu", weights="fp32"))
    pair = load("tiny")
    assert (pair.preset, pair.slm_name, pair.llm_name, pair.quantisation) == ("mine", "small", "large", "fp32")
    for role, folder in zip(Role, saved, strict=True):
        trace = pair.generate("Add 2 to 3.", policy="confidence", threshold=DIAL[role], max_new_tokens=24)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        prompt = pair.texts([build_request(trace.prompt, policy="confidence")])[0].tokens
        padding = list(range(len(pair.tokenizer), 576))  # rows of the embedding that are no tokens
        wanted = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, suppress_tokens=padding)
        assert [event.id for event in trace.events] == wanted[0, len(prompt) :].tolist()


def test_folders_are_quantised_once_and_again_after_a_change(own):
    settings, said = named(own), []
    pair = load(None, settings, said.append)
    assert pair.preset == "small_large" and pair.quantisation == FORM and pair.router is None
    for model, folder in zip(pair.models, own, strict=True):
        assert near(model, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16))
    said.clear()
    load(None, settings, said.append)
    assert said == ["loading small", "loading large"]
    change(own[1], rms_norm_eps=1e-5)
    load(None, settings, said.append)
    assert any("converting large" in each for each in said) and not any("converting small" in each for each in said)


def test_without_a_router_confidence_decides_and_one_of_the_pairs_name_is_taken_and_of_another_width_refused(
    saved, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("engine.models.sources.ROUTERS", tmp_path)
    models = ["--slm", str(saved[0]), "--llm", str(saved[1]), "--max-new-tokens", "3"]
    assert terminal(["hello", *models, "--json"]) == 0
    told = capsys.readouterr()
    assert "no router" in told.err and json.loads(told.out)["policy"] == "confidence"
    assert terminal(["hello", *models, "--setting", "router"]) == 2
    make_router(load(None, named(saved))).save(tmp_path / "small_large")
    pair = load(None, named(saved))
    assert pair.router is not None and pair.router.warning is None
    trace = pair.generate("hello", threshold=0.5, max_new_tokens=5)
    assert trace.policy == "router" and all(event.router for event in trace.events)
    with pytest.raises(RouterError, match=r"Router '.*' .*tiny SLM.*small: hidden size is 64"):
        load(None, named(saved, router=str(TINY)))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model_type": "gpt2"}, ("'gpt2'", "llama, mistral, qwen2, qwen3")),
        ({"hidden_size": 10**12}, ("hidden_size is 1000000000000", "1")),
        ({"num_key_value_heads": 3}, ("k_proj.weight is", "by its configuration")),
        ({"quantization_config": {"quant_method": "awq"}}, ("quantised", "awq")),
        ({"sliding_window": 64, "model_type": "mistral"}, ("sliding_attention",)),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, ("dynamic",)),
        ({"intermediate_size": 256}, ("mlp.gate_proj.weight is (192, 128)", "(256, 128)")),
        ({"num_hidden_layers": 3}, ("model.layers.2.",)),
        ({}, ("no model.safetensors", "pickled")),
    ],
)
def test_what_this_engine_does_not_decode_is_refused_with_the_reason(own, values, told):
    change(own[0], **values)
    if not values:
        (own[0] / "model.safetensors").rename(own[0] / "pytorch_model.bin")
    said = refused(own)
    assert said.startswith("small") and all(each in said for each in told)


# GGUF files


def test_gguf_files_are_taken_by_path_and_known_ones_are_recognised(tmp_path, monkeypatch):
    files = Files(tmp_path / "elsewhere")
    paths = [files.settings.cache_dir / "gguf" / f"{name}.gguf" for name in ("small", "large")]
    settings = named(paths)
    pair = load(None, settings)
    assert (pair.preset, pair.quantisation) == ("small_large", FORM)
    assert near(pair.slm, files.slm_dense)
    monkeypatch.setitem(PRESETS, "cpu", replace(files.preset, name="cpu"))
    assert choose_preset(settings).name == "cpu"
    for name in ("nowhere/at/all", "no.gguf", "owner/name.gguf", "./nothing"):
        with pytest.raises(SettingsError, match=r"CITER_LLM = .*folder.*GGUF.*repo"):
            choose_preset(load_settings(preset="tiny", llm=name))


# The Hub and memory


@pytest.fixture
def repo(saved, fake_hub):
    """A repo of the Hub with the LLM in it."""
    repo = fake_hub.repos["someone/large"] = Repo()
    content = {path.name: path.read_bytes() for path in saved[1].iterdir()}
    repo.commit({**content, "evil.py": b"1/0"}, branch="v1")
    return repo


def test_a_repo_is_fetched_at_one_commit_and_needed_once(saved, fake_hub, repo):
    settings = named((saved[0], "someone/large@v1"))
    pair = load(None, settings)
    assert (pair.preset, pair.llm_name) == ("small_large-v1", "large@v1")
    assert not fake_hub.asked("evil.py"), "files that nobody asked for are never fetched"
    before = len(fake_hub.asked("/resolve/"))
    fake_hub.fail["/api/"] = (503, "Service Unavailable")
    assert load(None, settings).llm_name == "large@v1"
    assert len(fake_hub.asked("/resolve/")) == before
    fake_hub.fail.clear()
    assert "@v2: no such folder" in refused((saved[0], "someone/large@v2"))


def test_of_what_memory_does_not_hold_nothing_large_is_fetched_or_written(saved, fake_hub, repo, cache, monkeypatch):
    monkeypatch.setattr("engine.models.load.memory_bytes", lambda _: 100_000)
    said = refused((saved[0], "someone/large@v1"))
    assert "memory" in said and "large" in said and "there are 0.00 GB" in said
    assert not (cache / "nf4").exists() and not (cache / "int8").exists()
    assert not [path for _, path in fake_hub.asked("/resolve/") if path.endswith(".safetensors")]


def test_weights_that_change_in_place_are_others(tmp_path):
    folders = save_tiny(tmp_path)
    before = load(None, named(folders)).identity
    content = bytearray((folders[1] / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folders[1] / "model.safetensors").write_bytes(content)
    assert before and load(None, named(folders)).identity not in ("", before)


# A router for it


@pytest.mark.slow
def test_the_trainer_builds_a_router_for_a_pair_of_ones_own_and_it_is_then_taken(tmp_path, monkeypatch):
    folders = save_tiny(tmp_path)
    lines = (ROOT / "assets" / "arithmetic" / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "sums.jsonl").write_text("".join(lines[:60]))
    routers = tmp_path / "routers"
    told = ["run", "--slm", str(folders[0]), "--llm", str(folders[1]), "--out", str(tmp_path / "run")]
    few = ["--data", str(tmp_path / "sums.jsonl"), "--rounds", "1", "--budget", "2", "--max-new-tokens", "90"]
    assert trainer([*told, "--routers", str(routers), *few, "--epochs", "4"]) == 0
    monkeypatch.setattr("engine.models.sources.ROUTERS", routers)
    pair = load(None, named(folders))
    assert pair.router is not None and pair.router.warning is None and pair.operating_points is not None
