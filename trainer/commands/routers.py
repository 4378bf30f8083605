"""Commands that make routers: one from labels and rollouts, and the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from trainer import TrainerError
from trainer.commands.on_pair import RESULTS, Command, OnPair
from trainer.options import Count, Paths, Rate, Words, option
from trainer.settings import AlignSettings, FitSettings, recipe_for


class Fit(FitSettings, Command):
    """Train a router on labels and rollouts, and measure it on questions it never saw."""

    labels: Paths = option(..., "folders that `label` wrote; several are learned from together", "FOLDER")
    rollouts: Paths = option(
        (), "folders of `rollout`, one for each of --labels, in its order; without any the shortcut decides", "FOLDER"
    )
    out: Path = option(..., "the router's folder, e.g. assets/routers/mine")
    method: Literal["citer", "co-llm", "query"] = option(
        "citer",
        "CITER, or a rival that learns from one folder of labels: Co-LLM style, or a query router",
    )
    answers: Path | None = option(None, "for a query router: the folder of `answer --role slm`", "FOLDER")
    data: Words = option((), "for a query router: the questions of --answers", "FILE")
    description: str = option("", "one line for people, shown on the page")

    def run(self) -> None:
        from trainer.fit.baselines import co_llm, query
        from trainer.fit.fit_router import fit, preferences

        if self.method != "citer" and (self.rollouts or len(self.labels) > 1):
            raise TrainerError(f"--method {self.method} learns from one folder of --labels, and from no --rollouts")
        if (self.method == "query") != bool(self.answers and self.data):
            raise TrainerError("--method query needs --answers (the SLM's) and their --data; no other method does")
        settings = self.part(FitSettings)
        match self.method:
            case "citer":
                lesson = preferences(self.labels, settings, self.rollouts)
            case "co-llm":
                lesson = co_llm(self.labels[0], settings)
            case "query":
                lesson = query(self.labels[0], self._slm_right(), self.seed)
        fit(lesson, self.out, self.description)

    def _slm_right(self) -> dict[str, bool]:
        from engine import Role
        from trainer.labels.answers import are_right, load_answers
        from trainer.questions import named_questions

        assert self.answers is not None
        answers = load_answers(self.answers, Role.SLM)
        return are_right(answers, named_questions(self.data, answers.keys()))


class Run(FitSettings, OnPair):
    """Do all of it: answers, labels, rollouts, routers, evaluation, shipping."""

    task: str | None = option(
        None, "a task of `trainer/recipes.toml` (default: the preset's first), or a name for the questions of --data"
    )
    data: Words = option((), "questions to train on (default: data/<task>/train.jsonl)", "FILE")
    dev: Words | None = option(
        None, "questions to evaluate on (default: those of --data after these, or data/<task>/dev.jsonl)", "FILE"
    )
    train_questions: Count | None = option(None, "how many questions the LLM answers, to be labelled", "N")
    dev_questions: Count | None = option(None, "how many to evaluate on", "N")
    rounds: Count | None = option(None, "rounds of rollouts (default: the recipe's)", "N")
    budget: Count | None = option(None, "rollouts per question and round", "N")
    max_new_tokens: Count | None = option(None, "tokens of an answer, at most", "N")
    acceptances: Sequence[Rate] | None = option(None, "evaluate methods at these acceptances beside 0", "ALPHA")
    out: Path | None = option(None, "folder of the stages (default: runs/<pair>-<task>)")
    results: Path | None = option(
        None, f"gets what was measured (default: {RESULTS}/<pair> for a preset's own task, else a folder in --out)"
    )
    routers: Path = option(Path("assets/routers"), "gets the router")
    align: bool = option(False, "first let the SLM learn the LLM's own texts, as `align` does by default")

    def run(self) -> None:
        from engine import load
        from engine.models.sources import choose_preset, slm_adapter
        from trainer.evaluation.rows import check_task
        from trainer.pipeline import align_first, run

        settings = self.settings()
        preset = choose_preset(settings)
        pair, aligned = preset.name, "-aligned" if self.align or slm_adapter(preset, settings) else ""
        names = "dev train_questions dev_questions rounds budget max_new_tokens acceptances"
        changes = {name: value for name in names.split() if (value := getattr(self, name)) is not None}
        recipe, own = recipe_for(pair, self.task, self.data, **changes)
        check_task(recipe.task)  # a file's name may be none: --task gives another
        folder = self.out or Path("runs") / f"{pair}-{recipe.task}{aligned}"
        results = self.results or (folder / "results" if own else RESULTS / f"{pair}{aligned}")
        if self.align:
            adapter = align_first(recipe, settings.model_copy(update={"adapter": "none"}), folder, AlignSettings())
            settings = settings.model_copy(update={"adapter": str(adapter)})
        adapter = slm_adapter(preset, settings)
        print(run(recipe, load(None, settings), folder, results, self.routers, self.part(FitSettings), adapter))
