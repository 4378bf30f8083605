"""Commands that hand on what came out."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from trainer import TrainerError
from trainer.commands.on_pair import RESULTS, Command
from trainer.options import option


@dataclass(frozen=True, kw_only=True)
class Ship(Command):
    """Give a router the curves that were measured, and its starting threshold."""

    router: Path = option(MISSING, "the measured router's folder")
    results: Path = option(RESULTS / "cpu", "folder with the rows of a pair's tasks, which together say where to start")
    method: str = option("router", "what it is called in the rows")
    adapter: Path | None = option(None, "the aligned SLM's file, which goes beside the router", "FILE")
    out: Path = option(MISSING, "the new folder, e.g. assets/routers/mine")

    def run(self) -> None:
        from trainer.evaluation.rows import load_all
        from trainer.ship import ship

        card = ship(self.router, list(load_all(self.results).values()), self.out, self.method, self.adapter).card
        print(f"{self.out}: starts at threshold {card.threshold}, acceptance {card.acceptance:g}")


@dataclass(frozen=True, kw_only=True)
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
