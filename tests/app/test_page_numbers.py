"""The page's JavaScript reads curves, scores and shares as Python does; both are run on the same cases, by node."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.components import ASSETS
from app.controls import best_steps
from app.figures import percent, simplest, whole_percent
from engine import Role
from engine.events import role_at
from engine.operating_points import MEASURED_UNITS, Curve, OperatingPoint

UNIT = "bytes"


def in_node(body: str, cases: Any) -> Any:
    """What a function's body in JavaScript returns of `cases`; modules of the page are imported as `page + 'lib/…'`."""
    playwright = pytest.importorskip("playwright", reason="its node runs the page's scripts")
    node = Path(playwright.__file__).parent / "driver" / "node"
    script = f"""const page = {json.dumps(f"{ASSETS.as_uri()}/")};
    import {{ readFileSync }} from 'node:fs';
    const answer = async (cases) => {{ {body} }};
    console.log(JSON.stringify(await answer(JSON.parse(readFileSync(0, 'utf-8')))));"""
    command = [str(node), "--input-type=module", "--eval", script]
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


def test_the_browser_gives_a_score_to_the_author_that_the_engine_gives_it_to():
    draw = random.Random(0)
    values = [0.0, 1.0, 1.01, 0.5, 0.1 + 0.2, 0.3, *(draw.random() for _ in range(20))]
    cases = [[score, threshold] for score in values for threshold in values]
    found = in_node(
        """const { authorAt, NAMES } = await import(page + 'lib/threshold.js');
        return cases.map(([score, threshold]) => NAMES[authorAt(score, threshold)]);""",
        cases,
    )
    assert found == [{Role.SLM: "SLM", Role.LLM: "LLM"}[role_at(*case)] for case in cases]


def test_the_browser_finds_the_same_threshold_between_two_scores_as_the_server():
    chance, gaps = random.Random(0), []
    for _ in range(300):
        near = 10 ** -chance.uniform(0, 7)
        gaps.append(sorted(round(1 - near * chance.random(), 7) for _ in range(2)))
    gaps += [[0.5, 0.5], [0.5, 0.5000001], [0.9997, 1.0], [0.31, 0.32], [0.4, 0.45]]
    found = in_node(
        """const { between } = await import(page + 'points/scale.js');
        return cases.map(([low, high]) => between(low, high));""",
        gaps,
    )
    assert found == [simplest(low, high) for low, high in gaps]
    assert all(value is None or low < value <= high for value, (low, high) in zip(found, gaps, strict=True))


def point(threshold: float, accuracy: float, share: float, cost: float) -> OperatingPoint:
    spread = min(accuracy, 1 - accuracy) / 2
    costs = cost, 2 * cost + 1, (3 * cost + 2) / 7
    return OperatingPoint(threshold, accuracy, accuracy - spread, accuracy + spread, share, *costs)


def curve(slm: OperatingPoint, llm: OperatingPoint, *points: OperatingPoint) -> Curve:
    return Curve("task", 100, "pair", "command", "revision", "hardware", slm, llm, points)


def random_curve(seed: int) -> Curve:
    """A curve with 0 to 8 thresholds between its ends, in any order of quality, share and cost; some values twice."""
    draw = random.Random(seed)
    thresholds = draw.sample([n / 1000 for n in range(1, 1001)], draw.randrange(9))
    coarse = draw.random() < 0.5  # then many are equal

    def measured(threshold: float) -> OperatingPoint:
        accuracy, share, cost = (round(draw.random(), 1 if coarse else 12) for _ in range(3))
        return point(threshold, accuracy, share, 1e9 * (cost + 0.1))

    return curve(measured(0.0), measured(1.01), *map(measured, thresholds))


CURVES = [
    *map(random_curve, range(60)),
    curve(point(0, 0.5, 0, 1), point(1.01, 0.5, 1, 1)),  # all alike
    curve(point(0, 0.2, 0, 0), point(1.01, 0.8, 1, 0)),  # free
    curve(point(0, 0.3, 0, 1), point(1.01, 0.9, 1, 4), point(1.0, 0.8, 0.9, 3)),  # measured right at LLM-only's place
    curve(point(0, 0.3, 0, 1), point(1.01, 0.9, 1, 4), point(0.3, 0.5, 0.6, 2), point(0.6, 0.6, 0.4, 3)),  # share dips
]
THRESHOLDS = [0.0, 1e-9, 0.0005, 0.3, 0.45, 0.6, 0.999, 1.0, 1.005, 1.01, 2.0]
SHARES = [0.0, 1e-9, 0.1, 0.4, 0.5, 0.6, 0.95, 1.0]
WEIGHTS = [0.0, 0.01, 0.1, 0.5, 1.0, 3.0, 100.0]
WITHIN = [0.0, 0.02, 0.3, 1.0]


def row(point: OperatingPoint) -> list[float]:
    """A point as it travels."""
    measured = [point.threshold, point.accuracy, point.accuracy_low, point.accuracy_high, point.llm_share]
    return [*measured, *(point.cost(unit) for unit in MEASURED_UNITS)]


def test_the_browser_reads_a_curve_as_the_engine_does():
    read = in_node(
        """const read = await import(page + 'lib/curve.js');
        const { atShare, atThreshold, atWeight, cheapestWithin, corners, valuesAt } = read;
        const [curves, thresholds, shares, weights, within, unit] = cases;
        return curves.map((points) => ({
          at: thresholds.map((threshold) => valuesAt(points, atThreshold(points, threshold))),
          share: shares.map((share) => valuesAt(points, atShare(points, share))),
          best: weights.map((weight) => points[atWeight(points, weight, unit)]),
          cheapest: within.map((below) => points[cheapestWithin(points, below, unit)]),
          corners: corners(points, unit).map(({ place, weight }) => [points[place][0], weight]),
        }));""",
        [[[row(point) for point in curve.measured] for curve in CURVES], THRESHOLDS, SHARES, WEIGHTS, WITHIN, UNIT],
    )
    for curve, found in zip(CURVES, read, strict=True):
        for threshold, values in zip(THRESHOLDS, found["at"], strict=True):
            assert values[1:] == pytest.approx(row(curve.at(threshold))[1:], rel=1e-9), (curve, threshold)
        for share, values in zip(SHARES, found["share"], strict=True):
            assert values == pytest.approx(row(curve.for_share(share)), rel=1e-9), (curve, share)
        best = [curve.best(weight, UNIT) for weight in WEIGHTS]
        cheapest = [curve.cheapest_within(below, UNIT) for below in WITHIN]
        for expected, values in zip(best + cheapest, found["best"] + found["cheapest"], strict=True):
            assert expected is not None
            assert [values[1], values[5]] == pytest.approx([expected.accuracy, expected.cost(UNIT)]), curve
        steps = best_steps(curve, UNIT)  # from λ = 0 upwards: the dearest first
        thresholds, weights = zip(*found["corners"][::-1], strict=True)
        assert list(thresholds) == [step.threshold for step in steps], curve
        assert list(weights) == pytest.approx([step.low for step in steps]), curve
