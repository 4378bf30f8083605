"""`python -m trainer run`: align → answer → label → roll out and fit in rounds → evaluate → ship.

Here is the order of the stages and where each keeps its files; what a stage does is in its own module. Every stage goes
on where it stopped, and several processes that run the same command share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine import Role, load
from engine.pair import Pair
from engine.provenance import command
from engine.settings import Settings
from trainer import TrainerError
from trainer.align.stage import align
from trainer.align.texts import AnsweredTask, read_general_prompts
from trainer.evaluation.evaluate import evaluate, gather
from trainer.evaluation.methods import SHARES, SPECULATIVE, Method, method, read_methods, write_methods
from trainer.evaluation.rows import load_results
from trainer.fit.baselines import fit_co_llm, fit_query
from trainer.fit.fit_router import fit
from trainer.fit.labelled_tokens import check_splits, held_out_tokens
from trainer.labels.answers import answer, are_right, load_answers
from trainer.labels.labels import label
from trainer.questions.apart import check_apart, texts_of
from trainer.questions.question import Question, Split
from trainer.questions.sources import is_file, load_questions
from trainer.report.summary import summarise
from trainer.report.tables import main_table
from trainer.rounds import make_rounds
from trainer.settings import AlignSettings, FitSettings, Recipe, RolloutSettings
from trainer.ship import ship
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

    def fit(self) -> dict[str, Path]:
        """`routers`: all that the evaluation compares, CITER's in rounds; returns their folders by the method."""
        recipe, fitting, report = self.recipe, self.fitting, self.report
        labels, routers = self.folder / "labels-llm", self.folder / "routers"
        about: dict[str, Any] = {"report": report, "command": command("trainer")}
        found = {"shortcut": routers / "citer-shortcut", "co-llm": routers / "co-llm"}
        fit(labels, found["shortcut"], fitting, recipe.description, **about)
        fit_co_llm(labels, found["co-llm"], fitting, **about)
        slm_right = are_right(load_answers(self.folder / "answers-slm", Role.SLM), self.labelled)
        try:
            fit_query(labels, slm_right, routers / "query", fitting.seed, **about)
            found["query"] = routers / "query"
        except TrainerError as error:  # a rival that cannot be fitted does not stop what it is compared with
            report(f"without the query router, which learns from the questions that one model alone answers: {error}")
        rollouts = RolloutSettings(
            budget=recipe.budget,
            both=fitting.cost_weight > 0,  # λ compares what both tokens come to
            max_new_tokens=recipe.max_new_tokens,
        )
        found["router"] = make_rounds(
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
        return found

    def evaluate(self, routers: Mapping[str, Path], results: Path) -> Path:
        """`evaluation`: every method on the dev questions, as rows of a file in `results`; returns its path.

        `methods.toml` in the folder says what is evaluated; it is written once, and may be edited.
        """
        where = self.folder / "evaluation"
        plan = where / "methods.toml"
        where.mkdir(parents=True, exist_ok=True)
        with alone_at(plan):
            if not plan.exists():
                write_methods(plan, self._methods(routers))
        limit = self.recipe.max_new_tokens
        evaluate(self.pair, self.dev, read_methods(plan), where, self.recipe.task, limit, self.report)
        return gather(where, results)

    def _methods(self, routers: Mapping[str, Path]) -> list[Method]:
        tokens = held_out_tokens(self.folder / "labels-llm")
        acceptances = [0.0, *self.recipe.acceptances]
        # Where there are several acceptances, fewer shares are tried at each.
        some = {"shares": (self.recipe.shares or SHARES)[:: len(acceptances)], "acceptances": acceptances}
        listed = {"slm": {}, "llm": {}, "random": some, "confidence": some, SPECULATIVE: {}}
        listed |= {name: {"folder": str(folder), **some} for name, folder in routers.items()}
        return [method(name, each, tokens) for name, each in listed.items()]

    def ship(self, router: Path, rows: Path, out: Path, adapter: Path | None) -> None:
        """Ships a router with its curves on the dev questions, and the SLM's adapter beside it."""
        ship(router, [load_results(rows)], out, adapter=adapter)
        self.report(f"{router} is now {out}")

    def _load(self, sources: Sequence[str], count: int, split: Split, offset: int = 0) -> list[Question]:
        sources = list(sources) or [self.recipe.task]
        return load_questions(sources, count, split, report=self.report, need_reference=False, offset=offset)


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

    The best router is then in `routers`, and what was measured in `results`; returns the path of its rows.

    Args:
        recipe: What to do.
        pair: The models.
        folder: Of the stages.
        results: Gets the rows, `<task>.parquet`.
        routers: Gets the router, and the adapter beside it.
        fitting: How routers are fitted.
        adapter: The file that the pair's SLM was aligned with, for the router's folder.
    """
    pipeline = Pipeline(recipe, folder, pair, fitting)
    pipeline.check_questions()
    pipeline.answer()
    pipeline.label()
    routers_made = pipeline.fit()
    with alone_at(folder / "shipping"):
        rows = pipeline.evaluate(routers_made, results)
        print(main_table(summarise({recipe.task: load_results(rows)})))
        pipeline.ship(routers_made["router"], rows, routers / recipe.router, adapter)
    return rows
