"""A whole run on the tiny pair, and the same run killed in the middle of one stage after the other.

Real processes of `python -m trainer run` get SIGKILL when their files show that a stage has begun and is not done. The
same command then goes on, and what it comes to is what a run comes to that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine import load
from engine.router import WEIGHTS, Router
from tests.support.fake_labels import quiet
from tests.support.paths import ROOT
from trainer import TrainerError
from trainer.evaluation.rows import Results, load_results
from trainer.pipeline import questions_of
from trainer.settings import RECIPES

pytestmark = pytest.mark.timeout(7200)  # three whole runs: over a minute on an idle core

LIMIT = 3600  # seconds that only a real fault reaches
RUN = "run --preset tiny --train-questions 100 --dev-questions 4 --rounds 1 --budget 1"
RUN += " --max-new-tokens 90 --epochs 2"
RECIPE = RECIPES["tiny", "arithmetic"]


def begun(folder: Path, run: str = RUN, **more: str) -> subprocess.Popen[bytes]:
    """A run as a process, whose lines go to `log`; `more` are variables of its environment."""
    where = ["--out", str(folder / "run"), "--results", str(folder / "results"), "--routers", str(folder / "routers")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    log = (folder / "log").open("ab")
    command = [sys.executable, "-m", "trainer", *run.split(), *where]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)


def finished(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.wait(LIMIT) == 0, (folder / "log").read_text()[-2000:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """What a run leaves that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finished(begun(folder), folder)
    return folder


STAGES: dict[str, tuple[str, str]] = {
    "answers of the LLM": ("answers-llm/answers.json", "answers-llm/answers-00000.parquet"),
    "labels": ("labels-llm/labels-00001", "labels-llm/labels-00004"),
    "rollouts": ("rollouts-1/rollouts-00000.parquet", "rollouts-1/rollouts-00001.parquet"),
    "evaluation": ("evaluation/slm-00000.parquet", "evaluation/router-00000.parquet"),
}
"""Of each stage, in the order of a run, a file that shows that it has begun, and one that comes at its end."""


def killed_between(folder: Path, first: Path, last: Path) -> None:
    """Runs until a file is there, and kills the process before another one is."""
    process = begun(folder)
    deadline = time.monotonic() + LIMIT
    while not first.exists():
        assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(LIMIT) == -signal.SIGKILL
    assert not last.exists(), "it was quicker than the signal: the stage needs more questions"


def test_a_run_that_is_killed_in_the_middle_of_every_stage_comes_to_what_an_undisturbed_one_comes_to(whole, tmp_path):
    for first, last in STAGES.values():
        killed_between(tmp_path, tmp_path / "run" / first, tmp_path / "run" / last)
    finished(begun(tmp_path), tmp_path)
    assert contents(tmp_path) == contents(whole)


def measured(folder: Path) -> Results:
    return load_results(folder / "results" / "arithmetic.parquet")


def rights(folder: Path) -> dict[tuple[str, str], float]:
    results = measured(folder)
    return {each: float(right.mean()) for each, right in zip(results.settings, results.right, strict=True)}


def contents(folder: Path) -> dict[str, Any]:
    """Every file by its path, to the byte; without names of folders and measured seconds."""
    readers: dict[str, Callable[[Path], Any]] = {".jsonl": answers_in, ".json": about_in, ".parquet": rows_in}
    readers |= {".safetensors": Path.read_bytes, ".html": Path.exists}
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]  # of a killed worker
    names = {str(path.relative_to(folder)): readers.get(path.suffix, Path.exists)(path) for path in files}
    return {name: content for name, content in names.items() if name != "log"}


def answers_in(shard: Path) -> Any:
    content = shard.read_bytes()
    if b'"seconds"' not in content:
        return content
    return [json.dumps(without_measured(json.loads(line))) for line in content.splitlines()]


def about_in(path: Path) -> Any:
    return json.dumps(without_measured(json.loads(path.read_bytes())))


def rows_in(path: Path) -> Any:
    """Rows of results without the revision, which changes as soon as somebody edits a file."""
    table = pq.read_table(path)
    return table.drop_columns("made").to_pylist() if "made" in table.column_names else path.read_bytes()


MEASURED = {"seconds", "command", "_fingerprint", "sha256", "hidden", "revision"}


def without_measured(value: Any) -> Any:
    if isinstance(value, list):
        return [without_measured(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: without_measured(each) for name, each in value.items() if name not in MEASURED}


# --- what a run comes to


def test_a_run_answers_labels_rolls_out_fits_evaluates_and_ships(whole):
    results, right = measured(whole), rights(whole)
    counts = {name: len(results.of(name)) for name in ("random", "confidence", "speculative", "router")}
    assert min(counts.values()) > 3
    assert right["llm", "llm < 0"] - right["slm", "slm < 0"] > 0.4
    lossless = {right[each] for each in results.settings if each.method == "speculative"}
    assert lossless == {right["llm", "llm < 0"]}, "speculative decoding is lossless"
    trained = json.loads((whole / "run" / "labels-llm" / "labels.json").read_text())["questions"]
    asked = results.questions
    assert (len(trained), len(asked)) == (100, 4) and len({*trained, *asked}) == 104


def test_the_shipped_router_carries_the_curve_that_was_measured_and_the_engine_takes_it(whole, monkeypatch):
    results = measured(whole)
    router = Router.load(whole / "routers" / "tiny")
    assert router.warning is None and router.operating_points is not None
    assert (whole / "run" / "routers" / "citer-r1" / WEIGHTS).read_bytes() == (
        whole / "routers" / "tiny" / WEIGHTS
    ).read_bytes()
    curve = router.operating_points.curves[0]
    assert (curve.task, curve.questions) == ("arithmetic", 4)
    own = results.of("router")
    assert [p.accuracy for p in curve.points] == pytest.approx(list(results.right[own].mean(axis=1)))
    assert [p.bytes for p in curve.points] == pytest.approx(list(results.bytes[own].mean(axis=1)), rel=1e-4)
    monkeypatch.setenv("CITER_ROUTER", str(whole / "routers" / "tiny"))
    pair = load("tiny")
    assert pair.threshold == router.card.threshold
    assert "answer is" in pair.generate("Tom has 12 apples. He finds 5 more. How many apples are there now?").text


# --- what is looked at before the hours that the stages take


@pytest.mark.parametrize(
    ("train", "dev", "named"),
    [(9, range(60, 70), "too few"), (40, None, "first 40"), (60, range(35, 45), "5 questions .*'q35'.*--dev")],
)
def test_questions_that_are_too_few_or_trained_on_are_refused(tmp_path, train, dev, named):
    for name, numbers in (("train", range(train)), ("dev", dev or ())):
        rows = [{"id": f"q{n}", "question": f"{n} + 1?", "answer": str(n + 1)} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {name: (str(tmp_path / f"{name if dev else 'train'}.jsonl"),) for name in ("train", "dev")}
    recipe = RECIPE.but(**files, train_questions=40)
    with pytest.raises(TrainerError, match=named):
        questions_of(recipe, quiet)
