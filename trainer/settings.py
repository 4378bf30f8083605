"""What can be set of rollouts, of fitting, of alignment and of a whole run; the recipes are in `recipes.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from trainer import TrainerError
from trainer.options import Count, Number, Options, Rate, Words, option

Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=0.99, allow_inf_nan=False)]


class RolloutSettings(Options):
    """How tokens are rolled out; stored with the rollouts. An answer that `max_new_tokens` cuts is graded as it is."""

    budget: Count = option(8, "tokens rolled out per question at most, drawn by chance", "N")
    both: bool = option(False, "try the LLM's token as well, which a cost weight above 0 needs")
    max_new_tokens: Count = option(256, "tokens of a whole answer, at most", "N")
    seed: Number = option(0, "seed of the draw of tokens", "N")


class FitSettings(Options):
    """How a router is fitted; stored in its card."""

    logit_features: bool = True  # whether the router sees the SLM's logit features beside the hidden state
    cost_weight: Amount = option(0.0, "λ: right answers that an LLM-only answer's bytes are worth", "λ")
    even: bool = option(False, "weigh all folders of labels alike, however many tokens each decides")
    # Fitted first and then left as it is, so that with few questions the network does not know less than the features.
    skip: bool = option(False, "start from a linear score of the logit features, and learn to correct it")
    width: Count | None = option(
        None, "units of the second hidden layer; the first has twice as many (default: the SLM's hidden size)", "N"
    )
    learning_rate: Amount = option(3e-4, "AdamW's learning rate", "X")
    weight_decay: Amount = option(0.01, "AdamW's weight decay", "X")
    dropout: _Share = option(0.1, "share of units, after each hidden layer", "X")
    batch: Count = 512  # tokens per update
    epochs: Count = option(40, "epochs at most; stops early", "N")
    patience: Number = 4  # epochs without a better loss on the stopping questions before it ends
    seed: Number = option(0, "seed of weights, order and dropout", "N")

    @model_validator(mode="after")
    def _check_skip(self) -> Self:
        if self.skip and not self.logit_features:
            raise TrainerError("a skip connection is for the logit features, which this router does not see")
        return self


class AlignSettings(Options):
    """How an SLM learns its LLM's texts; stored with the adapter."""

    rank: Annotated[int, Field(ge=1, le=1024)] = option(
        16, "rank of LoRA; each adds half a megabyte to a 0.5B model's file", "N"
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] = option(
        2, "times that each text is learned, at most; stops early", "N"
    )
    learning_rate: Rate = option(3e-4, "AdamW's highest learning rate", "X")
    kl: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = option(
        0.0, "share of the loss that is the divergence from the LLM's probabilities, not the cross-entropy", "X"
    )
    max_new_tokens: Count = option(256, "tokens of the LLM's texts to general prompts, at most", "N")
    seed: Number = option(0, "seed of weights and order", "N")


class Recipe(Options):
    preset: str  # pair of models
    task: str  # name of the questions, in results and file names
    train: Words = ()  # files; if empty data/<task>/train.jsonl
    dev: Words = ()  # the same for questions that are only evaluated on
    train_questions: Count  # answered by the LLM and labelled
    dev_questions: Count
    rounds: Count
    budget: Count  # rollouts per question and round
    max_new_tokens: Count  # of an answer
    shares: Sequence[Rate] = ()  # LLM shares at which methods are evaluated; if empty `evaluation.methods.SHARES`
    acceptances: Sequence[Rate] = ()  # above 0, at which methods are evaluated, too
    router: str  # name of the folder that the last round's router is shipped in
    description: str  # of the router, one line for people


RECIPES: dict[tuple[str, str], Recipe] = {
    (preset, task): Recipe(preset=preset, task=task, **values)
    for preset, tasks in tomllib.loads(Path(__file__).with_name("recipes.toml").read_text("utf-8")).items()
    for task, values in tasks.items()
}

_FEWEST = 30
_COUNTS = {"train_questions": 256, "dev_questions": 100}


def recipe_for(pair: str, task: str | None, data: Sequence[str] = (), **changes: Any) -> tuple[Recipe, bool]:
    """The recipe for a pair's task, and whether it is for questions of the user's own.

    Args:
        pair: A preset, or the name of a pair of the user's own.
        task: None for the preset's first task, or where `data` is given for the one that its first file names.
        data: Questions to train on, and to evaluate on unless `changes` have others for that.
        changes: Fields of the recipe that go before its usual values.

    Raises:
        TrainerError: There is no such task, there are no questions, or too few.
    """
    known = [name for preset, name in RECIPES if preset == pair]
    if data:
        changes = {"dev": data, **changes, "train": data}
    elif known:
        task = task or known[0]
    if task in known:
        return RECIPES[pair, task].but(**changes), False
    if not data:
        there = f"the {pair} preset has {', '.join(known)}" if known else f"{pair} has no recipe of its own"
        raise TrainerError(f"--task {task}: {there}; for other questions give --data")
    from trainer.questions import read_questions, task_named_by

    task = task or task_named_by(data[0])
    there = sum(len(read_questions(Path(source), lambda line: None)) for source in data)
    counts = _counts_for(there) if changes["dev"] == data else _COUNTS
    values = {"rounds": 2, "budget": 4, "max_new_tokens": 256, **counts, **changes}
    return Recipe(preset=pair, task=task, router=f"{pair}-{task}" if known else pair, description=task, **values), True


def _counts_for(questions: int) -> dict[str, int]:
    """How many of so many questions are trained on, and evaluated on."""
    if questions >= sum(_COUNTS.values()):
        return _COUNTS
    if questions < _FEWEST:
        raise TrainerError(f"--data holds {questions} questions, which are too few: give a hundred or more")
    dev = 3 * questions // 10
    return {"train_questions": questions - dev, "dev_questions": dev}
