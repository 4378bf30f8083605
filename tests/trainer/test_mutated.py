"""The trainer's files when they are damaged, its folders when two want them, its options when they make no sense."""

from __future__ import annotations

import json
import math
import threading
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Role
from tests.support.fake_labels import planted, rollout, write_labels, write_rollouts
from tests.support.mutations import damaged_bytes, damaged_json
from tests.trainer.test_record import write_evaluation
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.evaluate import chosen_thresholds
from trainer.evaluation.record import read_evaluation
from trainer.json_files import write_lines
from trainer.labels.answers import Answer, load_answers
from trainer.labels.labels import load_labels
from trainer.labels.rollouts import Rollout, load_rollouts
from trainer.questions.question import Question
from trainer.rounds import Round, load_rounds
from trainer.shards import Shards

QUESTIONS = [Question(f"q{n}", "1 + 1?", "", "2") for n in range(4)]
ANSWER = {"tokens": [1, 2], "text": "2", "finish": "eos"}


def quiet(_):
    pass


def make(some, path):
    write_lines(path, [{"question": each.id, **ANSWER} for each in some])


def shards_of(folder):
    return Shards(folder, "answers", 128, ".jsonl")


def whole_answers(folder):
    shards_of(folder).run({"role": "llm"}, QUESTIONS, make, quiet)
    return folder


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return whole_answers(tmp_path_factory.mktemp("a") / "answers")


@pytest.fixture(scope="module")
def few_labels(tmp_path_factory):
    return write_labels(tmp_path_factory.mktemp("few"), planted(questions=3, length=4))


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory):
    return write_rollouts(tmp_path_factory.mktemp("r"), [rollout(f"q{n}", n, True) for n in range(3)])


def with_damage(path, content, load):
    """What `load` gives while a file holds other content; None if it refuses it by name, in few words."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        return load()
    except TrainerError as error:
        assert str(path.parent) in str(error) and len(str(error)) < 1500
        return None
    finally:
        path.write_bytes(before)


@given(data=st.data())
def test_a_damaged_shard_is_always_noticed(answers, few_labels, data):
    labelled = sorted(path for path in (few_labels / "labels-00000").iterdir() if not path.name.startswith("cache-"))
    path = data.draw(st.sampled_from([answers / "answers-00000.jsonl", *labelled]))
    load = (lambda: load_answers(answers, Role.LLM)) if path.parent == answers else lambda: load_labels(few_labels)
    assert with_damage(path, data.draw(damaged_bytes(path.read_bytes())), load) is None


@given(data=st.data())
def test_damaged_lines_without_a_hash_are_refused_by_place_or_are_what_they_should_be(answers, rollouts, data):
    """Shards of earlier versions have none."""
    kind, folder = data.draw(st.sampled_from([(Answer, answers), (Rollout, rollouts)]))
    (path,) = folder.glob("*-00000.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = data.draw(damaged_json(json.loads(lines[1])))
    note = path.with_name(path.name + ".sha256")
    stated = note.read_bytes()
    note.unlink()
    load = (lambda: load_answers(folder, Role.LLM).values()) if kind is Answer else lambda: load_rollouts(folder)[0]
    try:
        found = with_damage(path, lines[0] + damaged + b"\n" + b"".join(lines[2:]), load)
    finally:
        note.write_bytes(stated)
    for each in found or ():
        assert isinstance(each, kind) and isinstance(each.question, str)
        json.dumps(asdict(each), allow_nan=False)


@given(data=st.data())
def test_what_a_damaged_folder_says_of_itself_is_refused_by_name_or_readable(answers, few_labels, rollouts, data):
    name = data.draw(st.sampled_from(["answers", "labels", "rollouts"]))
    folder = {"answers": answers, "labels": few_labels, "rollouts": rollouts}[name]
    path = folder / f"{name}.json"
    content = data.draw(damaged_json(json.loads(path.read_bytes())))
    load = {
        "answers": lambda: load_answers(folder, Role.LLM),
        "labels": lambda: load_labels(folder)[1]["reference"],
        "rollouts": lambda: load_rollouts(folder)[1]["llm_bytes"] + 1,
    }[name]
    with_damage(path, content, load)
    if name == "answers":  # going on with it
        with_damage(path, content, lambda: shards_of(folder).run({"role": "llm"}, QUESTIONS, make, quiet))


ROUND = Round(1, "citer-r1", 0.5, 0.4, 0.3, 0.5, 0.7, 0.2, 1.0)
METHODS = {"methods": [["slm", [0.0], None], ["kept", [0.1, 0.5], "0" * 64, 0.3, 8]], "questions": ["q1"]}


@given(data=st.data())
def test_damaged_rounds_and_stages_are_refused_by_name_or_hold_what_they_should(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("d")
    path, whole = folder / "rounds.json", [asdict(ROUND)]
    path.write_text(json.dumps(whole))
    assert load_rounds(folder) == [ROUND]
    for each in with_damage(path, data.draw(damaged_json(whole)), lambda: load_rounds(folder)) or ():
        json.dumps(asdict(each), allow_nan=False)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(METHODS))
    assert chosen_thresholds(folder, "evaluation") == {"slm": [0.0], "kept@0.3/8": [0.1, 0.5]}
    load = lambda: chosen_thresholds(folder, "evaluation")  # noqa: E731
    for thresholds in (with_damage(path, data.draw(damaged_json(METHODS)), load) or {}).values():
        assert all(isinstance(value, float) and math.isfinite(value) for value in thresholds)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_round_whose_accuracy_is_no_number_is_refused_by_name(tmp_path, number):
    (tmp_path / "rounds.json").write_text(json.dumps([asdict(ROUND) | {"accuracy": number}]))
    with pytest.raises(TrainerError, match=r"rounds\.json"):
        load_rounds(tmp_path)


@pytest.mark.parametrize("damage", [{"command": 7}, {"hardware": ["x"]}, {"questions": {}}, {"task": None}])
def test_an_evaluations_damaged_file_is_refused_by_name(tmp_path, damage):
    write_evaluation(tmp_path, questions=2)
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(TrainerError, match=r"evaluation\.json"):
        read_evaluation(tmp_path)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_second_run_in_a_folder_is_refused_and_the_first_ends_well(tmp_path):
    folder, at_work, go_on = tmp_path / "f", threading.Event(), threading.Event()

    def slow(some, path):
        at_work.set()
        assert go_on.wait(20)
        make(some, path)

    first = threading.Thread(target=lambda: shards_of(folder).run({"role": "llm"}, QUESTIONS, slow, quiet))
    first.start()
    assert at_work.wait(20)
    with pytest.raises(TrainerError, match="another run is making answers"):
        shards_of(folder).run({"role": "llm"}, QUESTIONS, make, quiet)
    go_on.set()
    first.join(20)
    assert len(load_answers(folder, Role.LLM)) == 4
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers-00000.jsonl",
        "answers-00000.jsonl.sha256",
        "answers.json",
    ]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TrainerError("no"), KeyboardInterrupt()])
def test_a_run_that_fails_before_its_first_shard_leaves_nothing_behind(tmp_path, error):
    def fail(some, path):
        path.write_text("half")
        raise error

    with pytest.raises(type(error)):
        shards_of(tmp_path / "new").run({"role": "llm"}, QUESTIONS, fail, quiet)
    assert not (tmp_path / "new").exists()


def test_shards_without_the_file_that_says_what_made_them_are_not_taken_for_this_runs(tmp_path):
    shards_of(tmp_path).run({"role": "llm"}, QUESTIONS, make, quiet)
    (tmp_path / "answers.json").unlink()
    with pytest.raises(TrainerError, match=r"answers-00000\.jsonl is there, but not answers\.json"):
        shards_of(tmp_path).run({"role": "slm"}, QUESTIONS, make, quiet)
    assert not (tmp_path / "answers.json").exists()


def test_a_run_that_fails_later_keeps_its_shards_and_nothing_else(tmp_path):
    def fail(some, path):
        if some[0].id == "q1":
            raise OSError(28, "No space left on device")
        make(some, path)

    with pytest.raises(OSError):
        Shards(tmp_path, "answers", 1, ".jsonl").run({"role": "llm"}, QUESTIONS, fail, quiet)
    assert len(list(tmp_path.iterdir())) == 3, "a shard, its hash, and what they are of"
    Shards(tmp_path, "answers", 1, ".jsonl").run({"role": "llm"}, QUESTIONS, make, quiet)
    assert len(load_answers(tmp_path, Role.LLM)) == 4


def test_a_stage_that_another_machine_takes_up_names_both_once_it_has_made_a_shard(tmp_path):
    def run(machine, make=make):
        notes = {"hardware": machine, "command": "python -m trainer answer", "passes": {"1": len(machine)}}
        shards = Shards(tmp_path, "answers", 1, ".jsonl")
        with suppress(OSError):
            shards.run({"role": "llm"}, QUESTIONS, make, quiet, notes)
        return shards.load()[1]

    def fail(some, path):
        raise OSError

    first = run("one core")
    assert run("two cores") == first, "it made nothing"
    for machine, found in (("two cores", "one core; two cores"), ("one core", "one core; two cores")):
        (tmp_path / "answers-00002.jsonl").unlink()
        with pytest.raises(TrainerError, match="1 of 4 shards are missing"):
            run("four cores", fail)
        assert run(machine) == {**first, "hardware": found}


def test_stages_of_one_folder_may_be_made_side_by_side(tmp_path):
    def make_other(some, path):
        path.write_text("other")

    def make_both(some, path):
        make(some, path)
        Shards(tmp_path, "other", 4, ".jsonl").run({}, QUESTIONS, make_other, quiet)

    Shards(tmp_path, "answers", 4, ".jsonl").run({"role": "llm"}, QUESTIONS, make_both, quiet)
    assert len(load_answers(tmp_path, Role.LLM)) == 4
    assert (tmp_path / "other-00000.jsonl").read_text() == "other"


# --- the command line -------------------------------------------------------------------------------------------------

FIT = ["fit", "--labels", "LABELS", "--out", "OUT"]
ANSWERS = ["answer", "--preset", "tiny", "--questions", "2", "--out", "OUT"]
EVALUATE = ["evaluate", "--preset", "tiny", "--questions", "2", "--out", "OUT"]
SENSELESS = [
    [*FIT, "--dropout", "2"],
    [*FIT, "--dropout", "nan"],
    [*FIT, "--learning-rate", "nan"],
    [*FIT, "--learning-rate", "-1"],
    [*FIT, "--learning-rate", "inf"],
    [*FIT, "--weight-decay", "nan"],
    [*FIT, "--epochs", "0"],
    [*FIT, "--width", "0"],
    [*FIT, "--seed", "-1"],
    [*FIT, "--cost-weight", "nan"],
    [*ANSWERS, "--max-new-tokens", "0"],
    [*ANSWERS, "--max-new-tokens", "-5"],
    [*ANSWERS, "--questions", "0"],
    [*ANSWERS, "--offset", "-1"],
    [*ANSWERS, "--data", "no/such.jsonl"],
    ["rollout", "--preset", "tiny", "--questions", "2", "--labels", "LABELS", "--out", "OUT", "--budget", "-1"],
    ["iterate", "--preset", "tiny", "--questions", "2", "--labels", "LABELS", "--out", "OUT", "--rounds", "0"],
    ["speculate", "--preset", "tiny", "--questions", "2", "--out", "OUT", "--drafts", "0"],
    ["speculate", "--preset", "tiny", "--questions", "2", "--out", "OUT", "--confidences", "nan"],
    [
        "evaluate",
        "--preset",
        "tiny",
        "--questions",
        "2",
        "--out",
        "OUT",
        "--methods",
        "confidence",
        "--thresholds",
        "nan",
    ],
    ["evaluate", "--preset", "tiny", "--questions", "2", "--out", "OUT", "--methods", "slm", "--max-new-tokens", "0"],
    ["ship", "--router", "LABELS", "--method", "x", "--summaries", "LABELS", "--out", "OUT"],
    ["tiny", "--out", "OUT", "--steps", "0"],
]


def filled(arguments, labels, out) -> list[str]:
    return [{"LABELS": str(labels), "OUT": str(out)}.get(each) or each for each in arguments]


@pytest.mark.parametrize("arguments", SENSELESS, ids=lambda each: " ".join(each[:1] + each[-2:]))
def test_options_that_make_no_sense_are_refused_by_name_and_leave_nothing(capsys, few_labels, tmp_path, arguments):
    out = tmp_path / "deep" / "out"
    try:
        status = main(filled(arguments, few_labels, out))
    except SystemExit as stopped:  # argparse's own refusal
        status = stopped.code
    told = capsys.readouterr().err
    assert status == 2 and "error: " in told and "Traceback" not in told
    assert not out.exists()


@pytest.mark.parametrize("arguments", [FIT, ANSWERS, ["tiny", "--out", "OUT"]])
def test_a_file_in_the_way_of_the_folder_is_named_before_any_work(capsys, few_labels, tmp_path, arguments):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(filled(arguments, few_labels, out)) == 2
        assert f"{tmp_path / 'file'} is no folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_with_more_shards_than_it_speaks_of_is_refused_and_not_read_in_part(tmp_path):
    shards = Shards(tmp_path, "answers", 2, ".jsonl")
    shards.run({"role": "llm"}, QUESTIONS, make, quiet)
    about = tmp_path / "answers.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "shard_size": 4}))
    with pytest.raises(TrainerError, match=r"more shards than answers\.json speaks of.*in another folder"):
        shards.load()
