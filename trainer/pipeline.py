"""`python -m trainer run`: align → answer → label → roll out and fit in rounds → evaluate → ship.

Every stage goes on where it stopped, and several processes that run the same command share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine import Role, load
from engine.pair import Pair
from engine.settings import Settings
from trainer import Report
from trainer.align.stage import align
from trainer.align.texts import AnsweredTask, read_general_prompts
from trainer.evaluation.evaluate import evaluate, gather
from trainer.evaluation.methods import SHARES, SPECULATIVE, Method, method
from trainer.evaluation.rows import load_results
from trainer.fit.fit_router import fit, preferences
from trainer.fit.labelled_tokens import check_splits, held_out_tokens
from trainer.labels.answers import answer, load_answers
from trainer.labels.labels import label
from trainer.labels.rollouts import roll_out
from trainer.questions import Question, check_apart, load_questions, texts_of
from trainer.report.summary import summarise
from trainer.report.tables import main_table
from trainer.settings import AlignSettings, FitSettings, Recipe, RolloutSettings
from trainer.ship import ship
from trainer.workers import alone_at


def questions_of(recipe: Recipe, report: Report = print) -> tuple[list[Question], list[Question]]:
    """A recipe's questions to train on, and those to evaluate on. Both may come from the same files, without overlap.

    A TrainerError, before the hours that the stages take, if they are too few or alike.
    """
    count = recipe.train_questions
    train = load_questions(recipe.train or [f"data/{recipe.task}/train.jsonl"], count, report)
    offset = count if recipe.dev and list(recipe.dev) == list(recipe.train) else 0
    dev = load_questions(recipe.dev or [f"data/{recipe.task}/dev.jsonl"], recipe.dev_questions, report, offset=offset)
    check_apart(texts_of(train), dev, "give others with --dev")
    names = [question.id for question in train]
    check_splits(names, "give more of them, or more to train on (--train-questions)")
    return train, dev


def align_first(recipe: Recipe, settings: Settings, folder: Path, how: AlignSettings) -> Path:
    """The settings' SLM learns what the LLM answers to a recipe's questions and to general prompts, into an adapter."""
    labelled, _ = questions_of(recipe)
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
        routers: Gets the last round's router, and the adapter beside it.
        adapter: The file that the pair's SLM was aligned with.

    Returns:
        The path of the rows.
    """
    (labelled, dev), limit = questions_of(recipe, report), recipe.max_new_tokens
    answers, labels = folder / "answers-llm", folder / "labels-llm"
    answer(pair, Role.LLM, labelled, answers, limit, report)
    label(pair, labelled, labels, load_answers(answers, Role.LLM), report=report)
    router = _make_rounds(pair, recipe, labelled, labels, folder, fitting, report)
    evaluate(pair, dev, _methods(recipe, router, labels), folder / "evaluation", recipe.task, limit, report)
    with alone_at(folder / "shipping"):
        rows = gather(folder / "evaluation", results)
        measured = load_results(rows)
        report(main_table(summarise({recipe.task: measured})))
        ship(router, [measured], routers / recipe.router, adapter=adapter)
        report(f"{router} is now {routers / recipe.router}")
    return rows


def _make_rounds(
    pair: Pair,
    recipe: Recipe,
    questions: Sequence[Question],
    labels: Path,
    folder: Path,
    fitting: FitSettings,
    report: Report,
) -> Path:
    """Makes `rollouts-k` and `routers/citer-rk` for each round k; returns the last router's folder.

    Each round rolls out with the router of the round before, the first with the SLM alone, and fits the next one: the
    preference at a token depends on who writes the tokens after it (CITER, section 3.3).
    """
    # A cost weight needs rollouts of both models' tokens.
    rollouts = RolloutSettings(budget=recipe.budget, both=fitting.cost_weight > 0, max_new_tokens=recipe.max_new_tokens)
    router, out = None, folder
    for number in range(1, recipe.rounds + 1):
        rolled_out, out = folder / f"rollouts-{number}", folder / "routers" / f"citer-r{number}"
        roll_out(pair, questions, labels, rolled_out, rollouts, router, report)
        router = fit(preferences(labels, fitting, rolled_out, number), out, recipe.description, report)
    return out


def _methods(recipe: Recipe, router: Path, labels: Path) -> list[Method]:
    tokens, acceptances = held_out_tokens(labels), [0.0, *recipe.acceptances]
    # Where there are several acceptances, fewer shares are tried at each.
    some = {"shares": (recipe.shares or SHARES)[:: len(acceptances)], "acceptances": acceptances}
    listed = {"slm": {}, "llm": {}, "random": some, "confidence": some, SPECULATIVE: {}}
    listed |= {"router": {"folder": str(router), **some}}
    return [method(name, each, tokens) for name, each in listed.items()]
