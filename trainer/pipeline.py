"""`python -m trainer run`: align → answer → label → roll out and fit in rounds → evaluate → ship.

Here is the order of the stages and where each keeps its files; what a stage does is in its own module. Every stage goes
on where it stopped, and several processes that run the same command share the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from engine import Role, load
from engine.pair import Pair
from engine.settings import Settings
from trainer import Report, TrainerError
from trainer.align.stage import align
from trainer.align.texts import AnsweredTask, read_general_prompts
from trainer.evaluation.evaluate import evaluate, gather
from trainer.evaluation.methods import SHARES, SPECULATIVE, Method, method
from trainer.evaluation.rows import load_results
from trainer.fit.baselines import co_llm, query
from trainer.fit.fit_router import fit, preferences
from trainer.fit.labelled_tokens import check_splits, held_out_tokens
from trainer.labels.answers import answer, are_right, load_answers
from trainer.labels.labels import label
from trainer.questions.question import Question, check_apart, texts_of
from trainer.questions.sources import load_questions
from trainer.report.summary import summarise
from trainer.report.tables import main_table
from trainer.rounds import make_rounds
from trainer.settings import AlignSettings, FitSettings, Recipe
from trainer.ship import ship
from trainer.workers import alone_at


class Questions(NamedTuple):
    """A recipe's questions: to label, to compare rounds on, and to evaluate on."""

    labelled: list[Question]
    validation: list[Question]
    dev: list[Question]


def questions_of(recipe: Recipe, report: Report = print) -> Questions:
    """The questions of a recipe; a TrainerError, before the hours that the stages take, if they are too few or alike.

    Where the dev questions come from the same files as those to train on, they are the ones after these.
    """
    count = recipe.train_questions + recipe.validation_questions
    train = load_questions(recipe.train or [f"data/{recipe.task}/train.jsonl"], count, report)
    labelled, validation = train[: recipe.train_questions], train[recipe.train_questions :]
    if not validation:
        raise TrainerError(
            f"no questions are left after the {recipe.train_questions} to train on, and rounds are compared on others: "
            "give more, or ask for fewer (--train-questions)"
        )
    offset = count if recipe.dev and list(recipe.dev) == list(recipe.train) else 0
    dev = load_questions(recipe.dev or [f"data/{recipe.task}/dev.jsonl"], recipe.dev_questions, report, offset=offset)
    check_apart(texts_of(train), dev, "give others with --dev")
    names = [question.id for question in labelled]
    check_splits(names, "give more of them, or more to train on (--train-questions)")
    return Questions(labelled, validation, dev)


def align_first(recipe: Recipe, settings: Settings, folder: Path, how: AlignSettings) -> Path:
    """`align`: the settings' SLM learns what the LLM answers to a recipe's questions and to general prompts.

    Returns the adapter's path.
    """
    labelled = questions_of(recipe).labelled
    answer(load(None, settings), Role.LLM, labelled, folder / "answers-llm", recipe.max_new_tokens)
    task = AnsweredTask(recipe.task, labelled, folder / "answers-llm")
    return align(settings, [task], read_general_prompts(), folder / "align", how)


def run(
    recipe: Recipe,
    pair: Pair,
    folder: Path,
    results: Path,
    routers: Path,
    fitting: FitSettings,
    adapter: Path | None = None,
    report: Report = print,
) -> Path:
    """Carries out a recipe; what is already there is not made again.

    Args:
        pair: The models.
        results: Gets the rows of the evaluation, `<task>.parquet`.
        routers: Gets the best router, and the adapter beside it.
        adapter: The file that the pair's SLM was aligned with.

    Returns:
        The path of the rows.
    """
    asked, limit = questions_of(recipe, report), recipe.max_new_tokens
    by_llm, by_slm, labels = (folder / name for name in ("answers-llm", "answers-slm", "labels-llm"))
    answer(pair, Role.LLM, asked.labelled, by_llm, limit, report)
    answer(pair, Role.SLM, asked.labelled, by_slm, limit, report)  # which a query router learns from
    # With the LLM's log-probabilities, which a Co-LLM router learns from.
    label(pair, asked.labelled, labels, load_answers(by_llm, Role.LLM), report=report)
    slm_right = are_right(load_answers(by_slm, Role.SLM), asked.labelled)
    fitted = _fit_rivals(recipe, labels, slm_right, folder / "routers", fitting, report)
    fitted["router"] = make_rounds(pair, recipe, asked.labelled, asked.validation, labels, folder, fitting, report)
    methods = _methods(recipe, fitted, labels)
    evaluate(pair, asked.dev, methods, folder / "evaluation", recipe.task, limit, report)
    with alone_at(folder / "shipping"):
        rows = gather(folder / "evaluation", results)
        measured = load_results(rows)
        report(main_table(summarise({recipe.task: measured})))
        ship(fitted["router"], [measured], routers / recipe.router, adapter=adapter)
        report(f"{fitted['router']} is now {routers / recipe.router}")
    return rows


def _fit_rivals(
    recipe: Recipe, labels: Path, slm_right: Mapping[str, bool], routers: Path, fitting: FitSettings, report: Report
) -> dict[str, Path]:
    """Fits the routers that the evaluation compares CITER's with; returns their folders by the method."""
    found = {"shortcut": routers / "citer-shortcut", "co-llm": routers / "co-llm"}
    fit(preferences(labels, fitting), found["shortcut"], recipe.description, report)
    fit(co_llm(labels, fitting), found["co-llm"], report=report)
    try:
        fit(query(labels, slm_right, fitting.seed), routers / "query", report=report)
        found["query"] = routers / "query"
    except TrainerError as error:  # a rival that cannot be fitted does not stop what it is compared with
        report(f"without the query router, which learns from the questions that one model alone answers: {error}")
    return found


def _methods(recipe: Recipe, routers: Mapping[str, Path], labels: Path) -> list[Method]:
    tokens, acceptances = held_out_tokens(labels), [0.0, *recipe.acceptances]
    # Where there are several acceptances, fewer shares are tried at each.
    some = {"shares": (recipe.shares or SHARES)[:: len(acceptances)], "acceptances": acceptances}
    listed = {"slm": {}, "llm": {}, "random": some, "confidence": some, SPECULATIVE: {}}
    listed |= {name: {"folder": str(folder), **some} for name, folder in routers.items()}
    return [method(name, each, tokens) for name, each in listed.items()]
