"""Commands that hand on what came out, and the one that trains the tiny pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path

from trainer import TrainerError
from trainer.commands.on_pair import RESULTS, Command
from trainer.options import Count, Number, Paths, Rate, option


@dataclass(frozen=True, kw_only=True)
class Ship(Command):
    """Give a router the curves that were measured, and its starting threshold."""

    router: Path = option(MISSING, "the measured router's folder")
    method: str = option(MISSING, "what it is called in the summaries")
    summaries: Paths = option(
        MISSING,
        "one for each task; together they say where to start, and what was timed of a task lies beside its summary",
        "FILE",
    )
    acceptance: Sequence[Rate] = option((), "of the curves (default: 0, and all that were measured)", "ALPHA")
    transfer: Path | None = option(
        None,
        "what `transfer` wrote: its curves come first, and are what the page expects of a visitor's own text",
        "FILE",
    )
    out: Path = option(MISSING, "the new folder, e.g. assets/routers/mine")

    def run(self) -> None:
        from trainer.evaluation.seconds import load_seconds
        from trainer.evaluation.summary import load_summary
        from trainer.evaluation.transfer import load_transfer
        from trainer.ship import (
            beside_confidence,
            check_measured,
            curve_of,
            curves_of,
            free_text_curves,
            ship,
            timed_settings,
            untrained_curves,
        )

        summaries = [load_summary(path) for path in self.summaries]
        if self.acceptance:
            curves = [curve_of(each, self.method, alpha) for alpha in self.acceptance for each in summaries]
        else:
            curves = [curve for each in summaries for curve in curves_of(each, self.method)]
        free_text = load_transfer(self.transfer) if self.transfer else None
        check_measured(self.router, self.method, [*summaries, *([free_text] if free_text else [])])
        curves = [*(free_text_curves(free_text, self.method) if free_text else ()), *curves]
        beside = beside_confidence(summaries, self.method, free_text)
        seconds = (
            load_seconds(each["preset"], each["task"], path.parent)
            for each, path in zip(summaries, self.summaries, strict=True)
        )
        timed = timed_settings(list(filter(None, seconds)), self.method)
        untrained = untrained_curves(summaries, free_text)
        card = ship(self.router, curves, self.out, untrained, beside, timed).card
        print(f"{self.out}: starts at threshold {card.threshold}, acceptance {card.acceptance:g}")


@dataclass(frozen=True, kw_only=True)
class Summarise(Command):
    """Summarise answers that are there already, without a model."""

    evaluation: Path = option(MISSING, "folder that `evaluate` wrote")
    main: str | None = option(None, "that the others are compared with (default: the last of CITER's rounds)", "METHOD")
    results: Path = option(RESULTS, "gets the summary")

    def run(self) -> None:
        from trainer.evaluation.record import read_evaluation
        from trainer.evaluation.summary import summarise, write_summary

        print(write_summary(summarise(read_evaluation(self.evaluation), main=self.main), self.results))


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Rewrite docs/results.md, the README's table of results and the charts from the summaries."""

    results: Path = option(RESULTS, "the summaries")
    page: Path = option(Path("docs/results.md"), "gets all figures")
    readme: Path = option(Path("README.md"), "gets a short table")
    check: bool = option(False, "write nothing; fail if either is not what the summaries say")

    def run(self) -> None:
        from trainer.report.report import check, report

        if not self.check:
            report(self.results, self.page, self.readme)
        elif not check(self.results, self.page, self.readme):
            raise TrainerError(
                f"{self.page} or {self.readme} is not what {self.results} says: run `python -m trainer report`"
            )


@dataclass(frozen=True, kw_only=True)
class Publish(Command):
    """Say which files of a router would go to the Hugging Face Hub; with --send, publish them."""

    folder: Path = option(MISSING, "the router's folder, as `fit` wrote it", positional=True)
    repo: str = option(MISSING, "owner/name of the model repo; made if it is not there", positional=True)
    send: bool = option(False, "do send; without it the command only says what it would send")
    private: bool = option(False, "make the repo a private one")
    revision: str = option("main", "branch to commit to")
    message: str | None = option(None, "the commit's message (default: the router's name)")

    def run(self) -> None:
        from trainer.publish import publish

        how = {"private": self.private, "revision": self.revision, "message": self.message}
        publish(self.folder, self.repo, send=self.send, **how)


@dataclass(frozen=True, kw_only=True)
class Tiny(Command):
    """Train the two small models that the tests and a machine without network use."""

    out: Path = option(Path("assets/tiny"), "the pair's folder")
    seed: Number = option(0, "seed of weights and questions")
    steps: Count = option(1600, "optimiser steps of the LLM; the SLM takes fewer")
    threads: Count = option(1, "CPU threads")
    evaluate_only: bool = option(False, "measure the pair in --out, train nothing")

    def run(self) -> None:
        from trainer.tiny.build import run

        run(self.out, self.seed, self.steps, self.threads, self.evaluate_only)
