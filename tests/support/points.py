"""Made-up operating points, for what the page and its server say of them."""

from __future__ import annotations

from engine.operating_points import Curve, OperatingPoint
from engine.setting import LLM_ONLY


def point(threshold, accuracy, llm_share, cost):
    return OperatingPoint(threshold, accuracy, max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05), llm_share, cost)


_ALONE = point(0.0, 0.3, 0.0, 10.0), point(LLM_ONLY, 0.62, 1.0, 50.0)
_BETWEEN = point(0.6, 0.4, 0.1, 14.0), point(0.9, 0.58, 0.2, 20.0), point(0.97, 0.61, 0.4, 30.0)
CURVE = Curve("csqa", 300, "small ⇄ large", "", "", "a machine", *_ALONE, _BETWEEN)
