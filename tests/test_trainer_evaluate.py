"""Evaluation: every method answers what it would answer alone, costs are its own, and results can be taken up again."""

from __future__ import annotations

import json

import pytest
from test_engine_router import make_router

from engine import Request
from engine.assisted import assisted
from engine.cost import costs
from engine.policy import ConfidencePolicy
from trainer.assisted import assist, write
from trainer.data import load_questions, prompt
from trainer.errors import TrainerError
from trainer.evaluate import evaluate
from trainer.grading import grade
from trainer.methods import Method, build_methods
from trainer.shards import read_lines

QUESTIONS = load_questions(["arithmetic"], 10, "dev")


def quiet(_):
    pass


def lines_of(folder):
    return read_lines(sorted(folder.glob("*.jsonl")))


def plain(pair):
    methods = build_methods(["slm", "llm", "oracle", "random"], pair, None, (0.2, 0.5))
    return [*methods, Method("confidence", ConfidencePolicy(), (0.5, 0.9))]


@pytest.fixture(scope="module")
def results(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(tiny_pair, QUESTIONS, plain(tiny_pair), folder, "arithmetic", 120, quiet)
    return folder


def test_every_method_answers_every_question_once_at_every_threshold(results):
    lines = lines_of(results)
    keys = [(line["question"], line["method"], line["threshold"]) for line in lines]
    assert len(keys) == len(set(keys)) == 10 * 7


def test_an_answer_and_its_cost_are_those_of_a_run_alone(tiny_pair, results):
    by_key = {(line["question"], line["method"], line["threshold"]): line for line in lines_of(results)}
    for question in QUESTIONS[:4]:
        for threshold in (0.5, 0.9):
            asked = Request(prompt(question), policy="confidence", threshold=threshold, max_new_tokens=120)
            trace = tiny_pair.generate(asked)
            line = by_key[question.id, "confidence", threshold]
            spent = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost).run
            assert line["text"] == trace.text
            assert (line["bytes"], line["flops"]) == (spent.bytes, spent.flops)
            assert line["correct"] == grade(question, trace.text)
            assert line["llm_tokens"] == round(trace.llm_share * len(trace.events))


def test_the_oracle_is_as_right_as_the_llm_for_less(results):
    lines = lines_of(results)
    found = {m: [line for line in lines if line["method"] == m] for m in ("oracle", "llm")}
    assert [line["text"] for line in found["oracle"]] == [line["text"] for line in found["llm"]]
    assert sum(line["llm_tokens"] for line in found["oracle"]) < sum(line["llm_tokens"] for line in found["llm"]) / 4


def test_a_deleted_shard_is_answered_again_byte_for_byte(tiny_pair, results):
    shard = results / "evaluation-00000.jsonl"
    before = shard.read_bytes()
    shard.unlink()
    evaluate(tiny_pair, QUESTIONS, plain(tiny_pair), results, "arithmetic", 120, quiet)
    assert shard.read_bytes() == before


def test_a_folder_goes_on_with_shards_of_the_size_it_was_begun_with(tiny_pair, results, monkeypatch):
    shards = sorted(results.glob("*.jsonl"))
    before = [shard.read_bytes() for shard in shards]
    shards[0].unlink()
    monkeypatch.setattr("trainer.evaluate.AT_ONCE", 1)
    evaluate(tiny_pair, QUESTIONS, plain(tiny_pair), results, "arithmetic", 120, quiet)
    assert [shard.read_bytes() for shard in sorted(results.glob("*.jsonl"))] == before


def test_results_of_another_router_are_not_mixed_in(tiny_pair, tmp_path):
    methods = [Method("citer", ConfidencePolicy(), (0.5,), make_router(tiny_pair))]
    evaluate(tiny_pair, QUESTIONS[:1], methods, tmp_path, "arithmetic", 40, quiet)
    other = [Method("citer", ConfidencePolicy(), (0.5,), make_router(tiny_pair, logits=True))]
    with pytest.raises(TrainerError, match=r"other settings \(methods\)"):
        evaluate(tiny_pair, QUESTIONS[:1], other, tmp_path, "arithmetic", 40, quiet)


def test_a_router_is_charged_for_its_own_weights(tiny_pair, tmp_path):
    """The same decisions with and without a network: the difference is the network, once per token."""
    router = make_router(tiny_pair)
    methods = [Method("a", ConfidencePolicy(), (0.5,)), Method("b", Scored(), (0.5,), router)]
    evaluate(tiny_pair, QUESTIONS[:2], methods, tmp_path, "arithmetic", 60, quiet)
    lines = lines_of(tmp_path)
    for question in QUESTIONS[:2]:
        a, b = (next(x for x in lines if x["method"] == m and x["question"] == question.id) for m in "ab")
        assert a["text"] == b["text"]
        assert b["bytes"] - a["bytes"] == router.bytes * a["tokens"]


class Scored(ConfidencePolicy):
    """Confidence that claims to have run a router."""

    runs_router = True


def test_the_command_says_how_without_a_path_of_this_machine(results):
    about = json.loads((results / "evaluation.json").read_text())
    assert about["command"].startswith("python -m trainer")
    assert " /" not in about["command"]
    assert about["revision"] and about["hardware"]
    assert about["task"] == "arithmetic"


def test_an_unknown_method_is_refused_with_those_there_are(tiny_pair):
    with pytest.raises(TrainerError, match="confidence, entropy, margin"):
        build_methods(["magic"], tiny_pair, None)


def test_a_method_that_needs_labels_says_so(tiny_pair):
    with pytest.raises(TrainerError, match="--labels"):
        build_methods(["confidence"], tiny_pair, None)


def test_assisted_generation_writes_the_llms_text_in_fewer_passes_of_it(tiny_pair, results):
    assist(tiny_pair, QUESTIONS, results, 120, quiet)
    lines = lines_of(results)
    drafted = {line["question"]: line for line in lines if line["method"] == "assisted"}
    for line in lines:
        if line["method"] == "llm":
            beside = drafted[line["question"]]
            assert beside["text"] == line["text"]
            assert beside["bytes"] < line["bytes"]
            assert beside["flops"] > line["flops"]  # drafts are paid for as well


def test_speculative_decoding_side_by_side_writes_what_transformers_writes_alone(random_pair):
    prompts = [list(range(start, start + length)) for start, length in ((3, 9), (40, 23), (90, 4))]
    texts = write(random_pair, prompts, 30)
    end, pad = random_pair.end_ids, random_pair.end_id
    for ids, text in zip(prompts, texts, strict=True):
        models = random_pair.slm.model, random_pair.llm.model
        alone = assisted(*models, random_pair.tokenizer, ids, 30, end, pad)
        assert text.tokens[len(ids) :] == alone
        assert len(text.llm) <= len(alone)
        read = [position for fed, cached in text.llm for position in range(cached, cached + fed)]
        assert set(range(len(text.tokens) - 1)) <= set(read)
