"""`python -m trainer run`: everything from questions to report, one stage after the other, each resumable.

Knows the order of the stages and where each keeps its files; what a stage does is in its own module.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from engine import Role
from engine.pair import Pair, load
from trainer.answer import answer, are_right, load_answers
from trainer.assisted import assist
from trainer.baselines import fit_co_llm, fit_query
from trainer.charts import write_charts
from trainer.data import Question, load_questions
from trainer.evaluate import chosen_thresholds, evaluate
from trainer.fit import FitSettings, fit
from trainer.iterate import chosen_round, iterate, load_rounds
from trainer.label import label
from trainer.methods import PLAIN, build_methods
from trainer.operating import curve_of, ship
from trainer.provenance import command
from trainer.recipes import Recipe
from trainer.results import read_evaluation
from trainer.rollout import RolloutSettings
from trainer.summary import Summary, summarise, write_summary
from trainer.tokens import held_out_tokens


@dataclass
class Run:
    """One run of a recipe in a folder.

    Attributes:
        recipe: What to do.
        folder: Where the stages keep their files.
        pair: The models.
        fitting: How routers are fitted.
        report: Told of progress.
    """

    recipe: Recipe
    folder: Path
    pair: Pair
    fitting: FitSettings
    report: Callable[[str], None] = print

    @cached_property
    def train(self) -> list[Question]:
        """Questions to train on, with those on which rounds are compared at the end."""
        wanted = self.recipe.train_questions + self.recipe.validation_questions
        return load_questions(list(self.recipe.train), wanted, "train", report=self.report, need_reference=False)

    @cached_property
    def dev(self) -> list[Question]:
        """Questions to evaluate on."""
        sources = list(self.recipe.dev)
        return load_questions(sources, self.recipe.dev_questions, "dev", report=self.report, need_reference=False)

    @property
    def labelled(self) -> list[Question]:
        """Questions that are labelled."""
        return self.train[: self.recipe.train_questions]

    @property
    def co_llm(self) -> dict[str, Path]:
        """The Co-LLM-style baselines, and the labels that each learns from.

        The LLM's own answers, as CITER does; and where all questions have them the data's references, as in its paper.
        """
        told = all(question.reference for question in self.labelled)
        return {"co-llm": self.folder / "labels-llm"} | ({"co-llm-data": self.folder / "labels-data"} if told else {})

    def label(self) -> None:
        """Both models' own answers, and labels on the LLM's answers; for the Co-LLM style on the data's references."""
        recipe, labelled = self.recipe, self.labelled
        limit = recipe.max_new_tokens
        answer(self.pair, Role.LLM, labelled, self.folder / "answers-llm", limit, self.report)
        some = labelled[: recipe.query_questions]
        answer(self.pair, Role.SLM, some, self.folder / "answers-slm", limit, self.report)
        answers = load_answers(self.folder / "answers-llm", Role.LLM)
        # With the LLM's log-probabilities, which a Co-LLM-style router learns from.
        label(self.pair, labelled, self.folder / "labels-llm", answers, report=self.report)
        if "co-llm-data" in self.co_llm:
            label(self.pair, labelled, self.co_llm["co-llm-data"], report=self.report)

    def fit(self) -> list[str]:
        """All routers that the evaluation compares; returns them as `name=folder`."""
        labels, routers, about = self.folder / "labels-llm", self.folder / "routers", self.recipe.description
        fit(labels, routers / "citer-shortcut", self.fitting, about, report=self.report, command=command())
        settings = replace(self.fitting, logit_features=False, skip=False)
        for name, likelihoods in self.co_llm.items():
            fit_co_llm(likelihoods, routers / name, settings, report=self.report, command=command())
        slm_right = are_right(load_answers(self.folder / "answers-slm", Role.SLM), self.labelled)
        fit_query(labels, slm_right, routers / "query", report=self.report, command=command())
        rounds = iterate(
            self.pair,
            self.labelled,
            self.train[self.recipe.train_questions :],
            labels,
            self.folder,
            self.recipe.rounds,
            RolloutSettings(
                budget=self.recipe.budget,
                both=self.fitting.cost_weight > 0,  # λ compares what both tokens come to
                max_new_tokens=self.recipe.max_new_tokens,
            ),
            self.fitting,
            self.recipe.max_new_tokens,
            self.report,
            about,
        )
        names = ["citer-shortcut", *self.co_llm, "query", *sorted(each.router for each in rounds)]
        return [f"{name}={routers / name}" for name in names]

    def evaluate(self, routers: list[str]) -> Summary:
        """Every method on the dev questions, summarised."""
        where, limit = self.folder / "evaluation", self.recipe.max_new_tokens
        tokens = held_out_tokens(self.folder / "labels-llm")
        for stage, names in (("evaluation", list(PLAIN)), ("evaluation-routers", routers)):
            methods = build_methods(names, self.pair, tokens, self.recipe.shares, chosen_thresholds(where, stage))
            evaluate(self.pair, self.dev, methods, where, self.recipe.task, limit, self.report, stage)
        assist(self.pair, self.dev, where, limit, self.report)
        return summarise(read_evaluation(where), main=self.best)

    @property
    def best(self) -> str:
        """The router that the validation questions chose; the dev questions have no say in it."""
        return chosen_round(load_rounds(self.folder)).router

    def ship(self, summary: Summary, routers: Path) -> None:
        """The round that the validation questions chose is shipped, with its curve on the dev questions."""
        best, out = self.best, routers / self.recipe.router
        shutil.rmtree(out, ignore_errors=True)
        ship(self.folder / "routers" / best, [curve_of(summary, best)], out)
        self.report(f"{best} is now {out}")


def run(recipe: Recipe, folder: Path, results: Path, routers: Path, fitting: FitSettings) -> Path:
    """Carries out a recipe; what is already in the folder is not made again.

    Args:
        recipe: What to do.
        folder: Of the intermediate files.
        results: Gets the summary.
        routers: Gets the best router.
        fitting: How routers are fitted.

    Returns:
        The summary's path; its charts lie beside it.
    """
    this = Run(recipe, folder, load(recipe.preset), fitting)
    this.label()
    summary = this.evaluate(this.fit())
    path = write_summary(summary, results)
    for chart in write_charts(summary, results):
        print(f"wrote {chart}")
    this.ship(summary, routers)
    return path
