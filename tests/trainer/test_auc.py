"""Routers that rank tokens at home and away: a planted signal is found by the router that learned it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine import RouterError
from tests.support.fake_labels import FITTING, planted, quiet, write_labels
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.auc import AucSummary, load_auc, measure_auc, write_auc
from trainer.evaluation.methods import scores_of
from trainer.evaluation.summary import load_summary
from trainer.fit.calibration import auc
from trainer.fit.fit_router import fit
from trainer.fit.labelled_tokens import load_tokens
from trainer.report.auc_report import auc_section
from trainer.report.report import RESULTS, render


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Labels of three tasks: one signal, its opposite, and the first once more with other questions."""
    folder = tmp_path_factory.mktemp("tasks")
    write_labels(folder / "home", planted())
    write_labels(folder / "opposite", planted(seed=1, strength=-6.0))
    alike = planted(seed=2)
    alike["question"] = np.char.add("other-", alike["question"])
    write_labels(folder / "alike", alike)
    fit(folder / "home", folder / "router", FITTING, report=quiet)
    return folder


@pytest.fixture(scope="module")
def summary(folders):
    command = ["auc", "--preset", "made-up", "--results", str(folders / "results")]
    labels = [f"{task}={folders / task}" for task in ("home", "alike", "opposite")]
    assert main([*command, "--routers", f"mine={folders / 'router'}", "--labels", *labels]) == 0
    return load_auc(folders / "results" / "made-up.auc.json")


def test_a_router_ranks_tokens_wherever_its_signal_is_and_surely_worse_than_certainty_where_that_misleads(summary):
    own = summary["routers"]["mine"]
    assert own["home"]["auc"]["value"] > 0.95 and own["alike"]["auc"]["value"] > 0.95
    assert own["home"]["above_confidence"]["low"] > 0.2 and own["alike"]["above_confidence"]["low"] > 0.2
    assert own["opposite"]["auc"]["value"] < 0.1 and own["opposite"]["above_confidence"]["high"] < -0.2


def test_the_tokens_are_those_of_questions_that_no_weights_were_trained_on(folders, summary):
    tokens = load_tokens(folders / "home").split("stop", "test")
    assert summary["tasks"]["home"]["tokens"] == len(tokens)
    assert summary["tasks"]["home"]["questions"] == len(set(tokens.question))
    alone = auc(scores_of("confidence", tokens), tokens.preference, tokens.weight)
    assert summary["tasks"]["home"]["confidence"]["value"] == pytest.approx(alone, abs=1e-4)


def test_results_have_a_row_for_each_router_and_say_what_is_sure(summary, tmp_path):
    evaluated = load_summary(RESULTS / "tiny--arithmetic.json")
    write_auc(summary, tmp_path)
    text = render([evaluated], tmp_path, tmp_path)
    assert auc_section(summary) in text
    row = next(line for line in text.splitlines() if line.startswith("| mine |"))
    home, alike, opposite = row.removeprefix("| mine | ").removesuffix(" |").split(" | ")
    assert home.startswith("**0.9") and alike.startswith("**0.9") and opposite.endswith("↓")


def test_a_router_that_learned_from_all_tasks_but_one_is_called_so(summary: AucSummary):
    (own,) = summary["routers"].values()
    renamed: AucSummary = {**summary, "routers": {"citer-but-math": own}}
    assert "| CITER on all but math |" in auc_section(renamed)


@pytest.mark.parametrize("routers", [["mine"], ["=folder"], ["mine="], ["mine=a", "mine=b"]])
def test_a_router_without_a_name_or_a_name_given_twice_is_refused(routers, capsys, tmp_path):
    assert main(["auc", "--preset", "x", "--labels", f"a={tmp_path}", "--routers", *routers]) == 2
    assert f"--routers {routers[-1]}: write NAME=FOLDER, each name once" in capsys.readouterr().err


def test_one_preference_alone_and_another_slms_tokens_are_refused(folders, tmp_path):
    from engine.router import Router

    router = Router.load(folders / "router")
    columns = planted(questions=60)
    columns["case"][:] = 0
    with pytest.raises(TrainerError, match="tokens held out have not both preferences"):
        measure_auc({"mine": router}, {"home": load_tokens(write_labels(tmp_path / "one", columns))}, "x")
    other = load_tokens(write_labels(tmp_path / "other", planted(questions=60), tokenizer="1" * 64))
    with pytest.raises(RouterError, match="tokenizer"):
        measure_auc({"mine": router}, {"home": other}, "x")


def test_what_is_written_is_read_back(summary, tmp_path):
    path = write_auc(summary, tmp_path)
    assert load_auc(path) == summary and json.loads(path.read_text())["preset"] == "made-up"
