"""The page's JavaScript reads curves, scores and shares as Python does; both are run on the same cases, by node."""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.components import ASSETS
from app.controls import best_steps
from app.figures import percent, simplest, whole_percent
from engine import Role
from engine.events import role_at
from engine.operating_points import MEASURED_UNITS, Curve, OperatingPoint
from tests.support.points import CURVE, point

UNIT = "bytes"
DRAW = random.Random(0)
SCORES = [0.0, 1.0, 1.01, 0.5, 0.1 + 0.2, 0.3, *(DRAW.random() for _ in range(20))]


def in_node(body: str, cases: Any) -> Any:
    """What a function's body in JavaScript returns of `cases`; modules of the page are imported as `page + 'lib/…'`."""
    playwright = pytest.importorskip("playwright", reason="its node runs the page's scripts")
    script = f"""const page = {json.dumps(f"{ASSETS.as_uri()}/")};
    import {{ readFileSync }} from 'node:fs';
    const answer = async (cases) => {{ {body} }};
    console.log(JSON.stringify(await answer(JSON.parse(readFileSync(0, 'utf-8')))));"""
    command = [str(Path(playwright.__file__).parent / "driver/node"), "--input-type=module", "--eval", script]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_shares_read_the_same_where_the_server_writes_them_and_where_the_browser_does():
    shares = sorted({part / length for length in range(1, 129) for part in range(length + 1)} | {0.0004, 0.9996})
    found = in_node(
        """const { percent, wholePercent } = await import(page + 'lib/format.js');
        return cases.map((share) => [percent(share), wholePercent(share)].map((text) => text.replace(/\\s/g, ' ')));""",
        shares,
    )
    ours = [[percent(share), whole_percent(share)] for share in shares]
    assert found == [[" ".join(text.split()) for text in each] for each in ours]
    assert percent(1 / 8)[:2] == "13" and percent(1 / 16)[:3] == "6.3", "a tie, which a float holds exactly, goes up"


def test_scores_have_the_author_and_gaps_the_threshold_that_python_gives_them():
    cases = [[score, threshold] for score in SCORES for threshold in SCORES]
    gaps = [[0.5, 0.5], [0.5, 0.5000001], [0.9997, 1.0], [0.31, 0.32], [0.4, 0.45]]
    for _ in range(300):
        near = 10 ** -DRAW.uniform(0, 7)
        gaps.append(sorted(round(1 - near * DRAW.random(), 7) for _ in range(2)))
    authors, values = in_node(
        """const { authorAt, NAMES } = await import(page + 'lib/threshold.js');
        const { between } = await import(page + 'points/scale.js');
        return [cases[0].map((each) => NAMES[authorAt(...each)]), cases[1].map((each) => between(...each))];""",
        [cases, gaps],
    )
    assert authors == [{Role.SLM: "SLM", Role.LLM: "LLM"}[role_at(*case)] for case in cases]
    assert values == [simplest(low, high) for low, high in gaps]
    assert all(value is None or low < value <= high for value, (low, high) in zip(values, gaps, strict=True))


def row(point: OperatingPoint) -> list[float]:
    """A point as it travels."""
    measured = [point.threshold, point.accuracy, point.accuracy_low, point.accuracy_high, point.llm_share]
    return [*measured, *(point.cost(unit) for unit in MEASURED_UNITS)]


def curve(*points: tuple[float, ...]) -> Curve:
    slm, *between, llm = (point(*each) for each in points)
    return replace(CURVE, slm=slm, llm=llm, points=tuple(between))


def random_curve(seed: int) -> Curve:
    """0 to 8 thresholds between a curve's ends, in any order of quality, share and cost; of every other some equal."""
    draw = random.Random(seed)
    thresholds = [0.0, *draw.sample([n / 1000 for n in range(1, 1001)], draw.randrange(9)), 1.01]
    digits = 1 if seed % 2 else 12
    return curve(*((at, *(round(draw.uniform(0.1, 1), digits) for _ in range(3))) for at in thresholds))


CURVES = [
    *map(random_curve, range(60)),
    curve((0, 0.5, 0, 1), (1.01, 0.5, 1, 1)),  # all alike
    curve((0, 0.2, 0, 0), (1.01, 0.8, 1, 0)),  # free
    curve((0, 0.3, 0, 1), (1.0, 0.8, 0.9, 3), (1.01, 0.9, 1, 4)),  # measured right at LLM-only's place
    curve((0, 0.3, 0, 1), (0.3, 0.5, 0.6, 2), (0.6, 0.6, 0.4, 3), (1.01, 0.9, 1, 4)),  # the share dips
]
ASKED = {
    "at": [0.0, 1e-9, 0.0005, 0.3, 0.45, 0.6, 0.999, 1.0, 1.005, 1.01, 2.0],
    "share": [0.0, 1e-9, 0.1, 0.4, 0.5, 0.6, 0.95, 1.0],
    "best": [0.0, 0.01, 0.1, 0.5, 1.0, 3.0, 100.0],
    "cheapest": [0.0, 0.02, 0.3, 1.0],
}


def test_the_browser_reads_a_curve_as_the_engine_does():
    read = in_node(
        """const read = await import(page + 'lib/curve.js'), [curves, asked, unit] = cases;
        return curves.map((points) => ({
          at: asked.at.map((threshold) => read.valuesAt(points, read.atThreshold(points, threshold))),
          share: asked.share.map((share) => read.valuesAt(points, read.atShare(points, share))),
          best: asked.best.map((weight) => points[read.atWeight(points, weight, unit)]),
          cheapest: asked.cheapest.map((below) => points[read.cheapestWithin(points, below, unit)]),
          corners: read.corners(points, unit).map(({ place, weight }) => [points[place][0], weight]),
        }));""",
        [[[row(point) for point in curve.measured] for curve in CURVES], ASKED, UNIT],
    )
    for curve, found in zip(CURVES, read, strict=True):
        at = [row(curve.at(threshold))[1:] for threshold in ASKED["at"]]
        share = [row(curve.for_share(share)) for share in ASKED["share"]]
        for values, ours in zip([values[1:] for values in found["at"]] + found["share"], at + share, strict=True):
            assert values == pytest.approx(ours, rel=1e-9), curve
        best = [curve.best(weight, UNIT) for weight in ASKED["best"]]
        best += [curve.cheapest_within(below, UNIT) for below in ASKED["cheapest"]]
        for ours, values in zip(best, found["best"] + found["cheapest"], strict=True):
            assert ours and [values[1], values[5]] == pytest.approx([ours.accuracy, ours.cost(UNIT)]), curve
        for step, corner in zip(best_steps(curve, UNIT), found["corners"][::-1], strict=True):  # from λ = 0 upwards
            assert corner == pytest.approx([step.threshold, step.low]), curve
