"""Made-up operating points, for what the page and its server say of them."""

from __future__ import annotations

from dataclasses import replace

from engine.operating_points import LLM_ONLY, Curve, OperatingPoint


def point(threshold, accuracy, llm_share, cost, flops=None):
    low, high = max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)
    return OperatingPoint(threshold, accuracy, low, high, llm_share, cost, flops or cost, cost)


_ALONE = point(0.0, 0.3, 0.0, 10.0), point(LLM_ONLY, 0.62, 1.0, 50.0)
# In FLOPs, 0.97 is dearer than the LLM alone.
_BETWEEN = (point(0.6, 0.4, 0.1, 14.0), point(0.9, 0.58, 0.2, 20.0), point(0.97, 0.61, 0.4, 30.0, 60.0))
CURVE = Curve("csqa", 300, "small ⇄ large", "", "", "a machine", *_ALONE, _BETWEEN)
HARD = replace(CURVE, task="gsm8k", questions=100, points=(point(0.6, 0.4, 0.3, 30.0), point(0.9, 0.6, 0.6, 40.0)))
