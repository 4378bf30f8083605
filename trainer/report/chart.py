"""A chart in SVG: a panel per task, points with their names beside them. The same numbers are the same file.

It is read in grey, since marks differ in shape, and on a phone, since it is narrow and its letters are large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from trainer.evaluation.statistics import Estimate

COLUMNS, WIDTH, HEIGHT, TOP = 2, 330, 290, 34
_LEFT, _RIGHT, _UPPER, _LOWER = 44, 8, 30, 34  # around the plot of a panel
_SIZE, _LETTER = 14, 7.3  # pixels of text: its height, and the mean width of a letter
_RADIUS = 5.0
_INK, _PALE, _OURS = "#222", "#c4c4c4", "#1f4e9c"


@dataclass(frozen=True)
class Mark:
    """A point of a panel; `cost` is a share of the LLM's. What is `ours` is drawn full, what is `ringed` in a ring."""

    name: str
    right: Estimate
    cost: float
    ours: bool = False
    ringed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    marks: Sequence[Mark]


def draw(panels: Sequence[Panel], cost: str) -> str:
    """The chart: right answers over a cost, which is named in its title, both in percent."""
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="{_SIZE}" fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="22" font-size="15">Right answers, %, over {escape(cost)}, % of the LLM alone</text>',
    ]
    for number, panel in enumerate(panels):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + TOP
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> Iterator[str]:
    yield f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(panel.title)}</text>'
    costs, rights = [100 * mark.cost for mark in panel.marks], [100 * mark.right.value for mark in panel.marks]
    x_from, x_to = math.floor(min(costs) / 20) * 20, max(costs) + 10
    y_from, y_to = math.floor((min(rights) - 5) / 10) * 10, math.ceil((max(rights) + 5) / 10) * 10
    right, lower = WIDTH - _RIGHT, HEIGHT - _LOWER

    def x_of(value: float) -> float:
        return _LEFT + (value - x_from) / (x_to - x_from) * (right - _LEFT)

    def y_of(value: float) -> float:
        return lower - (min(max(value, y_from), y_to) - y_from) / (y_to - y_from) * (lower - _UPPER)

    for value in range(x_from, int(x_to) + 1, 20):
        yield _line(x_of(value), _UPPER, x_of(value), lower, "#eee")
        yield f'<text x="{x_of(value):.1f}" y="{lower + 18}" text-anchor="middle" fill="#555">{value}</text>'
    for value in range(y_from, y_to + 1, 10):
        yield _line(_LEFT, y_of(value), right, y_of(value), "#eee")
        yield f'<text x="{_LEFT - 6}" y="{y_of(value) + 5:.1f}" text-anchor="end" fill="#555">{value}</text>'
    places = [(x_of(100 * mark.cost), y_of(100 * mark.right.value)) for mark in panel.marks]
    for mark, (x, _) in zip(panel.marks, places, strict=True):
        yield _line(x, y_of(100 * mark.right.low), x, y_of(100 * mark.right.high), _PALE)
    names = _names(panel.marks, places, (_LEFT, _UPPER, right, lower))
    for mark, (x, y), (left, base) in zip(panel.marks, places, names, strict=True):
        near = min(max(x, left), left + _LETTER * len(mark.name)), base - _SIZE / 3
        if math.dist(near, (x, y)) > 2.5 * _RADIUS:
            yield _line(x, y, *near, "#999")
    for mark, (x, y) in zip(panel.marks, places, strict=True):
        yield from _mark(mark, x, y)
    for mark, (left, base) in zip(panel.marks, names, strict=True):
        colour = f' fill="{_OURS}" font-weight="bold"' if mark.ours else ""
        halo = 'stroke="white" stroke-width="3" paint-order="stroke"'
        yield f'<text x="{left:.1f}" y="{base:.1f}" {halo}{colour}>{escape(mark.name)}</text>'


def _mark(mark: Mark, x: float, y: float) -> Iterator[str]:
    """A full disc for what is ours; the others are hollow, with corners by their name."""
    if mark.ringed:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS + 4}" fill="none" stroke="{_OURS}" stroke-width="1.5"/>'
    if mark.ours:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{_OURS}"/>'
        return
    corners = 3 + sum(map(ord, mark.name)) % 5
    turns = [2 * math.pi * n / corners - math.pi / 2 for n in range(corners)]
    points = " ".join(f"{x + _RADIUS * math.cos(t):.1f},{y + _RADIUS * math.sin(t):.1f}" for t in turns)
    yield f'<polygon points="{points}" fill="white" stroke="{_INK}" stroke-width="1.5"/>'


def _names(
    marks: Sequence[Mark], places: Sequence[tuple[float, float]], plot: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Left end and base line of each name: the nearest free place around its mark, what is ours first."""
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in places]
    found: dict[int, tuple[float, float]] = {}
    for number in sorted(range(len(marks)), key=lambda n: not marks[n].ours):
        x, y = places[number]
        boxes = [_box(marks[number].name, x, y, turn, away) for away in range(10, 120, 6) for turn in range(16)]
        inside = [each for each in boxes if _within(each, plot)]
        free = [each for each in inside if not any(_touch(each, other) for other in taken)]
        box = (free or inside or boxes)[0]
        taken.append(box)
        found[number] = box[0], box[3] - 3
    return [found[number] for number in range(len(marks))]


_Box = tuple[float, float, float, float]  # left, upper, right, lower


def _box(name: str, x: float, y: float, turn: int, away: float) -> _Box:
    width, angle = _LETTER * len(name) + 2, math.pi / 8 * turn
    left = x + away * math.cos(angle) - width * (0.5 - 0.5 * math.cos(angle))
    upper = y - away * math.sin(angle) - _SIZE * (0.5 + 0.5 * math.sin(angle))
    return left, upper, left + width, upper + _SIZE


def _within(box: _Box, plot: _Box) -> bool:
    return box[0] >= plot[0] and box[1] >= plot[1] and box[2] <= plot[2] and box[3] <= plot[3]


def _touch(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _line(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}"/>'
