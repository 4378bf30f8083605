"""What can be set of rollouts, of fitting and of a whole run, and the command-line options for it.

Plain values and no torch, so that `--help` answers at once. A field made by `setting` has an option, whose help says
what the field means; the others can only be set in code.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

from engine.errors import shown
from engine.events import MAX_THRESHOLD
from trainer import TrainerError


def setting(default: Any, meaning: str, option: str = "", **argument: Any) -> Any:
    """A dataclass field that has an option.

    Args:
        default: Of the field and of the option; `MISSING` where there is none.
        meaning: The option's help.
        option: The option's name, where it is not the field's.
        argument: Passed on to `argparse`.
    """
    return field(default=default, metadata={"option": option, "argument": {"help": meaning, **argument}})


def add_settings(add: Callable[..., None], settings: type, keep_defaults: bool = True) -> None:
    """Adds an option for each field that has one; without the defaults, None says that an option was not given."""
    for option, each in _options_of(settings).items():
        add(option, default=each.default if keep_defaults else None, **each.metadata["argument"])


def chosen(options: Namespace, settings: type) -> dict[str, Any]:
    """The values of a settings class's options, by field."""
    return {each.name: getattr(options, option[2:].replace("-", "_")) for option, each in _options_of(settings).items()}


def _check(name: str, value: float, low: float, high: float, hint: str = "") -> None:
    """Refuses, by a TrainerError, a number outside of its range, and one that is none."""
    if not low <= value <= high:  # which NaN is not either
        raise TrainerError(f"{name} {shown(value)}: give a number from {low:g} to {high:g}{hint and f' ({hint})'}")


def _options_of(settings: type) -> dict[str, Field[Any]]:
    named = [each for each in fields(settings) if each.metadata]
    return {each.metadata["option"] or "--" + each.name.replace("_", "-"): each for each in named}


@dataclass(frozen=True)
class RolloutSettings:
    """How tokens are rolled out; stored with the rollouts.

    `threshold` is that of the router which finishes the text. An answer that `max_new_tokens` cuts is graded as it is.
    """

    budget: int = setting(8, "tokens rolled out per question at most, drawn by chance")
    both: bool = setting(False, "try the LLM's token as well, which a cost weight above 0 needs")
    max_new_tokens: int = setting(256, "of a whole answer")
    threshold: float = 0.5
    seed: int = setting(0, "of the draw of tokens", "--rollout-seed")

    def __post_init__(self) -> None:
        _check("budget", self.budget, 1, 1_000_000)
        _check("max new tokens", self.max_new_tokens, 1, 1_000_000)
        _check("threshold", self.threshold, 0, MAX_THRESHOLD)


@dataclass(frozen=True)
class FitSettings:
    """How a router is fitted; stored in its card. A value that makes no sense is a TrainerError."""

    # What a score of 1 means: the SLM's token does no harm (CITER), or the LLM would write the same one; the second is
    # for acceptance above 0, where the LLM judges what was drafted.
    target: Literal["preferred", "kept"] = "preferred"
    logit_features: bool = setting(True, "do not show the router the SLM's logit features", "--hidden-only")
    cost_weight: float = setting(0.0, "λ: right answers that an LLM-only answer's bytes are worth")
    wrong_references: bool = setting(False, "learn from references, too, that end in a wrong answer")
    # Of tokens that only the LLM wrote: 0 leaves them undecided, 1 takes the shortcut's word for them.
    shortcut_weight: float = setting(0.0, "0 to 1: of disagreements not rolled out")
    class_balance: Literal["none", "balanced"] = setting(
        "none",
        "weigh both preferences alike; the score is calibrated again after",
        "--balanced",
        action="store_const",
        const="balanced",
    )
    # Of several tasks, one whose answers are long would have most of the say otherwise.
    even: bool = setting(False, "of several folders of labels each counts alike, however many tokens it decides")
    calibrate: bool = True  # try slope and bias on the stopping questions
    # Fitted first and then left as it is, so that with few questions the network does not know less than the features.
    skip: bool = setting(False, "start from a linear score of the logit features, and learn to correct it")
    # The first hidden layer has twice as many. In its file a narrow network has the same size.
    width: int | None = setting(
        None, "units of the second hidden layer (default: the SLM's hidden size, as in the paper)", type=int
    )
    learning_rate: float = setting(3e-4, "of AdamW")
    weight_decay: float = setting(0.01, "of AdamW")
    dropout: float = setting(0.1, "after each hidden layer")
    batch: int = 512  # tokens per update
    epochs: int = setting(40, "at most; stops early")
    patience: int = 4  # epochs without a better loss on the stopping questions before it ends
    seed: int = setting(0, "of weights, order and dropout")

    def __post_init__(self) -> None:
        if self.class_balance not in ("none", "balanced"):
            raise TrainerError(f"class balance {self.class_balance!r}: choose 'none' or 'balanced'")
        if self.target not in ("preferred", "kept"):
            raise TrainerError(f"target {self.target!r}: choose 'preferred' or 'kept'")
        _check("cost weight", self.cost_weight, 0, 1e9, "λ, and 0 counts answers only")
        _check("shortcut weight", self.shortcut_weight, 0, 1)
        if self.width is not None:
            _check("width", self.width, 1, 1_000_000)
        _check("learning rate", self.learning_rate, 0, 1e38)
        _check("weight decay", self.weight_decay, 0, 1e3)
        _check("dropout", self.dropout, 0, 0.99, "a share of the units")
        _check("batch", self.batch, 1, 1_000_000_000)
        _check("epochs", self.epochs, 1, 1_000_000)
        _check("patience", self.patience, 0, 1_000_000)
        _check("seed", self.seed, 0, 2**63 - 1)
        if self.skip and not self.logit_features:
            raise TrainerError("a skip connection is for the logit features, which this router does not see")


@dataclass(frozen=True)
class AlignSettings:
    """How an SLM learns its LLM's texts; stored with the adapter. A value that makes no sense is a TrainerError."""

    rank: int = setting(16, "of the changes; a 0.5B model's file has half a megabyte for each")
    epochs: int = setting(2, "times that each text is learned, at most; stops early")
    learning_rate: float = setting(3e-4, "of AdamW, at its highest")
    # The LLM's likeliest tokens teach more than the one that it wrote, but it has to read its texts once more for them.
    kl: float = setting(0.0, "weight of the divergence from the LLM's 20 likeliest tokens, beside 1 for what it wrote")
    max_new_tokens: int = setting(256, "of the LLM's texts to general prompts")
    seed: int = setting(0, "of weights and order")

    def __post_init__(self) -> None:
        _check("rank", self.rank, 1, 1024)
        _check("epochs", self.epochs, 1, 1000)
        _check("learning rate", self.learning_rate, 0, 1)
        _check("kl", self.kl, 0, 1000)
        _check("max new tokens", self.max_new_tokens, 1, 1_000_000)
        _check("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `python -m trainer run` does; see `trainer.pipeline`.

    Attributes:
        preset: Pair of models.
        task: Name of the questions, in results and file names.
        train, dev: Files, or names of benchmarks; if empty the task is one. The dev questions are only evaluated on.
        train_questions: Answered by the LLM and labelled.
        query_questions: Of those, answered by the SLM too, which the query router needs.
        validation_questions: Training questions beyond those, on which rounds are compared.
        budget: Rollouts per question and round.
        max_new_tokens: Of an answer.
        shares: LLM shares at which methods are evaluated; if empty `trainer.evaluation.methods.SHARES`.
        acceptances: Above 0, at which the plane is evaluated; if empty only acceptance 0.
        router: Name of the folder that the best router is shipped in.
        description: Of the router, one line for people.
    """

    preset: str
    task: str
    train: Sequence[str] = setting(
        (), "questions to train on, instead of the benchmark from the Hub", nargs="+", metavar="SOURCE"
    )
    dev: Sequence[str] = setting((), "questions to evaluate on", nargs="+", metavar="SOURCE")
    train_questions: int = setting(MISSING, "how many to label", type=int, metavar="N")
    query_questions: int
    validation_questions: int = setting(MISSING, "how many to compare rounds on", type=int, metavar="N")
    dev_questions: int = setting(MISSING, "how many of them", type=int, metavar="N")
    rounds: int = setting(MISSING, "of rollouts, at most (default: the recipe's)", type=int)
    budget: int = setting(MISSING, "rollouts per question and round", type=int, metavar="N")
    max_new_tokens: int = setting(MISSING, "of an answer", type=int, metavar="N")
    shares: tuple[float, ...] = ()
    acceptances: Sequence[float] = setting(
        (),
        "evaluate the plane, too: at these acceptances, with a router for what the LLM keeps, and against tuned "
        "speculative decoding (0.1 0.3 0.6 1)",
        nargs="+",
        type=float,
        metavar="ALPHA",
    )
    router: str
    description: str


_RECIPES = [
    Recipe(
        preset="tiny",
        task="arithmetic",
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
    Recipe(
        preset="cpu",
        task="csqa",
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
    Recipe(
        preset="cpu",
        task="gsm8k",
        train_questions=256,
        query_questions=256,
        validation_questions=24,
        dev_questions=100,
        rounds=2,
        budget=3,
        max_new_tokens=448,
        shares=(0.12, 0.25, 0.4),
        router="cpu-gsm8k",
        description="GSM8K",
    ),
    Recipe(
        preset="cpu",
        task="arc-challenge",
        train_questions=320,
        query_questions=160,
        validation_questions=48,
        dev_questions=200,
        rounds=2,
        budget=4,
        max_new_tokens=192,
        shares=(0.02, 0.05, 0.1, 0.2, 0.35),
        router="cpu-arc-challenge",
        description="ARC-Challenge",
    ),
    Recipe(
        preset="cpu",
        task="mmlu-psychology",
        train_questions=256,
        query_questions=256,
        validation_questions=48,
        dev_questions=160,
        rounds=2,
        budget=12,
        max_new_tokens=192,
        shares=(0.02, 0.05, 0.1, 0.2, 0.35),
        router="cpu-mmlu-psychology",
        description="MMLU, professional psychology",
    ),
    Recipe(
        preset="cpu",
        task="math",
        train_questions=192,
        query_questions=192,
        validation_questions=24,
        dev_questions=100,
        rounds=1,
        budget=4,
        max_new_tokens=448,
        shares=(0.12, 0.25, 0.4),
        router="cpu-math",
        description="MATH",
    ),
]
RECIPES = {(recipe.preset, recipe.task): recipe for recipe in _RECIPES}
"""By preset and task; the first of a preset is its default. The counts suit two cores: minutes, and hours."""


_FEWEST = 30
_COUNTS = {"train_questions": 256, "validation_questions": 32, "dev_questions": 100}


def own_recipe(pair: str, task: str, **changes: Any) -> Recipe:
    """What to do for any pair and questions; `changes` go before what is usual here."""
    values = {**_COUNTS, "rounds": 2, "budget": 4, "max_new_tokens": 256, **changes}
    values["query_questions"] = values["train_questions"]
    taken = pair in {preset for preset, _ in RECIPES}
    return Recipe(preset=pair, task=task, router=f"{pair}-{task}" if taken else pair, description=task, **values)


def counts_for(questions: int | None) -> dict[str, int]:
    """How many of so many questions are trained on, compared on and evaluated on; None means that there are enough."""
    if questions is None or questions >= sum(_COUNTS.values()):
        return {}
    if questions < _FEWEST:
        raise TrainerError(f"--data holds {questions} questions, which are too few: give a hundred or more")
    dev, validation = max(3, 3 * questions // 10), max(2, questions // 10)
    return {
        "train_questions": questions - dev - validation,
        "validation_questions": validation,
        "dev_questions": dev,
    }
