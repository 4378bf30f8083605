"""The trainer's command line: a newcomer finds their way, and mistakes are told in one line."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from typing import Any, ClassVar, cast

import pytest

from engine.provenance import command
from tests.support.fake_llm_server import served
from tests.support.paths import ROOT
from trainer.__main__ import main, parser
from trainer.commands import COMMANDS
from trainer.fit import baselines
from trainer.questions.sources import load_questions
from trainer.settings import RECIPES, FitSettings, RolloutSettings, chosen


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert f"python -m trainer {name}" in told
    assert COMMANDS[name].summary[:20].lower() in told.lower().replace("\n", " ")


def test_what_is_told_to_a_file_is_there_while_the_command_runs(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr("sys.stdout", log)
        with pytest.raises(SystemExit):
            main(["run", "--help"])
        before = (tmp_path / "log").read_text()
        print("shard 1/2 done")
        assert (tmp_path / "log").read_text() == f"{before}shard 1/2 done\n" != "shard 1/2 done\n"


def test_a_line_and_its_end_are_one_write_so_that_lines_of_two_processes_stay_apart(monkeypatch):
    class Pipe(io.RawIOBase):
        writes: ClassVar[list[bytes]] = []

        def writable(self):
            return True

        def write(self, line):
            self.writes.append(bytes(line))
            return len(line)

    unbuffered = io.TextIOWrapper(cast(Any, Pipe()), write_through=True)  # as `python -u` has it
    monkeypatch.setattr("sys.stdout", unbuffered)
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    print("labels: shard", "1/3 done")
    assert Pipe.writes[-1] == b"labels: shard 1/3 done\n"


def test_the_command_that_is_kept_names_no_folder_outside_of_this_one(monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["x", "run", "--dev", "/elsewhere/dev.jsonl", "../data/train.jsonl", "runs/a", "0.5"]
    )
    assert command("trainer") == "python -m trainer run --dev dev.jsonl train.jsonl runs/a 0.5"


def test_a_method_with_a_folder_elsewhere_is_recorded_by_the_folders_name(monkeypatch):
    typed = ["evaluate", "--methods", "citer=/elsewhere/routers/best@0.3", "kept=runs/kept", "co-llm=../co-llm/", "a=b"]
    monkeypatch.setattr("sys.argv", ["trainer", *typed])
    methods = "citer=best@0.3 kept=runs/kept co-llm=co-llm a=b"
    assert command("trainer") == f"python -m trainer evaluate --methods {methods}"


def test_the_command_that_is_kept_can_be_run_again(monkeypatch):
    typed = ["fit", "--labels", "l", "--out", "o", "--description", "worked arithmetic, don't"]
    monkeypatch.setattr("sys.argv", ["x", *typed])
    assert shlex.split(command("trainer")) == ["python", "-m", "trainer", *typed]


def test_variables_that_change_the_arithmetic_are_kept_with_the_command(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "run"])
    monkeypatch.setenv("CITER_CPU_WEIGHTS", "nf4")
    monkeypatch.setenv("CITER_API_KEY", "secret")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert command("trainer") == "ATEN_CPU_CAPABILITY=avx2 CITER_CPU_WEIGHTS=nf4 python -m trainer run"


def recorded_commands(value):
    """All trainer commands in a JSON value's `command` fields; a summary joins those of its stages by semicolons."""
    if isinstance(value, list):
        return [each for item in value for each in recorded_commands(item)]
    if not isinstance(value, dict):
        return []
    below = [each for key, item in value.items() if key != "command" for each in recorded_commands(item)]
    own = value.get("command") if isinstance(value.get("command"), str) else ""
    commands = [re.sub(r"^([A-Z_]+=\S* )+", "", each) for each in (own or "").split("; ")]
    return below + [each for each in commands if each.startswith("python -m trainer ")]


RECORDED = sorted(
    {
        each
        for path in (ROOT / "assets").glob("**/*.json")
        for each in recorded_commands(json.loads(path.read_text("utf-8")))
        if " --judge " not in each  # the learned judge of drafts is gone; what was measured with it stays
    }
)


@pytest.mark.parametrize("line", RECORDED)
def test_commands_that_results_and_cards_record_are_still_understood(line):
    # Records of earlier versions have no quotes around a description of several words, which stands last there.
    line = re.sub(r"--description ([^'\"].*)$", lambda match: f"--description {shlex.quote(match[1])}", line)
    assert parser().parse_args(shlex.split(line)[3:]).command in COMMANDS


def test_results_and_cards_do_record_commands():
    assert {line.split()[3] for line in RECORDED} == {
        "auc",
        "run",
        "fit",
        "iterate",
        "evaluate",
        "speculate",
        "seconds",
        "transfer",
    }


def test_settings_have_the_defaults_of_their_class_and_are_changed_by_their_options():
    def fitting(*arguments):
        options = parser().parse_args(["fit", "--labels", "l", "--out", "o", *arguments])
        return FitSettings(**chosen(options, FitSettings))

    assert fitting() == FitSettings()
    assert fitting("--hidden-only", "--balanced", "--width", "8") == FitSettings(
        logit_features=False, class_balance="balanced", width=8
    )
    rollouts = parser().parse_args(["rollout", "--labels", "l", "--out", "o", "--both", "--rollout-seed", "3"])
    assert RolloutSettings(**chosen(rollouts, RolloutSettings)) == RolloutSettings(both=True, seed=3)


def test_help_needs_no_torch():
    code = "import sys, trainer.__main__ as m; m.parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_an_unknown_task_is_refused_with_those_there_are(capsys):
    assert "has csqa, gsm8k" in refused(capsys, "run", "--preset", "cpu", "--task", "chess")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--preset", "tiny", "--wrong-references"], "--wrong-references is for `fit` without rollouts"),
        (["iterate", "--labels", "l", "--out", "o", "--wrong-references"], "--wrong-references is for `fit`"),
        (["fit", "--co-llm", "--labels", "l", "--rollouts", "r", "--out", "o"], "leave out --rollouts"),
        (["label", "--skip-llm", "--out", "o"], "--skip-llm is for --reference llm"),
        (["rollout", "--labels", "l", "--out", "o", "--threshold", "0.5"], "name one with --router"),
    ],
)
def test_an_option_that_would_do_nothing_or_fail_after_hours_is_refused_at_once(capsys, arguments, told):
    assert told in refused(capsys, *arguments)


def test_own_answers_as_references_need_the_answers(capsys, tmp_path):
    told = refused(capsys, "label", "--reference", "llm", "--out", str(tmp_path / "l"))
    assert "answer --role llm" in told


def test_a_missing_folder_of_labels_is_named(capsys, tmp_path):
    assert str(tmp_path / "none") in refused(capsys, "fit", "--labels", str(tmp_path / "none"), "--out", "x")


def test_a_readme_that_is_not_what_the_summaries_say_is_told(capsys, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results -->\nall is well\n<!-- /results -->\n")
    told = refused(capsys, "report", "--check", "--readme", str(readme))
    assert "python -m trainer report" in told
    assert "all is well" in readme.read_text()


def test_questions_that_routers_learned_from_are_not_evaluated_on(capsys, tmp_path):
    few = ["--preset", "tiny", "--questions", "2"]
    assert main(["label", *few, "--out", str(tmp_path / "l")]) == 0
    where = ["--labels", str(tmp_path / "l"), "--out", str(tmp_path / "e"), "--results", str(tmp_path)]
    told = refused(capsys, "evaluate", *few, "--split", "train", *where)
    assert "2 questions are to be trained and evaluated on" in told and "--split dev" in told
    asked = [
        {"id": f"q{n}", "question": q.question, "answer": q.answer}
        for n, q in enumerate(load_questions(["arithmetic"], 2))
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, asked)))
    told = refused(capsys, "evaluate", *few, "--data", str(tmp_path / "q.jsonl"), *where)
    assert "2 questions are to be trained and evaluated on, e.g. 'q0'" in told, "the same, under other ids"
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    "wrong", [("--task", "my task"), ("--methods", "slm", "<b>=x"), ("--stage", "a/b"), ("--stage", "partial-more")]
)
def test_names_that_could_not_be_read_back_are_refused_before_any_answer(capsys, tmp_path, wrong):
    told = refused(capsys, "evaluate", "--preset", "tiny", *wrong, "--out", str(tmp_path / "e"))
    assert "cannot be the name of a" in told and not (tmp_path / "e").exists()


def test_a_file_whose_name_cannot_be_a_tasks_is_refused_before_the_hours_that_a_run_takes(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"id": f"q{n}", "question": "1 + 1?", "answer": "2"}) for n in range(40)]
    (tmp_path / "my questions.jsonl").write_text("\n".join(rows))
    told = refused(capsys, "run", "--preset", "tiny", "--data", "my questions.jsonl")
    assert "'my questions' cannot be the name of a task" in told and not (tmp_path / "runs").exists()


def test_a_main_method_of_which_there_will_be_no_answers_is_refused_before_any(capsys, tmp_path):
    told = refused(capsys, "evaluate", "--preset", "tiny", "--main", "citer", "--out", str(tmp_path / "e"))
    assert "--main citer: at acceptance 0 it is not asked for" in told and not (tmp_path / "e").exists()
    few = ["evaluate", "--preset", "tiny", "--questions", "1", "--max-new-tokens", "4", "--out", str(tmp_path / "e")]
    few += ["--results", str(tmp_path)]
    assert main([*few, "--methods", "slm", "llm", "--assisted", "--main", "assisted"]) == 0
    assert main([*few, "--stage", "more", "--methods", "random:0.5", "--main", "assisted"]) == 0, "it is there, at 1"


def test_an_llm_on_a_server_is_not_evaluated_as_its_bytes_are_not_known(capsys, tmp_path, tiny_pair, monkeypatch):
    with served("vllm", tiny_pair) as server:
        monkeypatch.setenv("CITER_LLM_URL", server.url)
        few = ["--preset", "tiny", "--questions", "1", "--methods", "slm", "llm"]
        told = refused(capsys, "evaluate", *few, "--out", str(tmp_path / "e"))
    assert "is on a server, and this needs it here: unset CITER_LLM_URL" in told and not (tmp_path / "e").exists()


def test_thresholds_of_the_option_are_checked_as_those_behind_a_name_and_an_added_stage_has_a_name_of_its_own(
    capsys, tmp_path
):
    few = ["evaluate", "--preset", "tiny", "--questions", "1", "--out", str(tmp_path / "e")]
    told = refused(capsys, *few, "--methods", "confidence", "--thresholds", "0.5", "0.5")
    assert "confidence, at 0.5, 0.5: thresholds are finite numbers, each of them once" in told
    for same in (["--stage", "assisted"], ["--methods", "slm", "assisted"]):
        told = refused(capsys, *few, *same, "--assisted")
        assert "--assisted adds assisted in a stage of that name" in told and not (tmp_path / "e").exists()


def test_a_folder_without_both_models_alone_keeps_its_answers_and_says_what_a_summary_needs(capsys, tmp_path):
    few = ["--preset", "tiny", "--questions", "1", "--max-new-tokens", "4", "--methods", "slm", "confidence:0.5"]
    where = ["--out", str(tmp_path / "e"), "--results", str(tmp_path)]
    assert main(["evaluate", *few, *where]) == 0
    assert f"{tmp_path / 'e'} has these answers now; for a summary evaluate llm there, too" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))


def test_answers_are_kept_and_no_summary_is_made_while_another_stage_of_the_folder_is_not_done(capsys, tmp_path):
    few = ["--preset", "tiny", "--questions", "1", "--max-new-tokens", "4", "--methods"]
    where = ["--out", str(tmp_path / "e"), "--results", str(tmp_path)]
    assert main(["evaluate", *few, "slm", "llm", *where]) == 0
    begun = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    (tmp_path / "e" / "other.json").write_text(json.dumps({**begun, "methods": [["margin", [0.5], None]]}))
    capsys.readouterr()
    assert main(["evaluate", *few, "confidence:0.5", "--stage", "more", *where]) == 0
    assert "but a summary waits for another stage: " in (told := capsys.readouterr().out)
    assert "margin at threshold 0.5 has 0 of 1 answers" in told


def test_a_stage_has_the_thresholds_behind_its_methods_names_and_the_others_those_of_the_option(tmp_path):
    few = ["--preset", "tiny", "--questions", "1", "--max-new-tokens", "4"]
    where = ["--out", str(tmp_path / "e"), "--results", str(tmp_path)]
    methods = ["--methods", "slm", "llm", "confidence:0.5,0.7", "margin", "--thresholds", "0.2"]
    assert main(["evaluate", *few, *methods, *where]) == 0
    more = ["--methods", "confidence@0.3/8:0.6", "--stage", "more", "--main", "confidence"]
    assert main(["evaluate", *few, *more, *where]) == 0, "the folder has answers of the main method"
    begun = [json.loads((tmp_path / "e" / f"{stage}.json").read_text()) for stage in ("evaluation", "more")]
    assert [each[1] for about in begun for each in about["methods"]] == [[0.0], [0.0], [0.5, 0.7], [0.2], [0.6]]


def test_one_of_several_processes_leaves_the_summary_to_the_last_and_run_is_started_alone(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    few = ["--preset", "tiny", "--questions", "2", "--max-new-tokens", "4", "--methods", "slm", "llm"]
    assert main(["evaluate", *few, "--out", str(tmp_path / "e"), "--results", str(tmp_path)]) == 0
    assert "other processes are still writing" in capsys.readouterr().out
    assert "start `run` alone" in refused(capsys, "run")


def test_rollouts_are_of_the_questions_that_were_labelled(tmp_path):
    """Rows without a reference are left out of labels on the data's references, and so of their rollouts."""
    path = tmp_path / "some.jsonl"
    rows = [
        {"id": f"q{n}", "question": f"{n} + 1?", "answer": str(n + 1), "reference": "The answer is so." * (n % 2)}
        for n in range(6)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    few = ["--preset", "tiny", "--data", str(path), "--questions", "2"]
    assert main(["label", *few, "--out", str(tmp_path / "l")]) == 0
    labels = ["--labels", str(tmp_path / "l"), "--budget", "1", "--max-new-tokens", "20"]
    assert main(["rollout", *few, *labels, "--out", str(tmp_path / "r")]) == 0
    assert json.loads((tmp_path / "r" / "rollouts.json").read_text())["questions"] == ["q1", "q3"]


@pytest.mark.parametrize("named", [True, False])
def test_a_query_router_learns_from_answers_that_begin_at_an_offset(tmp_path, monkeypatch, named):
    learned = {}
    monkeypatch.setattr(baselines, "fit_query", lambda labels, slm_right, *_, **__: learned.update(slm_right))
    asked = load_questions(["arithmetic"], 12)
    rows = [
        {"id": f"q{n}", "question": q.question, "answer": q.answer, "reference": "So."} for n, q in enumerate(asked)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = ["--data", "arithmetic" if named else str(tmp_path / "q.jsonl")]
    few = ["--preset", "tiny", *data, "--questions", "2", "--offset", "9"]
    assert main(["label", *few, "--out", str(tmp_path / "l")]) == 0
    assert main(["answer", *few, "--max-new-tokens", "4", "--role", "slm", "--out", str(tmp_path / "s")]) == 0
    fit = ["fit", "--labels", str(tmp_path / "l"), "--query", str(tmp_path / "s"), *data]
    assert main([*fit, "--out", str(tmp_path / "query")]) == 0
    assert list(learned) == ([each.id for each in asked[9:11]] if named else ["q9", "q10"])


def test_answer_label_rollout_and_fit_follow_one_another(capsys, tmp_path):
    """The stages by hand, as the README lists them."""
    few = ["--preset", "tiny", "--questions", "60"]
    assert main(["answer", *few, "--max-new-tokens", "120", "--out", str(tmp_path / "a")]) == 0
    own = ["--reference", "llm", "--answers", str(tmp_path / "a")]
    assert main(["label", *few, *own, "--out", str(tmp_path / "l")]) == 0
    labels = ["--labels", str(tmp_path / "l")]
    assert (
        main(["rollout", *few, *labels, "--budget", "2", "--max-new-tokens", "120", "--out", str(tmp_path / "r")]) == 0
    )
    fit = ["fit", *labels, "--rollouts", str(tmp_path / "r"), "--epochs", "2", "--out", str(tmp_path / "router")]
    assert main(fit) == 0
    card = json.loads((tmp_path / "router" / "router.json").read_text())
    assert card["training"]["command"].startswith("python -m trainer")
    assert "hidden" in (tmp_path / "router" / "README.md").read_text()
    assert main(["answer", *few, "--role", "slm", "--max-new-tokens", "120", "--out", str(tmp_path / "s")]) == 0
    query = ["--query", str(tmp_path / "s"), "--data", "arithmetic", "--out", str(tmp_path / "query")]
    assert main(["fit", *labels, *query]) == 0
    assert json.loads((tmp_path / "query" / "router.json").read_text())["training"]["method"] == "query"
    assert main(["fit", *labels, *query[:2], "--out", str(tmp_path / "query")]) == 2, "whose questions?"
    methods = ["--methods", "slm", "llm", "confidence", f"mine={tmp_path / 'router'}", "--shares", "0.1"]
    where = ["--out", str(tmp_path / "e"), "--results", str(tmp_path)]
    unseen = ["--preset", "tiny", "--questions", "4", "--offset", "60", "--max-new-tokens", "40"]
    assert main(["evaluate", *unseen, *labels, *methods, *where]) == 0
    summary = json.loads((tmp_path / "tiny--arithmetic.json").read_text())
    assert {name: len(method["points"]) for name, method in summary["methods"].items()} == {
        "slm": 1,
        "llm": 1,
        "confidence": 1,
        "mine": 1,
    }
    joining = ["--methods", f"again={tmp_path / 'router'}", "--stage", "evaluation-again", "--shares", "0.1", "0.2"]
    assert main(["evaluate", *unseen, *labels, *joining, *where]) == 0
    path = tmp_path / "tiny--arithmetic.json"
    assert [len(json.loads(path.read_text())["methods"][name]["points"]) for name in ("mine", "again")] == [1, 2]
    shard = tmp_path / "e" / "evaluation-again-00000.jsonl"
    before = answers_in(shard)
    shard.unlink()
    assert main(["evaluate", *unseen, *joining[:4], *where]) == 0
    assert answers_in(shard) == before, "begun with labels, gone on with without"
    timing = ["--questions", "1", "--offset", "60", "--max-new-tokens", "20", "--points", "confidence:0.5"]
    assert main(["seconds", "--preset", "tiny", *timing, "--out", str(tmp_path / "s"), *where[2:]]) == 0
    measured = ["--method", "again", "--summaries", str(path), "--out", str(tmp_path / "shipped")]
    assert main(["ship", "--router", str(tmp_path / "router"), *measured]) == 0
    points = json.loads((tmp_path / "shipped" / "operating_points.json").read_text())
    assert [(curve["task"], len(curve["points"])) for curve in points["curves"]] == [("arithmetic", 2)]
    assert [(each["policy"], each["threshold"]) for each in points["timed"]] == [("confidence", 0.5)]

    # And the plane: a router for what the LLM keeps, the rival tuned on other questions, a curve for each acceptance.
    kept = ["fit", *labels, "--target", "kept", "--epochs", "2", "--out", str(tmp_path / "kept")]
    assert main([*kept, "--co-llm"]) == 2
    assert main(kept) == 0
    tuning = ["--questions", "2", "--offset", "70", "--max-new-tokens", "20", "--out", str(tmp_path / "t")]
    assert main(["speculate", "--preset", "tiny", *tuning]) == 0
    router = f"kept={tmp_path / 'kept'}"
    plane = ["slm@0.3", f"{router}@0.3", f"{router}@1/4", f"assisted-tuned={tmp_path / 't'}"]
    options = ["--methods", *plane, "--stage", "plane", "--shares", "0.1", "0.2"]
    assert main(["evaluate", *unseen, *labels, *options, *where]) == 0
    assert list(json.loads(path.read_text())["plane"]["curves"]) == ["slm@0.3", "kept@0.3", "kept@1/4"]
    measured = ["--method", "kept", "--summaries", str(path), "--acceptance", "0.3", "--out", str(tmp_path / "both")]
    assert main(["ship", "--router", str(tmp_path / "kept"), *measured]) == 0
    assert "kept in the results of arithmetic is another router" in refused(
        capsys, "ship", "--router", str(tmp_path / "router"), *measured
    )
    (curve,) = json.loads((tmp_path / "both" / "operating_points.json").read_text())["curves"]
    assert [point["acceptance"] for point in curve["points"]] == [0.3] * 3, "threshold 0 and two of the router's"
    assert json.loads((tmp_path / "both" / "router.json").read_text())["acceptance"] == 0.3
    assert "| starting acceptance | 0.3 |" in (tmp_path / "both" / "README.md").read_text()


def answers_in(shard):
    """Lines of a shard without their seconds, which are measured anew."""
    lines = [json.loads(line) for line in shard.read_text("utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_every_recipe_leaves_questions_to_compare_rounds_on():
    for (preset, task), recipe in RECIPES.items():
        assert (recipe.preset, recipe.task) == (preset, task)
        assert recipe.validation_questions > 0
        assert recipe.query_questions <= recipe.train_questions
