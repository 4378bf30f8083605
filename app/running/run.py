"""A run: a job that writes one text, from its beginning or going on from another.

It goes on at another threshold, or as a branch. The engine decides which tokens stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from app.running.job import FILE_BYTES, Job, State, request_weight
from engine import Request, Setting, TokenEvent, build_request, fold_revealed
from engine.batch.text import Text
from engine.request import Turn


class Run(Job):
    """One text being written.

    Args:
        request: What is asked.
        after: The newest job of the window before it.
        kept: The events of another run that stay, if it goes on from one.

    Attributes:
        again: Whether all of its text belongs to one setting of the dials; a moved dial then starts another run.
        events: Those of the text after its last step, in a list that does not change. A run that goes on from another
            begins with what stays of that one.
        fixed: Whether there is nothing to go on with, as in an opened trace.
        size: Bytes of the file that it was opened from.
        interrupted: Whether another text was asked for while this one was being written.
    """

    def __init__(self, request: Request, after: Job | None = None, kept: Sequence[TokenEvent] | None = None) -> None:
        super().__init__(request, after)
        self._kept, self.again = kept or (), kept is not None
        self.fixed = self.interrupted = False
        self.size = 0
        self._text: Text | None = None
        self.setting = request.setting
        self.events: list[TokenEvent] = []
        self.prompt_tokens = 0
        self._asked_weight = request_weight(request)

    def turn(self, setting: Setting) -> None:
        """Applies another setting to the next token that is drafted."""
        self.setting = setting
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

    def conversation(self) -> tuple[Turn, ...]:
        """What was said before, the prompt, and the text by its authors.

        Raises:
            InvalidRequest: No text can go on from it: it has too many messages, is too long, or is a raw completion.
        """
        asked, parts = self.request, [(event.role, event.text) for event in self.events]
        lengths = [(role, sum(len(text) for _, text in of)) for role, of in groupby(parts, key=lambda part: part[0])]
        authors = tuple((role, length) for role, length in lengths if length)
        answer = Turn("assistant", "".join(text for _, text in parts), authors)
        return Request("what comes next", raw=asked.raw, turns=(*asked.turns, Turn("user", asked.prompt), answer)).turns

    def show_again(self, after: Job | None) -> None:
        """Comes to the page anew, as it was left; `after` is the newest run of the session."""
        self.again = len({(event.threshold, event.acceptance) for event in self.events}) == 1
        self.request = self.settings
        self.renumber(after)

    @property
    def _end(self) -> State:
        return "done" if self.complete else "stopped"

    def _write(self) -> None:
        self.setting = self.settle(self.setting, self.pair)  # the dials may have moved while the models loaded
        asked = replace(self.request, setting=self.setting)
        self._text = text = self.scheduler.submit(
            asked, self.owner, events=self._kept, listener=self._hear, stopped=self.unwanted
        )
        text.setting = self.setting  # it may have changed meanwhile
        self.prompt_tokens, self._kept = text.prompt_tokens, ()
        try:
            for _ in self._follow([text]):
                self.notify()
        finally:
            self._hear(text)

    def _hear(self, text: Text) -> None:
        """Takes the events between two steps, in the scheduler's thread: in a step some may be gone for a moment."""
        if text.since:
            self.events = [*text.events]
