"""Rounds: roll out with the router of the round before, and fit the next one.

CITER, section 3.3: the preference at a token depends on who writes the tokens after it, so the router is trained on
rollouts of its own making. Rounds count from 1; the first finishes the texts with the SLM alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.pair import Pair
from engine.router import Router
from trainer import Report
from trainer.evaluation.evaluate import evaluate, gather
from trainer.evaluation.methods import method
from trainer.evaluation.rows import MethodSetting, load_results
from trainer.evaluation.statistics import Array, draws, mean
from trainer.fit.fit_router import fit, preferences
from trainer.fit.labelled_tokens import held_out_tokens
from trainer.labels.rollouts import roll_out
from trainer.questions.question import Question
from trainer.settings import FitSettings, Recipe, RolloutSettings
from trainer.ship import operating_point

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""LLM shares at which a round is tried on the validation questions."""


def make_rounds(
    pair: Pair,
    recipe: Recipe,
    questions: Sequence[Question],
    validation: Sequence[Question],
    labels: Path,
    folder: Path,
    fitting: FitSettings,
    report: Report = print,
) -> Path:
    """Makes rounds in `folder`: `rollouts-k`, `routers/citer-rk` and `validation-k`.

    Args:
        questions: Those of the labels.
        validation: Others, on which the rounds are compared.

    Returns:
        The router of the round to go on with, see `later_is_as_good`.
    """
    # A cost weight compares what both models' tokens come to.
    rollouts = RolloutSettings(budget=recipe.budget, both=fitting.cost_weight > 0, max_new_tokens=recipe.max_new_tokens)
    router: Router | None = None
    chosen: tuple[Path, Array] | None = None
    for number in range(1, recipe.rounds + 1):
        name, tried = f"citer-r{number}", folder / f"validation-{number}"
        rolled_out, out = folder / f"rollouts-{number}", folder / "routers" / name
        roll_out(pair, questions, labels, rolled_out, rollouts, router, report)
        router = fit(preferences(labels, fitting, rolled_out, number), out, recipe.description, report)
        own = method(name, {"folder": str(out), "shares": SHARES}, held_out_tokens(labels))
        methods = [method("slm", {}), method("llm", {}), own]
        evaluate(pair, validation, methods, tried, "validation", rollouts.max_new_tokens, report)
        results = load_results(gather(tried, tried))
        start = operating_point([results], name)
        right = results.right[results.settings.index(MethodSetting(name, str(start)))]
        slm, llm = (results.right[results.of(each)[0]].mean() for each in ("slm", "llm"))
        report(f"round {number}: {right.mean():.1%} right at {start}, SLM alone {slm:.1%}, LLM alone {llm:.1%}")
        if chosen is None or later_is_as_good(right, chosen[1]):
            chosen = out, right
        rollouts = replace(rollouts, threshold=start.threshold)
    assert chosen is not None
    return chosen[0]


def later_is_as_good(later: Array, before: Array) -> bool:
    """Whether a later round is not significantly less often right than an earlier one, on the same questions.

    Some dozens of questions hardly ever tell two rounds apart, and a later one was trained on what follows from its
    own decisions, as the method means it.
    """
    return not mean(later - before, draws(len(later))).below
