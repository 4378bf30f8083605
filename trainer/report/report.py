"""From the rows of a pair to one small JSON file, two charts, and the tables of `docs/results.md` and the README.

In the documents only the text between `<!-- name -->` and `<!-- /name -->` is written; the rest is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.bench.markdown import filled
from engine.models.files import read_json, write_text
from engine.models.sources import ROUTERS
from engine.setting import Setting
from trainer.evaluation.rows import load_all
from trainer.report import tables
from trainer.report.chart import draw
from trainer.report.summary import summarise

NOT_YET = "Not measured yet."
"""Fills a section while there is no folder of its rows: `<preset>-aligned`, or `<preset>-rerun`."""


def render(preset: str, results: Path, page: Path, readme: Path, routers: Path = ROUTERS) -> dict[Path, str]:
    """The content of every file, by its path.

    Raises:
        TrainerError: There are no rows.
        EngineError: A document lacks a marker.
    """
    aligned, rerun = results / f"{preset}-aligned", results / f"{preset}-rerun"
    card = read_json(routers / preset / "router.json")
    shipped = Setting("router", card["threshold"], card["acceptance"]) if card else None
    summary = summarise(load_all(results / preset), shipped)
    other = summarise(load_all(aligned)) if aligned.exists() else None
    parts = (tables.main_table, tables.seconds_table)
    sections = {
        "main": tables.main_table(summary),
        "differences": tables.differences_table(summary),
        "rerun": tables.rerun_table(summarise(load_all(rerun), shipped)) if rerun.exists() else NOT_YET,
        "alignment": "\n\n".join(part(other) for part in parts) if other else NOT_YET,
        "ablations": tables.ablations_table(summary),
        "seconds": tables.seconds_table(summary),
        "general": tables.general_table(summary),
    }
    return {
        results / f"{preset}.json": json.dumps(summary.as_json(), ensure_ascii=False, indent=1) + "\n",
        results / f"{preset}-bytes.svg": draw(tables.bytes_panels(summary), "bytes moved"),
        results / f"{preset}-seconds.svg": draw(tables.seconds_panels(summary, shipped), "measured seconds"),
        page: filled(page, sections),
        readme: filled(readme, {"results": tables.short_table(summary)}),
    }


def report(preset: str, results: Path, page: Path, readme: Path, write: bool = True) -> list[Path]:
    """Finds the files that differ from what `render` returns; writes them if `write`; returns their paths."""
    files = render(preset, results, page, readme)
    old = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in old if write else ():
        write_text(path, files[path])
    return old
