"""Evaluation: every method answers what it would answer alone, costs are its own, and results can be taken up again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine import Request, Role
from engine.benchmark.writers import assisted
from engine.events import charged, charged_reads, taken_back
from engine.events.cost import costs
from engine.grading import grade
from engine.policy import ConfidencePolicy, build_policy
from tests.engine.test_router import make_router
from trainer import TrainerError
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.methods import Method, build_methods
from trainer.evaluation.speculative import as_published
from trainer.fit.tune_speculative import tune
from trainer.json_files import read_lines
from trainer.questions.question import prompt
from trainer.questions.sources import load_questions

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
    monkeypatch.setattr("trainer.evaluation.evaluate.AT_ONCE", 1)
    evaluate(tiny_pair, QUESTIONS, plain(tiny_pair), results, "arithmetic", 120, quiet)
    assert [shard.read_bytes() for shard in sorted(results.glob("*.jsonl"))] == before


def test_results_of_another_router_are_not_mixed_in(tiny_pair, tmp_path):
    methods = [Method("citer", ConfidencePolicy(), (0.5,), make_router(tiny_pair))]
    evaluate(tiny_pair, QUESTIONS[:1], methods, tmp_path, "arithmetic", 40, quiet)
    other = [Method("citer", ConfidencePolicy(), (0.5,), make_router(tiny_pair, logits=True))]
    with pytest.raises(TrainerError, match=r"other settings \(methods\)"):
        evaluate(tiny_pair, QUESTIONS[:1], other, tmp_path, "arithmetic", 40, quiet)


def test_a_stage_that_could_not_be_read_with_the_others_is_refused_before_any_answer(tiny_pair, tmp_path):
    """Another router of the same name, other questions, and a setting that has answers already."""
    router = make_router(tiny_pair)
    begun = [Method("citer", ConfidencePolicy(), (0.5,), router)]
    evaluate(tiny_pair, QUESTIONS[:2], begun, tmp_path, "arithmetic", 40, quiet)
    other = [Method("citer", ConfidencePolicy(), (0.7,), make_router(tiny_pair, logits=True))]
    more = [replace(begun[0], thresholds=(0.7, 0.5))]
    for methods, questions, said in (
        (other, QUESTIONS[:2], r"more\.json: citer is another router than in evaluation\.json; give it another name"),
        ([replace(begun[0], thresholds=(0.7,))], QUESTIONS[:1], r"more\.json: its data is"),
        (
            more,
            QUESTIONS[:2],
            r"evaluation\.json has citer at threshold 0\.5 already",
        ),
    ):
        with pytest.raises(TrainerError, match=said):
            evaluate(tiny_pair, questions, methods, tmp_path, "arithmetic", 40, quiet, "more")
        assert not (tmp_path / "more.json").exists()
    evaluate(tiny_pair, QUESTIONS[:2], [replace(begun[0], acceptance=0.5)], tmp_path, "arithmetic", 40, quiet, "more")
    assert len(lines_of(tmp_path)) == 4


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
    assert about["revision"] and about["hardware"] and about["weights_copy"] == "none"
    assert about["task"] == "arithmetic"


def test_an_unknown_method_is_refused_with_those_there_are(tiny_pair):
    with pytest.raises(TrainerError, match="confidence, entropy, margin"):
        build_methods(["magic"], tiny_pair, None)


def test_a_method_that_needs_labels_says_so(tiny_pair):
    with pytest.raises(TrainerError, match="--labels"):
        build_methods(["confidence"], tiny_pair, None)


# --- above acceptance 0


@pytest.fixture(scope="module")
def plane(tiny_pair, tmp_path_factory):
    """Confidence at two acceptances, and speculative decoding with drafts of the same length without any threshold."""
    folder = tmp_path_factory.mktemp("plane")
    policy = ConfidencePolicy()
    methods = [Method("confidence", policy, (0.0, 0.9), None, acceptance, 6) for acceptance in (0.3, 1.0)]
    methods += build_methods(["llm", "assisted", "slm@0.3/6"], tiny_pair, None)
    evaluate(tiny_pair, QUESTIONS, methods, folder, "arithmetic", 120, quiet)
    return folder


def answers_of(folder, method, threshold=0.0, acceptance=1.0):
    wanted = (method, threshold, acceptance)
    return [x for x in lines_of(folder) if (x["method"], x["threshold"], x["acceptance"]) == wanted]


def test_a_method_is_asked_at_its_acceptance_and_its_answers_say_what_was_taken_back(tiny_pair, plane):
    for line, question in zip(answers_of(plane, "confidence", 0.9, 0.3), QUESTIONS, strict=True):
        dials = {"threshold": 0.9, "acceptance": 0.3, "max_draft": 6}
        trace = tiny_pair.generate(prompt(question), policy="confidence", max_new_tokens=120, **dials)
        assert line["text"] == trace.text
        assert line["taken_back"] == taken_back(trace.events)
        assert line["llm_passes"] == sum(event.llm_fed > 0 for event in charged(trace.events))
        spent = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost).run
        assert (line["bytes"], line["flops"], line["max_draft"]) == (spent.bytes, spent.flops, 6)
    assert any(line["taken_back"] for line in answers_of(plane, "confidence", 0.0, 0.3))


def test_at_acceptance_1_every_method_writes_the_llms_text_in_fewer_passes_of_it(plane):
    alone = answers_of(plane, "llm", acceptance=0.0)
    for beside in (answers_of(plane, "assisted"), answers_of(plane, "confidence", 0.9)):
        assert [line["text"] for line in beside] == [line["text"] for line in alone]
        assert sum(line["llm_passes"] for line in beside) < sum(line["llm_passes"] for line in alone) / 4
        assert all(b["bytes"] < a["bytes"] and b["flops"] > a["flops"] for a, b in zip(alone, beside, strict=True))


def test_threshold_0_is_no_router_at_all(plane):
    for key in ("text", "taken_back", "llm_passes"):
        asked, fixed = answers_of(plane, "confidence", 0.0, 0.3), answers_of(plane, "slm", 0.0, 0.3)
        assert [line[key] for line in asked] == [line[key] for line in fixed]


def test_a_point_of_the_plane_is_no_other_stage_than_before_where_no_dial_is_turned(tiny_pair):
    plain, turned = build_methods(["random", "random@0.3/4"], tiny_pair, None, (0.2,))
    assert plain.made_of == ["random", [0.2], None]
    assert turned.made_of == ["random", [0.2], None, 0.3, 4]
    assert (plain.title, turned.title) == ("random", "random@0.3/4")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["random@0.3", "random@0.3"], "stands there twice"),
        (["a=one@0.3", "a=other@0.6"], "stands there twice"),
        (["assisted@0.5"], "assisted is at acceptance 1, with its own draft"),
        (["assisted:0.5"], "assisted is at acceptance 1, with its own draft"),
        (["assisted-tuned=x@0/8"], "assisted-tuned is at acceptance 1, with its own draft"),
        (["assisted-tuned"], "assisted-tuned=folder with what `trainer speculate` wrote"),
        (["magic@0.3"], "'magic' is no method"),
    ],
)
def test_methods_of_the_plane_that_make_no_sense_are_refused(tiny_pair, names, message):
    with pytest.raises(TrainerError, match=message):
        build_methods(names, tiny_pair, None, (0.2,))


# --- speculative decoding


def test_speculative_decoding_is_charged_as_transformers_does_it(random_pair):
    """The LLM passes are the loop's; after a full draft the LLM's own token costs no pass of the SLM."""
    asked = [Request(text, threshold=0.0, acceptance=1.0, max_draft=6, max_new_tokens=30) for text in ("ab", "xyz")]
    decoding = random_pair.start(asked, [build_policy("slm")] * 2)
    decoding.finish()
    end, pad = random_pair.end_ids, random_pair.end_id
    for row in decoding.rows:
        models = random_pair.slm.model, random_pair.llm.model
        prompt_ids, text = row.tokens[: row.prompt_tokens], row.tokens[row.prompt_tokens :]
        assert text == assisted(*models, random_pair.tokenizer, prompt_ids, 30, end, pad)
        told = as_published(row.events, 6)
        assert [event.llm_fed for event in charged(told)] == [event.llm_fed for event in charged(row.events)]
        full = [e for e in row.events if e.llm_fed and len(e.verdicts) + len(e.taken_back) + (e.role == "slm") == 6]
        before, after = ([event.slm_fed for event in charged(events)] for events in (row.events, told))
        assert full and sum(map(bool, before)) - sum(map(bool, after)) == len(full)


def test_no_token_is_left_unread_by_what_is_spared(tiny_pair):
    asked = [Request(prompt(q), threshold=0.0, acceptance=1.0, max_draft=4, max_new_tokens=60) for q in QUESTIONS]
    decoding = tiny_pair.start(asked, [build_policy("slm")] * len(asked))
    decoding.finish()
    for row in decoding.rows:
        reads = [
            charged_reads(events, row.prompt_tokens)[Role.SLM] for events in (row.events, as_published(row.events, 4))
        ]
        assert 0 <= reads[0] - reads[1] <= 2, "only what is at the end of the text"


def test_speculative_decoding_is_tuned_to_the_fewest_bytes_and_then_run_as_chosen(tiny_pair, tmp_path):
    training = load_questions(["arithmetic"], 6, "train")
    told: list[str] = []
    best = tune(tiny_pair, training, tmp_path / "tuning", 60, told.append, drafts=(2, 6), confidences=(0.0, 0.5))
    assert (
        best is not None
        and told[-1] == f"drafts of {best.max_draft - 1} are the end of what was tried: --drafts tries others"
    )
    written = json.loads((tmp_path / "tuning" / "speculative.json").read_text())
    assert written["chosen"]["bytes"] == min(each["bytes"] for each in written["tried"])
    assert {(each["max_draft"], each["confidence"]) for each in written["tried"]} == {
        (3, 0),
        (3, 0.5),
        (7, 0),
        (7, 0.5),
    }
    assert written["questions"] == 6 and written["command"].startswith("python -m trainer")
    (method,) = build_methods([f"assisted-tuned={tmp_path / 'tuning'}"], tiny_pair, None)
    assert best is not None
    assert (method.max_draft, method.thresholds, method.acceptance) == (best.max_draft, (best.confidence,), 1.0)
    evaluate(tiny_pair, training, [method], tmp_path / "again", "arithmetic", 60, quiet)
    assert sum(x["bytes"] for x in lines_of(tmp_path / "again")) / 6 == pytest.approx(best.bytes)


def test_speculative_decoding_that_was_never_tuned_says_what_to_run(tiny_pair, tmp_path):
    with pytest.raises(TrainerError, match=r"speculative\.json: .*trainer speculate"):
        build_methods([f"assisted-tuned={tmp_path}"], tiny_pair, None)
