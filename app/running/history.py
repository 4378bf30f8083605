"""The texts that a window has had: kept by their settings, within bounds, to go back to without running a model.

A branch is a text like any other: what was chosen by hand is part of its request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.running.run import Run
from engine import Request, Setting, TokenEvent, at_setting
from engine.events import taken_back

MAX_VERSIONS = 24

MAX_KEPT_TOKENS = 12_000
"""Tokens that a window keeps at most, as `Job.weight` counts them; the newest text is kept however long it is."""


class History:
    """A window's texts that have tokens, and the steps in which they came to the page, for undo and redo.

    Attributes:
        versions: All that are kept, in the order in which they came; the newest may be being written.
    """

    def __init__(self) -> None:
        self.versions: list[Run] = []
        self._steps: list[Run] = []
        self._at = -1

    @property
    def current(self) -> Run | None:
        return self._steps[self._at] if self._steps else None

    @property
    def weight(self) -> int:
        return sum(run.weight for run in [*self.versions])

    def add(self, run: Run, beside: int = 0) -> None:
        """Takes a text that has its first tokens. The oldest ones go where that is too much.

        `beside` is the weight of what the window keeps besides, e.g. a sweep.
        """
        self.show(run)
        while self.versions and (len(self.versions) >= MAX_VERSIONS or self.weight + beside > MAX_KEPT_TOKENS):
            self._drop(self.versions[0])
        self.versions.append(run)

    def show(self, run: Run) -> None:
        """A text comes to the page as a step of its own. What could be redone is dropped."""
        del self._steps[self._at + 1 :]
        self._steps.append(run)
        self._at = len(self._steps) - 1

    def next_step(self, by: int, newest: Run | None) -> int | None:
        """The step to which undo (-1) or redo (1) leads; None at the ends.

        Where the newest run has no tokens, undo leads to the text that is current.
        """
        at = self._at + (0 if by < 0 and newest is not self.current else by)
        return at if 0 <= at < len(self._steps) else None

    def go(self, at: int) -> Run:
        self._at = at
        return self._steps[at]

    def find(self, run_id: str) -> Run | None:
        return next((run for run in [*self.versions] if run.id == run_id), None)

    def nearest(self, request: Request) -> tuple[Run | None, Sequence[TokenEvent], bool]:
        """The kept text that differs from the request in the dials only, and of which the most tokens stay.

        Returns:
            That text or None, the current one in a tie; its events that stay; whether they are the whole text.
        """
        best, stays, wanted, current = None, [], _without_dials(request), self.current
        for text in [*filter(None, [current]), *(each for each in reversed(self.versions) if each is not current)]:
            if text.fixed or _without_dials(text.request) != wanted:
                continue
            events = text.events
            same = at_setting(request, events, request.setting)[1]
            whole = len(same) == len(events) and (text.complete or _was_stopped_at(text, request.setting))
            whole = whole and taken_back(same) == taken_back(events)  # else it costs something else there
            if whole and not text.active:
                return text, same, True
            if best is None or len(same) > len(stays):
                best, stays = text, same
        return best, stays, False

    def _drop(self, run: Run) -> None:
        self.versions.remove(run)
        self._at -= sum(each is run for each in self._steps[: self._at + 1])
        self._steps = [each for each in self._steps if each is not run]


def _without_dials(request: Request) -> Request:
    return replace(request, setting=replace(request.setting, threshold=0.0, acceptance=0.0))


def _was_stopped_at(run: Run, setting: Setting) -> bool:
    """Whether somebody stopped it at this setting, and wanted no more of it."""
    dials = {(event.threshold, event.acceptance) for event in run.events}
    return not run.interrupted and run.state != "failed" and dials == {(setting.threshold, setting.acceptance)}
