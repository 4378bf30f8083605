"""The same processor held to fewer instructions: what is set, what is measured, and what the documents say of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from engine import EngineError, load_settings
from engine.benchmark import instructions, report
from engine.benchmark.instructions import HELD, environment, measure, render, render_short
from engine.provenance import command

ROOT = Path(__file__).resolve().parent.parent.parent


def rate(value: float) -> dict:
    return {"median": value, "min": value, "max": value, "rounds": [value]}


def summary(weights: str = "int8") -> dict:
    rates = {"engine-slm": 60.0, "engine-llm": 30.0, "routed-20": 42.0, "llama-slm": 50.0, "llama-llm": 31.0}
    return {
        "pair": f"A ⇄ B · {weights}",
        "machine": {"processor": "Test", "threads": 2, "gpu": None},
        "plan": {"prompt": 100, "tokens": 80, "rounds": 1, "context": 2000},
        "models": {"llm": {"pass_table": [[1, 0.030], [4, 0.036], [8, 0.066], [16, 0.075]]}},
        "rows": [{"name": name, "tokens_per_second": rate(value)} for name, value in rates.items()],
    }


@pytest.fixture
def settings(tmp_path):
    return load_settings(cache_dir=tmp_path)


def measured(monkeypatch, settings, sets) -> dict:
    def run(line, env, stdout):
        Path(line[line.index("--json") + 1]).write_text(json.dumps(summary()))
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(instructions, "run", run)
    return measure(sets, ["--rounds", "1"], settings, lambda text: None)


def test_each_set_holds_all_libraries_that_choose_by_themselves(settings):
    held = environment("avx2", settings)
    assert held["ATEN_CPU_CAPABILITY"] == "avx2" and held["FBGEMM_ENABLE_INSTRUCTIONS"] == "AVX2"
    assert {"ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"} <= held.keys()
    assert "ATEN_CPU_CAPABILITY" not in HELD["all"]


@pytest.mark.parametrize("held", HELD)
def test_what_holds_the_libraries_is_recorded_with_a_command(monkeypatch, held):
    for name, value in HELD[held].items():
        monkeypatch.setenv(name, value)
    recorded = command("engine").split()
    assert {f"{name}={value}" for name, value in HELD[held].items()} <= set(recorded)


def test_llama_cpp_that_was_compiled_for_a_set_is_found_where_it_lies(settings):
    folder = settings.cache_dir / "llama" / "avx2"
    assert str(folder) not in environment("avx2", settings).get("PYTHONPATH", "")
    folder.mkdir(parents=True)
    assert environment("avx2", settings)["PYTHONPATH"].startswith(str(folder))
    assert str(folder) not in environment("avx512", settings).get("PYTHONPATH", "")


def test_bars_are_judged_within_a_set(monkeypatch, settings):
    bars = {bar["bar"]: bar for bar in measured(monkeypatch, settings, ["avx2"])["sets"]["avx2"]["bars"]}
    assert bars["SLM only / llama.cpp"]["met"]
    assert not bars["LLM only / llama.cpp"]["met"]
    assert bars["LLM pass of 4 tokens / of 1"]["met"] and not bars["LLM pass of 8 tokens / of 1"]["met"]


def test_the_table_has_a_row_per_set_and_says_what_was_missed(monkeypatch, settings):
    text = render(measured(monkeypatch, settings, list(HELD)))
    assert [line.split(" | ")[1:3] for line in text.splitlines() if line.startswith(("| AVX", "| all"))][:3] == [
        ["int8", "60"]
    ] * 3
    assert "missed by 3%" in text and "| AVX2 | LLM pass of 16 tokens / of 1 | under 2.70 | 2.50 | met |" in text


def test_the_readme_and_docs_get_their_sections_where_the_sets_were_measured(monkeypatch, settings, tmp_path):
    folder = tmp_path / "benchmarks"
    (folder / "instructions").mkdir(parents=True)
    (folder / "cpu.json").write_text((report.SUMMARIES / "cpu.json").read_text())
    made = measured(monkeypatch, settings, ["avx2"])
    (folder / "instructions" / "cpu.json").write_text(json.dumps(made))
    page, readme = tmp_path / "speed.md", tmp_path / "README.md"
    markers = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in ("benchmark", "speed", "instructions"))
    page.write_text(markers)
    readme.write_text(markers)
    assert report.rewrite(folder, page, readme)
    assert render(made) in page.read_text() and render_short(made) in readme.read_text()


def test_a_process_that_fails_is_told(monkeypatch, settings):
    failed = subprocess.CompletedProcess([], 2)
    monkeypatch.setattr(instructions, "run", lambda *args, **options: failed)
    with pytest.raises(EngineError, match="held to AVX2 ended with status 2"):
        measure(["avx2"], [], settings, lambda text: None)
