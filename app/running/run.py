"""A run: a job that writes one text, from its beginning or going on from another.

It goes on at another threshold, or as a branch. The engine decides which tokens stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.running.job import FILE_BYTES, Job, State, request_weight
from engine import Request, Setting, TokenEvent, build_request, fold_revealed
from engine.batch.text import Text

Starts = Mapping[str, Callable[[Any], float]]
"""Says of dials, by their names, what they become with a pair."""

Plan = Callable[["Run"], tuple[Request, Sequence[TokenEvent]]]
"""Says of a run that has ended what another that goes on from it asks, and which of its events stay."""


class Run(Job):
    """One text being written.

    Args:
        request: What is asked.
        after: The newest job of the window before it.
        starts: What dials that have no number yet become once the pair is loaded, by their names.
        origin: The run that it goes on from, if it does.
        plan: How.

    Attributes:
        origin: None once it has begun.
        again: Whether it went on from another run, so that its text is exactly that of its threshold.
        events: Those of the text after its last step, in a list that does not change. A run that goes on from another
            begins with what stays of that one.
        fixed: Whether there is nothing to go on with, as in an opened trace.
        about: A note for people, shown where there is no other.
        size: Bytes of the file that it was opened from.
        version: Its number in the window's history; -1 before it has tokens.
        interrupted: Whether another text was asked for while this one was being written.
    """

    def __init__(
        self,
        request: Request,
        after: Job | None = None,
        starts: Starts | None = None,
        origin: Run | None = None,
        plan: Plan = lambda origin: (origin.request, origin.folded),
    ) -> None:
        super().__init__(after)
        self.request, self.starts = request, starts or {}
        self.origin, self._plan = origin, plan
        self.again = origin is not None
        self.fixed = self.interrupted = False
        self.version = -1
        self.size = 0
        self.about = ""
        self._text: Text | None = None
        self._setting = request.setting
        self.events: list[TokenEvent] = []
        self.prompt_tokens = 0
        self._asked_weight = request_weight(request)

    @property
    def setting(self) -> Setting:
        """In force; another applies to the next token that is drafted."""
        return self._setting

    @setting.setter
    def setting(self, setting: Setting) -> None:
        self._setting = setting
        if (text := self._text) is not None:
            text.setting = setting

    @property
    def complete(self) -> bool:
        """Whether the text ended by itself rather than being cut short."""
        events = self.events
        return bool(events) and events[-1].finish_reason not in (None, "cancelled")

    @property
    def extendable(self) -> bool:
        """Whether it was stopped or failed, or ended at its limit and the context has room for more."""
        events = self.events
        if self.fixed or self.active or not events:
            return False
        if (end := events[-1].finish_reason) is None:
            return self.state in ("failed", "stopped")
        return end in ("length", "cancelled") and self.prompt_tokens + len(events) < self.pair.context

    @property
    def weight(self) -> int:
        return max(len(self.events) + self._asked_weight, self.size // FILE_BYTES)

    @property
    def folded(self) -> tuple[TokenEvent, ...]:
        """The events with what was revealed later in its place."""
        return fold_revealed([*self.events])

    @property
    def settings(self) -> Request:
        """What was asked, with the dials as they stood last."""
        events = self.events
        last = events[-1] if events else self.request.setting
        return build_request(self.request, threshold=last.threshold, acceptance=last.acceptance)

    def show_again(self, after: Job | None) -> None:
        """Comes to the page anew, as it was left; `after` is the newest run of the session."""
        self.again = len({(event.threshold, event.acceptance) for event in self.events}) == 1
        self.request = self.settings
        self.renumber(after)

    @property
    def _end(self) -> State:
        return "done" if self.complete else "stopped"

    def _take_default_policy(self, pair: Any) -> None:
        self.request = build_request(self.request, policy=pair.default_policy(self.request.setting.policy))
        self.setting = replace(self.setting, policy=self.request.setting.policy)

    def _write(self) -> None:
        text = self._ask()
        self.prompt_tokens = text.prompt_tokens
        try:
            for _ in self._follow([text]):
                self.notify()
        finally:
            self._hear(text)

    def _hear(self, text: Text) -> None:
        """Takes the events between two steps, in the scheduler's thread: in a step some may be gone for a moment."""
        if text.since:
            self.events = [*text.events]

    def _ask(self) -> Text:
        """Asks the scheduler for the text."""
        for name, start in self.starts.items():
            if getattr(self.setting, name) == getattr(self.request.setting, name):
                # Asked for while the models loaded: the page's dial is about to move there, a short text is faster.
                dial = {name: start(self.pair)}
                self.request, self.setting = build_request(self.request, **dial), replace(self.setting, **dial)
        kept: Sequence[TokenEvent] = ()
        if self.origin is not None:
            self.origin.finished.wait()  # a step away
            self.request, kept = self._plan(self.origin)
            self.origin = None  # a newer run need not hold on to an older one
        asked = replace(self.request, setting=self.setting)
        self._text = text = self.scheduler.submit(
            asked, self.owner, events=kept, listener=self._hear, stopped=self.unwanted
        )
        text.setting = self.setting  # it may have changed meanwhile
        return text
