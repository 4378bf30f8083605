"""What the router that is shipped for a pair gives where it starts: as in its card, from the results of today."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.router import CARD, Router
from trainer.evaluation.summary import Summary
from trainer.fit.card import given_at_start
from trainer.ship import beside_confidence, curves_of


def start_section(summaries: Sequence[Summary], folder: Path) -> str:
    """A row per task whose main method is the shipped router; empty without such tasks.

    That it is the same router is known from its curves: those that it was shipped with are those of the summaries.

    Args:
        summaries: Of one pair.
        folder: The router's; it need not be there.
    """
    if not (folder / CARD).exists():
        return ""
    router = Router.load(folder)
    measured = router.operating_points
    shipped, timed = (measured.curves, measured.timed) if measured else ((), ())
    curves, beside = [], {}
    for summary in summaries:
        main = summary["comparisons"]["method"]
        own = [curve for curve in curves_of(summary, main) if curve in shipped] if main else []
        if main and own:
            curves += own
            beside |= beside_confidence([summary], main)
    text = given_at_start(router.card, curves, beside, timed)
    return f"Where the shipped router `{router.name}` starts: {text[0].lower()}{text[1:]}" if text else ""
