"""A sweep beside a trace, in a file or a link: the texts at all settings, to be scrubbed through without any model.

The file may be a stranger's: what it says is data, and is checked here before the page has any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from app.running.job import Job
from app.running.run import Run
from app.share.open_trace import LONGEST_PIECE, MAX_TOKENS
from app.sweep import Over, Sweep
from engine import UNITS, Prices, Request, build_request
from engine.errors import check_number, check_whole
from engine.events import MAX_THRESHOLD
from engine.events.parsing import Listed, parsed

MAX_SETTINGS = 100
MAX_DRAWN = 100_000
"""Tokens of all its texts together, what they have in common counted in each: the browser looks through all of them."""

_HINT = "the file was changed, or another program wrote it"
_LARGEST = 1e30  # of a cost
_FARTHEST = 10.0  # of an end of a dial's range, where the dials end at 2

_Figures = tuple[float, float | None, float | None, float | None, float | None]
_PRICE = 1 + UNITS.index("price")  # after the LLM share


@dataclass(frozen=True)
class Swept:
    """What a browser needs of a sweep; the attributes are those of `app.sweep.Sweep`, `replaced` as pairs."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)

    over: Over
    points: Listed[tuple[float, float]]
    nodes: Listed[tuple[int, str, float | None]]
    replaced: Listed[tuple[int, float]]
    leaves: Listed[int]
    figures: Listed[_Figures | None]
    same: Listed[tuple[float, float, float, float] | None]


@dataclass(frozen=True)
class _File:
    sweep: Swept | None = None


class OpenedSweep(Sweep):
    """A sweep from a file, beside the text of a run: finished, and with nothing to go on with."""

    def __init__(self, run: Run, prices: Prices, swept: Swept) -> None:
        super().__init__(run.request, (), prices, swept.over)
        for name in _NAMES:
            setattr(self, name, getattr(swept, name))
        self.replaced = dict(swept.replaced)
        self.beside = run.id
        self.state = "done"
        self.finished.set()
        self._as_written = prices, swept.figures

    def set_prices(self, prices: Prices) -> bool:
        """See `Sweep.set_prices`; there are no events to count again, so that at other prices no text has a price."""
        if prices == self.prices:
            return False
        written_at, figures = self._as_written
        told = list if prices == written_at else _without_price
        self.figures = [row and told(row) for row in figures]
        self.prices, self.view = prices, self.view + 1
        return True

    @property
    def weight(self) -> int:
        """See `Job.weight`."""
        return len(self.nodes) // 4


_NAMES = [each.name for each in fields(Swept)]


def swept_of(job: Job | None, request: Request) -> dict[str, Any] | None:
    """A finished sweep as a trace's file has it, if the text of the request is of that sweep; else None."""
    if not isinstance(job, Sweep) or job.state != "done":
        return None
    if _apart_from_dials(job.request) != _apart_from_dials(request):
        return None
    return {name: getattr(job, name) for name in _NAMES} | {"replaced": list(job.replaced.items())}


def opened_sweep(text: str, run: Run, prices: Prices) -> OpenedSweep | None:
    """The sweep that stands in a trace's file beside the text of `run`; None where there is none.

    Raises:
        InvalidRequest: It is damaged, or a value is out of range.
    """
    if '"sweep"' not in text:
        return None
    swept = parsed(_adapter(), text, "a sweep").sweep
    if swept is None:
        return None
    _check(swept)
    return OpenedSweep(run, prices, swept)


@cache
def _adapter() -> TypeAdapter[_File]:
    return TypeAdapter(_File)


def _without_price(figures: Sequence[float | None]) -> list[float | None]:
    return [None if number == _PRICE else value for number, value in enumerate(figures)]


def _apart_from_dials(request: Request) -> Request:
    return build_request(request, threshold=0.0, acceptance=0.0, alternatives=0)


def _check(swept: Swept) -> None:
    check_whole("settings of the sweep", len(swept.points), 1, MAX_SETTINGS, "no or more settings cannot be shown")
    check_whole("tokens of the sweep", len(swept.nodes), 1, MAX_TOKENS, "none or more cannot be shown")
    for name in ("leaves", "figures", "same"):
        check_whole(f"sweep.{name}: settings", len(getattr(swept, name)), len(swept.points), len(swept.points), _HINT)
    for threshold, acceptance in swept.points:
        check_number("sweep.points: threshold", threshold, 0, MAX_THRESHOLD, _HINT)
        check_number("sweep.points: acceptance", acceptance, 0, 1, _HINT)
    depths: list[int] = []
    for number, (parent, text, score) in enumerate(swept.nodes):
        check_whole(f"sweep.nodes.{number}: what it follows", parent, -1, number - 1, _HINT)  # so that there is no ring
        check_whole(f"sweep.nodes.{number}: length of a text", len(text), 0, LONGEST_PIECE, _HINT)
        if score is not None:
            check_number(f"sweep.nodes.{number}: score", score, 0, 1, _HINT)
        depths.append(1 + (depths[parent] if parent >= 0 else 0))
    for leaf in swept.leaves:
        check_whole("sweep.leaves", leaf, -1, len(swept.nodes) - 1, _HINT)
    drawn = sum(depths[leaf] for leaf in swept.leaves if leaf >= 0)
    check_whole("tokens of all texts of the sweep", drawn, 1, MAX_DRAWN, "more cannot be shown")
    check_whole("sweep.replaced", len(swept.replaced), 0, len(swept.nodes), _HINT)
    for node, ratio in swept.replaced:
        check_whole("sweep.replaced: token", node, 0, len(swept.nodes) - 1, _HINT)
        check_number("sweep.replaced: ratio", ratio, 0, 1, _HINT)
    for figures in swept.figures:
        for value in figures or ():
            if value is not None:
                check_number("sweep.figures", value, 0, _LARGEST, _HINT)
    for ends in swept.same:
        for value in ends or ():
            check_number("sweep.same", value, -_FARTHEST, _FARTHEST, _HINT)
