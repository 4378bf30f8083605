"""`python -m trainer run`: a recipe from questions to a shipped router, one resumable stage after the other.

Here is the order of the stages and where each keeps its files; what a stage does is in its own module.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine import Role, load
from engine.files import replacing
from engine.model.adapter import FILE as ADAPTER
from engine.pair import Pair
from engine.provenance import command
from engine.settings import Settings
from trainer import TrainerError
from trainer.align.stage import align
from trainer.align.texts import AnsweredTask, read_general_prompts
from trainer.evaluation.evaluate import chosen_thresholds, evaluate
from trainer.evaluation.method_names import title_of
from trainer.evaluation.methods import PLAIN, SHARES, build_methods
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.summary import Summary, summarise, write_summary
from trainer.fit.baselines import QUERY, fit_co_llm, fit_query
from trainer.fit.fit_router import fit
from trainer.fit.labelled_tokens import check_splits, held_out_tokens
from trainer.fit.tune_speculative import tune
from trainer.labels.answers import answer, are_right, load_answers
from trainer.labels.labels import label
from trainer.questions.apart import check_apart, texts_of
from trainer.questions.question import Question, Split
from trainer.questions.sources import is_file, load_questions
from trainer.report.charts.figures import write_charts
from trainer.rounds import check_validation, chosen_round, iterate, load_rounds
from trainer.settings import AlignSettings, FitSettings, Recipe, RolloutSettings
from trainer.ship import beside_confidence, curves_of, ship, untrained_curves


@dataclass
class Pipeline:
    """The stages of a recipe, with their files in a folder."""

    recipe: Recipe
    folder: Path
    pair: Pair
    fitting: FitSettings
    report: Callable[[str], None] = print
    adapter: Path | None = None

    @cached_property
    def train(self) -> list[Question]:
        """Questions to label, and after them those on which rounds are compared."""
        return self._load(self.recipe.train, self.recipe.train_questions + self.recipe.validation_questions, "train")

    @cached_property
    def dev(self) -> list[Question]:
        """Questions to evaluate on; where they come from the same files as those to train on, the ones after these."""
        recipe = self.recipe
        shared = list(recipe.dev) == list(recipe.train) and any(map(is_file, recipe.dev))
        after = recipe.train_questions + recipe.validation_questions if shared else 0
        return self._load(recipe.dev, recipe.dev_questions, "dev", after)

    def _load(self, sources: Sequence[str], count: int, split: Split, offset: int = 0) -> list[Question]:
        sources = list(sources) or [self.recipe.task]
        return load_questions(sources, count, split, report=self.report, need_reference=False, offset=offset)

    @property
    def labelled(self) -> list[Question]:
        """Questions to label."""
        return self.train[: self.recipe.train_questions]

    @property
    def co_llm(self) -> dict[str, Path]:
        """The Co-LLM-style baselines, and the labels that each learns from.

        The LLM's own answers, as CITER does; and where all questions have them the data's references, as in its paper.
        """
        folders = {"co-llm": self.folder / "labels-llm"}
        if all(question.reference for question in self.labelled):
            folders["co-llm-data"] = self.folder / "labels-data"
        return folders

    @property
    def best(self) -> str:
        """The router that the validation questions chose; the dev questions have no say in it."""
        return chosen_round(load_rounds(self.folder)).router

    def answer(self) -> None:
        """The LLM's own answers to the questions to label."""
        self._check_questions()
        limit = self.recipe.max_new_tokens
        answer(self.pair, Role.LLM, self.labelled, self.folder / "answers-llm", limit, self.report)

    def label(self) -> None:
        """Both models' own answers, and labels on the LLM's answers; for the Co-LLM style on the data's references."""
        labelled, limit = self.labelled, self.recipe.max_new_tokens
        self.answer()
        some = labelled[: self.recipe.query_questions]
        answer(self.pair, Role.SLM, some, self.folder / "answers-slm", limit, self.report)
        answers = load_answers(self.folder / "answers-llm", Role.LLM)
        # With the LLM's log-probabilities, which a Co-LLM-style router learns from.
        label(self.pair, labelled, self.folder / "labels-llm", answers, report=self.report)
        if "co-llm-data" in self.co_llm:
            label(self.pair, labelled, self.co_llm["co-llm-data"], report=self.report)

    def _check_questions(self) -> None:
        """Whether there are enough, before the hours that the stages take; a TrainerError if not."""
        check_validation(self.train[self.recipe.train_questions :], self.recipe.train_questions)
        check_apart(texts_of(self.train), self.dev, "give others with --dev")
        check_splits(
            [question.id for question in self.labelled], "give more of them, or more to train on (--train-questions)"
        )

    def fit(self) -> list[str]:
        """All routers that the evaluation compares; returns them as `name=folder`."""
        recipe, fitting = self.recipe, self.fitting
        labels, routers = self.folder / "labels-llm", self.folder / "routers"
        kept = ["kept"] if recipe.acceptances else []
        about: dict[str, Any] = {"report": self.report, "command": command("trainer")}
        fit(labels, routers / "citer-shortcut", fitting, recipe.description, **about)
        settings = replace(fitting, logit_features=False, skip=False)
        for name, likelihoods in self.co_llm.items():
            fit_co_llm(likelihoods, routers / name, settings, **about)
        for name in kept:
            judged = replace(fitting, target="kept", cost_weight=0.0, shortcut_weight=0.0)
            fit(labels, routers / name, judged, recipe.description, **about)
        query = self._fit_query(labels, routers / "query", about)
        rollouts = RolloutSettings(
            budget=recipe.budget,
            both=fitting.cost_weight > 0,  # λ compares what both tokens come to
            max_new_tokens=recipe.max_new_tokens,
        )
        rest = self.train[recipe.train_questions :]
        rounds = iterate(
            self.pair,
            self.labelled,
            rest,
            labels,
            self.folder,
            recipe.rounds,
            rollouts,
            fitting,
            self.report,
            recipe.description,
        )
        names = ["citer-shortcut", *kept, *self.co_llm, *query, *sorted(each.router for each in rounds)]
        return [f"{name}={routers / name}" for name in names]

    def _fit_query(self, labels: Path, out: Path, about: dict[str, Any]) -> list[str]:
        """The query router's name, or none: a rival that cannot be fitted does not stop what it is compared with."""
        slm_right = are_right(load_answers(self.folder / "answers-slm", Role.SLM), self.labelled)
        try:
            fit_query(labels, slm_right, out, replace(QUERY, seed=self.fitting.seed), **about)
        except TrainerError as error:
            self.report(
                f"without the query router, which learns from the questions that one model alone answers: {error}"
            )
            return []
        return [out.name]

    def evaluate(self, routers: list[str]) -> Summary:
        """Every method on the dev questions, summarised."""
        where, limit = self.folder / "evaluation", self.recipe.max_new_tokens
        tokens = held_out_tokens(self.folder / "labels-llm")
        stages = {"evaluation": PLAIN, "evaluation-routers": routers, "assisted": ["assisted"]}
        if self.recipe.acceptances:
            stages["evaluation-plane"] = self._plane()
        shares = self.recipe.shares or SHARES
        for name, wanted in stages.items():
            # The plane has many points: three shares of each of its methods have to do.
            some = shares[:: max(1, len(shares) // 2)] if name == "evaluation-plane" else shares
            for stage, names in parts_of(where, name, wanted):
                methods = build_methods(names, self.pair, tokens, some, chosen_thresholds(where, stage))
                evaluate(self.pair, self.dev, methods, where, self.recipe.task, limit, self.report, stage)
        return summarise(read_evaluation(where), main=self.best)

    def _plane(self) -> list[str]:
        """The methods of the plane: no router, the SLM's confidence, both kinds of router; and the rival, tuned."""
        tuning, routers = self.folder / "speculation", self.folder / "routers"
        # Training questions that no router learned from.
        rest = self.train[self.recipe.train_questions :]
        tune(self.pair, rest, tuning, self.recipe.max_new_tokens, self.report)
        names = ["slm", "confidence", *(f"{name}={routers / name}" for name in ("kept", self.best))]
        plane = [f"{name}@{acceptance:g}" for acceptance in self.recipe.acceptances for name in names]
        return [*plane, f"assisted-tuned={tuning}"]

    def ship(self, summary: Summary, routers: Path) -> None:
        """Ships the best router, with its curves on the dev questions: at acceptance 0, and at others if measured."""
        best, out = self.best, routers / self.recipe.router
        curves, beside = curves_of(summary, best), beside_confidence([summary], best)
        ship(self.folder / "routers" / best, curves, out, untrained_curves([summary]), beside)
        if self.adapter is not None:
            with replacing(out / ADAPTER) as new:
                shutil.copyfile(self.adapter, new)
        self.report(f"{best} is now {out}")


def parts_of(folder: Path, stage: str, methods: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """A stage with the methods that it was begun with; those that a later run adds are stages `<stage>-2` and so on."""
    left = list(methods)
    for number in itertools.count(1):
        name = stage if number == 1 else f"{stage}-{number}"
        begun = chosen_thresholds(folder, name)
        own = [each for each in left if title_of(each) in begun] if begun else left
        if own:
            yield name, own
        left = [each for each in left if each not in own]
        if not left:
            return


def align_first(recipe: Recipe, settings: Settings, folder: Path, how: AlignSettings) -> Path:
    """Lets the settings' SLM learn what the LLM answers to a recipe's questions and to general prompts.

    The answers are those of the first stage of `run` in the same folder. Returns the adapter's path.
    """
    pipeline = Pipeline(recipe, folder, load(None, settings), FitSettings())
    pipeline.answer()
    task = AnsweredTask(recipe.task, pipeline.labelled, folder / "answers-llm")
    del pipeline  # the pair's memory
    return align(settings, [task], read_general_prompts(), folder / "align", how)


def run(
    recipe: Recipe,
    pair: Pair,
    folder: Path,
    results: Path,
    routers: Path,
    fitting: FitSettings,
    adapter: Path | None = None,
) -> Path:
    """Carries out a recipe, of which `folder` keeps the stages' files; what is already there is not made again.

    The best router is then in `routers`, and the summary with its charts in `results`; returns the summary's path.

    Args:
        recipe: What to do.
        pair: The models.
        folder: Of the stages.
        results: Gets the summary.
        routers: Gets the router, and the adapter beside it.
        fitting: How routers are fitted.
        adapter: The file that the pair's SLM was aligned with, for the router's folder.
    """
    pipeline = Pipeline(recipe, folder, pair, fitting, adapter=adapter)
    pipeline.label()
    summary = pipeline.evaluate(pipeline.fit())
    path = write_summary(summary, results)
    for chart in write_charts(summary, results):
        print(f"wrote {chart}")
    pipeline.ship(summary, routers)
    return path
