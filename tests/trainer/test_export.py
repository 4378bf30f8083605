"""An evaluation becomes records of other benchmarks: one model for each point, as their readers want them."""

from __future__ import annotations

import json
import re

import pytest

from engine.policy import ConfidencePolicy
from trainer.__main__ import main
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.methods import Method, build_methods
from trainer.evaluation.record import read_evaluation

COUNT = 4


@pytest.fixture(scope="module")
def evaluated(tiny_pair, tmp_path_factory):
    from trainer.questions.sources import load_questions

    folder = tmp_path_factory.mktemp("evaluation")
    methods = [*build_methods(["slm", "llm"], tiny_pair, None), Method("confidence", ConfidencePolicy(), (0.9,))]
    methods.append(Method("confidence", ConfidencePolicy(), (0.9,), acceptance=0.3))
    evaluate(tiny_pair, load_questions(["arithmetic"], COUNT, "dev"), methods, folder, "arithmetic", 80, lambda _: None)
    return folder


def exported(evaluated, out, format):
    arguments = ["export", "--evaluation", str(evaluated), "--data", "arithmetic", "--format", format]
    assert main([*arguments, "--out", str(out)]) == 0
    return {str(path.relative_to(out)): json.loads(path.read_text("utf-8")) for path in sorted(out.rglob("*.json"))}


def test_llmrouterbench_gets_a_file_per_model_with_score_tokens_and_cost_of_each_record(evaluated, tmp_path):
    files = exported(evaluated, tmp_path, "llmrouterbench")
    points = read_evaluation(evaluated).points
    assert len(files) == len(points) == 4
    for path, content in files.items():
        name, records = content["model_name"], content["records"]
        assert re.fullmatch(
            rf"bench/arithmetic/dev/{re.escape(name)}/arithmetic-dev-{re.escape(name)}-\d{{8}}_\d{{6}}\.json", path
        )
        assert content["counts"] == len(records) == COUNT and not content["demo"]
        assert content["cost"] == pytest.approx(sum(record["cost"] for record in records)) and content["cost"] > 0
        assert content["performance"] == sum(record["score"] for record in records) / COUNT
        for record in records:
            assert record["prompt_tokens"] > 0 and record["completion_tokens"] > 0
            assert (record["prediction"] == record["ground_truth"]) == (record["score"] == 1.0)
    by_name = {content["model_name"]: content for content in files.values()}
    slm, llm = (next(each for name, each in by_name.items() if f"-{role}-" in name) for role in ("slm", "llm"))
    assert slm["cost"] < llm["cost"] and len(by_name) == 4, "acceptance is part of the name"


def test_routerarena_gets_predictions_and_a_price_list_that_gives_the_same_cost(evaluated, tmp_path):
    files = exported(evaluated, tmp_path, "routerarena")
    prices = files["model_cost/cost.json"]
    costs = {
        content["model_name"]: content["cost"]
        for content in exported(evaluated, tmp_path / "b", "llmrouterbench").values()
    }
    assert prices.keys() == costs.keys() != set()
    for name, price in prices.items():
        config = files[f"router_inference/config/{name}.json"]["pipeline_params"]
        predictions = files[f"router_inference/predictions/{name}.json"]
        assert config["models"] == [name] and len(predictions) == COUNT
        used = [each["generated_result"]["token_usage"] for each in predictions]
        charged = sum(each["output_tokens"] for each in used) * price["output_token_price_per_million"] / 1e6
        assert charged == pytest.approx(costs[name])
        for each in predictions:
            assert set(each) == {"global_index", "prompt", "prediction", "generated_result"}
            assert each["prediction"] == name and each["generated_result"]["success"] is True


def without_prices(evaluated, old, of):
    """A copy of an evaluation whose lines say no price where `of` matches them."""
    old.mkdir()
    for path in evaluated.iterdir():
        if path.suffix in (".json", ".jsonl"):
            lines = path.read_text("utf-8").splitlines(keepends=True)
            kept = [re.sub(r', "price": [0-9.e-]+', "", line) if re.search(of, line) else line for line in lines]
            (old / path.name).write_text("".join(kept), "utf-8")
    return old


def test_an_evaluation_without_prices_is_refused(evaluated, tmp_path, capsys):
    old = without_prices(evaluated, tmp_path / "old", "")
    arguments = ["export", "--evaluation", str(old), "--data", "arithmetic", "--format", "routerarena"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "before prices were written down" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_point_without_prices_is_left_out_by_name(evaluated, tmp_path, capsys):
    old = without_prices(evaluated, tmp_path / "old", '"acceptance": 0.3')
    files = exported(old, tmp_path / "out", "llmrouterbench")
    assert len(files) == 3 and not any("0.3" in path for path in files)
    assert re.search(r"left out, since .* written down: confidence@0.3 at threshold 0.9\n", capsys.readouterr().out)


def test_questions_of_another_file_are_refused(evaluated, tmp_path, capsys):
    arguments = ["export", "--evaluation", str(evaluated), "--data", "arithmetic", "--split", "train"]
    assert main([*arguments, "--format", "routerarena", "--out", str(tmp_path / "out")]) == 2
    assert "not in the data" in capsys.readouterr().err
