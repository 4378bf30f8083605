"""Settings and presets: what a user may set, and what they are told when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import SettingsError
from engine.models import sources
from engine.models.sources import PRESETS, choose_preset
from engine.settings import Settings, load_settings, markdown_table, variables


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path, monkeypatch):
    """A developer's own .env must not decide a test."""
    monkeypatch.chdir(tmp_path)


def test_a_variable_sets_its_field_alone_and_an_argument_wins_over_it_and_over_a_dotenv_file(monkeypatch, tmp_path):
    settings = load_settings()
    assert (settings.preset, settings.stated, settings.server__queue_size) == ("auto", {}, 32), (
        "no environment is needed"
    )
    (tmp_path / ".env").write_text("HF_TOKEN=x\nCITER_PRESET=tiny\nCITER_CACHE_DIR=~/models\n", encoding="utf-8")
    monkeypatch.setenv("CITER_MAX_NEW_TOKENS", "7")
    monkeypatch.setenv("CITER_SERVER__PORT", "80")
    settings = load_settings()
    assert (settings.max_new_tokens, settings.server__port, settings.server__queue_size) == (7, 80, 32)
    assert (settings.preset, settings.cache_dir) == ("tiny", Path.home() / "models")
    assert load_settings(preset="cpu").preset == "cpu"


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("CITER_SETTING", "router < nan", "write one as"),
        ("CITER_SETTING", "router < 2.5", "2"),
        ("CITER_PRESET", "huge", "'auto', 'gpu', 'cpu' or 'tiny'"),
        ("CITER_CONTEXT", "9" * 30, "1000000"),
        ("CITER_SERVER__PORT", "70000", "65535"),
        ("CITER_CACHE_DIR", "~nosuchuser/x", "user"),
        ("CITER_SERVER__HOST", "bad host", "match"),
        ("CITER_LLM_URL", "ftp://host", "address"),
        ("CITER_LLM_CONFIG", "config.json", "CITER_LLM_URL"),
    ],
)
def test_a_bad_value_is_refused_with_variable_value_and_the_way_out(monkeypatch, name, value, way_out):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} = ") as refused:
        load_settings()
    assert way_out in str(refused.value) and (name == "CITER_LLM_URL" or value in str(refused.value))


def test_every_fault_is_told_at_once_and_a_misspelt_name_with_the_likely_one(monkeypatch, tmp_path):
    with pytest.raises(SettingsError, match=r"CITER_SETTING = '< 3'(.|\n)*CITER_ROWS = -1"):
        load_settings(setting="< 3", rows=-1)
    with pytest.raises(SettingsError, match=r"seting .*setting\?"):
        load_settings(seting=1)
    for name, meant in (("CITER_SETING", "CITER_SETTING"), ("CITER_SERVER__PORTT", "CITER_SERVER__PORT")):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            with pytest.raises(SettingsError, match=rf"{name} .*{meant}\?"):
                load_settings()
    (tmp_path / ".env").write_text("CITER_PRESETS=tiny\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"CITER_PRESETS .*CITER_PRESET\?"):
        load_settings()
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match="folder"):
        load_settings()
    (tmp_path / ".env").rmdir()
    monkeypatch.setenv("CITER_PRESET", "x" * 5000)
    with pytest.raises(SettingsError, match=r"CITER_PRESET = .*…") as refused:
        load_settings()
    assert len(str(refused.value)) < 600, "a value that is far too long is not said back"


def test_the_cache_lies_where_the_system_or_a_space_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_settings().cache_dir == tmp_path / "citer-playground"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load_settings().cache_dir == Path.home() / ".cache" / "citer-playground"
    monkeypatch.setenv("SPACE_ID", "somebody/citer")
    monkeypatch.setattr(os, "access", lambda path, mode: path == Path("/data") and mode == os.W_OK)
    assert load_settings().cache_dir == Path("/data/citer-playground")


def test_the_table_has_every_variable_with_a_meaning_and_no_machine_path():
    table = markdown_table()
    assert all(meaning for _, _, meaning in variables()) and len(table.splitlines()) == 2 + len(variables())
    assert all(f"`CITER_{name.upper()}`" in table for name in Settings.model_fields)
    assert str(Path.home()) not in table


def test_a_named_preset_is_taken_and_auto_takes_the_gpu_from_eight_gigabytes_on(monkeypatch):
    for name in PRESETS:
        assert choose_preset(load_settings(preset=name)) is PRESETS[name]
    for gigabytes, name in ((0, "cpu"), (6, "cpu"), (7.9, "gpu"), (24, "gpu")):
        monkeypatch.setattr(sources, "_gpu_bytes", lambda size=int(gigabytes * 1e9): size)
        assert choose_preset(load_settings(preset="auto")).name == name


def test_a_key_that_no_request_can_carry_and_an_address_with_a_password_are_refused_and_not_shown():
    here = "http://127.0.0.1:1"
    wrong = [("LLM_KEY", {"llm_url": here, "llm_key": key}) for key in ("secret\n", "sec\r\nret", "secret\x00")]
    wrong += [("LLM_URL", {"llm_url": url}) for url in ("http://me:secret@host", "http://host/?key=secret")]
    for name, given in wrong:
        with pytest.raises(SettingsError, match=f"CITER_{name} = …") as refused:
            load_settings(**given)
        assert "sec" not in str(refused.value)
    assert load_settings(llm_url="https://host:1/some/v1/").llm_url == "https://host:1/some"
