"""Costs of the same answers with another pair: those counted with the pair itself, and with others by their passes."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from engine.events.cost import ModelCost
from tests.trainer.test_record import ABOUT, POINTS, close, lines, write_evaluation
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.scale import UNITS, load_scale, scale

SLM = ModelCost(8_000_000, 2_000_000, 1_000, 100, 1, 1, 1, 0.01, pass_table=((1, 0.01), (32, 0.04)))
LLM = ModelCost(80_000_000, 20_000_000, 1_000, 200, 1, 1, 1, 0.05, pass_table=((1, 0.05), (32, 0.3)))
LARGE = ModelCost(800_000_000, 200_000_000, 1_000, 200, 1, 1, 1, 0.5, pass_table=((1, 0.5), (32, 3.0)))
POINTS_HERE = {key: value for key, value in POINTS.items() if key[0] != "assisted"}


def bytes_of(slm_passes: int, llm_passes: int) -> int:
    """Of an answer of 20 tokens to a prompt of 50, as the engine counts them."""
    seen, read = 60, 70 if llm_passes else 50
    return slm_passes * (10_001_000 + seen * 100) + llm_passes * (100_001_000 + seen * 200) + read * 200


def evaluation(folder, slm_passes: int = 20):
    """The answers of the other tests, which say how often the LLM was asked: for a fifth of the tokens by a router.

    Their seconds are those of another machine each, as where stages were shared out.
    """
    write_evaluation(folder, POINTS_HERE)
    for path in folder.glob("*.jsonl"):
        path.unlink()
    written = []
    for key, figures in POINTS_HERE.items():
        passes = {"llm": 20, "slm": 0, "confidence": 8}.get(key[0], 4)
        size = bytes_of(0 if key[0] == "llm" else slm_passes, passes)
        more = {"llm_passes": passes, "taken_back": 0, "prompt_tokens": 50, "acceptance": 0.0, "bytes": size}
        written += [{**line, **more, "seconds": 1.0 + len(written)} for line in lines({key: figures})]
    (folder / "answers-00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written), encoding="utf-8")
    return folder


def benchmark(path, llm, name):
    models = {"slm": asdict(SLM), "llm": asdict(llm)}
    machine = {"processor": "a laptop", "threads": 2, "gpu": None}
    path.write_text(
        json.dumps({"pair": name, "command": "bench", "revision": "abc", "machine": machine, "models": models})
    )
    return path


def ratio(cheapest, unit):
    """Of the learned points' cheapest."""
    found = cheapest[LEARNED][unit]
    assert found is not None
    return found["ratio"]


@pytest.fixture
def benchmarks(tmp_path):
    return [benchmark(tmp_path / "own.json", LLM, ABOUT["pair"]), benchmark(tmp_path / "large.json", LARGE, "large")]


def test_with_the_pair_itself_bytes_are_those_that_were_counted_and_seconds_those_of_its_passes(tmp_path, benchmarks):
    own, _ = scale([read_evaluation(evaluation(tmp_path / "sums"))], benchmarks)["cheapest"]["sums"]
    # At 56 of 100 right: citer-r2 < 0.6 with four passes of the LLM, confidence < 0.7 with eight; the LLM alone has 20.
    for family, setting, passes in ((LEARNED, "citer-r2 < 0.6", 4), ("confidence-0", "confidence < 0.7", 8)):
        found = own[family]["bytes"]
        assert found == {"setting": setting, "ratio": close(bytes_of(20, passes) / bytes_of(0, 20))}
    assert ratio(own, "seconds") == pytest.approx(
        (LLM.seconds(50) + SLM.seconds(50) + 19 * 0.01 + 3 * LLM.seconds(5, 1)) / (LLM.seconds(50) + 19 * 0.05),
        rel=1e-3,
    )
    assert "assisted-tuned" not in own


def test_passes_of_the_slm_that_were_not_charged_are_not_charged_with_another_pair_either(tmp_path, benchmarks):
    all_read, spared = (
        scale([read_evaluation(evaluation(tmp_path / str(n), n))], benchmarks)["cheapest"]["sums"] for n in (20, 12)
    )
    for pair in range(2):
        for unit in UNITS:
            assert ratio(spared[pair], unit) < ratio(all_read[pair], unit)


def test_with_a_larger_llm_the_slm_counts_for_less(tmp_path, benchmarks):
    summary = scale([read_evaluation(evaluation(tmp_path / "sums"))], benchmarks)
    own, large = summary["cheapest"]["sums"]
    assert [pair["llm_to_slm"] for pair in summary["pairs"]] == [
        {"bytes": 10, "seconds": 5},
        {"bytes": 100, "seconds": 50},
    ]
    for unit in UNITS:
        assert 0 < ratio(large, unit) < 0.9 * ratio(own, unit)
    # Twenty passes of the SLM and four of the LLM, beside twenty of the LLM: 0.3 of its bytes, with the large one 0.21.
    assert ratio(large, "bytes") == pytest.approx((20 * 10 + 4 * 1000) / (20 * 1000), rel=0.01)


def test_an_evaluation_from_before_passes_were_written_down_is_refused(tmp_path, benchmarks):
    with pytest.raises(TrainerError, match="sums: of slm or llm no passes were written down; evaluate it again"):
        scale([read_evaluation(write_evaluation(tmp_path / "old"))], benchmarks)


def test_the_first_benchmark_is_that_of_the_pair_that_answered(tmp_path, benchmarks):
    with pytest.raises(TrainerError, match=r"large\.json is of large, but there are answers of .*: name the benchmark"):
        scale([read_evaluation(evaluation(tmp_path / "sums"))], benchmarks[::-1])


def test_a_task_is_named_once(tmp_path, benchmarks):
    twice = [read_evaluation(evaluation(tmp_path / "sums"))] * 2
    with pytest.raises(TrainerError, match="sums, sums: name each task's evaluation once"):
        scale(twice, benchmarks)


def test_without_a_gap_nothing_is_the_cheapest_at_a_share_of_it(tmp_path, benchmarks, monkeypatch):
    monkeypatch.setitem(POINTS_HERE, ("llm", 0.0), (20, 1.0, 100))
    own, _ = scale([read_evaluation(evaluation(tmp_path / "sums"))], benchmarks)["cheapest"]["sums"]
    assert [found for units in own.values() for found in units.values() if found is not None] == []
    assert own


def test_what_is_no_benchmark_is_named(tmp_path):
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(TrainerError, match=r"no\.json: .*engine\.benchmark --json"):
        scale([read_evaluation(evaluation(tmp_path / "sums"))], [tmp_path / "no.json"])


def test_the_command_writes_it_and_says_it_in_a_table(tmp_path, benchmarks, capsys):
    asked = ["scale", "--evaluations", str(evaluation(tmp_path / "sums")), "--benchmarks", *map(str, benchmarks)]
    assert main([*asked, "--results", str(tmp_path / "results")]) == 0
    told = capsys.readouterr().out
    assert (
        "| sums | acceptance 0: SLM confidence | 50 %, confidence < 0.7 |" in told
        and "with an LLM of another size" in told
    )
    assert load_scale(tmp_path / "results" / "tiny.scale.json")["measured"] == ABOUT["pair"]
