"""Settings and presets: what a user may set, and what they are told when it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import EngineError, SettingsError
from engine.pairs import presets
from engine.pairs.own import PRESET_NAMES
from engine.pairs.presets import PRESETS, choose_preset
from engine.settings import Settings, load_settings, markdown_table, variables

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path, monkeypatch):
    """A developer's own .env must not decide a test."""
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_environment():
    settings = load_settings()
    assert (settings.preset, settings.threshold, settings.hub_timeout) == ("auto", None, 5.0)
    assert settings.price.llm == 1.0


def test_a_variable_sets_its_field_and_an_argument_wins_over_it(monkeypatch):
    monkeypatch.setenv("CITER_MAX_NEW_TOKENS", "7")
    monkeypatch.setenv("CITER_PRICE__SLM", "0.3")
    assert load_settings().max_new_tokens == 7
    assert load_settings().price.slm == 0.3
    assert load_settings(max_new_tokens=9).max_new_tokens == 9


def test_one_nested_value_leaves_the_others_at_their_defaults(monkeypatch):
    monkeypatch.setenv("CITER_PRICE__SLM", "0.3")
    assert load_settings().price.reading_ratio == 0.25


def test_a_dotenv_file_is_read_and_its_other_variables_are_left_alone(tmp_path):
    (tmp_path / ".env").write_text("HF_TOKEN=x\nCITER_PRESET=tiny\nCITER_CACHE_DIR=~/models\n", encoding="utf-8")
    settings = load_settings()
    assert settings.preset == "tiny"
    assert settings.cache_dir == Path.home() / "models"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CITER_PRICE__SLM", "-1"),
        ("CITER_PRICE__LLM", "inf"),
        ("CITER_PRICE__READING_RATIO", "nan"),
        ("CITER_THRESHOLD", "nan"),
        ("CITER_THRESHOLD", "2.5"),
        ("CITER_THRESHOLD", "-0.1"),
        ("CITER_PRESET", "big"),
        ("CITER_CONTEXT", "many"),
        ("CITER_MAX_NEW_TOKENS", "0"),
        ("CITER_SERVER__PORT", "70000"),
        ("CITER_HUB", "perhaps"),
    ],
)
def test_a_bad_value_is_refused_with_the_variable_and_the_value(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} = {value}: "):
        load_settings()


def test_the_message_says_what_would_be_right(monkeypatch):
    monkeypatch.setenv("CITER_PRICE__SLM", "-1")
    with pytest.raises(SettingsError, match="must be greater than or equal to 0"):
        load_settings()


def test_every_fault_is_told_at_once():
    with pytest.raises(SettingsError, match=r"CITER_THRESHOLD = 3(.|\n)*CITER_SEED = -1"):
        load_settings(threshold=3, seed=-1)


@pytest.mark.parametrize("name", ["CITER_THRESHHOLD", "CITER_PRICE__SLMM"])
def test_a_misspelt_variable_is_refused_with_the_likely_one(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name} is not a setting: did you mean CITER_"):
        load_settings()


def test_a_misspelt_variable_in_a_dotenv_file_is_refused_too(tmp_path):
    (tmp_path / ".env").write_text("CITER_PRESETS=tiny\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="did you mean CITER_PRESET"):
        load_settings()


def test_an_unknown_argument_is_refused():
    with pytest.raises(SettingsError, match="treshold is not a setting: did you mean threshold"):
        load_settings(treshold=1)


def test_a_nested_variable_that_is_not_json_is_explained(monkeypatch):
    monkeypatch.setenv("CITER_PRICE", "cheap")
    with pytest.raises(SettingsError, match="CITER_PRICE__SLM"):
        load_settings()


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(Exception, match="frozen"):
        load_settings().threshold = 0.1  # pyright: ignore[reportAttributeAccessIssue]


def test_xdg_cache_home_is_respected_unless_relative(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_settings().cache_dir == tmp_path / "citer-playground"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load_settings().cache_dir == Path.home() / ".cache" / "citer-playground"


def test_a_space_keeps_weights_where_its_storage_lasts_if_it_has_any(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SPACE_ID", "somebody/citer")
    monkeypatch.setattr(os, "access", lambda path, mode: path != Path("/data"))
    assert load_settings().cache_dir == Path.home() / ".cache" / "citer-playground"
    monkeypatch.setattr(os, "access", lambda path, mode: path == Path("/data") and mode == os.W_OK)
    assert load_settings().cache_dir == Path("/data/citer-playground")


def test_the_table_has_every_variable_with_a_meaning_and_no_machine_path():
    table = markdown_table()
    assert all(meaning for _, _, meaning in variables())
    assert len(table.splitlines()) == 2 + len(variables())
    assert "`CITER_PRICE__READING_RATIO` | `0.25`" in table
    assert str(Path.home()) not in table
    leaves = [name for name in Settings.model_fields if name not in ("price", "server")]
    assert all(f"`CITER_{name.upper()}`" in table for name in leaves)


def test_settings_import_no_torch():
    code = "import sys, engine.settings, engine.pairs.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_named_preset_is_taken():
    for name in PRESET_NAMES[1:]:
        assert choose_preset(load_settings(preset=name)) is PRESETS[name]


@pytest.mark.parametrize(("gigabytes", "name"), [(0, "cpu"), (6, "cpu"), (7.9, "gpu"), (24, "gpu")])
def test_auto_takes_the_gpu_from_eight_gigabytes_on(monkeypatch, gigabytes, name):
    monkeypatch.setattr(presets, "_gpu_bytes", lambda: int(gigabytes * 1e9))
    assert choose_preset(load_settings(preset="auto")).name == name


def test_an_unknown_preset_is_refused_with_the_known_names():
    with pytest.raises(SettingsError, match="CITER_PRESET = huge: must be one of auto, gpu, cpu, tiny; pairs of your"):
        load_settings(preset="huge")


def test_parts_of_the_mirror_add_up_to_the_file():
    for file in (presets.QWEN_0_5B_GGUF, presets.QWEN_1_5B_GGUF):
        last = file.bytes - (file.mirror_parts - 1) * file.mirror_part_bytes
        assert 0 < last <= file.mirror_part_bytes


def test_all_errors_can_be_caught_at_once():
    from engine import errors

    for kind in (errors.InvalidRequest, errors.WeightsError, errors.RouterError, errors.SettingsError):
        assert issubclass(kind, EngineError)
