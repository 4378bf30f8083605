"""What the tests of the handles on the operating point share: made-up curves, a page in front of them, what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.recorded import Recorded
from engine.operating_points import LLM_ONLY, Curve, OperatingPoint, OperatingPoints
from tests.support.browser import Window, serve, window
from tests.support.fake_pair import FakePair


def point(threshold, accuracy, llm_share, cost, flops=None):
    low, high = max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)
    return OperatingPoint(threshold, accuracy, low, high, llm_share, cost, flops or cost, cost)


CURVE = Curve(
    task="csqa",
    questions=300,
    pair="small ⇄ large",
    command="",
    revision="",
    hardware="a machine",
    slm=point(0.0, 0.3, 0.0, 10.0),
    llm=point(LLM_ONLY, 0.62, 1.0, 50.0),
    # 0.6 is best for no λ; in FLOPs, 0.97 is dearer than the LLM alone.
    points=(point(0.6, 0.4, 0.1, 14.0), point(0.9, 0.58, 0.2, 20.0), point(0.97, 0.61, 0.4, 30.0, 60.0)),
)
HARD = replace(CURVE, task="gsm8k", questions=100, points=(point(0.6, 0.4, 0.3, 30.0), point(0.9, 0.6, 0.6, 40.0)))
POINTS = OperatingPoints("0" * 64, (CURVE, HARD))
LINE, CARD = ".points-now", "#threshold-card"
SHARE, WEIGHT = "#share-handle", "#weight-handle"
WARNING = "#acceptance-says .cost-warning"
LLM_LINE = "≈ 62 % right cost 100 % of LLM-only"


@contextmanager
def in_front_of(browser: Any, *curves: Curve, recorded: Recorded | None = None) -> Iterator[Window]:
    """Serves the page in front of curves; its window, once the handles are there."""
    pair = FakePair()
    pair.operating_points = OperatingPoints("0" * 64, curves)
    with serve(lambda preset, progress: pair, recorded=recorded) as site, window(browser, site) as shown:
        look_inside(shown)
        yield shown
        assert shown.errors == []


def look_inside(shown: Window) -> None:
    """Opens what was measured, which is folded away: it is not about the visitor's text."""
    shown.page.click("text=What to expect")
    shown.page.wait_for_selector(LINE)


def says(shown: Window, selector: str = LINE) -> str:
    return " ".join(shown.page.inner_text(selector).replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def stands_at(shown: Window) -> float:
    return float(shown.page.input_value("#threshold input[type=number]"))


def share_says(shown: Window) -> str:
    return says(shown, 'output[for="share-handle"]')


def weight_says(shown: Window) -> str:
    return says(shown, 'output[for="weight-handle"]')


def press(shown: Window, handle: str, *keys: str) -> None:
    shown.page.focus(handle)
    for key in keys:
        shown.page.keyboard.press(key)


def line_at(threshold: float) -> str:
    """What the page says of a threshold, as the engine reads the curve."""
    there = CURVE.at(threshold)
    if threshold >= 1:  # the warning has a figure: above every score the SLM reads along
        return f"≈ {100 * there.accuracy:.0f} % right"
    return f"≈ {100 * there.accuracy:.0f} % right cost {100 * there.bytes / CURVE.llm.bytes:.0f} % of LLM-only"
