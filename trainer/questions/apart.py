"""Whether questions to evaluate on are others than those to train on: by what they ask, and by their ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from trainer import TrainerError
from trainer.questions.question import Question


def texts_of(questions: Sequence[Question]) -> dict[str, str]:
    """By the question's id a short hash of what it asks: its text with its choices, whatever it is called."""
    return {
        each.id: hashlib.sha256(json.dumps([each.question, each.choices]).encode()).hexdigest()[:16]
        for each in questions
    }


def check_apart(trained: Mapping[str, str], asked: Sequence[Question], way_out: str) -> None:
    """Refuses, by a TrainerError, questions to evaluate on of which some are trained on, or are called as those are.

    Args:
        trained: As `texts_of` gives it.
        way_out: What to do where a question is trained on.
    """
    texts, own = set(trained.values()), texts_of(asked)
    if both := sorted(name for name, text in own.items() if text in texts):
        raise TrainerError(f"{len(both)} questions are to be trained and evaluated on, e.g. {both[0]!r}: {way_out}")
    if alike := sorted(trained.keys() & own.keys()):
        raise TrainerError(
            f"{len(alike)} questions to evaluate on have the same id as others to train on, e.g. {alike[0]!r}: "
            "number them anew"
        )
