"""The trainer's command line: stages follow one another, and mistakes are told before they cost hours."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from engine.provenance import command
from tests.support.fake_labels import planted, write_labels
from tests.support.fake_llm_server import served
from tests.support.paths import ROOT
from trainer.__main__ import main
from trainer.commands import COMMANDS
from trainer.evaluation.rows import load_results
from trainer.fit import baselines
from trainer.questions import load_questions
from trainer.settings import FitSettings

FEW = ["--preset", "tiny", "--questions", "2"]
TRAIN = "assets/arithmetic/train.jsonl"


def refused(capsys, *arguments):
    try:
        assert main(list(arguments)) == 2
    except SystemExit as stopped:  # argparse's own refusal
        assert stopped.code == 2
    told = capsys.readouterr().err
    assert "error: " in told and "Traceback" not in told
    return told


def test_every_command_explains_itself(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0 and f"python -m trainer {name}" in capsys.readouterr().out


def test_help_needs_no_torch():
    code = "import sys, trainer.__main__ as m; m.parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_command_that_is_kept_can_be_run_again_and_names_no_folder_elsewhere_nor_a_secret(monkeypatch):
    typed = ["fit", "--labels", "l", "--out", "o", "--description", "worked arithmetic, don't"]
    monkeypatch.setattr("sys.argv", ["x", *typed])
    assert shlex.split(command("trainer")) == ["python", "-m", "trainer", *typed]
    typed = ["run", "--dev", "/elsewhere/dev.jsonl", "../data/train.jsonl", "citer=/elsewhere/best@0.3", "kept=runs/a"]
    monkeypatch.setattr("sys.argv", ["x", *typed])
    monkeypatch.setenv("CITER_CPU_WEIGHTS", "int8")
    monkeypatch.setenv("CITER_API_KEY", "secret")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    own = "python -m trainer run --dev dev.jsonl train.jsonl citer=best@0.3 kept=runs/a"
    assert command("trainer") == f"ATEN_CPU_CAPABILITY=avx2 CITER_CPU_WEIGHTS=int8 {own}"


FIT = ["fit", "--labels", "LABELS", "--out", "OUT"]
ANSWER, EVALUATE = ["answer", *FEW, "--out", "OUT"], ["evaluate", *FEW, "--out", "OUT"]
SENSELESS = {
    "dropout": [*FIT, "--dropout", "2"],
    "none": ["fit", "--labels", "no/none", "--out", "OUT"],
    "--rollouts": [*FIT, "--method", "co-llm", "--rollouts", "r"],
    "--data": [*FIT, "--method", "query", "--answers", "a"],
    "max_new_tokens": [*ANSWER, "--max-new-tokens", "0"],
    "questions 0": [*ANSWER[:3], "--questions", "0", "--out", "OUT"],
    "offset -1": [*ANSWER, "--offset", "-1"],
    "such.jsonl": [*ANSWER, "--data", "no/such.jsonl"],
    "budget -5": ["rollout", "--labels", "LABELS", "--out", "OUT", "--budget", "-5"],
    "csqa, gsm8k": ["run", "--preset", "cpu", "--task", "chess", "--out", "OUT"],
    "my task": [*EVALUATE, "--task", "my task"],
    "<b>": [*EVALUATE, "--rules", "<b> < 0.5"],
    "no/such.toml": [*EVALUATE, "--methods", "no/such.toml"],
    "no/such.json": [*EVALUATE, "--data", "no/such.json"],
    "keep_states 0": ["label", *FEW, "--keep-states", "0", "--out", "OUT"],
}


@pytest.mark.parametrize("named", SENSELESS)
def test_options_that_make_no_sense_are_refused_by_name_and_leave_nothing(capsys, tmp_path, named, few_labels):
    out = tmp_path / "deep" / "out"
    places = {"LABELS": str(few_labels), "OUT": str(out)}
    told = refused(capsys, *(places.get(each, each) for each in SENSELESS[named]))
    assert named in told and not out.exists()


@pytest.fixture(scope="module")
def few_labels(tmp_path_factory):
    return write_labels(tmp_path_factory.mktemp("few"), planted(questions=3, length=4))


def test_a_file_in_the_way_of_the_folder_is_named_before_any_work(capsys, few_labels, tmp_path):
    (tmp_path / "file").write_text("mine")
    for arguments in (["fit", "--labels", str(few_labels)], ["answer", *FEW]):
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            assert str(tmp_path / "file") in refused(capsys, *arguments, "--out", str(out))
    assert (tmp_path / "file").read_text() == "mine"


def test_questions_that_routers_learned_from_are_not_evaluated_on_also_under_other_ids(capsys, tmp_path):
    assert main(["label", *FEW, "--out", str(tmp_path / "l")]) == 0
    where = ["--labels", str(tmp_path / "l"), "--out", str(tmp_path / "e"), "--results", str(tmp_path)]
    assert "--offset" in refused(capsys, "evaluate", *FEW, "--data", TRAIN, *where)
    asked = load_questions([TRAIN], 2)
    rows = [{"id": f"q{n}", "question": q.question, "answer": q.answer} for n, q in enumerate(asked)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "'q0'" in refused(capsys, "evaluate", *FEW, "--data", str(tmp_path / "q.jsonl"), *where)
    assert not (tmp_path / "e").exists()


def test_an_llm_on_a_server_is_not_evaluated_as_its_bytes_are_not_known(capsys, tmp_path, tiny_pair, monkeypatch):
    with served(tiny_pair) as server:
        monkeypatch.setenv("CITER_LLM_URL", server.url)
        told = refused(capsys, "evaluate", *FEW, "--out", str(tmp_path / "e"))
    assert "CITER_LLM_URL" in told and not (tmp_path / "e").exists()


def test_a_file_whose_name_cannot_be_a_tasks_is_refused(capsys, tmp_path, monkeypatch):
    rows = [json.dumps({"id": f"q{n}", "question": "1 + 1?", "answer": "2"}) for n in range(40)]
    (tmp_path / "my questions.jsonl").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    assert "my questions" in refused(capsys, "run", "--preset", "tiny", "--data", "my questions.jsonl")
    assert not (tmp_path / "runs").exists()


def test_answer_label_rollout_fit_evaluate_and_ship_follow_one_another(capsys, tmp_path, monkeypatch):
    """The stages by hand, as docs/training.md lists them, with questions from a file."""
    asked = load_questions([TRAIN], 64)
    rows = [
        {"id": f"r{n:02d}", "question": q.question, "answer": q.answer, "reference": "So.", "family": "arithmetic"}
        for n, q in enumerate(asked)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = ["--data", str(tmp_path / "q.jsonl")]
    mine, labels = ["--preset", "tiny", *data], ["--labels", str(tmp_path / "l")]
    for role in ("llm", "slm"):
        asked = [*mine, "--questions=60", f"--role={role}", "--max-new-tokens=100", "--out", str(tmp_path / role)]
        assert main(["answer", *asked]) == 0
    own = ["--answers", str(tmp_path / "llm"), "--out", str(tmp_path / "l")]
    assert main(["label", *mine, *own, "--with-llm"]) == 0
    rolling = ["--budget", "1", "--max-new-tokens", "100", "--out", str(tmp_path / "r")]
    assert main(["rollout", *mine, *labels, *rolling]) == 0
    fit = ["fit", *labels, "--epochs", "2", "--out"]
    assert main([*fit, str(tmp_path / "mine"), "--rollouts", str(tmp_path / "r")]) == 0
    assert main([*fit, str(tmp_path / "co-llm"), "--method", "co-llm"]) == 0
    cards = [json.loads((tmp_path / name / "router.json").read_text()) for name in ("mine", "co-llm")]
    assert [card["training"]["method"] for card in cards] == ["citer", "co-llm"]
    learned: dict[str, bool] = {}
    short = baselines.co_llm(tmp_path / "l", FitSettings(epochs=1))
    monkeypatch.setattr(baselines, "query", lambda labels, slm_right, seed: learned.update(slm_right) or short)
    query = ["--method", "query", "--answers", str(tmp_path / "slm"), *data]
    assert main([*fit, str(tmp_path / "query"), *query]) == 0
    assert len(learned) == 60 and 0 < sum(learned.values()) < 30, "the SLM's answers, graded"

    unseen = ["--preset", "tiny", *data, "--questions", "3", "--offset", "60", "--max-new-tokens", "30"]
    where = ["--out", str(tmp_path / "e"), "--results", str(tmp_path / "results"), "--task", "own"]
    listed = f"folder = {json.dumps(str(tmp_path / 'mine'))}\nshares = [0.1, 0.3]\nacceptances = [0, 0.3]\n"
    (tmp_path / "methods.toml").write_text(f"[router]\n{listed}")
    rows = tmp_path / "results" / "tiny" / "own.parquet"
    assert main(["evaluate", *unseen, *where, "--rules", "slm < 0", "llm < 0", "confidence < 0.5"]) == 0
    assert set(load_results(rows).settings) == {
        ("slm", "slm < 0"),
        ("llm", "llm < 0"),
        ("confidence", "confidence < 0.5"),
    }
    assert main(["evaluate", *unseen, *where, "--methods", str(tmp_path / "methods.toml"), *labels]) == 0
    timing = ["--rules", "llm < 0", "confidence < 0.5", "--questions", "1"]
    assert main(["evaluate", "--alone", *unseen, *where, *timing]) == 0
    found = load_results(rows)
    assert len(found.of("router")) == 4 and str(rows) in capsys.readouterr().out
    assert (found.seconds > 0).sum(axis=1)[found.of("confidence")[0]] == 1

    shipping = ["ship", "--results", str(rows.parent), "--router", str(tmp_path / "mine")]
    assert main([*shipping, "--out", str(tmp_path / "shipped")]) == 0
    points = json.loads((tmp_path / "shipped" / "operating_points.json").read_text())
    assert [(curve["task"], len(curve["points"])) for curve in points["curves"]] == [("own", 2), ("own", 2)]
    shipping[-1] = str(tmp_path / "co-llm")
    assert "another router" in refused(capsys, *shipping, "--out", str(tmp_path / "no"))


def test_the_report_command_writes_or_checks(capsys, tmp_path):
    where = ["--results", str(tmp_path / "none"), "--page", str(tmp_path / "a.md"), "--readme", str(tmp_path / "b.md")]
    assert "no results" in refused(capsys, "report", "--check", *where)
