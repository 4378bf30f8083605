"""What the trainer's commands have in common: options, and what they stand for.

Options of rollouts, fitting and recipes are made from `trainer.settings`. Heavy modules are imported inside the
functions that run, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.settings import Settings, add_model_options, load_settings
from trainer import TrainerError
from trainer.settings import FitSettings, chosen

if TYPE_CHECKING:
    from engine import Pair
    from trainer.questions.question import Question

Add = Callable[..., None]
"""`trainer.__main__.add_option` with the parser of the command."""

Options = argparse.Namespace

RESULTS = Path("assets/results")


class Command(NamedTuple):
    """What adds a command's options, and what runs it."""

    add_options: Callable[[Add], None]
    run: Callable[[Options], None]

    @property
    def summary(self) -> str:
        """One line of help: the docstring of the function that runs."""
        return str(self.run.__doc__)


def fit_settings(options: Options) -> FitSettings:
    """Those of the options that `add_settings` made of them."""
    return FitSettings(**chosen(options, FitSettings))


def fit_settings_of_rounds(options: Options) -> FitSettings:
    """The same, for commands that roll out: a TrainerError for what is only for `fit`, before the hours they take."""
    settings = fit_settings(options)
    if settings.wrong_references:
        raise TrainerError("--wrong-references is for `fit` without rollouts: those are of right references alone")
    return settings


def add_questions(add: Add, questions: int = 600, split: str = "train") -> None:
    """Options of every command that runs the models on questions."""
    add_model_options(add)
    add(
        "--data",
        "files of JSON lines with id, question, [choices], reference, answer; or csqa, arc-challenge, mmlu-psychology, "
        "gsm8k, math from the Hub; or arithmetic, the tiny pair's own language. Several are mixed evenly",
        ["arithmetic"],
        nargs="+",
        metavar="SOURCE",
    )
    add("--split", "of a set that has both", split, choices=["train", "dev"])
    add("--questions", "how many", questions, metavar="N")
    add("--offset", "skip the first N", 0, metavar="N")
    add("--out", "folder; run the same command again to go on where it stopped", type=Path, required=True)


def settings_of(options: Options) -> Settings:
    """Those of the environment, but for the models: the options' alone, so that a command which is kept names them.

    Without any it is the tiny pair.
    """
    preset = options.preset or ("auto" if options.slm and options.llm else "tiny")
    return load_settings(preset=preset, slm=options.slm, llm=options.llm)


def load_pair(options: Options) -> Pair:
    """The models of the options; raises as `engine.load`."""
    from engine import load

    return load(None, settings_of(options))


def questions_of(options: Options, need_reference: bool = False, more: int = 0) -> list[Question]:
    """The questions of `--data` from `--offset` on, and so many more."""
    from trainer.questions.sources import load_questions

    wanted = options.questions + more
    return load_questions(options.data, wanted, options.split, need_reference=need_reference, offset=options.offset)


def labelled_questions(options: Options, more: int = 0) -> list[Question]:
    """The questions of `--labels`: where labels are on the data's references, none without one is among theirs."""
    from trainer.labels.labels import shards

    return questions_of(options, shards(options.labels).load()[1]["reference"] == "data", more)
