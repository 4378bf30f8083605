"""A sweep: one prompt at many settings of the dials, as the prefix tree of their texts, to scrub through.

Swept are threshold, acceptance, or both, which is a map. Each token of the tree is a node, which is kept and sent once,
however many settings have it. In the same way the engine lets rows whose texts are the same so far share their passes.
`assets/page/sweep/sweep.js` draws the tree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import engine
from app.components import to_json
from app.controls import THRESHOLD_DIGITS
from app.figures import counted, meter, rounded, significant, simplest, times_llm, tokens_of_all
from app.running.job import Job
from app.running.run import Run
from app.running.session import SWEEP, Session
from app.running.weight import request_weight
from app.stream.updates import JobUpdates, waiting_for
from engine import UNITS, Costs, Prices, Request, TokenEvent, build_request, costs
from engine.events import extend, llm_share
from engine.events.trace import same_acceptance, same_text
from engine.operating_points import LLM_ONLY

Over = Literal["threshold", "acceptance", "both"]
OVER: tuple[Over, ...] = get_args(Over)
"""What can be swept."""

THRESHOLDS = 21
"""Of a sweep over the threshold, both ends included. More would cost little where texts stay the same."""

ACCEPTANCES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Of a sweep over the acceptance: denser near 0, where most drafts that an LLM dislikes lie."""

MAP_THRESHOLDS = 7
MAP_ACCEPTANCES = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Of a sweep over both: with LLM-only, which is one text at any acceptance, 31 rows."""

_ENDS = (-1.0, 3.0)  # stand for no limit, which JSON has not


class SweptPoint(NamedTuple):
    """A setting of both dials."""

    threshold: float
    acceptance: float


class Sweep(Job):
    """One prompt at many settings.

    Attributes:
        over: What is swept; the other dial is the request's.
        scores: To choose thresholds from: those of a text of the same policy; may be empty.
        points: A setting per row, the last LLM-only; empty until it has begun.
        nodes: The tree, in the order it grew: [parent (-1: none), text, score].
        replaced: Nodes that the LLM wrote in place of a draft, with the draft's ratio.
        leaves: Per row, its newest node; -1 before the first.
        events: Per row, its text.
        figures: Per row, once its text is complete: LLM share, and its cost as a multiple of LLM-only's for as many
            tokens, in each of `engine.UNITS` (see `times_llm`).
        meters: The same rows as the meter shows them, by unit.
        view: Counts the changes of its prices, so that the browser can tell old figures from new.
        same: Per row, once its text is complete: its decisions hold above the first and up to the second threshold,
            and above the third and up to the fourth acceptance.
        beside: Of an opened sweep, the id of the run that was opened with it. Nothing can be continued from the sweep.
    """

    def __init__(
        self, request: Request, scores: Sequence[float], prices: Prices, over: Over, after: Job | None = None
    ) -> None:
        super().__init__(after)
        self.request = replace(request, alternatives=0)  # an opened text gets its candidates in one pass
        self.over: Over = over
        self.scores, self.prices, self.view = tuple(scores), prices, 0
        self.points: list[SweptPoint] = []
        self.nodes: list[list[Any]] = []
        self.replaced: dict[int, float] = {}
        self.leaves: list[int] = []
        self.events: list[list[TokenEvent]] = []
        self.figures: list[list[float | None] | None] = []
        self.meters: list[dict[str, Any] | None] = []
        self.same: list[list[float] | None] = []
        self.prompt_tokens = 0
        self.began: float | None = None  # when its first token came, in seconds of `time.monotonic`
        self.beside: str | None = None
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
        self._begin_rows(choose_points(self.request, self.over, self.scores, self.pair))
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
        self.figures, self.meters, self.same = [None] * len(points), [None] * len(points), [None] * len(points)
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

    def set_prices(self, prices: Prices) -> bool:
        """Counts the costs of its texts at other prices; whether they are others."""
        if prices == self.prices:
            return False
        self.prices, self.view = prices, self.view + 1
        for row, figures in enumerate([*self.figures]):
            if figures is not None:
                self._complete(row)
        return True

    def _complete(self, row: int) -> None:
        events = self.events[row]
        self.same[row] = [min(max(end, _ENDS[0]), _ENDS[1]) for end in (*same_text(events), *same_acceptance(events))]
        total = self._cost(events)
        self.meters[row] = {unit: meter(events, total, unit) for unit in UNITS}
        self.figures[row] = [round(llm_share(events), 4), *(times_llm(total, unit) for unit in UNITS)]

    def _cost(self, events: Sequence[TokenEvent]) -> Costs:
        return costs(events, self.prompt_tokens, self.pair.slm_cost, self.pair.llm_cost, self.prices)


def choose_points(request: Request, over: Over, scores: Sequence[float], pair: Any) -> list[SweptPoint]:
    """The settings that are swept, in the order of the dials' travel; the last is LLM-only.

    Raises:
        InvalidRequest: Acceptance alone is to be swept where the SLM drafts nothing.
    """
    if over == "acceptance":
        if (threshold := request.setting.threshold) > 1:
            raise engine.InvalidRequest(
                f"threshold = {threshold} lets the LLM write every token, so that acceptance changes nothing: "
                "lower the threshold, or sweep over it"
            )
        return [
            *(SweptPoint(threshold, acceptance) for acceptance in ACCEPTANCES),
            SweptPoint(LLM_ONLY, 1.0),
        ]
    if over == "threshold":
        chosen = choose_thresholds(request, scores, pair)
        return [SweptPoint(threshold, request.setting.acceptance) for threshold in chosen]
    chosen = choose_thresholds(request, scores, pair, MAP_THRESHOLDS)
    points = [SweptPoint(threshold, acceptance) for acceptance in MAP_ACCEPTANCES for threshold in chosen[:-1]]
    return [*points, SweptPoint(LLM_ONLY, 1.0)]


def choose_thresholds(request: Request, scores: Sequence[float], pair: Any, count: int = THRESHOLDS) -> list[float]:
    """Thresholds where texts are likely to change, with few digits, both ends included.

    For a measured router evenly by LLM share; else, and where that gives too few, by the scores of a text of the same
    policy; else evenly. For chance, a threshold is an LLM share.
    """
    even = [n / (count - 1) for n in range(1, count - 1)]
    points = pair.operating_points if request.setting.policy == "router" else None
    curves = [curve for curve in points.curves if curve.points] if points else []
    scores = sorted(set(scores)) if request.setting.policy != "random" else []
    wanted = [rounded(curves[0].for_share(share).threshold) for share in even] if curves else []
    gaps = [*pairwise([*scores, 1.0])]
    wanted += [simplest(*gaps[int(share * len(gaps))]) or 0.0 for share in even] if scores else []
    inner = dict.fromkeys(round(threshold, THRESHOLD_DIGITS) for threshold in wanted + even)
    chosen = [threshold for threshold in inner if 0 < threshold <= 1][: count - 2]
    return sorted({0.0, LLM_ONLY, *chosen})


def sweep_message(sweep: Sweep, start: int, note: str = "") -> tuple[str, int]:
    """The tree from node `start` on, as JSON, and how many nodes the browser has then.

    `note` is what it waits for, for people.
    """
    state = sweep.state  # before the nodes: a sweep that is done by now has all of them
    figures, same, leaves = list(sweep.figures), list(sweep.same), list(sweep.leaves)
    meters = None if state in ("waiting", "running") else sweep.meters  # once: they are long
    nodes = sweep.nodes[start:]  # after the leaves: a leaf is a node that is there
    message = {
        **sweep.heading(start, len(nodes), state, note),
        "view": sweep.view,
        "nodes": nodes,
        "over": sweep.over,
        "points": sweep.points,
        "leaves": leaves,
        "replaced": list(sweep.replaced.copy().items()),  # the copy: it may grow meanwhile
        "figures": figures,
        "meters": meters,
        "same": same,
        "beside": sweep.beside,
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


def scores_near(session: Session, policy: str) -> list[float]:
    """The scores of the text on the page, if the same policy gave them."""
    run = session.shown
    if run is None or run.request.setting.policy != policy:
        return []
    return [event.score for event in run.events if event.score is not None]


class SweepRun(Run):
    """The text at one of a sweep's settings, as a run that has ended, for another to go on from."""

    def __init__(self, sweep: Sweep, row: int) -> None:
        super().__init__(sweep.at(row))
        self.events = list(sweep.events[row])
        self.pair, self.prompt_tokens = sweep.pair, sweep.prompt_tokens
        self.finished.set()
