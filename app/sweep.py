"""A sweep: one prompt at many settings of threshold and acceptance, as the prefix tree of their texts.

Each token of the tree is a node, which is kept and sent once, however many settings have it. In the same way the engine
lets rows whose texts are the same so far share their passes. `assets/page/sweep/sweep.js` draws it as a map.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import engine
from app.components import to_json
from app.figures import cost_parts, counted, significant, tokens_of_all
from app.running.job import Job, request_weight
from app.running.session import SWEEP
from app.scale import STEPS, scale_of
from app.stream.updates import JobUpdates, waiting_for
from engine import Prices, Request, TokenEvent, build_request
from engine.events import extend, llm_share
from engine.events.trace import same_acceptance, same_text
from engine.operating_points import LLM_ONLY

THRESHOLDS = 7
ACCEPTANCES = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Of the map; with LLM-only, which is one text at any acceptance, 31 rows."""

_ENDS = (-1.0, 3.0)  # stand for no limit, which JSON has not


class SweptPoint(NamedTuple):
    """A setting of both dials."""

    threshold: float
    acceptance: float


class Sweep(Job):
    """One prompt at many settings.

    Attributes:
        points: A setting per row, the last LLM-only; empty until it has begun.
        nodes: The tree, in the order it grew: [parent (-1: none), text, score].
        replaced: Nodes that the LLM wrote in place of a draft, with the draft's ratio.
        leaves: Per row, its newest node; -1 before the first.
        events: Per row, its text.
        figures: Per row, once its text is complete: LLM share, and what it costs (see `cost_parts`).
        same: Per row, once its text is complete: its decisions hold above the first and up to the second threshold,
            and above the third and up to the fourth acceptance.
    """

    def __init__(self, request: Request, prices: Prices, after: Job | None = None) -> None:
        super().__init__(after)
        self.request = replace(request, alternatives=0)  # an opened text gets its candidates in one pass
        self.prices = prices
        self.points: list[SweptPoint] = []
        self.nodes: list[list[Any]] = []
        self.replaced: dict[int, float] = {}
        self.leaves: list[int] = []
        self.events: list[list[TokenEvent]] = []
        self.figures: list[list[Any] | None] = []
        self.same: list[list[float] | None] = []
        self.prompt_tokens = 0
        self.began: float | None = None  # when its first token came, in seconds of `time.monotonic`
        self._paths: list[list[int]] = []  # per row, the nodes of its text
        self._node_of: dict[tuple[int, int], int] = {}  # by parent and token id

    def _take_default_policy(self, pair: Any) -> None:
        self.request = build_request(self.request, policy=pair.default_policy(self.request.setting.policy))

    def _write(self) -> None:
        if (policy := self.request.setting.policy) in ("slm", "llm"):
            raise engine.InvalidRequest(
                f"policy = {policy!r} has no threshold to sweep over: choose one that scores tokens"
            )
        self.prompt_tokens = self.pair.check(self.request)
        self._begin_rows(map_points(policy, self.pair))
        for event in self._follow(self._submit([self.at(row) for row in range(len(self.points))])):
            self._grow(event)

    @property
    def weight(self) -> int:
        """See `Job.weight`; a token without candidates takes a quarter."""
        return sum(map(len, [*self.events])) // 4 + request_weight(self.request)

    def at(self, row: int) -> Request:
        """The request of one of its texts."""
        return build_request(self.request, threshold=self.points[row].threshold, acceptance=self.points[row].acceptance)

    def _begin_rows(self, points: list[SweptPoint]) -> None:
        self._paths, self.events = [[] for _ in points], [[] for _ in points]
        self.leaves = [-1] * len(points)
        self.figures, self.same = [None] * len(points), [None] * len(points)
        self.points = points

    @property
    def progress(self) -> str:
        """How far it is, for people."""
        lengths, ended = [len(events) for events in [*self.events]], [row is not None for row in [*self.figures]]
        known = [length for length, over in zip(lengths, ended, strict=False) if over]
        usual = sum(known) / len(known) if known else self.request.max_new_tokens
        expected = sum(n if over else max(n, usual) for n, over in zip(lengths, ended, strict=False))
        seconds = time.monotonic() - self.began if self.began is not None else 0.0
        tokens = tokens_of_all(sum(lengths), expected, bool(known), seconds)
        return f"{len(known)} of {counted(len(self.points), 'text')} · {tokens}"

    def _grow(self, event: TokenEvent) -> None:
        if self.began is None:
            self.began = time.monotonic()
        row, path = event.row, self._paths[event.row]
        del path[event.index :]  # what the LLM took back
        parent = path[-1] if path else -1
        key = (parent, event.id)
        if key not in self._node_of:
            score = None if event.score is None else round(event.score, 7)
            self._node_of[key] = len(self.nodes)
            self.nodes.append([parent, event.text, score])
        node = self._node_of[key]
        if event.refused:  # the one case in which an author does not follow from score and threshold
            self.replaced.setdefault(node, significant(event.ratio or 0.0))
        path.append(node)
        self.leaves[row] = node
        extend(self.events[row], replace(event, row=0))
        if event.finish_reason:
            self._complete(row)
        self.notify()

    def _complete(self, row: int) -> None:
        events = self.events[row]
        self.same[row] = [min(max(end, _ENDS[0]), _ENDS[1]) for end in (*same_text(events), *same_acceptance(events))]
        costs = cost_parts(events, self.prompt_tokens, self.pair.slm_cost, self.pair.llm_cost, self.prices)
        self.figures[row] = [round(llm_share(events), 4), costs]


def map_points(policy: str, pair: Any) -> list[SweptPoint]:
    """The settings that are swept, in the order of the dials' travel; the last is LLM-only."""
    scale = scale_of(pair.operating_points, policy)
    thresholds = [scale[n * STEPS // (THRESHOLDS - 1)] for n in range(THRESHOLDS - 1)]
    points = [SweptPoint(threshold, acceptance) for acceptance in ACCEPTANCES for threshold in thresholds]
    return [*points, SweptPoint(LLM_ONLY, 1.0)]


def sweep_message(sweep: Sweep, start: int, note: str = "") -> tuple[str, int]:
    """The tree from node `start` on, as JSON, and how many nodes the browser has then.

    `note` is what it waits for, for people.
    """
    state = sweep.state  # before the nodes: a sweep that is done by now has all of them
    figures, same, leaves = list(sweep.figures), list(sweep.same), list(sweep.leaves)
    nodes = sweep.nodes[start:]  # after the leaves: a leaf is a node that is there
    message = {
        **sweep.heading(start, len(nodes), state, note),
        "nodes": nodes,
        "points": sweep.points,
        "leaves": leaves,
        "replaced": list(sweep.replaced.copy().items()),  # the copy: it may grow meanwhile
        "figures": figures,
        "same": same,
    }
    return to_json(message), start + len(nodes)


class SweepUpdates(JobUpdates):
    """The part of the tree that a window lacks."""

    kind = SWEEP

    def message(self, job: Sweep, have: int, over: bool) -> tuple[str, int] | None:
        """See `JobUpdates`."""
        note = waiting_for(job, self.host) or (job.progress if job.state == "running" and not over else "")
        now = f"{job.state} {note}"
        if not over and len(job.nodes) == have and now == self.last_sent:
            return None
        self.last_sent = now
        return sweep_message(job, have, note)
