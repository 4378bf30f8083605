"""From measured results to what a router is shipped with: its curve, and where on it to start.

Knows summaries and the engine's operating points; knows no models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.download import sha256_of
from engine.operating_points import Curve, OperatingPoint, OperatingPoints
from engine.router import WEIGHTS, Router
from trainer.card import write_card
from trainer.errors import TrainerError
from trainer.summary import Summary

WITHIN = 0.02
"""Accuracy below the LLM's that an operating threshold may cost."""


def curve_of(summary: Summary, method: str) -> Curve:
    """The measured curve of a method, with both ends.

    Raises:
        TrainerError: The summary has no such method, or lacks an end.
    """
    missing = sorted({method, "slm", "llm"} - summary["methods"].keys())
    if missing:
        raise TrainerError(f"the results of {summary['task']} have no {', '.join(missing)}")
    slm, llm, *_ = (_points(summary, name)[0] for name in ("slm", "llm"))
    return Curve(
        task=summary["task"],
        questions=summary["questions"],
        pair=summary["pair"],
        command=summary["command"],
        revision=summary["revision"],
        hardware=summary["hardware"],
        slm=replace(slm, threshold=0.0),
        llm=replace(llm, threshold=1.01),
        points=tuple(_points(summary, method)),
    )


def operating_threshold(curve: Curve) -> float:
    """Where a router is used unless someone says otherwise, and where the next round's rollouts are finished.

    The cheapest measured point that is within `WITHIN` of the LLM; where none is, the most accurate one.
    """
    near = [p for p in curve.points if p.accuracy >= curve.llm.accuracy - WITHIN - 1e-9]
    chosen = min(near, key=lambda p: p.bytes) if near else max(curve.points, key=lambda p: (p.accuracy, -p.bytes))
    return min(max(chosen.threshold, 0.001), 1.0)


def ship(router: Path, curves: list[Curve], out: Path) -> Router:
    """Copies a router to where it is shipped from, with its measured curves and its starting threshold.

    Args:
        router: Its folder.
        curves: Of the tasks it was measured on; the first says where to start.
        out: The new folder; its name becomes the router's.
    """
    shipped = Router.load(router)
    start = round(operating_threshold(curves[0]), 4)  # a step of the page's slider: what is shown is what is in force
    shipped.card = replace(shipped.card, name=out.name, threshold=start)
    shipped.save(out)
    OperatingPoints(router=sha256_of(out / WEIGHTS), curves=tuple(curves)).save(out)
    write_card(shipped.card, out)
    return shipped


def _points(summary: Summary, method: str) -> list[OperatingPoint]:
    return [OperatingPoint(**point) for point in summary["methods"][method]["points"]]
