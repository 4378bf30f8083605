"""The trainer on a full disk: a clear word, and what was there before is there still."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any, cast

import pytest

from engine import RouterError
from engine.operating_points import OperatingPoints
from tests.support.fake_labels import planted, quiet, write_labels
from tests.support.mutations import no_file_larger_than
from tests.support.paths import ROOT, TINY
from tests.trainer.test_mutated import ANSWERS, EVALUATE, filled
from tests.trainer.test_record import summary_of
from trainer.__main__ import main
from trainer.pipeline import Pipeline
from trainer.settings import RECIPES, FitSettings
from trainer.ship import ship
from trainer.tiny import build as tiny

ROUTER = ROOT / "assets" / "routers" / "tiny"


def contents(folder):
    """Every file's bytes by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _no_git(monkeypatch, tmp_path):
    """It is asked for the revision; the limit of a file's size would kill it, and its lock would stay."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "no-repository"))


def test_a_full_disk_is_called_so_and_leaves_no_half_of_anything(capsys, tmp_path):
    labels, out = write_labels(tmp_path / "b", planted(questions=60, length=10)), tmp_path / "router"
    fit = ["fit", "--labels", str(labels), "--epochs", "1", "--out", str(out)]
    with no_file_larger_than(2_000):
        assert main(fit) == 2
    assert "free some space" in capsys.readouterr().err and not out.exists()
    with no_file_larger_than(100):
        assert main(filled(ANSWERS, labels, tmp_path / "a")) == 2
    assert "no space left" in capsys.readouterr().err and not (tmp_path / "a").exists()
    with no_file_larger_than(2_000):
        assert main(["label", "--preset", "tiny", "--questions", "2", "--out", str(tmp_path / "l")]) == 2
    assert "no space left" in capsys.readouterr().err and not (tmp_path / "l").exists()
    made = [*ANSWERS[1:-1], str(tmp_path / "made")]
    assert main(["label", *made]) == 0
    for stage in (
        ["rollout", *ANSWERS[1:], "--labels", str(tmp_path / "made"), "--budget", "1", "--max-new-tokens", "4"],
        [*EVALUATE, "--methods", "slm", "--max-new-tokens", "4"],
    ):
        with no_file_larger_than(100):
            assert main(filled(stage, labels, tmp_path / "s")) == 2
        assert "no space left" in capsys.readouterr().err and not (tmp_path / "s").exists()


@pytest.mark.parametrize("size", [1_000, 50_000])
def test_a_full_disk_leaves_the_tiny_pair_as_it_was(capsys, tmp_path, size):
    """At the tokenizer, which is another library's, and at the weights."""
    before = contents(shutil.copytree(TINY, tmp_path / "tiny"))
    for out in (tmp_path / "tiny", tmp_path / "new"):
        with no_file_larger_than(size):
            assert main(["tiny", "--out", str(out), "--steps", "1"]) == 2
        assert "no space left" in capsys.readouterr().err
    assert contents(tmp_path / "tiny") == before and not (tmp_path / "new").exists()


def test_the_tiny_pair_takes_its_place_when_it_is_whole_and_leaves_other_files_alone(monkeypatch, tmp_path):
    (tmp_path / "slm").mkdir()
    (tmp_path / "slm" / "old.json").write_text("{}")
    (tmp_path / "mine").write_text("mine")
    measured = []

    def measure(folder):
        measured.append(sorted(contents(folder)))
        assert sorted(each.name for each in tmp_path.iterdir() if each.suffix != ".tmp") == ["mine", "slm"]
        return dict.fromkeys(("slm", "llm", "differ", "tokens"), 0.5)

    monkeypatch.setattr(tiny, "evaluate", measure)
    assert main(["tiny", "--out", str(tmp_path), "--steps", "1"]) == 0
    assert sorted(contents(tmp_path)) == sorted([*measured[0], "README.md", "mine"])
    assert "slm/model.safetensors" in measured[0] and "slm/old.json" not in measured[0]


def test_a_full_disk_leaves_the_shipped_router_as_it_was(tmp_path):
    """The points are written after weights and card, and are made the largest here."""
    router = shutil.copytree(ROUTER, tmp_path / "run" / "routers" / "r")
    points = OperatingPoints.load(router)
    assert points
    curves = [replace(points.curves[0], command="x" * 10_000)] * 10
    before = contents(shutil.copytree(ROUTER, tmp_path / "shipped"))
    for out in (tmp_path / "shipped", tmp_path / "new"):
        with no_file_larger_than(90_000), pytest.raises(OSError, match="File too large"):
            ship(router, curves, out)
    assert contents(tmp_path / "shipped") == before and not (tmp_path / "new").exists()
    ship(router, curves, tmp_path / "shipped")
    assert contents(tmp_path / "shipped").keys() == before.keys() and contents(tmp_path / "shipped") != before


def test_a_full_disk_leaves_the_router_that_a_run_shipped_before_as_it_was(monkeypatch, tmp_path):
    shutil.copytree(ROUTER, tmp_path / "run" / "routers" / "citer-r2")
    before = contents(shutil.copytree(ROUTER, tmp_path / "shipped" / "mine"))
    monkeypatch.setattr(Pipeline, "best", "citer-r2")
    recipe = replace(RECIPES["tiny", "arithmetic"], router="mine")
    this = Pipeline(recipe, tmp_path / "run", cast(Any, None), FitSettings(), quiet)
    summary = summary_of(tmp_path / "evaluation")
    with no_file_larger_than(1_000), pytest.raises(RouterError, match="free some space"):
        this.ship(summary, tmp_path / "shipped")
    assert contents(tmp_path / "shipped" / "mine") == before
    this.ship(summary, tmp_path / "shipped")
    assert contents(tmp_path / "shipped" / "mine").keys() == before.keys()
    assert contents(tmp_path / "shipped" / "mine") != before
