"""What `python -m trainer run` does for each preset: which questions, how many, and how they are labelled.

Plain values; `trainer.run` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data import ARITHMETIC
from trainer.methods import SHARES


@dataclass(frozen=True)
class Recipe:
    """One run from data to report.

    Attributes:
        preset: Pair of models.
        task: Name of the questions, in results and file names.
        train, dev: Sources of questions: files, or names of benchmarks. The dev questions are only ever evaluated on.
        train_questions: Answered by the LLM and labelled.
        query_questions: Of those, answered by the SLM too, which the query router needs.
        validation_questions: Training questions beyond those, on which rounds are compared.
        dev_questions: Evaluated with every method.
        rounds: Rounds of rollouts at most.
        budget: Rollouts per question and round.
        max_new_tokens: Of an answer.
        shares: LLM shares at which methods are evaluated.
        router: Name of the folder that the best router is shipped in.
        description: Of the router, one line for people.
    """

    preset: str
    task: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    train_questions: int
    query_questions: int
    validation_questions: int
    dev_questions: int
    rounds: int
    budget: int
    max_new_tokens: int
    shares: tuple[float, ...] = SHARES
    router: str = ""
    description: str = ""


RECIPES = {
    ("tiny", "arithmetic"): Recipe(
        preset="tiny",
        task="arithmetic",
        train=(ARITHMETIC,),
        dev=(ARITHMETIC,),
        train_questions=600,
        query_questions=600,
        validation_questions=150,
        dev_questions=400,
        rounds=2,
        budget=8,
        max_new_tokens=120,
        router="tiny",
        description="worked arithmetic",
    ),
    ("cpu", "csqa"): Recipe(
        preset="cpu",
        task="csqa",
        train=("csqa",),
        dev=("csqa",),
        train_questions=512,
        query_questions=256,
        validation_questions=48,
        dev_questions=300,
        rounds=2,
        budget=4,
        max_new_tokens=192,
        shares=(0.02, 0.05, 0.1, 0.2, 0.35),
        router="cpu-csqa",
        description="CommonsenseQA",
    ),
    ("cpu", "gsm8k"): Recipe(
        preset="cpu",
        task="gsm8k",
        train=("gsm8k",),
        dev=("gsm8k",),
        train_questions=256,
        query_questions=96,
        validation_questions=24,
        dev_questions=100,
        rounds=1,
        budget=3,
        max_new_tokens=448,
        shares=(0.12, 0.3),
        router="cpu-gsm8k",
        description="GSM8K",
    ),
}
"""By preset and task; the first of a preset is its default. The counts suit two cores: minutes, and hours."""
