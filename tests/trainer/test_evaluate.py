"""Evaluation: every method answers as it would alone and pays its own cost; each answer becomes a row."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from engine import build_request
from engine.bench.writers import generate
from engine.decoding import Decoding
from engine.events import charged, taken_back
from engine.events.cost import costs
from engine.grading import agreement, grade
from engine.models.sources import ROUTERS
from engine.policy import ConfidencePolicy, build_policy
from engine.router import Router
from engine.setting import Setting
from tests.support.fake_labels import quiet
from tests.support.fake_llm_server import served
from tests.support.paths import TINY
from tests.support.served_pair import loaded
from trainer import TrainerError
from trainer.continuous_batch import write
from trainer.evaluation.evaluate import evaluate, gather
from trainer.evaluation.methods import Method, as_published, methods_of, read_methods
from trainer.evaluation.rows import GENERAL, read_rows
from trainer.questions import Question, load_questions, prompt

QUESTIONS = load_questions(["assets/arithmetic/dev.jsonl"], 6)
THRESHOLDS = (0.0, 0.7, 0.95, 1.01)
PROMPTS = [f"Start with {n}. Add {3 * n}. Double it. What is the result?" for n in range(2, 7)]
SETTINGS = ["slm < 0", "llm < 0", "random < 0.2", "confidence < 0.5", "confidence < 0.9"]
SETTINGS += [f"confidence < {threshold} @ {each}/6" for each in (0.3, 1) for threshold in (0, 0.9)]
SPECULATIVE = Method("speculative", (Setting.parse("confidence < 0 @ 1/6"),))


def answered(pair, folder, methods, questions=QUESTIONS, limit=120, task="arithmetic"):
    evaluate(pair, questions, methods, folder, task, limit, quiet)
    return read_rows(gather(folder, folder / "results"))[0]


@pytest.fixture(scope="module")
def rows(tiny_pair, tmp_path_factory):
    methods = [*methods_of(SETTINGS), SPECULATIVE, Method("router", (Setting(),), ROUTERS / "tiny")]
    return answered(tiny_pair, tmp_path_factory.mktemp("evaluation"), methods)


def of(rows, setting, method=None):
    name = method or setting.split()[0]
    found = [row for row in rows if (row.method, row.setting) == (name, str(Setting.parse(setting)))]
    return sorted(found, key=lambda row: [question.id for question in QUESTIONS].index(row.question))


def test_every_method_answers_every_question_once_at_every_setting_and_says_who_wrote_what(rows):
    keys = [(row.question, row.method, row.setting) for row in rows]
    assert len(keys) == len(set(keys)) == len(QUESTIONS) * (len(SETTINGS) + 2)
    for row in rows:
        assert row.authors is not None and sum(row.authors) == row.tokens
        assert sum(row.authors[1::2]) == row.llm_tokens and row.seconds is None
        assert row.made.count("; ") == 2


def test_rows_say_that_the_llm_was_on_a_server_so_that_their_seconds_are_not_this_machines(tiny_pair, tmp_path):
    with served(tiny_pair) as server, loaded(server, llm_config=TINY / "llm" / "config.json") as pair:
        rows = answered(pair, tmp_path, methods_of(["slm < 0", "llm < 0"]), QUESTIONS[:1])
    assert len(rows) == 2 and all("LLM on a server" in row.made for row in rows)


@pytest.mark.parametrize(("threshold", "acceptance"), [(0.5, 0.0), (0.9, 0.0), (0.9, 0.3), (0.0, 0.3), (0.9, 1.0)])
def test_an_answer_and_its_cost_are_those_of_a_run_alone(tiny_pair, rows, threshold, acceptance):
    dials = {"threshold": threshold, "acceptance": acceptance, "max_draft": 6 if acceptance else "auto"}
    setting = str(Setting("confidence", **dials))
    for question, row in zip(QUESTIONS[:3], of(rows, setting), strict=False):
        asked = build_request(prompt(question), policy="confidence", max_new_tokens=120, **dials)
        trace = tiny_pair.generate(asked)
        spent = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost).run
        assert row.text == trace.text and row.right == grade(question, trace.text)
        assert row.bytes == round(spent.bytes) and row.flops == pytest.approx(spent.flops)
        assert row.llm_tokens == round(trace.llm_share * len(trace.events))
        assert row.taken_back == taken_back(trace.events)
        assert row.llm_passes == sum(event.llm_fed > 0 for event in charged(trace.events))


def test_acceptance_1_gives_the_llms_answers_in_a_third_of_its_passes(rows):
    alone, other = of(rows, "llm < 0"), of(rows, "confidence < 0.9 @ 1/6")
    assert [row.text for row in other] == [row.text for row in alone]
    assert sum(row.llm_passes for row in other) < sum(row.llm_passes for row in alone) / 3


def test_a_router_is_charged_for_its_own_weights(tiny_pair, rows):
    router = Router.load(ROUTERS / "tiny")
    for question, row in zip(QUESTIONS, of(rows, "router < 0.5"), strict=True):
        trace = tiny_pair.generate(build_request(prompt(question), threshold=0.5, max_new_tokens=120))
        assert row.text == trace.text
        bare = replace(trace.slm_cost, router_bytes=0, router_flops=0)
        spent = costs(trace.events, trace.prompt_tokens, bare, trace.llm_cost).run
        assert row.bytes - round(spent.bytes) == pytest.approx(router.network.bytes * row.tokens, rel=1e-6)


def test_what_is_there_is_not_written_again_and_other_methods_join_later(tiny_pair, tmp_path, monkeypatch):
    first = answered(tiny_pair, tmp_path, methods_of(["slm < 0"]), QUESTIONS[:2], 40)
    before = (tmp_path / "slm-00000.parquet").read_bytes()
    both = answered(tiny_pair, tmp_path, methods_of(["slm < 0", "llm < 0"]), QUESTIONS[:2], 40)
    assert (tmp_path / "slm-00000.parquet").read_bytes() == before
    assert [row for row in both if row.method == "slm"] == first and len(both) == 4
    (tmp_path / "llm-00000.parquet").unlink()
    with pytest.raises(TrainerError, match="missing"):
        gather(tmp_path, tmp_path)
    assert answered(tiny_pair, tmp_path, methods_of(["slm < 0", "llm < 0"]), QUESTIONS[:2], 40) == both


def test_a_folder_is_of_one_evaluation(tiny_pair, tmp_path):
    answered(tiny_pair, tmp_path, methods_of(["slm < 0", "confidence < 0.5"]), QUESTIONS[:2], 20)
    for method, questions in ((methods_of(["confidence < 0.6"]), QUESTIONS[:2]), (methods_of(["slm < 0"]), QUESTIONS)):
        with pytest.raises(TrainerError, match="other settings"):
            evaluate(tiny_pair, questions, method, tmp_path, "arithmetic", 20, quiet)
    evaluate(tiny_pair, QUESTIONS[:2], methods_of(["llm < 0"]), tmp_path, "arithmetic", 21, quiet)
    with pytest.raises(TrainerError, match="differ in max_new_tokens"):
        gather(tmp_path, tmp_path)
    with pytest.raises(TrainerError, match="no answers"):
        gather(tmp_path / "nothing", tmp_path)


def test_seconds_are_measured_alone_and_join_the_rows_of_the_same_answers(tiny_pair, tmp_path):
    methods = methods_of(["llm < 0", "confidence < 0.5"])
    answered(tiny_pair, tmp_path, methods, limit=40)
    started = time.perf_counter()
    evaluate(tiny_pair, QUESTIONS[:2], methods, tmp_path, "arithmetic", 40, quiet, alone=True)
    spent = time.perf_counter() - started
    found = read_rows(gather(tmp_path, tmp_path))[0]
    timed = [row for row in found if row.seconds is not None]
    assert {(row.question, row.method) for row in timed} == {
        (question.id, method) for question in QUESTIONS[:2] for method in ("llm", "confidence")
    }
    assert 0 < sum(row.seconds or 0 for row in timed) < spent and len(found) == 12
    with pytest.raises(TrainerError, match="llm among"):
        evaluate(tiny_pair, QUESTIONS[:2], methods[1:], tmp_path / "other", "arithmetic", 40, quiet, alone=True)


def test_a_general_prompt_is_right_as_far_as_its_text_is_the_llms(tiny_pair, tmp_path):
    asked = [Question(f"p{n}", text, "", "") for n, text in enumerate(PROMPTS[:2])]
    found = answered(tiny_pair, tmp_path, methods_of(["slm < 0", "llm < 0"]), asked, 40, GENERAL)
    assert [row.right for row in found if row.method == "llm"] == [1, 1]
    for question in asked:
        texts = [
            tiny_pair.generate(build_request(question.question, policy=name, max_new_tokens=40))
            for name in ("slm", "llm")
        ]
        slm, llm = ([event.id for event in text.events] for text in texts)
        (row,) = [row for row in found if (row.method, row.question) == ("slm", question.id)]
        assert row.right == pytest.approx(agreement(slm, llm))


# --- the list of methods


LIST = """
[slm]
[router]
folder = "FOLDER"
settings = ["router < 0.5 @ 0.3", "router < 0.7"]
[random]
shares = [0.1, 0.2]
acceptances = [0, 0.3]
[speculative]
"""


def test_methods_are_listed_in_toml(tmp_path):
    path = tmp_path / "methods.toml"
    path.write_text(LIST.replace("FOLDER", str(ROUTERS / "tiny")))
    found = {each.name: each for each in read_methods(path)}
    assert list(map(str, found["router"].settings)) == ["router < 0.5 @ 0.3", "router < 0.7"]
    assert list(map(str, found["random"].settings))[1:3] == ["random < 0.2", "random < 0.1 @ 0.3"]
    assert len(found["speculative"].settings) == 6 and {each.acceptance for each in found["speculative"].settings} == {
        1
    }


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        ("[magic]", "'magic'"),
        ("[router]", "folder"),
        ("[confidence]", "--labels"),
        ("[random]\nshares = [2]", "shares"),
        ("[random]\nsettings = ['random < 0.1', 'random < 0.1']", "twice"),
        ("[confidence]\nsettings = ['confidence at 0.5']", "setting = "),
        ("[confidence]\nsettings = ['random < 0.5']", "policy is confidence"),
        ("['my method']", "my method"),
        ("[slm", "TOML|Expected|docs/training.md"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_by_name(tmp_path, listed, named):
    (tmp_path / "methods.toml").write_text(listed)
    with pytest.raises(TrainerError, match=named):
        read_methods(tmp_path / "methods.toml")


# --- speculative decoding, the rival


def test_speculative_decoding_is_charged_as_transformers_does_it(random_pair):
    """The LLM passes are the loop's; after a full draft the LLM's own token costs no pass of the SLM."""
    dials = {"threshold": 0.0, "acceptance": 1.0, "max_draft": 6, "max_new_tokens": 30}
    asked = [build_request(text, **dials) for text in ("ab", "xyz")]
    decoding = random_pair.start(asked, [build_policy("slm")] * 2)
    decoding.finish()
    end = random_pair.end_ids
    for row in decoding.texts:
        slm, llm = random_pair.slm.model, random_pair.llm.model
        prompt_ids, text = row.tokens[: row.prompt_tokens], row.tokens[row.prompt_tokens :]
        assert text == generate(llm, prompt_ids, 30, end, slm, random_pair.tokenizer)
        told = as_published(row.events, 6)
        assert [event.llm_fed for event in charged(told)] == [event.llm_fed for event in charged(row.events)]
        full = [e for e in row.events if e.llm_fed and len(e.verdicts) + len(e.taken_back) + (e.role == "slm") == 6]
        before, after = ([event.slm_fed for event in charged(events)] for events in (row.events, told))
        assert full and sum(map(bool, before)) - sum(map(bool, after)) == len(full)


def test_the_evaluation_charges_it_so(rows):
    plain, speculative = of(rows, "confidence < 0 @ 1/6"), of(rows, "confidence < 0 @ 1/6", "speculative")
    for one, other in zip(plain, speculative, strict=True):
        assert one.text == other.text and one.bytes >= other.bytes
    assert sum(row.bytes for row in plain) > sum(row.bytes for row in speculative)


# --- texts through few rows


def test_groups_through_few_rows_are_the_texts_that_are_written_alone(tiny_pair, monkeypatch):
    most, step = [0], Decoding.step

    def counted(self, *args):
        most[0] = max(most[0], sum(text.finish_reason is None for text in self.texts))
        return step(self, *args)

    monkeypatch.setattr(Decoding, "step", counted)
    policy = ConfidencePolicy()

    def groups(prompts):
        asked = [[build_request(p, threshold=t, max_new_tokens=40) for t in THRESHOLDS] for p in prompts]
        return [tiny_pair.texts(requests, [policy] * len(requests)) for requests in asked]

    written = groups(PROMPTS)
    write(tiny_pair, written, rows=9)
    assert 8 <= most[0] <= 9, "two groups, and a third one only where rows have ended"
    for text in (text for group in written for text in group):
        alone = tiny_pair.generate(build_request(text.request, policy="confidence"))
        assert [e.id for e in text.events] == [e.id for e in alone.events]
        assert text.finish_reason == alone.finish_reason
    most[0] = 0
    write(tiny_pair, groups(PROMPTS[:2]), rows=1)
    assert most == [4], "never half a group"
