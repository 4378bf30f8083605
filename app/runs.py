"""One text being written, from its beginning or going on from another: another threshold, another branch, an audit.

A run writes in its own thread, so that the models never wait for the page; whoever shows it reads its events as they
come. What stays of the other text is the engine's to say. Knows nothing of sessions and gradio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from app.jobs import Job, State
from engine import Dial, Request, Revealed, TokenEvent, fold_revealed


class Caches:
    """The engine's decoding of one text and of all that was changed in it, while it is kept.

    Whatever text the caches hold, `Decoding.resume` finds what of it another text has too; without them a change reads
    the whole text again, in one pass.
    """

    decoding: Any = None


@dataclass(frozen=True)
class Change:
    """How a run goes on from another.

    Attributes:
        origin: The other, which has ended by the time the plan is carried out.
        plan: What is asked now, and which of the origin's events stay.
        reveal: Write nothing, only let both models read the text to its end, for an audit.
        reveal_kept: Let both models read what stays, for its candidates, which it has none of.
    """

    origin: Run
    plan: Callable[[Run], tuple[Request, Sequence[TokenEvent]]]
    reveal: bool = False
    reveal_kept: bool = False


@dataclass
class Branch:
    """A text of the tree that begins with one generated text.

    Attributes:
        number: From 0, the text that was generated.
        parent: Number of the branch that it left; None for the first.
        index: Where it left it.
        run: The newest run of this branch.
    """

    number: int
    parent: int | None
    index: int
    run: Run


@dataclass(frozen=True)
class Kept:
    """The tokens at a run's beginning that the page has from another run.

    Attributes:
        number: Of that run.
        count: How many.
    """

    number: int
    count: int


class Run(Job):
    """One text being written.

    Attributes:
        request: What was asked.
        untouched: Whether its threshold is nobody's choice; then it becomes the router's own once the models are there.
        change: How it goes on from another run; None once it has begun, or where it starts from the beginning.
        again: Whether it went on from another run, so that its text is exactly that of its threshold.
        caches: Shared by all runs that go on from each other.
        dial: Its threshold; a change applies to the next token.
        events: So far; only ever appended to. A run that goes on from another begins with what stays of that one's.
        late: Candidates that were revealed after the last token.
        prompt_tokens: Tokens of the rendered prompt.
        branches: The tree of texts that it belongs to, as its session has it.
        branch: Number of its own.
    """

    fixed = False
    """Whether there is nothing to go on with, as in an opened trace."""

    def __init__(
        self, request: Request, after: Job | None = None, untouched: bool = False, change: Change | None = None
    ) -> None:
        super().__init__(after)
        self.request, self.untouched, self.change = request, untouched, change
        self.again = change is not None
        self.caches = change.origin.caches if change else Caches()
        self.branches: list[Branch] = []
        self.branch = change.origin.branch if change else 0
        self.dial = Dial(request.threshold)
        self.events: list[TokenEvent] = []
        self.late: list[Revealed] = []
        self.prompt_tokens = 0

    @property
    def complete(self) -> bool:
        """Whether the text ended by itself rather than being cut short."""
        return bool(self.events) and self.events[-1].finish_reason not in (None, "cancelled")

    @property
    def folded(self) -> tuple[TokenEvent, ...]:
        """The events with what was revealed later in its place."""
        return fold_revealed(self.events)

    @property
    def _end(self) -> State:
        return "done" if self.complete else "stopped"

    def _write(self) -> None:
        if self.untouched and self.dial.threshold == self.request.threshold:
            # Asked for while the models loaded: the page's slider is about to move there, and a short text is faster.
            self.request = replace(self.request, threshold=self.pair.threshold)
            self.dial.threshold = self.pair.threshold
        self.prompt_tokens = self.pair.check(self.request)
        only_reveal = self._take_up()
        self.state = "running"
        if self.complete or only_reveal:
            return
        decoding = self.caches.decoding
        with closing(self.pair.stream(self.request, self.dial, self.cancel, decoding)) as stream:
            for event in stream:
                self.events.append(event)
                self.ring()
                if self.cancel.is_set():
                    return

    def _take_up(self) -> bool:
        """Begins with what stays of the run that this one goes on from, if any; whether that is all there is to do."""
        change, self.change = self.change, None  # an old run need not be kept for the sake of a newer one
        caches = self.caches
        if change is None or caches.decoding is None:
            caches.decoding = self.pair.start([self.request])
        if change is None:
            return False
        origin = change.origin
        while origin.change is not None:  # it was stopped before it had begun
            origin = origin.change.origin
        self.request, kept = change.plan(origin)
        caches.decoding.resume(0, self.request, kept)
        if kept and (change.reveal or change.reveal_kept):
            self.late = caches.decoding.reveal(0)
            kept = [*kept[:-1], replace(kept[-1], revealed=(*kept[-1].revealed, *self.late))]
        self.events = list(fold_revealed(kept))
        return change.reveal
