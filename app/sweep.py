"""A sweep: one prompt at many thresholds, as the prefix tree of their texts, for the slider to scrub through.

Rows whose texts are the same so far share their passes (the engine's doing) and their nodes here: a node is a token
after another, so that each token of the tree is kept and sent once, however many thresholds have it. Knows what is
sent; `assets/page/sweep.js` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import engine
from app.components import to_json
from app.controls import THRESHOLD_DIGITS
from app.jobs import Job
from app.live import JobNews
from app.runs import Run
from app.sessions import SWEEP, Session
from engine import Prices, Request, TokenEvent
from engine.cost import cost_alone
from engine.operating_points import LLM_ONLY

THRESHOLDS = 21
"""Both ends included. More would cost little where texts stay the same, and a cache row each in any case."""


class Sweep(Job):
    """One prompt at many thresholds.

    Attributes:
        request: What is asked; its threshold does not matter.
        near: Scores to choose thresholds from, those of a text of the same policy; may be empty.
        prices: For the unit "price".
        thresholds: Ascending, from SLM-only to LLM-only; empty until it has begun.
        nodes: The tree, in the order it grew: [parent (-1: none), text, score].
        leaves: Per threshold, its newest node; -1 before the first.
        events: Per threshold, its text.
        figures: Per threshold, once its text is complete: LLM share, bytes, FLOPs, seconds (modelled), price.
        prompt_tokens: Of the rendered prompt.
    """

    def __init__(self, request: Request, near: Sequence[float], prices: Prices, after: Job | None = None) -> None:
        super().__init__(after)
        self.request = replace(request, alternatives=0)  # an opened text gets its candidates in one pass
        self.near, self.prices = tuple(near), prices
        self.thresholds: list[float] = []
        self.nodes: list[list[Any]] = []
        self.leaves: list[int] = []
        self.events: list[list[TokenEvent]] = []
        self.figures: list[list[float] | None] = []
        self.prompt_tokens = 0
        self._known: dict[tuple[int, int], int] = {}

    def _write(self) -> None:
        if self.request.policy in ("slm", "llm"):
            raise engine.InvalidRequest(
                f"policy = {self.request.policy!r} has no threshold to sweep over: choose one that scores tokens"
            )
        self.prompt_tokens = self.pair.check(self.request)
        self.thresholds = choose_thresholds(self.request, self.near, self.pair)
        self.leaves, self.events = [-1] * len(self.thresholds), [[] for _ in self.thresholds]
        self.figures = [None] * len(self.thresholds)
        decoding = self.pair.start([replace(self.request, threshold=threshold) for threshold in self.thresholds])
        self.state = "running"
        for event in engine.decode(decoding, self.cancel):
            self._grow(event)

    def _grow(self, event: TokenEvent) -> None:
        row, parent = event.row, self.leaves[event.row]
        key = (parent, event.id)
        if key not in self._known:
            score = None if event.score is None else round(event.score, 7)
            self._known[key] = len(self.nodes)
            self.nodes.append([parent, event.text, score])
        self.leaves[row] = self._known[key]
        self.events[row].append(replace(event, row=0))
        if event.finish_reason:
            self.figures[row] = self._figures(self.events[row])
        self.ring()

    def _figures(self, events: Sequence[TokenEvent]) -> list[float]:
        pair = self.pair
        spent = cost_alone(events, self.prompt_tokens, pair.slm_cost, pair.llm_cost, self.prices)
        share = sum(event.role is engine.Role.LLM for event in events) / len(events)
        return [float(f"{value:.5g}") for value in (share, spent.bytes, spent.flops, spent.seconds, spent.price)]


def choose_thresholds(request: Request, near: Sequence[float], pair: Any) -> list[float]:
    """Thresholds where texts are likely to change, on the slider's steps, both ends included.

    Where the policy is the router and it was measured, evenly by LLM share; else, and where that gives too few, by the
    scores of a text that is there; else evenly. Chance has the LLM share for its threshold.
    """
    even = [n / (THRESHOLDS - 1) for n in range(1, THRESHOLDS - 1)]
    points = pair.operating_points if request.policy == "router" else None
    curves = [curve for curve in points.curves if curve.points] if points else []
    scores = sorted(set(near)) if request.policy != "random" else []
    wanted = [curves[0].for_share(share).threshold for share in even] if curves else []
    wanted += [scores[int(share * len(scores))] + 10**-THRESHOLD_DIGITS for share in even] if scores else []
    inner = dict.fromkeys(round(threshold, THRESHOLD_DIGITS) for threshold in wanted + even)
    chosen = [threshold for threshold in inner if 0 < threshold <= 1][: THRESHOLDS - 2]
    return sorted({0.0, LLM_ONLY, *chosen})


def sweep_message(sweep: Sweep, start: int) -> tuple[str, int]:
    """The tree from node `start` on, as JSON, and how many nodes the browser has then.

    The JSON has `run`, `n`, `from`, `count`, `state`, `note`, `nodes`, and per threshold `thresholds`, `leaves` and
    `figures`.
    """
    state = sweep.state  # before the nodes: a sweep that is done by now has all of them
    leaves, figures = list(sweep.leaves), list(sweep.figures)
    nodes = sweep.nodes[start:]  # after the leaves: a leaf is a node that is there
    message = {
        "run": sweep.id,
        "n": sweep.number,
        "from": start,
        "count": len(nodes),
        "state": state,
        "note": sweep.error or "",
        "nodes": nodes,
        "thresholds": sweep.thresholds,
        "leaves": leaves,
        "figures": figures,
    }
    return to_json(message), start + len(nodes)


class SweepNews(JobNews):
    """What of the tree a window lacks."""

    kind = SWEEP

    def message(self, job: Sweep, have: int, over: bool) -> tuple[str, int] | None:
        """See `JobNews`."""
        if not over and len(job.nodes) == have and job.state == self.told:
            return None
        self.told = job.state
        return sweep_message(job, have)


def scores_near(session: Session, policy: str) -> list[float]:
    """The scores of the text on the page, if the same policy gave them."""
    run = session.shown
    if run is None or run.request.policy != policy:
        return []
    return [event.score for event in run.events if event.score is not None]


class Swept(Run):
    """A text of a sweep as a run that has ended, for another to go on from.

    Args:
        sweep: Has it.
        row: Which of its thresholds.
    """

    def __init__(self, sweep: Sweep, row: int) -> None:
        super().__init__(replace(sweep.request, threshold=sweep.thresholds[row]))
        self.events = list(sweep.events[row])
        self.finished.set()
