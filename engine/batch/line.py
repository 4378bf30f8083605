"""Who gets a row next, and who gives one up: interactive texts first, and a fair share for each owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from engine.batch.text import Text

_OWNERS = 1000  # the number of owners of whom the line remembers when they were last served


class Line:
    """Texts that wait for a row.

    Interactive texts come first. Among alike texts the owner with the fewest rows is next, then the one served longest
    ago. Of one owner's texts the oldest is next.
    """

    def __init__(self) -> None:
        self.waiting: list[Text] = []
        self._served: dict[Hashable, int] = {}
        self._count = 0

    def serve(self, text: Text) -> None:
        self.waiting.remove(text)
        self._count += 1
        self._served.pop(text.owner, None)
        self._served[text.owner] = self._count
        if len(self._served) > _OWNERS:
            del self._served[next(iter(self._served))]

    def first(self, running: Sequence[Text]) -> Text | None:
        held = _held(running)
        return min(self.waiting, key=lambda text: self._rank(text, held), default=None)

    def ahead(self, text: Text, running: Sequence[Text]) -> int:
        """How many get a row before a text that waits, were they served now."""
        held = _held(running)
        before: Counter[Hashable] = Counter()  # of each owner, those that have come before the one looked at
        ranks: list[tuple[tuple[bool, int, int, int], Text]] = []
        for each in sorted(self.waiting, key=lambda each: (not each.interactive, each.arrived)):
            key = (each.owner, each.interactive)
            kind, rows, served, arrived = self._rank(each, held)
            ranks.append(((kind, rows + before[key], served, arrived), each))
            before[key] += 1
        order = [each for _, each in sorted(ranks, key=lambda rank: rank[0])]
        return order.index(text) if text in order else 0

    def gives_way(self, to: Text, running: Sequence[Text]) -> Text | None:
        """The running text that gives its row to a waiting one, if any.

        A batch's text gives way to an interactive one. Else an owner with two rows more gives one up.
        """
        batches = [text for text in running if not text.interactive]
        if to.interactive and batches:
            return _newest_of_most(batches)
        alike = [text for text in running if text.interactive == to.interactive]
        if not alike:
            return None
        held, victim = Counter(text.owner for text in alike), _newest_of_most(alike)
        return victim if held[victim.owner] - held[to.owner] >= 2 else None  # else it would come back at once

    def _rank(self, text: Text, held: Counter[tuple[Hashable, bool]]) -> tuple[bool, int, int, int]:
        rows = held[text.owner, text.interactive]
        return not text.interactive, rows, self._served.get(text.owner, 0), text.arrived


def _held(running: Sequence[Text]) -> Counter[tuple[Hashable, bool]]:
    """How many rows each owner has, of either kind."""
    return Counter((text.owner, text.interactive) for text in running)


def _newest_of_most(texts: Sequence[Text]) -> Text:
    """The text that came last, of the owner with the most rows: it has the least to read again."""
    held = Counter(text.owner for text in texts)
    return max(texts, key=lambda text: (held[text.owner], text.arrived))
