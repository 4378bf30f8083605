"""Costs of the same answers with another pair: those measured with the pair itself, in proportion with others."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from test_trainer_record import ABOUT, POINTS, close, lines, write_evaluation

from engine.events.cost import ModelCost
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.scale import UNITS, load_scale, scale

SLM = ModelCost(8_000_000, 2_000_000, 1_000, 100, 1, 1, 1, 0.01, pass_table=((1, 0.01), (32, 0.04)))
LLM = ModelCost(80_000_000, 20_000_000, 1_000, 200, 1, 1, 1, 0.05, pass_table=((1, 0.05), (32, 0.3)))
LARGE = ModelCost(800_000_000, 200_000_000, 1_000, 200, 1, 1, 1, 0.5, pass_table=((1, 0.5), (32, 3.0)))
POINTS_HERE = {key: value for key, value in POINTS.items() if key[0] != "assisted"}


def evaluation(folder):
    """The answers of the other tests, which say how often the LLM was asked: for a fifth of the tokens by a router."""
    write_evaluation(folder, POINTS_HERE)
    for path in folder.glob("*.jsonl"):
        path.unlink()
    written = []
    for key, figures in POINTS_HERE.items():
        passes = {"llm": 20, "slm": 0}.get(key[0], 4)
        more = {"llm_passes": passes, "taken_back": 0, "prompt_tokens": 50, "acceptance": 0.0}
        written += [{**line, **more} for line in lines({key: figures})]
    (folder / "answers-00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written), encoding="utf-8")
    return folder


def benchmark(path, llm, name):
    models = {"slm": asdict(SLM), "llm": asdict(llm)}
    machine = {"processor": "a laptop", "threads": 2}
    path.write_text(
        json.dumps({"pair": name, "command": "bench", "revision": "abc", "machine": machine, "models": models})
    )
    return path


@pytest.fixture
def benchmarks(tmp_path):
    return [benchmark(tmp_path / "own.json", LLM, "own"), benchmark(tmp_path / "large.json", LARGE, "large")]


def test_with_the_pair_itself_costs_are_those_that_were_measured(tmp_path, benchmarks):
    own, _ = scale([read_evaluation(evaluation(tmp_path / "sums"))], benchmarks)["ratios"]["sums"]
    # At 56 of 100 right: citer-r2 < 0.6 with 60 MB, confidence < 0.7 with 80 MB, the LLM alone with 100 MB.
    assert own[LEARNED] == {"bytes": close(0.6), "seconds": close(0.6)}
    assert own["confidence-0"] == {"bytes": close(0.8), "seconds": close(0.8)}
    assert "assisted-tuned" not in own


def test_with_a_larger_llm_the_slm_counts_for_less(tmp_path, benchmarks):
    summary = scale([read_evaluation(evaluation(tmp_path / "sums"))], benchmarks)
    own, large = summary["ratios"]["sums"]
    assert [pair["llm_to_slm"] for pair in summary["pairs"]] == [
        {"bytes": 10, "seconds": 5},
        {"bytes": 100, "seconds": 50},
    ]
    for unit in UNITS:
        assert 0 < large[LEARNED][unit] < 0.9 * own[LEARNED][unit]  # type: ignore[operator]
    # Twenty passes of the SLM and four of the LLM, beside twenty of the LLM: 0.3 of its bytes, with the large one 0.21.
    passes = {10: (20 * 10 + 4 * 100) / (20 * 100), 100: (20 * 10 + 4 * 1000) / (20 * 1000)}
    assert large[LEARNED]["bytes"] == pytest.approx(0.6 * passes[100] / passes[10], rel=0.01)


def test_an_evaluation_from_before_passes_were_written_down_is_refused(tmp_path, benchmarks):
    with pytest.raises(TrainerError, match="sums: of slm or llm no passes were written down; evaluate it again"):
        scale([read_evaluation(write_evaluation(tmp_path / "old"))], benchmarks)


def test_what_is_no_benchmark_is_named(tmp_path):
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(TrainerError, match=r"no\.json: .*engine\.benchmark --json"):
        scale([read_evaluation(evaluation(tmp_path / "sums"))], [tmp_path / "no.json"])


def test_the_command_writes_it_and_says_it_in_a_table(tmp_path, benchmarks, capsys):
    asked = ["scale", "--evaluations", str(evaluation(tmp_path / "sums")), "--benchmarks", *map(str, benchmarks)]
    assert main([*asked, "--results", str(tmp_path / "results")]) == 0
    told = capsys.readouterr().out
    assert "| sums | acceptance 0: SLM confidence | 80 % | 80 % |" in told and "with an LLM of another size" in told
    assert load_scale(tmp_path / "results" / "tiny.scale.json")["measured"] == ABOUT["pair"]
