"""Commands that make routers: one from labels and rollouts, and the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer import TrainerError
from trainer.commands.on_pair import RESULTS, Command, OnPair
from trainer.options import Count, Paths, Rate, Words, option
from trainer.settings import RECIPES, AlignSettings, FitSettings, Recipe, counts_for, own_recipe

if TYPE_CHECKING:
    from trainer.questions.question import Question

FURTHEST = 20_000  # questions among which those of an id are looked for: arithmetic has no last one


@dataclass(frozen=True, kw_only=True)
class Fit(FitSettings, Command):
    """Train a router on labels and rollouts, and measure it on questions it never saw."""

    labels: Paths = option(MISSING, "folders that `label` wrote; several are learned from together", "FOLDER")
    rollouts: Paths = option(
        (), "folders that `rollout` wrote for these labels; without any the shortcut's preferences count", "FOLDER"
    )
    out: Path = option(MISSING, "the router's folder, e.g. assets/routers/mine")
    co_llm: bool = option(False, "the Co-LLM-style baseline: from likelihoods instead of preferences")
    target: Literal["preferred", "kept"] = option(
        "preferred",
        "what a score of 1 means: the SLM is preferred, or the LLM will keep its token (for acceptance above 0)",
    )
    query: Path | None = option(
        None, "the query-router baseline: what `answer --role slm` wrote to questions of --data", "ANSWERS"
    )
    data: Words = option((), "with --query: the questions, as for `answer` (split train)", "SOURCE")
    description: str = option("", "one line for people, shown on the page")

    def run(self) -> None:
        from engine.provenance import command
        from trainer.fit.baselines import fit_co_llm
        from trainer.fit.fit_router import fit

        baseline = bool(self.query) or self.co_llm
        if bool(self.query) != bool(self.data) or (self.query and self.co_llm):
            raise TrainerError(
                "--query and --data belong together, without --co-llm: the SLM's answers and their questions"
            )
        if baseline and self.target == "kept":
            raise TrainerError("--target kept is a router of its own: leave out --query and --co-llm")
        if baseline and (self.rollouts or len(self.labels) > 1):
            raise TrainerError("--co-llm and --query learn from one folder of labels, and from no --rollouts")
        settings = self.part(FitSettings)
        about: dict[str, Any] = {"description": self.description, "command": command("trainer")}
        if self.query:
            self._fit_query(self.query, **about)
        elif self.co_llm:
            fit_co_llm(self.labels[0], self.out, replace(settings, logit_features=False, skip=False), **about)
        else:
            fit(self.labels, self.out, settings, rollouts=self.rollouts, **about)

    def _fit_query(self, answered: Path, **about: Any) -> None:
        from engine import Role
        from trainer.fit.baselines import QUERY, fit_query
        from trainer.labels.answers import are_right, load_answers

        answers = load_answers(answered, Role.SLM)
        slm_right = are_right(answers, _questions_named(self.data, set(answers)))
        fit_query(self.labels[0], slm_right, self.out, replace(QUERY, seed=self.seed), **about)


def _questions_named(sources: Sequence[str], names: set[str]) -> list[Question]:
    """Those of the data with these ids, wherever they stand: they may have been answered from an offset on."""
    from trainer.questions.sources import load_questions

    limit = len(names)
    while True:
        found = load_questions(sources, limit, need_reference=False)
        own = [question for question in found if question.id in names]
        if len(own) == len(names) or len(found) < limit or limit > FURTHEST:
            return own
        limit *= 4


@dataclass(frozen=True, kw_only=True)
class Run(FitSettings, OnPair):
    """Do all of it: answers, labels, rollouts, routers, evaluation, summary."""

    task: str | None = option(
        None, "a task of `trainer/recipes.toml`, or a name for the questions of --data (default: the preset's first)"
    )
    data: Words = option(
        (), "questions for any pair: files of which the first are trained on, the last evaluated on; or names", "SOURCE"
    )
    train: Words | None = option(None, "questions to train on, instead of the benchmark from the Hub", "SOURCE")
    dev: Words | None = option(None, "questions to evaluate on", "SOURCE")
    train_questions: Count | None = option(None, "how many the LLM answers and are labelled", "N")
    validation_questions: Count | None = option(None, "how many others to compare rounds on", "N")
    dev_questions: Count | None = option(None, "how many to evaluate on", "N")
    rounds: Count | None = option(None, "of rollouts, at most (default: the recipe's)", "N")
    budget: Count | None = option(None, "rollouts per question and round", "N")
    max_new_tokens: Count | None = option(None, "of an answer", "N")
    acceptances: Sequence[Rate] | None = option(
        None,
        "evaluate methods at these acceptances, too, beside 0",
        "ALPHA",
    )
    out: Path | None = option(None, "folder of the stages (default: runs/<pair>-<task>)")
    results: Path | None = option(
        None, f"gets what was measured (default: {RESULTS}/<pair> for a preset's own task, else a folder in --out)"
    )
    routers: Path = option(Path("assets/routers"), "gets the best router")
    align: bool = option(False, "first let the SLM learn the LLM's own texts, as `align` does by default")

    def run(self) -> None:
        from engine import load
        from engine.models.sources import choose_preset
        from trainer.evaluation.rows import check_task
        from trainer.pipeline import align_first, run

        settings = self.settings()
        if self.align:
            settings = settings.model_copy(update={"adapter": "none"})
        pair = choose_preset(settings).name
        recipe, own = self.recipe(pair)
        check_task(recipe.task)  # a file's name may be none: --task gives another
        folder = self.out or Path("runs") / f"{pair}-{recipe.task}{'-aligned' if self.align else ''}"
        results = self.results or (folder / "results" if own else RESULTS / f"{pair}{'-aligned' if self.align else ''}")
        adapter = align_first(recipe, settings, folder, AlignSettings()) if self.align else None
        if adapter is not None:
            settings = settings.model_copy(update={"adapter": str(adapter)})
        print(run(recipe, load(None, settings), folder, results, self.routers, self.part(FitSettings), adapter))

    def recipe(self, pair: str) -> tuple[Recipe, bool]:
        """What to do for a pair, and whether it is for questions of the user's own."""
        names = "train dev train_questions validation_questions dev_questions rounds budget max_new_tokens acceptances"
        changes: dict[str, Any] = {name: value for name in names.split() if (value := getattr(self, name)) is not None}
        tasks = [task for preset, task in RECIPES if preset == pair]
        if tasks and not self.data:
            task = self.task or tasks[0]
            if task not in tasks:
                known = ", ".join(tasks)
                raise TrainerError(f"--task {task}: the {pair} preset has {known}; for other questions give --data")
            return replace(RECIPES[pair, task], **changes), False
        if not (self.data or (self.train and self.dev)):
            raise TrainerError(
                f"{pair} has no recipe of its own: give questions with --data, or with --train and --dev"
            )
        from trainer.questions.sources import count_in_files

        task = self.task or Path((self.data or self.train or ("",))[0]).stem
        counts = counts_for(count_in_files(self.data)) if self.data else {}
        return own_recipe(pair, task, **{"train": self.data, "dev": self.data, **counts, **changes}), True
