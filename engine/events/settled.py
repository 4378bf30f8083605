"""The part of a growing text that can no longer be taken back, for readers to whom a token can be given only once."""

from __future__ import annotations

from engine.events import TokenEvent, extend


class SettledEvents:
    """Takes the events of a stream; gives those of the text once they are settled.

    Attributes:
        events: Of the text so far, drafts included.
    """

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []
        self._given = 0

    def add(self, event: TokenEvent) -> list[TokenEvent]:
        """Takes the next event; returns those that are settled with it, in order, with the LLM's verdicts on them."""
        extend(self.events, event)
        end = self._given
        while end < len(self.events) and not self.events[end].provisional:
            end += 1
        return self._give(end)

    def rest(self) -> list[TokenEvent]:
        """The events that were not given yet, drafts included. Called once nothing more comes."""
        return self._give(len(self.events))

    def _give(self, end: int) -> list[TokenEvent]:
        given, self._given = self.events[self._given : end], end
        return given
