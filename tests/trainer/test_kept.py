"""What the repository keeps of long runs can be read by the code that it is kept for."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from engine import Role
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.record import read_evaluation, settings_of, stages_in
from trainer.labels.answers import load_answers
from trainer.labels.rollouts import load_rollouts
from trainer.settings import RECIPES

RUNS = Path(__file__).parent.parent.parent / "assets" / "runs"
ANSWERS = sorted(RUNS.glob("*/answers-*"))
ROLLOUTS = sorted(RUNS.glob("*/rollouts-*"))
EVALUATIONS = sorted([*RUNS.glob("*/evaluation"), *RUNS.glob("*/validation-*")])


def name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def lines(folder: Path) -> int:
    return sum(gzip.decompress(shard.read_bytes()).count(b"\n") for shard in folder.glob("*.jsonl.gz"))


@pytest.mark.parametrize("folder", ANSWERS, ids=name)
def test_kept_answers_are_those_of_all_their_questions(folder):
    answers = load_answers(folder, Role(folder.name.removeprefix("answers-")))
    assert len(answers) == lines(folder)


@pytest.mark.parametrize("folder", ROLLOUTS, ids=name)
def test_kept_rollouts_are_read_whole(folder):
    rollouts, about = load_rollouts(folder)
    assert len(rollouts) == lines(folder)
    assert {each.question for each in rollouts} <= set(about["questions"])


OF_OTHER_QUESTIONS = {("gsm8k", "answers-slm")}
"""What docs/training.md says is to be made anew."""


@pytest.mark.parametrize("task", ["csqa", "gsm8k", "arc-challenge", "mmlu-psychology", "math"])
def test_a_run_goes_on_from_what_is_kept_of_the_llms_answers_and_the_first_rollouts(task):
    run, recipe = RUNS / f"cpu-{task}", RECIPES["cpu", task]
    counts = {"answers-llm": recipe.train_questions, "answers-slm": recipe.query_questions}
    kept = {each: len(load_answers(run / each, Role(each[-3:]))) for each in counts if (run / each).exists()}
    differing = {(task, each) for each, count in kept.items() if count != counts[each]}
    assert "answers-llm" in kept and differing == {each for each in OF_OTHER_QUESTIONS if each[0] == task}
    about = load_rollouts(run / "rollouts-1")[1]
    wanted = {"budget": recipe.budget, "both": True, "max_new_tokens": recipe.max_new_tokens, "threshold": None}
    assert {key: about[key] for key in wanted} == wanted and "run_llm" not in about["labels"]
    assert len(about["questions"]) == recipe.train_questions


@pytest.mark.parametrize("folder", EVALUATIONS, ids=name)
def test_kept_evaluations_are_read(folder):
    assert read_evaluation(folder)


@pytest.mark.parametrize("folder", EVALUATIONS, ids=name)
def test_a_kept_stages_file_names_the_settings_that_it_has_answers_of_and_no_others(folder):
    for about, stage in stages_in(folder).items():
        answers = [
            (line["method"], line.get("acceptance", 0.0), line.get("max_draft", "auto"), line["threshold"])
            for shard in sorted(folder.glob(f"{about.stem}-?????.jsonl.gz"))
            for line in map(json.loads, gzip.decompress(shard.read_bytes()).splitlines())
        ]
        assert "methods" not in stage or set(settings_of(stage)) == set(answers), about.name


def plain(run: Path) -> Path:
    """The run as it was before it was kept: its shards not compressed."""
    for shard in run.rglob("*.jsonl.gz"):
        shard.with_suffix("").write_bytes(gzip.decompress(shard.read_bytes()))
        shard.unlink()
    for note in run.rglob("*.gz.sha256"):
        note.unlink()
    return run


@pytest.fixture
def run(tmp_path) -> Path:
    return plain(Path(shutil.copytree(RUNS / "cpu-gsm8k", tmp_path / "runs" / "cpu-gsm8k")))


def test_what_is_kept_of_a_run_is_small_and_says_the_same(run, tmp_path, capsys):
    (run / "labels-llm").mkdir()
    (run / "evaluation" / "partial-evaluation-00000.jsonl").write_text("{}")
    kept = tmp_path / "kept"
    assert main(["keep", "--run", str(run), "--out", str(kept)]) == 0
    assert {each.name for each in kept.iterdir()} == {each.name for each in run.iterdir()} - {"labels-llm"}
    assert read_evaluation(kept / "evaluation") == read_evaluation(run / "evaluation")
    assert load_answers(kept / "answers-llm", Role.LLM) == load_answers(run / "answers-llm", Role.LLM)
    assert load_rollouts(kept / "rollouts-1") == load_rollouts(run / "rollouts-1")
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in (kept, run)]
    assert sizes[0] < sizes[1] / 3
    assert f"{sizes[0] / 1e6:.1f} MB" in capsys.readouterr().out


def measured_again(run: Path, *methods: str) -> None:
    """Adds a stage that has methods of the stage `evaluation-routers` anew, all answers right."""
    evaluation = run / "evaluation"
    about = json.loads((evaluation / "evaluation-routers.json").read_text())
    about["methods"] = [each for each in about["methods"] if each[0] in methods]
    (evaluation / "again.json").write_text(json.dumps(about))
    lines = [line for s in sorted(evaluation.glob("evaluation-routers-*.jsonl")) for line in s.read_text().splitlines()]
    own = [{**line, "correct": True} for line in map(json.loads, lines) if line["method"] in methods]
    (evaluation / "again-00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))


def test_what_another_stage_has_anew_is_left_out_and_that_is_noted(run, tmp_path):
    before = read_evaluation(run / "evaluation").points
    measured_again(run, "query", "co-llm")
    kept, stage = tmp_path / "kept", "evaluation-routers"
    low, high = (each.threshold for each in before if each.method == "co-llm")
    without = [f"{stage}/query", f"{stage}/co-llm:{low!r}", f"{stage}/co-llm:{high!r}"]
    assert main(["keep", "--run", str(run), "--out", str(kept), "--without", *without]) == 0
    after = read_evaluation(kept / "evaluation").points
    anew = {each.method for each in after if each not in before}
    assert anew == {"query", "co-llm"} and len(after) == len(before)
    about = json.loads((kept / "evaluation" / f"{stage}.json").read_text())
    assert [each[0] for each in about["methods"]] == ["citer-r1"]
    for method in ("query", "co-llm"):
        assert f"without evaluation-routers/{method}" in about["note"]


def test_a_stage_of_which_nothing_is_left_goes_whole(run, tmp_path):
    names = ["co-llm", "query", "citer-r1"]
    measured_again(run, *names)
    kept, stage = tmp_path / "kept", "evaluation-routers"
    assert (
        main(["keep", "--run", str(run), "--out", str(kept), "--without", *(f"{stage}/{each}" for each in names)]) == 0
    )
    assert not list((kept / "evaluation").glob(f"{stage}*")) and (kept / "evaluation" / "again.json").exists()
    assert read_evaluation(kept / "evaluation")


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("evaluation-routers/margin", "has of margin nothing"),
        ("evaluation-routers/query@0.1", "has of query@0.1 nothing"),
        ("evaluation-routers/query:0.5", "has of query 0.545"),
        ("evaluation-routers/query", "no other stage of evaluation has query"),
        ("evaluation-routers/query=runs/query", "write STAGE/METHOD"),
        ("nowhere/slm", "write STAGE/METHOD"),
        ("query", "write STAGE/METHOD"),
    ],
)
def test_what_is_not_there_twice_cannot_be_left_out(without, said, run, tmp_path, capsys):
    assert main(["keep", "--run", str(run), "--out", str(tmp_path / "kept"), "--without", without]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_a_kept_shard_that_is_damaged_is_refused(run, tmp_path):
    kept = tmp_path / "kept"
    main(["keep", "--run", str(run), "--out", str(kept)])
    shard = kept / "rollouts-1" / "rollouts-00000.jsonl.gz"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(TrainerError, match=r"rollouts-00000\.jsonl\.gz has changed"):
        load_rollouts(kept / "rollouts-1")
    shard.with_name(shard.name + ".sha256").unlink()
    with pytest.raises(TrainerError, match=r"rollouts-00000\.jsonl\.gz: .*delete the file"):
        load_rollouts(kept / "rollouts-1")


def test_a_run_that_names_a_folder_of_this_machine_is_not_kept(run, tmp_path, capsys):
    about = run / "evaluation" / "assisted.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "command": f"python --out {run}"}))
    assert main(["keep", "--run", str(run), "--out", str(tmp_path / "kept")]) == 2
    assert "assisted.json names" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_a_folder_without_a_run_has_nothing_to_keep(tmp_path, capsys):
    assert main(["keep", "--run", str(tmp_path), "--out", str(tmp_path / "kept")]) == 2
    assert "nothing to keep" in capsys.readouterr().err
