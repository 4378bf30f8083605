"""From the rows of a pair to one small JSON file, two charts, and the tables of `docs/results.md` and the README.

In the documents only what stands between `<!-- name -->` and `<!-- /name -->` is written; the rest is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.bench.markdown import SectionError, filled, read
from engine.models.files import read_json, write_text
from engine.models.sources import ROUTERS
from engine.setting import Setting
from trainer import TrainerError
from trainer.evaluation.rows import RESULTS, load_all
from trainer.report.chart import draw
from trainer.report.summary import as_json, summarise
from trainer.report.tables import (
    ablations_table,
    bytes_panels,
    differences_table,
    general_table,
    main_table,
    seconds_panels,
    seconds_table,
    short_table,
)

PAGE, README = Path("docs/results.md"), Path("README.md")
"""Where the tables stand: all of them, and a short one."""

NOT_YET = "Not measured yet."
"""Stands for the table of the aligned pair, whose rows are in a folder `<preset>-aligned`."""


def render(preset: str, results: Path, page: Path, readme: Path, routers: Path = ROUTERS) -> dict[Path, str]:
    """What every file has to be, by its path.

    Raises:
        TrainerError: There are no rows, or a document lacks a marker.
    """
    found, aligned = load_all(results / preset), results / f"{preset}-aligned"
    shipped = _shipped(routers / preset)
    tasks = summarise(found, shipped)
    pair = next(iter(found.values())).about.pair
    sections = {
        "main": main_table(tasks),
        "differences": differences_table(tasks),
        "alignment": main_table(summarise(load_all(aligned))) if aligned.exists() else NOT_YET,
        "ablations": ablations_table(tasks),
        "seconds": seconds_table(tasks),
        "general": general_table(tasks),
    }
    try:
        document = read(page)
        for name, body in sections.items():
            document = filled(document, name, body, page)
        short = filled(read(readme), "results", short_table(tasks), readme)
    except SectionError as error:
        raise TrainerError(str(error)) from None
    return {
        results / f"{preset}.json": json.dumps(as_json(pair, tasks), ensure_ascii=False, indent=1) + "\n",
        results / f"{preset}-bytes.svg": draw(bytes_panels(tasks), "bytes moved"),
        results / f"{preset}-seconds.svg": draw(seconds_panels(tasks, shipped), "measured seconds"),
        page: document,
        readme: short,
    }


def report(preset: str = "cpu", results: Path = RESULTS, page: Path = PAGE, readme: Path = README) -> list[Path]:
    """Writes what `render` says; returns the paths."""
    files = render(preset, results, page, readme)
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def outdated(preset: str = "cpu", results: Path = RESULTS, page: Path = PAGE, readme: Path = README) -> list[Path]:
    """The files that are not what `report` would write now. Changes nothing; raises as `render` does."""
    files = render(preset, results, page, readme)
    return [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def _shipped(router: Path) -> Setting | None:
    """Where the pair's own router starts; None where none is shipped."""
    card = read_json(router / "router.json")
    return Setting("router", card["threshold"], card["acceptance"]) if card else None
