"""Commands that measure: answers of every method, their seconds, and the best settings of the rival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from trainer.commands.on_pair import RESULTS, OnPair, OnQuestions
from trainer.options import Count, Paths, Rate, Words, option
from trainer.settings import CONFIDENCES, DRAFTS

PROMPTS = (Path("assets/prompts.json"), Path("assets/free_prompts.json"))

Thresholds = Sequence[Annotated[float, Field(allow_inf_nan=False)]]


@dataclass(frozen=True, kw_only=True)
class Evaluate(OnQuestions):
    """Answer questions with every method at every threshold, and summarise."""

    split: Literal["train", "dev"] = option("dev", "of a set that has both")
    questions: Count = option(300, "how many", "N")
    task: str = option("arithmetic", "name of the questions, in results")
    methods: Words = option(
        ("slm", "llm", "oracle", "random", "confidence"),
        "slm, llm, oracle, random, confidence, entropy, margin, assisted, name=folder of a router, assisted-tuned="
        "folder of `speculate`; with @acceptance[/max_draft] behind it elsewhere on the plane, and its own "
        "thresholds behind a colon: confidence@0.3/8:0.5,0.7",
        "METHOD",
    )
    labels: Path | None = option(
        None,
        "folder of labels, whose held-out scores say where thresholds have to lie; without it and --shares, a folder "
        "goes on with the thresholds that it was begun with",
    )
    shares: Sequence[Rate] = option((), "LLM shares to find thresholds for (default: nine)", "SHARE")
    thresholds: Thresholds = option((), "of all methods that score and have none behind their name", "T")
    max_new_tokens: Count = option(256, "of an answer", "N")
    stage: str = option(
        "evaluation",
        "name of the shards: under another name more methods join those in the folder, on the same questions",
    )
    main: str | None = option(None, "that the others are compared with (default: the last of CITER's rounds)", "METHOD")
    results: Path = option(RESULTS, "gets the summary")

    def run(self) -> None:
        from trainer.evaluation.evaluate import check_main, chosen_thresholds, evaluate
        from trainer.evaluation.method_names import check_names, title_of
        from trainer.evaluation.methods import SHARES, build_methods
        from trainer.evaluation.record import Unfinished, read_evaluation
        from trainer.evaluation.summary import missing_ends, summarise, write_summary
        from trainer.fit.labelled_tokens import held_out_tokens
        from trainer.questions.apart import check_apart

        check_names(self.task, self.methods, self.stage)
        if self.main:
            check_main(self.main, self.methods, self.out)
        questions = self.asked()
        tokens = held_out_tokens(self.labels) if self.labels else None
        if tokens is not None:
            texts = tokens.about.get("texts", {})
            trained = {name: texts.get(name) for name in tokens.about["questions"]}
            way_out = f"routers learned from {self.labels}; give others (--split dev, --offset, or another file)"
            check_apart(trained, questions, way_out)
        pair = self.pair()
        begun = {} if self.labels or self.shares else chosen_thresholds(self.out, self.stage)
        if self.thresholds:
            begun = {title_of(method): list(self.thresholds) for method in self.methods}
        methods = build_methods(self.methods, pair, tokens, self.shares or SHARES, begun)
        evaluate(pair, questions, methods, self.out, self.task, self.max_new_tokens, stage=self.stage)
        try:
            evaluation = read_evaluation(self.out)
        except Unfinished as error:
            print(f"{self.out} has these answers now, but a summary waits for another stage: {error}")
            return
        if missing := missing_ends(evaluation.points):
            print(f"{self.out} has these answers now; for a summary evaluate {' and '.join(missing)} there, too")
            return
        print(write_summary(summarise(evaluation, main=self.main), self.results))


@dataclass(frozen=True, kw_only=True)
class Seconds(OnQuestions):
    """Measure seconds of answers, one text at a time, methods taking turns; on an idle machine."""

    split: Literal["train", "dev"] = option("dev", "of a set that has both")
    questions: Count = option(20, "how many", "N")
    task: str = option("arithmetic", "name of the questions, in results")
    points: Words = option(
        ("slm", "confidence:0.6"),
        "METHOD:THRESHOLD[,THRESHOLD...], methods as for `evaluate`; the LLM alone is always among them",
        "POINT",
    )
    max_new_tokens: Count = option(256, "of an answer", "N")
    results: Path = option(RESULTS, "gets what was measured")

    def run(self) -> None:
        from trainer.evaluation.method_names import check_names
        from trainer.evaluation.seconds import measure, points_of, write_seconds
        from trainer.report.seconds_report import seconds_table

        check_names(self.task, self.points)
        questions, pair = self.asked(), self.pair()
        summary = measure(pair, questions, points_of(self.points, pair), self.out, self.task, self.max_new_tokens)
        if summary is not None:
            print(f"{seconds_table(summary)}\n\nwrote {write_seconds(summary, self.results)}")


@dataclass(frozen=True, kw_only=True)
class Transfer(OnPair):
    """Measure on prompts of another kind how much of the LLM's own text each method gives."""

    prompts: Paths = option(PROMPTS, "JSON files with a list of texts each", "FILE")
    methods: Words = option(
        ("confidence",), "methods as for `evaluate`; both models alone are always among them", "METHOD"
    )
    thresholds: Thresholds = option((0.7, 0.9, 0.98), "of all methods that score and have none behind their name", "T")
    max_new_tokens: Count = option(256, "of a text", "N")
    stage: str = option(
        "transfer", "name of the shards: under another name more methods or thresholds join those in the folder"
    )
    out: Path = option(MISSING, "folder; the same command goes on where it stopped")
    results: Path = option(RESULTS, "gets what was measured")

    def run(self) -> None:
        from trainer.evaluation.method_names import check_names, title_of
        from trainer.evaluation.methods import build_methods
        from trainer.evaluation.transfer import measure, read_prompts, write_transfer
        from trainer.report.transfer_report import budgets_table

        methods = list(dict.fromkeys(["slm", "llm", *self.methods]))
        check_names("free-text", methods, self.stage)
        prompts, pair = read_prompts(self.prompts), self.pair()
        built = build_methods(methods, pair, None, chosen={title_of(each): self.thresholds for each in methods})
        summary = measure(pair, prompts, built, self.out, self.max_new_tokens, stage=self.stage)
        if summary is not None:
            print(f"{budgets_table(summary)}\n\nwrote {write_transfer(summary, self.results)}")


@dataclass(frozen=True, kw_only=True)
class Speculate(OnQuestions):
    """Choose draft length and confidence of speculative decoding, the rival, on training questions."""

    questions: Count = option(60, "how many", "N")
    max_new_tokens: Count = option(256, "of an answer", "N")
    drafts: Sequence[Count] = option(DRAFTS, "tokens drafted before the LLM reads them and adds one", "N")
    confidences: Sequence[Rate] = option(CONFIDENCES, "below which the SLM drafts no further", "P")

    def run(self) -> None:
        from trainer.fit.tune_speculative import tune

        questions = self.asked()
        tune(
            self.pair(),
            questions,
            self.out,
            self.max_new_tokens,
            drafts=self.drafts,
            confidences=self.confidences,
        )
