"""Commands that measure routers, and hand on what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer import TrainerError
from trainer.commands.on_pair import DATA, RESULTS, Command, OnQuestions
from trainer.options import Count, Paths, Words, option

if TYPE_CHECKING:
    from engine import Pair
    from trainer.evaluation.methods import Method
    from trainer.questions import Question


class Evaluate(OnQuestions):
    """Answer questions by every method at every setting, and write all answers of the folder into the results."""

    data: Words = option(("assets/arithmetic/dev.jsonl",), DATA, "FILE")
    questions: Count = option(150, "questions at most", "N")
    task: str | None = option(
        None, "name of the questions, in results; `free-text` for general prompts (default: as the file or its folder)"
    )
    methods: Path | None = option(None, "TOML file that lists methods with their settings", "FILE")
    rules: Words = option(
        ("slm < 0", "llm < 0"),
        "without --methods: settings of policies without training, e.g. 'confidence < 0.5 @ 0.3'",
        "SETTING",
    )
    labels: Paths = option((), "folders of labels, by which --methods finds thresholds for LLM shares", "FOLDER")
    max_new_tokens: Count = option(256, "tokens of an answer, at most", "N")
    alone: bool = option(False, "measure seconds: one text at a time, methods taking turns, on an idle machine")
    results: Path = option(RESULTS, "gets <pair>/<task>.parquet")

    def run(self) -> None:
        from trainer.evaluation.evaluate import evaluate, gather
        from trainer.evaluation.rows import check_task
        from trainer.questions import task_named_by

        task = self.task or task_named_by(self.data[0])
        check_task(task)
        questions, methods = self.wanted()
        pair = self.pair()
        evaluate(pair, questions, methods, self.out, task, self.max_new_tokens, alone=self.alone)
        print(gather(self.out, self.results / _folder(pair)))

    def wanted(self) -> tuple[list[Question], list[Method]]:
        """The questions, and the methods that answer them. Raises TrainerError if `labels` has one of the questions."""
        from trainer.evaluation.methods import methods_of, read_methods
        from trainer.fit.labelled_tokens import held_out_tokens
        from trainer.questions import check_apart

        questions = self.asked()
        if self.alone and not all(question.answer for question in questions):
            raise TrainerError("general prompts have no answers to be timed: name other --data")
        tokens = held_out_tokens(*self.labels) if self.labels else None
        if tokens is not None:
            way_out = "routers learned from --labels; give others (--offset, or another file)"
            check_apart(tokens.about["texts"], questions, way_out)
        return questions, read_methods(self.methods, tokens) if self.methods else methods_of(self.rules)


def _folder(pair: Pair) -> str:
    """The folder of a pair's rows; a pair with an aligned SLM has its own."""
    from engine.models.sources import base_title

    return pair.preset if pair.slm_name == base_title(pair.slm_name) else f"{pair.preset}-aligned"


class Ship(Command):
    """Give a router the curves that were measured, and its starting threshold."""

    router: Path = option(..., "the measured router's folder")
    results: Path = option(RESULTS / "cpu", "folder with the rows of a pair's tasks, which together say where to start")
    method: str = option("router", "what it is called in the rows")
    adapter: Path | None = option(None, "the aligned SLM's file, which goes beside the router", "FILE")
    out: Path = option(..., "the new folder, e.g. assets/routers/mine")

    def run(self) -> None:
        from trainer.evaluation.rows import load_all
        from trainer.ship import ship

        card = ship(self.router, list(load_all(self.results).values()), self.out, self.method, self.adapter).card
        print(f"{self.out}: starts at threshold {card.threshold}, acceptance {card.acceptance:g}")


class Report(Command):
    """Write what the rows say: a JSON file, two charts, and the tables of docs/results.md and the README."""

    preset: str = option("cpu", "the pair, whose rows are in its folder of --results", "NAME")
    results: Path = option(RESULTS, "the rows; gets the JSON file and the charts")
    page: Path = option(Path("docs/results.md"), "gets all tables")
    readme: Path = option(Path("README.md"), "gets the main table")
    check: bool = option(False, "write nothing; fail if a file is not what the rows say")

    def run(self) -> None:
        from trainer.report.report import report

        old = ", ".join(map(str, report(self.preset, self.results, self.page, self.readme, write=not self.check)))
        if not self.check:
            print(f"wrote {old}" if old else "all is as the rows say")
        elif old:
            raise TrainerError(f"{old}: not what {self.results} says; run `python -m trainer report`")
