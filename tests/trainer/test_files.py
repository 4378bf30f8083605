"""The trainer's files and folders: damage is refused or changes nothing, shards resume, a full disk spoils nothing.

One Hypothesis test for each format: answers, labels, rollouts, results, and what a folder says of itself.
"""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Role
from engine.operating_points import OperatingPoints
from tests.support.fake_labels import planted, quiet, rollout, write_labels, write_rollouts
from tests.support.fake_results import POINTS, results_of, write_results
from tests.support.mutations import damaged_bytes, damaged_json, no_file_larger_than
from tests.support.paths import ROOT, TINY
from tools import tiny_pair
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.rows import read_rows as read_results
from trainer.labels import answers as answers_module
from trainer.labels.answers import load_answers
from trainer.labels.labels import read_labels, read_states
from trainer.labels.rollouts import load_rollouts
from trainer.questions import Question
from trainer.shards import Shards
from trainer.ship import ship
from trainer.stored import write_rows

QUESTIONS = [Question(f"q{n}", "1 + 1?", "", "2") for n in range(4)]


def make(some, path):
    rows = [{"question": each.id, "tokens": [1, 2], "text": "2", "finish_reason": "eos"} for each in some]
    write_rows(path, rows, answers_module.COLUMNS)


def shards_of(folder, size=128):
    return Shards(folder, "answers", size)


def whole_answers(folder, size=128):
    shards_of(folder, size).run({"role": "llm"}, QUESTIONS, make, quiet)
    return folder


def both(folder):
    """A shard, and what the folder says of itself."""
    return [next(folder.glob(f"{folder.name}-00000.*")), folder / f"{folder.name}.json"]


def all_labels(folder):
    found = [(table.to_pylist(), read_states(path, 16).tolist()) for path, table in read_labels(folder)]
    return json.loads(json.dumps(found))


@pytest.fixture(scope="module")
def formats(tmp_path_factory) -> dict[str, tuple[list[Any], Any]]:
    """By format: the files that may be damaged, and what reads them."""
    root = tmp_path_factory.mktemp("formats")
    answers, labels = whole_answers(root / "answers"), write_labels(root / "labels", planted(questions=3, length=4))
    rollouts = write_rollouts(root / "rollouts", [rollout(f"q{n}", n, True) for n in range(3)])
    results = write_results(root / "results", questions=3)
    return {
        "answers": (both(answers), lambda: dict(load_answers(answers, Role.LLM))),
        "labels": ([*sorted((labels / "labels-00000").iterdir()), labels / "labels.json"], lambda: all_labels(labels)),
        "rollouts": (both(rollouts), lambda: load_rollouts(rollouts)[0]),
        "results": ([results], lambda: list(map(asdict, read_results(results)[0]))),
    }


@pytest.mark.parametrize("name", ["answers", "labels", "rollouts", "results"])
def test_whatever_is_damaged_is_refused_by_name_or_read_as_finite_values_of_the_right_kind(formats, name):
    """Tables have checksums: their values are refused or whole. Values that are no numbers are refused anywhere."""
    files, load = formats[name]
    whole = load()

    @given(data=st.data())
    def damage(data):
        path = data.draw(st.sampled_from(files))
        before = path.read_bytes()
        hashed = path.suffix in (".parquet", ".safetensors")
        if path.suffix in (".json", ".jsonl") and data.draw(st.booleans()):
            first, *rest = before.splitlines(keepends=True)
            content = data.draw(damaged_json(json.loads(first if path.suffix == ".jsonl" else before)))
            content = content + b"\n" + b"".join(rest) if path.suffix == ".jsonl" else content
        else:
            content = data.draw(damaged_bytes(before))
        path.write_bytes(content)
        try:
            found = load()
        except TrainerError as error:
            place = str(path.parent if path.parent.name != "labels-00000" else path.parent.parent)
            assert place in str(error) and len(str(error)) < 1500
        else:
            assert not hashed or found == whole
            assert type(found) is type(whole)
            json.dumps(found, default=asdict, allow_nan=False)
        finally:
            path.write_bytes(before)

    damage()
    assert load() == whole


def test_a_second_run_in_a_folder_shares_the_work_and_both_end_when_all_of_it_is_done(tmp_path):
    folder, at_work, go_on, mine = tmp_path / "f", threading.Event(), threading.Event(), []

    def slow(some, path):
        at_work.set()
        assert go_on.wait(300)
        make(some, path)

    def quick(some, path):
        mine.append(some[0].id)
        make(some, path)

    def report(line):
        if line.startswith("waiting for 1"):
            go_on.set()

    first = threading.Thread(target=lambda: shards_of(folder, 1).run({"role": "llm"}, QUESTIONS[:2], slow, quiet))
    first.start()
    assert at_work.wait(300)
    shards_of(folder, 1).run({"role": "llm"}, QUESTIONS[:2], quick, report)
    assert mine == ["q1"]
    first.join(300)
    names = ["answers-00000.parquet", "answers-00001.parquet", "answers.json"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_what_a_killed_worker_left_is_made_anew(tmp_path):
    folder = whole_answers(tmp_path / "a", 1)
    (folder / "answers-00001.parquet").unlink()
    (folder / "answers-00001.parquet.lock").touch()  # the lock itself ended with its process
    (folder / "partial-another-machine-1-answers-00001.parquet").write_text("half")
    whole_answers(folder, 1)
    assert len(list(folder.iterdir())) == 5 and len(dict(load_answers(folder, Role.LLM))) == 4


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TrainerError("no"), KeyboardInterrupt()])
def test_a_run_that_fails_keeps_whole_shards_alone_and_without_any_leaves_nothing_behind(tmp_path, error):
    def fail(some, path):
        path.write_text("half")
        raise error

    def fail_later(some, path):
        (make if some[0].id == "q0" else fail)(some, path)

    with pytest.raises(type(error)):
        shards_of(tmp_path / "new").run({"role": "llm"}, QUESTIONS, fail, quiet)
    assert not (tmp_path / "new").exists()
    with pytest.raises(type(error)):
        shards_of(tmp_path / "a", 1).run({"role": "llm"}, QUESTIONS, fail_later, quiet)
    assert len(list((tmp_path / "a").iterdir())) == 2, "a shard, and what it is of"
    with pytest.raises(TrainerError, match="3 of 4"):
        load_answers(tmp_path / "a", Role.LLM)
    assert whole_answers(tmp_path / "a", 2) and len(load_answers(tmp_path / "a", Role.LLM)) == 4


def test_shards_of_something_else_or_more_than_the_folder_speaks_of_are_refused(tmp_path):
    about = whole_answers(tmp_path, 2) / "answers.json"
    before = about.read_text()
    with pytest.raises(TrainerError, match="role"):
        shards_of(tmp_path).run({"role": "slm"}, QUESTIONS, make, quiet)
    with pytest.raises(TrainerError, match="questions"):
        shards_of(tmp_path).run({"role": "llm"}, QUESTIONS[:3], make, quiet)
    about.write_text(json.dumps({**json.loads(before), "shard_size": 4}))
    with pytest.raises(TrainerError, match=r"more shards.*answers\.json"):
        load_answers(tmp_path, Role.LLM)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_is_called_so_and_leaves_no_half_of_anything(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))  # git is asked for the revision; the limit would kill it
    labels = write_labels(tmp_path / "b", planted(questions=60, length=10))
    few = ["--preset", "tiny", "--questions", "2", "--out", str(tmp_path / "out")]
    for limit, arguments in (
        (2_000, ["fit", "--labels", str(labels), "--epochs", "1", "--out", str(tmp_path / "out")]),
        (100, ["answer", *few, "--max-new-tokens", "4"]),
        (2_000, ["label", *few]),
        (100, ["evaluate", *few, "--max-new-tokens", "4"]),
    ):
        with no_file_larger_than(limit):
            assert main(arguments) == 2, arguments
        assert "space" in capsys.readouterr().err and not (tmp_path / "out").exists(), arguments


def test_a_full_disk_leaves_the_shipped_router_and_the_tiny_pair_as_they_were(tmp_path, monkeypatch):
    """The points are written last, after weights and card."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    router, save = ROOT / "assets" / "routers" / "tiny", OperatingPoints.save
    results = [results_of(tmp_path, POINTS, questions=20)]
    before = contents(shutil.copytree(router, tmp_path / "shipped"))

    def save_on_a_full_disk(points: OperatingPoints, folder: Path) -> None:
        with no_file_larger_than(100):
            save(points, folder)

    monkeypatch.setattr(OperatingPoints, "save", save_on_a_full_disk)
    for out in (tmp_path / "shipped", tmp_path / "new"):
        with pytest.raises(OSError):
            ship(router, results, out)
    assert contents(tmp_path / "shipped") == before and not (tmp_path / "new").exists()
    monkeypatch.setattr(OperatingPoints, "save", save)
    ship(router, results, tmp_path / "shipped")
    assert contents(tmp_path / "shipped").keys() == before.keys() and contents(tmp_path / "shipped") != before
    before = contents(shutil.copytree(TINY, tmp_path / "tiny"))
    with no_file_larger_than(1_000), pytest.raises(Exception, match="large"):
        tiny_pair.main(["--out", str(tmp_path / "tiny"), "--steps", "1"])
    assert contents(tmp_path / "tiny") == before
