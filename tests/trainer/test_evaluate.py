"""Evaluation: every method answers as it would alone and pays its own cost; texts share what they have in common."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine import InvalidRequest, Request, Setting, build_request
from engine.benchmark.writers import assisted
from engine.decoding import Decoding
from engine.events import charged, taken_back
from engine.events.cost import costs
from engine.grading import grade
from engine.pair import ROUTERS
from engine.policy import ConfidencePolicy, build_policy
from engine.router import Router
from tests.support.fake_labels import quiet
from trainer import TrainerError
from trainer.continuous_batch import WantedText, write, write_each
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.methods import Method, build_methods
from trainer.evaluation.speculative import as_published
from trainer.fit.tune_speculative import tune
from trainer.json_files import read_lines
from trainer.questions.question import prompt
from trainer.questions.sources import load_questions

QUESTIONS = load_questions(["arithmetic"], 6, "dev")
THRESHOLDS = (0.0, 0.7, 0.95, 1.01)
PROMPTS = [f"Start with {n}. Add {3 * n}. Double it. What is the result?" for n in range(2, 7)]


def lines_of(folder):
    return read_lines(sorted(folder.glob("*.jsonl")))


def methods_of(pair):
    """Both ends, the oracle, chance, and confidence at three acceptances with and without drafts of a length."""
    plain = build_methods(["slm", "llm", "oracle", "random", "assisted", "slm@0.3/6"], pair, None, (0.2, 0.5))
    confidence = Method("confidence", ConfidencePolicy(), (0.5, 0.9))
    above = [replace(confidence, thresholds=(0.0, 0.9), acceptance=each, max_draft=6) for each in (0.3, 1.0)]
    return [*plain, confidence, *above]


@pytest.fixture(scope="module")
def results(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(tiny_pair, QUESTIONS, methods_of(tiny_pair), folder, "arithmetic", 120, quiet)
    return folder


def answers_of(folder, method, threshold=0.0, acceptance=0.0):
    wanted = (method, threshold, acceptance)
    return [x for x in lines_of(folder) if (x["method"], x["threshold"], x["acceptance"]) == wanted]


def test_every_method_answers_every_question_once_at_every_setting_and_says_how(results):
    keys = [tuple(line[k] for k in ("question", "method", "threshold", "acceptance")) for line in lines_of(results)]
    assert len(keys) == len(set(keys)) == len(QUESTIONS) * (1 + 1 + 1 + 2 + 1 + 1 + 2 + 4)
    about = json.loads((results / "evaluation.json").read_text())
    assert about["command"].startswith("python -m trainer") and " /" not in about["command"]
    assert about["revision"] and about["hardware"] and about["weights_copy"] == "none"


@pytest.mark.parametrize(("threshold", "acceptance"), [(0.5, 0.0), (0.9, 0.0), (0.9, 0.3), (0.0, 0.3), (0.9, 1.0)])
def test_an_answer_and_its_cost_are_those_of_a_run_alone(tiny_pair, results, threshold, acceptance):
    dials = {"threshold": threshold, "acceptance": acceptance, "max_draft": 6 if acceptance else "auto"}
    for question, line in zip(QUESTIONS[:3], answers_of(results, "confidence", threshold, acceptance), strict=False):
        trace = tiny_pair.generate(build_request(prompt(question), policy="confidence", max_new_tokens=120, **dials))
        spent = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost).run
        assert line["text"] == trace.text and line["correct"] == grade(question, trace.text)
        assert (line["bytes"], line["flops"]) == (spent.bytes, spent.flops)
        assert line["llm_tokens"] == round(trace.llm_share * len(trace.events))
        assert line["taken_back"] == taken_back(trace.events)
        assert line["llm_passes"] == sum(event.llm_fed > 0 for event in charged(trace.events))


def test_the_oracle_and_acceptance_1_are_as_right_as_the_llm_for_less(results):
    alone = answers_of(results, "llm")
    oracle = answers_of(results, "oracle", 0.5)
    assert [line["text"] for line in oracle] == [line["text"] for line in alone]
    assert sum(line["llm_tokens"] for line in oracle) < sum(line["llm_tokens"] for line in alone) / 4
    for beside in (answers_of(results, "assisted", 0.0, 1.0), answers_of(results, "confidence", 0.9, 1.0)):
        assert [line["text"] for line in beside] == [line["text"] for line in alone]
        assert sum(line["llm_passes"] for line in beside) < sum(line["llm_passes"] for line in alone) / 4
        assert all(b["bytes"] < a["bytes"] and b["flops"] > a["flops"] for a, b in zip(alone, beside, strict=True))
    drafts, fixed = answers_of(results, "confidence", 0.0, 0.3), answers_of(results, "slm", 0.0, 0.3)
    assert [line["text"] for line in drafts] == [line["text"] for line in fixed], "threshold 0 is no router at all"
    assert any(line["taken_back"] for line in drafts)


def test_a_router_is_charged_for_its_own_weights(tiny_pair, tmp_path):
    """The same decisions with and without a network: the difference is the network, once per token."""

    class Scored(ConfidencePolicy):
        runs_router = True

    router = Router.load(ROUTERS / "tiny")
    methods = [Method("a", ConfidencePolicy(), (0.5,)), Method("b", Scored(), (0.5,), router)]
    evaluate(tiny_pair, QUESTIONS[:2], methods, tmp_path, "arithmetic", 60, quiet)
    for a, b in zip(answers_of(tmp_path, "a", 0.5), answers_of(tmp_path, "b", 0.5), strict=True):
        assert a["text"] == b["text"] and b["bytes"] - a["bytes"] == router.bytes * a["tokens"]


def test_a_stage_that_could_not_be_read_with_the_others_is_refused_before_any_answer(tiny_pair, tmp_path):
    """Another router of the same name, other questions, and a setting that has answers already."""
    begun = Method("citer", ConfidencePolicy(), (0.5,), Router.load(ROUTERS / "tiny"))
    evaluate(tiny_pair, QUESTIONS[:2], [begun], tmp_path, "arithmetic", 40, quiet)
    other = replace(begun, router=Router.load(ROUTERS / "tiny"), thresholds=(0.7,))
    assert other.router is not None
    other.router.network.state_dict()["scale"].add_(1.0)
    with pytest.raises(TrainerError, match=r"settings \(methods\)"):
        evaluate(tiny_pair, QUESTIONS[:2], [replace(other, thresholds=(0.5,))], tmp_path, "arithmetic", 40, quiet)
    for method, questions, named in (
        (other, QUESTIONS[:2], r"more\.json: citer is another router"),
        (replace(begun, thresholds=(0.7,)), QUESTIONS[:1], r"more\.json: its data"),
        (replace(begun, thresholds=(0.7, 0.5)), QUESTIONS[:2], r"evaluation\.json has citer at threshold 0\.5"),
    ):
        with pytest.raises(TrainerError, match=named):
            evaluate(tiny_pair, questions, [method], tmp_path, "arithmetic", 40, quiet, "more")
        assert not (tmp_path / "more.json").exists()
    evaluate(tiny_pair, QUESTIONS[:2], [replace(begun, acceptance=0.5)], tmp_path, "arithmetic", 40, quiet, "more")
    assert len(lines_of(tmp_path)) == 4


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["magic"], "'magic'.*confidence, entropy, margin"),
        (["confidence"], "--labels"),
        (["random@0.3", "random@0.3"], "twice"),
        (["a=one@0.3", "a=other@0.6"], "twice"),
        (["assisted@0.5"], "acceptance 1"),
        (["assisted-tuned"], "trainer speculate"),
        (["assisted-tuned=nowhere"], r"speculative\.json.*trainer speculate"),
        (["slm:0.5"], "no threshold"),
    ],
)
def test_methods_that_make_no_sense_are_refused(tiny_pair, names, named):
    with pytest.raises(TrainerError, match=named):
        build_methods(names, tiny_pair, None, (0.2,))


def test_groups_through_few_rows_are_the_texts_that_are_written_alone(tiny_pair, monkeypatch):
    most, step = [0], Decoding.step

    def counted(self, *args):
        most[0] = max(most[0], sum(row.unfinished for row in self.rows))
        return step(self, *args)

    monkeypatch.setattr(Decoding, "step", counted)
    policy = ConfidencePolicy()
    settings = [Setting(threshold=each) for each in THRESHOLDS]
    groups = [[WantedText(Request(p, each, max_new_tokens=40), policy) for each in settings] for p in PROMPTS]
    written = write(tiny_pair, groups, rows=9)
    assert 8 <= most[0] <= 9, "two groups, and a third one only where rows have ended"
    for group, rows in zip(groups, written, strict=True):
        for text, row in zip(group, rows, strict=True):
            alone = tiny_pair.generate(build_request(text.request, policy="confidence"))
            assert [e.id for e in row.events] == [e.id for e in alone.events]
            assert row.finish_reason == alone.finish_reason
    most[0] = 0
    assert [len(rows) for rows in write(tiny_pair, groups[:2], rows=1)] == [4, 4] and most == [4], "never half a group"
    with pytest.raises(InvalidRequest, match="tokens"):
        write_each(tiny_pair, [WantedText(build_request("5 " * 5000, policy="slm"))], rows=4)


def test_speculative_decoding_is_charged_as_transformers_does_it(random_pair):
    """The LLM passes are the loop's; after a full draft the LLM's own token costs no pass of the SLM."""
    asked = [Request(text, Setting("slm", 0.0, 1.0, 6), max_new_tokens=30) for text in ("ab", "xyz")]
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


def test_the_evaluation_charges_it_so(tiny_pair, results):
    (method,) = build_methods(["assisted"], tiny_pair, None)
    dials = {"threshold": 0.0, "acceptance": 1.0, "max_draft": method.max_draft, "max_new_tokens": 120}
    asked = [build_request(prompt(question), **dials) for question in QUESTIONS]
    decoding = tiny_pair.start(asked, [build_policy("slm")] * len(QUESTIONS))
    decoding.finish()
    spared = 0
    for row, line in zip(decoding.rows, answers_of(results, "assisted", 0.0, 1.0), strict=True):
        own, published = (
            costs(events, row.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost).run.bytes
            for events in (row.events, as_published(row.events, int(method.max_draft)))
        )
        assert line["bytes"] == published
        spared += own > published
    assert spared


def test_speculative_decoding_is_tuned_to_the_fewest_bytes_and_then_run_as_chosen(tiny_pair, tmp_path):
    training, told = load_questions(["arithmetic"], 4, "train"), []
    best = tune(tiny_pair, training, tmp_path / "tuning", 40, told.append, drafts=(2, 6), confidences=(0.0, 0.5))
    written = json.loads((tmp_path / "tuning" / "speculative.json").read_text())
    assert best is not None and written["chosen"]["bytes"] == min(each["bytes"] for each in written["tried"])
    tried = {(each["max_draft"], each["confidence"]) for each in written["tried"]}
    assert tried == {(3, 0), (3, 0.5), (7, 0), (7, 0.5)}
    (method,) = build_methods([f"assisted-tuned={tmp_path / 'tuning'}"], tiny_pair, None)
    assert (method.max_draft, method.thresholds, method.acceptance) == (best.max_draft, (best.confidence,), 1.0)
    evaluate(tiny_pair, training, [method], tmp_path / "again", "arithmetic", 40, quiet)
    assert sum(x["bytes"] for x in lines_of(tmp_path / "again")) / 4 == pytest.approx(best.bytes)
    for drafts, confidences, named in (((0,), (0.5,), "draft of 0"), ((2,), (float("nan"),), "nan")):
        with pytest.raises(TrainerError, match=named):
            tune(tiny_pair, training, tmp_path / "no", 40, quiet, drafts=drafts, confidences=confidences)
