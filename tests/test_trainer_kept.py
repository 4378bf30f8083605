"""What the repository keeps of long runs can be read by the code that it is kept for."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import Role
from trainer.evaluation.record import read_evaluation
from trainer.labels.answers import load_answers
from trainer.labels.rollouts import load_rollouts

RUNS = Path(__file__).parent.parent / "assets" / "runs"
ANSWERS = sorted(RUNS.glob("*/answers-*"))
ROLLOUTS = sorted(RUNS.glob("*/rollouts-*"))
EVALUATIONS = sorted([*RUNS.glob("*/evaluation"), *RUNS.glob("*/validation-*")])


def name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


@pytest.mark.parametrize("folder", ANSWERS, ids=name)
def test_kept_answers_are_those_of_all_their_questions(folder):
    answers = load_answers(folder, Role(folder.name.removeprefix("answers-")))
    lines = sum(len(shard.read_text(encoding="utf-8").splitlines()) for shard in folder.glob("*.jsonl"))
    assert len(answers) == lines


@pytest.mark.parametrize("folder", ROLLOUTS, ids=name)
def test_kept_rollouts_are_read_whole(folder):
    rollouts, about = load_rollouts(folder)
    lines = sum(len(shard.read_text(encoding="utf-8").splitlines()) for shard in folder.glob("*.jsonl"))
    assert len(rollouts) == lines
    assert {each.question for each in rollouts} <= set(about["questions"])


@pytest.mark.parametrize("folder", EVALUATIONS, ids=name)
def test_kept_evaluations_are_read(folder):
    assert read_evaluation(folder)
