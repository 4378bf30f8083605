"""Jobs: what is written for one visitor, with a thread of its own that takes what comes; stopped within one step.

A job waits for the models, asks their scheduler for texts, and says how it ended; the page reads what it has so far. A
run is a job that writes one text, from its beginning or going on from another: at another threshold, as a branch, or
for an audit. The engine decides which tokens stay.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

from app.figures import pair_name
from app.running.host import Host
from app.running.weight import FILE_BYTES, request_weight
from engine import Dial, EngineError, Request, Revealed, TokenEvent, extend, fold_revealed
from engine.endpoint.places import Entrance
from engine.errors import log_fault

State = Literal["waiting", "running", "done", "stopped", "failed"]
SomeJob = TypeVar("SomeJob", bound="Job")
GONE_ON = "Stopped: this page has been given another pair or router. What was written stays; Generate writes with that."
"""Said of what its pair wrote when it was let go."""

logger = logging.getLogger(__name__)


def written_by(pair: Any) -> str:
    """What is said of a text whose pair is not the page's any more."""
    router = f", router {pair.router.name}" if pair.router else ""
    names = pair_name(pair.slm_name, pair.llm_name)
    return (
        f"Written by {names}{router}, before this page loaded models or a router anew: nothing can go on from it, "
        "Generate writes with those."
    )


class Job:
    """Something the models do.

    Attributes:
        id: Unguessable; a browser that knows it may ask for the job's results again.
        number: Grows from job to job, across restarts too, so that late messages of an older job can be recognised.
        cancel: Set to stop the models within one step.
        finished: Set when it has ended, in any way.
        owner: Whose it is, for the scheduler: rows are shared out evenly among owners.
        state: "waiting" until its first token, then "running", then one of the three ends.
        pair: The models, once they are loaded.
        notify: Called whenever there is something new to show.
        look: Called before each step; cancels it where nobody waits for it any more.
        entrance: By which it was asked for.
    """

    entrance: Entrance = "page"

    def __init__(self, after: Job | None = None) -> None:
        self.renumber(after)
        self.id = secrets.token_urlsafe(12)
        self.owner: Hashable = self.id
        self.cancel = threading.Event()
        self.finished = threading.Event()
        self.state: State = "waiting"
        self.error: str | None = None
        self.pair: Any = None
        self.host: Host | None = None
        self._pending: Any = None  # what the scheduler writes for it, or has written last
        self.notify: Callable[[], None] = lambda: None
        self.look: Callable[[], None] = lambda: None

    def renumber(self, after: Job | None) -> None:
        """Gives it a new number, so that what is shown of it again is news to a browser."""
        now = int(1000 * time.time())
        self.number = max(now, after.number + 1) if after else now

    def start(self: SomeJob, host: Host) -> SomeJob:
        """Starts in a thread of its own; returns itself."""
        threading.Thread(target=self.work, args=(host,), name=f"citer-run-{self.number}", daemon=True).start()
        return self

    def work(self, host: Host) -> None:
        """Waits for the models, then works until the end or until cancelled. Never raises."""
        end: State = "failed"
        self.host = host
        try:
            self.pair = host.wait(self.cancel)
            if self.pair is not None and not self.unwanted():
                self._write()
            end = self._end
        except EngineError as error:
            self.error = str(error)
        except Exception as error:  # the visitor sees what happened; the log has the place, and nobody's text
            log_fault(logger, "job failed", error)
            self.error = f"The models stopped with an internal error ({type(error).__name__}: {error})."
        finally:
            self.state = end  # before `finished`: a reader that sees the one must see the other
            self.finished.set()
            self.notify()

    def unwanted(self) -> bool:
        """Whether it is cancelled, or nobody waits for it any more."""
        self.look()
        return self.cancel.is_set()

    @property
    def place(self) -> tuple[int, float | None]:
        """Its place in the scheduler's line (see `Handle.place`), and in about how many seconds it may get a row."""
        batch = self._pending
        if batch is None:
            return 0, None
        first = next((handle for handle in batch.handles if not handle.ended), batch.handles[0])
        return first.place, first.estimate

    @property
    def paused(self) -> bool:
        """Whether others have its rows in the middle of its texts; it goes on by itself."""
        batch = self._pending if self.state == "running" else None
        states = {handle.state for handle in batch.handles if not handle.ended} if batch is not None else set()
        return states == {"waiting"}

    @property
    def active(self) -> bool:
        """Whether it has not ended yet."""
        return not self.finished.is_set()

    @property
    def _end(self) -> State:
        """How it ended, where nothing failed."""
        return "stopped" if self.cancel.is_set() else "done"

    @property
    def weight(self) -> int:
        """The memory that it keeps, in tokens: see `app.running.weight`."""
        return 0

    def message_state(self, whole: bool) -> State:
        """The state to send with a message, to be read before its content; `whole` if that is all there is.

        A part never says that the job has ended: the next message brings what the part lacks together with the end.
        """
        state = self.state
        return state if whole or state == "waiting" else "waiting" if self.paused else "running"

    def heading(self, start: int, count: int, state: State, note: str = "") -> dict[str, Any]:
        """How the messages about it begin: `run`, `n`, `from` and `count` of its items, `state`, `note` for people."""
        note = self.error or note
        return {"run": self.id, "n": self.number, "from": start, "count": count, "state": state, "note": note}

    def _write(self) -> None:
        """Asks `scheduler` for texts and takes what comes."""
        raise NotImplementedError

    @property
    def scheduler(self) -> Any:
        """What writes the texts; only once the models are loaded. An EngineError where its pair has gone meanwhile."""
        models = self.host and self.host.models
        if not models or models[0] is not self.pair:
            raise EngineError(GONE_ON)
        return models[1]

    def _submit(self, requests: Sequence[Request], interactive: bool = False) -> Any:
        """Asks for several texts: an `engine.batch.handle.Batch`."""
        return self.scheduler.submit_all(requests, self.owner, interactive=interactive, stopped=self.unwanted)

    def _follow(self, batch: Any) -> Iterator[TokenEvent]:
        """The events of what was asked for, as they come; raises why one failed."""
        self._pending = batch
        try:
            for event in batch:
                self.state = "running"
                yield event
        finally:
            self._pending = None
        for handle in batch.handles:
            if handle.error is not None:
                raise handle.error
        if not self.cancel.is_set() and any(handle.state == "stopped" for handle in batch.handles):
            _ = self.scheduler  # which its pair may not have any more


class Listeners:
    """Wakes the coroutines of any event loop that wait for what a job's thread writes, so that none has to poll."""

    def __init__(self) -> None:
        self.last_heard = time.monotonic()  # when somebody last listened
        self._events: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def notify(self) -> None:
        """Sets every listener's event; may be called from any thread."""
        for event, loop in list(self._events.items()):
            if not event.is_set():
                with suppress(RuntimeError):  # the loop was closed with the server
                    loop.call_soon_threadsafe(event.set)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def unheard_seconds(self) -> float:
        """For how many seconds nobody has listened."""
        return 0.0 if self._events else time.monotonic() - self.last_heard

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """An event that `notify` sets, for the caller to wait for and to clear."""
        event = asyncio.Event()
        self._events[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            self.last_heard = time.monotonic()
            del self._events[event]


@dataclass(frozen=True)
class Change:
    """How a run goes on from another, the origin, which has ended by the time the plan is carried out."""

    origin: Run
    plan: Callable[[Run], tuple[Request, Sequence[TokenEvent]]]  # what is asked now, and which of its events stay
    reveal: bool = False  # write nothing, only let both models read the text to its end, for an audit
    reveal_prefix: bool = False  # let both models read what stays, because its candidates were not recorded
    moves: bool = False  # into a row of its own, because its text may become longer than the origin's row has room for


@dataclass(frozen=True)
class SharedPrefix:
    """How many of a run's first tokens the page has already, from the run of this number."""

    number: int
    count: int


class Written(NamedTuple):
    """A text so far, to be read as one: its events, and in `cuts` from which indices on tokens were taken back."""

    events: list[TokenEvent]
    cuts: tuple[int, ...] = ()

    def lasting(self, count: int, cuts: int) -> int:
        """How many of the first `count` tokens stand as they were when there had been so many cuts."""
        return min((count, *self.cuts[cuts:]))


class Run(Job):
    """One text being written.

    Attributes:
        router_dials: Names of the dials that nobody chose, so that they become the router's once the pair is loaded.
        change: How it goes on from another run; None once it has begun, or where it starts from the beginning.
        again: Whether it went on from another run, so that its text is exactly that of its threshold.
        family: The same object for all runs that go on from each other, whose texts begin alike.
        handle: Of the scheduler, while the text is written and as long as its row rests; it has all events once more.
        beside: How many of its tokens were written beside other texts; see `Handle.beside`.
        dial: Its threshold and acceptance; a change applies to the next token that is drafted.
        written: Its events so far; a run that goes on from another begins with what stays of that one's. The list is
            appended to, and replaced where tokens are taken back.
        late: Candidates that were revealed after the last token.
        fixed: Whether there is nothing to go on with, as in an opened trace.
        about: What is said of it where it has nothing else to say.
        brought: Whether gradio has put it on the page, so that the feed need not.
        size: Bytes of the file that it was opened from.
    """

    def __init__(
        self,
        request: Request,
        after: Job | None = None,
        router_dials: Collection[str] = (),
        change: Change | None = None,
    ) -> None:
        super().__init__(after)
        self.request, self.router_dials, self.change = request, router_dials, change
        self.again = change is not None
        self.fixed = self.brought = False
        self.size = 0
        self.about = ""
        self.family: object = change.origin.family if change else object()
        self._handle: Callable[[], Any] = lambda: None
        self.beside = 0
        self.dial = Dial.of(request)
        self.written = Written([])
        self.late: list[Revealed] = []
        self.prompt_tokens = 0
        self._asked_weight = request_weight(request)

    @property
    def handle(self) -> Any:
        """The scheduler's; None before it was asked for the text, and when it needs it no more."""
        return self._handle()

    @property
    def events(self) -> list[TokenEvent]:
        """The text's so far."""
        return self.written.events

    @events.setter
    def events(self, events: list[TokenEvent]) -> None:
        self.written = Written(events)

    @property
    def complete(self) -> bool:
        """Whether the text ended by itself rather than being cut short."""
        events = self.events
        return bool(events) and events[-1].finish_reason not in (None, "cancelled")

    @property
    def extendable(self) -> bool:
        """Whether its text ended at the limit that was asked for, and the context has room for more; or it failed."""
        if self.fixed or self.active or not self.events:
            return False
        if self.events[-1].finish_reason is None:
            return self.state == "failed"
        has_room = self.prompt_tokens + len(self.events) < self.pair.context
        return self.events[-1].finish_reason == "length" and has_room

    @property
    def weight(self) -> int:
        """See `Job.weight`."""
        return max(len(self.events) + self._asked_weight, self.size // FILE_BYTES)

    @property
    def folded(self) -> tuple[TokenEvent, ...]:
        """The events with what was revealed later in its place."""
        return fold_revealed(self.events)

    @property
    def settings(self) -> Request:
        """What was asked, with the dials as they stood last."""
        last = self.events[-1] if self.events else self.request
        return replace(self.request, threshold=last.threshold, acceptance=last.acceptance)

    def show_again(self, after: Job | None) -> None:
        """Comes to the page anew, as it was left; `after` is the newest run of the session."""
        self.again = len({(event.threshold, event.acceptance) for event in self.events}) == 1
        self.request, self.brought = self.settings, False
        self.renumber(after)

    @property
    def _end(self) -> State:
        return "done" if self.complete else "stopped"

    def _write(self) -> None:
        handle, kept = self._ask()
        self.prompt_tokens = len(handle.order.prompt)
        try:
            for event in self._follow(handle.batch):
                if self.change is not None:
                    self._take_over(kept)
                self.beside = handle.beside
                self._add(event)
                self.notify()
        finally:
            if self.change is not None and handle.row is not None:  # also where it fails before its first token
                self._take_over(kept)

    def _ask(self) -> tuple[Any, Sequence[TokenEvent]]:
        """Asks the scheduler for the text: its handle, and what stays of the text that this one goes on from."""
        for name in self.router_dials:
            if getattr(self.dial, name) == getattr(self.request, name):
                # Asked for while the models loaded: the page's slider is about to move there, a short text is faster.
                self.request = replace(self.request, **{name: getattr(self.pair, name)})
                setattr(self.dial, name, getattr(self.pair, name))
        change, kept, after = self.change, [], None
        if change is not None:
            origin = change.origin
            origin.finished.wait()  # it was stopped, which takes a step
            while origin.change is not None:  # and that before it had begun
                origin = origin.change.origin
                origin.finished.wait()
            self.request, kept = change.plan(origin)
            after = None if change.moves else origin.handle
        handle = self.scheduler.submit(
            self.request,
            self.owner,
            dial=self.dial,
            after=after,
            events=kept,
            reveal=change is not None and (change.reveal or change.reveal_prefix),
            write=change is None or not change.reveal,
            stopped=self.unwanted,
        )
        self._handle = weakref.ref(handle)
        return handle, kept

    def _take_over(self, events: Sequence[TokenEvent]) -> None:
        """Begins with what stays of the run that this one goes on from."""
        self.change = None  # a newer run need not hold on to an older one
        self.late = self.handle.revealed
        if events and self.late:
            events = [*events[:-1], replace(events[-1], revealed=(*events[-1].revealed, *self.late))]
        self.events = list(fold_revealed(events))

    def _add(self, event: TokenEvent) -> None:
        events, cuts = self.written
        if event.index < len(events):
            events, cuts = [*events], (*cuts, event.index)  # who reads the old ones keeps them whole
        extend(events, event)
        self.written = Written(events, cuts)
