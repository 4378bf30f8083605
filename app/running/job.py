"""Jobs: what is written for one visitor, with a thread of its own that takes what comes; stopped within one step.

A job waits for the models, asks their scheduler for texts, and says how it ended; the page reads what it has so far.
"""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

from app.running.host import Host
from engine import EngineError, Request, Setting, TokenEvent
from engine.batch.text import State, Text, follow
from engine.errors import log_fault
from engine.grading import is_right

Settle = Callable[[Setting, Any], Setting]
SomeJob = TypeVar("SomeJob", bound="Job")

logger = logging.getLogger(__name__)

TOKEN_BYTES = 2_000

FILE_BYTES = 400
"""Bytes of a trace's file for each token; in memory a token takes some five times as much."""

_AUTHOR_BYTES = 100
"""Bytes of memory that each entry of `Turn.authors` takes."""


class Job:
    """Something the models do.

    Args:
        request: What is asked.
        after: The newest job of the window before it.

    Attributes:
        id: Unguessable; a browser that knows it may ask for the job's results again.
        number: Grows from job to job, across restarts too, so that late messages of an older job can be recognised.
        cancel: Set to stop the models within one step.
        owner: Whose it is, for the scheduler: rows are shared out evenly among owners.
        state: "waiting" until its first token, then "running", then one of the three ends.
        about: A note for people, shown where there is no other.
        answer: The right answer of its prompt; empty where none is known.
        pair: The models, once they are loaded.
        notify: Called whenever there is something new to show.
        look: Called before each step; cancels it where nobody waits for it any more.
        settle: Gives the setting to write at, as soon as the pair is loaded; it replaces a policy that the pair lacks.
        message_seconds: Between two messages about it, at least.
    """

    message_seconds = 0.0

    def __init__(self, request: Request, after: Job | None = None) -> None:
        self.request = request
        self.renumber(after)
        self.owner: Hashable = None
        self.id, self.cancel, self.finished = secrets.token_urlsafe(12), threading.Event(), threading.Event()
        self.state: State = "waiting"
        self.error: str | None = None
        self.about = self.answer = ""
        self.pair: Any = None
        self.host: Host | None = None
        self._pending: Sequence[Text] = ()  # what the scheduler writes for it
        self.notify: Callable[[], None] = lambda: None
        self.look: Callable[[], None] = lambda: None
        self.settle: Settle = lambda setting, pair: replace(setting, policy=pair.default_policy(setting.policy))

    def renumber(self, after: Job | None) -> None:
        """Gives it a new number, so that what is shown of it again is news to a browser."""
        now = int(1000 * time.time())
        self.number = max(now, after.number + 1) if after else now

    def start(self, host: Host) -> Self:
        threading.Thread(target=self.work, args=(host,), name=f"citer-run-{self.number}", daemon=True).start()
        return self

    def work(self, host: Host) -> None:
        """Waits for the models, then works until the end or until cancelled. Never raises."""
        end: State = "failed"
        self.host = host
        self.answer = "" if self.request.turns else host.answers.get(self.request.prompt.strip(), "")
        try:
            self.pair = host.wait(self.cancel)
            if self.pair is not None and not self.unwanted():
                self.request = replace(self.request, setting=self.settle(self.request.setting, self.pair))
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
        self.look()
        return self.cancel.is_set()

    @property
    def place(self) -> tuple[int, float | None]:
        """Its place in the scheduler's line (see `Scheduler.place`), and in about how many seconds it may get a row."""
        first = next((text for text in self._pending if not text.ended), None)
        if first is None:
            return 0, None
        return self.scheduler.place(first), self.scheduler.estimate(first)

    @property
    def paused(self) -> bool:
        """Whether others have its rows in the middle of its texts; it goes on by itself."""
        texts = self._pending if self.state == "running" else ()
        return {text.state for text in texts if not text.ended} == {"waiting"}

    @property
    def active(self) -> bool:
        return not self.finished.is_set()

    @property
    def _end(self) -> State:
        return "stopped" if self.cancel.is_set() else "done"

    @property
    def weight(self) -> int:
        """The memory that it holds, counted in tokens: one with both models' candidates takes `TOKEN_BYTES`."""
        return 0

    def is_right(self, events: Sequence[TokenEvent]) -> bool | None:
        """Whether a text gives the right answer; None where none is known."""
        return is_right("".join(event.text for event in events), self.answer) if self.answer else None

    def heading(self, cut: int, count: int, state: State, note: str = "") -> dict[str, Any]:
        """How the messages about it begin.

        Returns:
            `run` and `n`: its id and number; `cut`: how many items stay on the page, `count`: how many follow; `state`;
            `note` for people.
        """
        note = self.error or note or self.about
        return {"run": self.id, "n": self.number, "cut": cut, "count": count, "state": state, "note": note}

    def message(self, have: int, over: bool) -> tuple[str, int]:
        """A message for a browser that has the first `have` results, as JSON, and how many it has after it.

        `over` says that the job has ended.
        """
        raise NotImplementedError

    def told_state(self, over: bool) -> State:
        """The state to send with a message, to be read before its content; `over` if it brings the last of it.

        A part never says that the job has ended: the next message brings what the part lacks together with the end.
        """
        state = self.state
        return state if over or state == "waiting" else "waiting" if self.paused else "running"

    def _write(self) -> None:
        """Asks `scheduler` for texts and takes what comes."""
        raise NotImplementedError

    @property
    def scheduler(self) -> Any:
        """What writes the texts; only once the models are loaded."""
        assert self.host is not None
        return self.host.scheduler

    def _submit(self, requests: Sequence[Request], interactive: bool = False) -> list[Text]:
        return self.scheduler.submit_all(requests, self.owner, interactive=interactive, stopped=self.unwanted)

    def _follow(self, texts: Sequence[Text]) -> Iterator[TokenEvent]:
        """The events of what was asked for, as they come; raises why one failed."""
        self._pending = texts
        try:
            for event in follow(texts):
                self.state = "running"
                yield event
        finally:
            self._pending = ()


def text_bytes(*texts: str | None) -> int:
    """Memory of some texts: one byte a character, or up to four."""
    return sum(sys.getsizeof(text) for text in texts if text)


def request_weight(request: Request) -> int:
    """The weight of a request (see `Job.weight`): its texts, which may be long, and the authors noted in its turns."""
    texts = text_bytes(request.prompt, request.system, *request.stop, *(turn.text for turn in request.turns))
    authors = sum(len(turn.authors) for turn in request.turns)
    return (texts + _AUTHOR_BYTES * authors) // TOKEN_BYTES
