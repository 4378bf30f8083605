"""`python -m trainer run`: align → answer → label → roll out and fit in rounds → evaluate → ship.

Here is the order of the stages and where each keeps its files; what a stage does is in its own module. Every stage goes
on where it stopped, and several processes that run the same command share the work.
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
from engine.pair import Pair
from engine.pairs.adapter import FILE as ADAPTER
from engine.provenance import command
from engine.settings import Settings
from engine.weights.files import replacing
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
from trainer.rounds import chosen_round, load_rounds, make_rounds
from trainer.settings import AlignSettings, FitSettings, Recipe, RolloutSettings
from trainer.ship import beside_confidence, curves_of, ship, untrained_curves
from trainer.workers import alone_at


@dataclass
class Pipeline:
    """The stages of a recipe, with their files in a folder."""

    recipe: Recipe
    folder: Path
    pair: Pair
    fitting: FitSettings
    report: Callable[[str], None] = print

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

    @property
    def labelled(self) -> list[Question]:
        """Questions to label."""
        return self.train[: self.recipe.train_questions]

    @property
    def validation(self) -> list[Question]:
        """Training questions that no router learns from."""
        return self.train[self.recipe.train_questions :]

    @property
    def best(self) -> str:
        """The router that the validation questions chose; the dev questions have no say in it."""
        return chosen_round(load_rounds(self.folder)).router

    def check_questions(self) -> None:
        """Whether there are enough, before the hours that the stages take; a TrainerError if not."""
        if not self.validation:
            raise TrainerError(
                f"no questions are left after the {self.recipe.train_questions} to train on, and rounds are compared "
                "on others: give more, or ask for fewer (--train-questions)"
            )
        check_apart(texts_of(self.train), self.dev, "give others with --dev")
        names = [question.id for question in self.labelled]
        check_splits(names, "give more of them, or more to train on (--train-questions)")

    def answer(self) -> None:
        """`answers-llm`: the LLM's own answers to the questions to label; `answers-slm`: the SLM's to some of them."""
        limit = self.recipe.max_new_tokens
        answer(self.pair, Role.LLM, self.labelled, self.folder / "answers-llm", limit, self.report)
        some = self.labelled[: self.recipe.query_questions]
        answer(self.pair, Role.SLM, some, self.folder / "answers-slm", limit, self.report)

    def label(self) -> None:
        """`labels-llm`: labels on the LLM's answers, with its log-probabilities, which a Co-LLM router learns from."""
        answers = load_answers(self.folder / "answers-llm", Role.LLM)
        label(self.pair, self.labelled, self.folder / "labels-llm", answers, report=self.report)

    def fit(self) -> list[str]:
        """`routers`: all that the evaluation compares, CITER's in rounds; returns them as `name=folder`."""
        recipe, fitting, report = self.recipe, self.fitting, self.report
        labels, routers = self.folder / "labels-llm", self.folder / "routers"
        about: dict[str, Any] = {"report": report, "command": command("trainer")}
        names = ["citer-shortcut", "co-llm"]
        fit(labels, routers / "citer-shortcut", fitting, recipe.description, **about)
        fit_co_llm(labels, routers / "co-llm", replace(fitting, logit_features=False, skip=False), **about)
        if recipe.acceptances:
            fit(labels, routers / "kept", replace(fitting, target="kept", cost_weight=0.0), recipe.description, **about)
            names.append("kept")
        slm_right = are_right(load_answers(self.folder / "answers-slm", Role.SLM), self.labelled)
        try:
            fit_query(labels, slm_right, routers / "query", replace(QUERY, seed=fitting.seed), **about)
            names.append("query")
        except TrainerError as error:  # a rival that cannot be fitted does not stop what it is compared with
            report(f"without the query router, which learns from the questions that one model alone answers: {error}")
        rollouts = RolloutSettings(
            budget=recipe.budget,
            both=fitting.cost_weight > 0,  # λ compares what both tokens come to
            max_new_tokens=recipe.max_new_tokens,
        )
        made = make_rounds(
            self.pair,
            self.labelled,
            self.validation,
            labels,
            self.folder,
            recipe.rounds,
            rollouts,
            fitting,
            report,
            recipe.description,
        )
        return [f"{name}={routers / name}" for name in (*names, *sorted(each.router for each in made))]

    def evaluate(self, routers: list[str]) -> Summary:
        """`evaluation`: every method on the dev questions, summarised."""
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

    def ship(self, summary: Summary, out: Path, adapter: Path | None) -> None:
        """Ships the best router with its curves on the dev questions, and the SLM's adapter beside it."""
        best = self.best
        curves, beside = curves_of(summary, best), beside_confidence([summary], best)
        ship(self.folder / "routers" / best, curves, out, untrained_curves([summary]), beside)
        if adapter is not None:
            with replacing(out / ADAPTER) as new:
                shutil.copyfile(adapter, new)
        self.report(f"{best} is now {out}")

    def _load(self, sources: Sequence[str], count: int, split: Split, offset: int = 0) -> list[Question]:
        sources = list(sources) or [self.recipe.task]
        return load_questions(sources, count, split, report=self.report, need_reference=False, offset=offset)

    def _plane(self) -> list[str]:
        """The methods of the plane: no router, the SLM's confidence, both kinds of router; and the rival, tuned."""
        tuning, routers = self.folder / "speculation", self.folder / "routers"
        tune(self.pair, self.validation, tuning, self.recipe.max_new_tokens, self.report)
        names = ["slm", "confidence", *(f"{name}={routers / name}" for name in ("kept", self.best))]
        plane = [f"{name}@{acceptance:g}" for acceptance in self.recipe.acceptances for name in names]
        return [*plane, f"assisted-tuned={tuning}"]


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
    """`align`: the settings' SLM learns what the LLM answers to a recipe's questions and to general prompts.

    Returns the adapter's path.
    """
    pipeline = Pipeline(recipe, folder, load(None, settings), FitSettings())
    pipeline.check_questions()
    answer(pipeline.pair, Role.LLM, pipeline.labelled, folder / "answers-llm", recipe.max_new_tokens)
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
    pipeline = Pipeline(recipe, folder, pair, fitting)
    pipeline.check_questions()
    pipeline.answer()
    pipeline.label()
    summary = pipeline.evaluate(pipeline.fit())
    with alone_at(folder / "shipping"):
        path = write_summary(summary, results)
        for chart in write_charts(summary, results):
            print(f"wrote {chart}")
        pipeline.ship(summary, routers / recipe.router, adapter)
    return path
