"""What is kept of a long run: small, the same when read, and never less than what another stage has anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine import Role
from tests.support.fake_labels import quiet, rollout, write_rollouts
from tests.support.fake_results import ABOUT, lines, write_evaluation
from tests.support.paths import ROOT
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.record import read_evaluation
from trainer.json_files import write_lines
from trainer.labels.answers import load_answers
from trainer.labels.rollouts import load_rollouts
from trainer.questions.question import Question
from trainer.shards import Shards

FIRST = {
    ("slm", 0.0): (20, 0, 90),
    ("llm", 0.0): (60, 1, 100),
    ("query", 0.3): (30, 0.2, 50),
    ("query", 0.5): (40, 0.3, 60),
}
KEPT = sorted([*(ROOT / "assets" / "runs").glob("*/evaluation"), *(ROOT / "assets" / "runs").glob("*/validation-*")])


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with answers, rollouts, labels, and an evaluation of which a later stage has one method anew."""
    folder = tmp_path / "runs" / "mine"

    def make(some, path):
        write_lines(
            path, [{"question": each.id, "tokens": [1] * 80, "text": "2" * 300, "finish": "eos"} for each in some]
        )

    questions = [Question(f"q{n}", "1 + 1?", "", "2") for n in range(20)]
    Shards(folder / "answers-llm", "answers", 256, ".jsonl").run({"role": "llm"}, questions, make, quiet)
    write_rollouts(folder / "rollouts-1", [rollout(f"q{n}", n, True) for n in range(20)])
    methods = [["slm", [0.0], None], ["llm", [0.0], None], ["query", [0.3, 0.5], "a"]]
    write_evaluation(folder / "evaluation", FIRST, 20, methods=methods)
    (folder / "labels-llm").mkdir()
    (folder / "evaluation" / "partial-evaluation-00002.jsonl").write_text("{}")
    return folder


def measured_again(run: Path) -> None:
    again = {("query", threshold): (20, 0.2, 50) for threshold in (0.35, 0.55)}
    about = {**ABOUT, "questions": [f"q{n}" for n in range(20)], "methods": [["query", [0.35, 0.55], "a"]]}
    (run / "evaluation" / "again.json").write_text(json.dumps(about))
    write_lines(run / "evaluation" / "again-00000.jsonl", lines(again, 20))


def kept(run, out, *without):
    return main(["keep", "--run", str(run), "--out", str(out), *(["--without", *without] if without else [])])


def size(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_what_is_kept_of_a_run_is_small_and_says_the_same(run, tmp_path):
    assert kept(run, tmp_path / "kept") == 0
    out = tmp_path / "kept"
    assert {each.name for each in out.iterdir()} == {each.name for each in run.iterdir()} - {"labels-llm"}
    assert read_evaluation(out / "evaluation") == read_evaluation(run / "evaluation")
    assert load_answers(out / "answers-llm", Role.LLM) == load_answers(run / "answers-llm", Role.LLM)
    assert load_rollouts(out / "rollouts-1") == load_rollouts(run / "rollouts-1")
    assert size(out) < size(run) / 2
    shard = out / "rollouts-1" / "rollouts-00000.jsonl.gz"
    shard.write_bytes(shard.read_bytes()[:-20])
    for _ in range(2):  # by its hash, and then as no gzip
        with pytest.raises(TrainerError, match=r"rollouts-00000\.jsonl\.gz"):
            load_rollouts(out / "rollouts-1")
        shard.with_name(shard.name + ".sha256").unlink(missing_ok=True)


def test_what_another_stage_has_anew_is_left_out_and_that_is_noted(run, tmp_path):
    measured_again(run)
    assert kept(run, tmp_path / "kept", "evaluation/query:0.3") == 0
    points = read_evaluation(tmp_path / "kept" / "evaluation").points
    assert [p.threshold for p in points if p.method == "query"] == [0.35, 0.5, 0.55]
    about = json.loads((tmp_path / "kept" / "evaluation" / "evaluation.json").read_text())
    assert "evaluation/query:0.3" in about["note"]
    assert kept(run, tmp_path / "whole", "again/query") == 0, "a stage of which nothing is left goes whole"
    assert not list((tmp_path / "whole" / "evaluation").glob("again*"))


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("evaluation/margin", "margin"),
        ("evaluation/query@0.1", r"query@0\.1"),
        ("evaluation/query:0.4", r"0\.3, 0\.5"),
        ("evaluation/slm", "no other stage .*slm"),
        ("evaluation/query=runs/query", "STAGE/METHOD"),
        ("nowhere/slm", "STAGE/METHOD"),
    ],
)
def test_what_is_not_there_twice_cannot_be_left_out(without, named, run, tmp_path, capsys):
    measured_again(run)
    assert kept(run, tmp_path / "kept", without) == 2
    assert re.search(named, capsys.readouterr().err) and not (tmp_path / "kept").exists()


def test_a_run_that_names_a_folder_of_this_machine_or_has_nothing_is_not_kept(run, tmp_path, capsys):
    about = run / "evaluation" / "evaluation.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "command": f"python --out {run}"}))
    assert kept(run, tmp_path / "kept") == 2 and "evaluation.json" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert kept(tmp_path / "empty", tmp_path / "kept") == 2 and "nothing" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_what_the_repository_keeps_can_be_read(folder):
    assert read_evaluation(folder).points
