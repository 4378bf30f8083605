"""The threshold of a run as something that can be turned while it is on. Knows no torch, so the page may hold one."""

from __future__ import annotations

from engine.request import MAX_THRESHOLD, number


class Dial:
    """Holds a threshold; the next token is decided with whatever it holds then.

    One float is written and read, which is atomic, so no lock is needed between the page's and the engine's thread.
    """

    def __init__(self, threshold: float) -> None:
        """Raises InvalidRequest if `threshold` is out of range."""
        self.threshold = threshold

    @property
    def threshold(self) -> float:
        """The threshold in force: score < threshold → LLM."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        number("threshold", value, 0.0, MAX_THRESHOLD, "0 is SLM-only, above 1 is LLM-only")
        self._threshold = float(value)
