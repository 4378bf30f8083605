"""The texts that a window has had: kept by their settings, within bounds, to go back to without running a model.

A branch is a version like any other: what was chosen by hand is part of its request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.running.run import Run
from engine import Request, Setting, at_setting

MAX_VERSIONS = 24

MAX_KEPT_TOKENS = 12_000
"""Of all that a window keeps, as `Job.weight` counts them; the newest text is kept however long it is."""


@dataclass(eq=False)
class Version:
    """A text with its settings.

    Attributes:
        number: Versions are numbered as they were begun.
        run: Has the text.
        interrupted: Whether another text was asked for while this one was being written.
    """

    number: int
    run: Run
    interrupted: bool = False


class History:
    """A window's versions, and the steps in which they came to be on the page, for undo and redo.

    Attributes:
        versions: All that are kept, in the order in which they were begun; the newest may be being written.
    """

    def __init__(self) -> None:
        self.versions: list[Version] = []
        self._steps: list[Version] = []
        self._at = -1
        self._begun = 0

    @property
    def current(self) -> Version | None:
        """The version whose text is on the page or being written."""
        return self._steps[self._at] if self._steps else None

    @property
    def weight(self) -> int:
        """Of all texts together: see `Job.weight`."""
        return sum(version.run.weight for version in [*self.versions])

    def begin(self, run: Run, beside: int = 0) -> None:
        """A run writes a text that is new; what could be redone is dropped.

        `beside` is the weight of what the window keeps besides, e.g. a sweep.
        """
        version = Version(self._begun, run)
        self._begun += 1
        self.show(version)
        self.versions.append(version)
        while len(self.versions) > 1 and (len(self.versions) > MAX_VERSIONS or self.weight + beside > MAX_KEPT_TOKENS):
            self._drop(self.versions[0] if self.versions[0] is not version else self.versions[1])

    def show(self, version: Version) -> None:
        """A version comes to the page as a step of its own; what could be redone is dropped."""
        self._leave()
        del self._steps[self._at + 1 :]
        self._steps.append(version)
        self._at = len(self._steps) - 1

    def can_step(self, by: int) -> bool:
        """Whether there is something to undo (-1) or to redo (1)."""
        return self._steps != [] and 0 <= self._at + by < len(self._steps)

    def step(self, by: int) -> Version | None:
        """Undoes (-1) or redoes (1) a step; returns the version that is current then, None at the ends."""
        if not self.can_step(by):
            return None
        dropped = self._leave()
        if not (dropped and by < 0):  # instead of a text that never came, the one before is on the page still
            self._at += by
        return self.current

    def find(self, number: int) -> Version | None:
        """The version of this number, if it is still kept and has a text."""
        return next((each for each in self.versions if each.number == number and each.run.events), None)

    def nearest(self, run: Run, setting: Setting) -> tuple[Version, bool]:
        """Of the kept texts that differ from a run in the dials only, the one that is the same the longest at others.

        Returns:
            The version, the current one where it is as good as any, and whether its text is all there is to be.
        """
        best, longest = self._steps[self._at], -1
        for version in self._alike(run):
            text, same = version.run, len(at_setting(run.request, version.run.events, setting)[1])
            whole = same == len(text.events) and (text.complete or _was_stopped_at(version, setting))
            if whole and not text.active:
                return version, True
            if same > longest:
                best, longest = version, same
        return best, False

    def _alike(self, run: Run) -> Iterator[Version]:
        wanted, current = _without_dials(run.request), self.current
        others = (each for each in reversed(self.versions) if each is not current)
        for version in [*filter(None, [current]), *others]:
            text = version.run
            if text.events and not text.fixed and _without_dials(text.request) == wanted:
                yield version

    def _leave(self) -> bool:
        """Another version takes the place of the current one; whether that one was dropped, because it has no text."""
        version = self.current
        if version is None:
            return False
        version.interrupted |= version.run.active
        if version.run.events:
            return False
        self._drop(version)
        return True

    def _drop(self, version: Version) -> None:
        self.versions = [each for each in self.versions if each is not version]
        self._at -= sum(each is version for each in self._steps[: self._at + 1])
        self._steps = [each for each in self._steps if each is not version]


def _without_dials(request: Request) -> Request:
    return replace(request, setting=replace(request.setting, threshold=0.0, acceptance=0.0))


def _was_stopped_at(version: Version, setting: Setting) -> bool:
    """Whether somebody stopped it at this setting, and wanted no more of it."""
    dials = {(event.threshold, event.acceptance) for event in version.run.events}
    same = dials == {(setting.threshold, setting.acceptance)}
    return not version.interrupted and version.run.state != "failed" and same
