"""Jobs: what the models do for one visitor, in a thread of its own, one at a time and stopped within one step.

A job waits for the models and for its turn, works, and says how it ended; whoever shows it reads what it has so far.
Knows the host; knows nothing of gradio, nor of what a job does (`app.runs` and others say so in `_write`).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from app.host import Host
from engine import EngineError

State = Literal["waiting", "running", "done", "stopped", "failed"]
SomeJob = TypeVar("SomeJob", bound="Job")

logger = logging.getLogger(__name__)


class Job:
    """Something the models do.

    Attributes:
        id: Unguessable; whoever knows it may ask for what it has again.
        number: Grows from job to job, across restarts too, so that late news of an older one can be told from new.
        cancel: Set to stop the models within one step.
        finished: Set when it has ended, whichever way.
        state: "waiting" for models or for its turn, then "running", then one of the three ends.
        error: Why it failed.
        pair: The models that do it, once there are any.
        host: Has them.
        ring: Called whenever there is something new to show.
    """

    def __init__(self, after: Job | None = None) -> None:
        now = int(1000 * time.time())
        self.number = max(now, after.number + 1) if after else now
        self.id = secrets.token_urlsafe(12)
        self.cancel = threading.Event()
        self.finished = threading.Event()
        self.state: State = "waiting"
        self.error: str | None = None
        self.pair: Any = None
        self.host: Host | None = None
        self.ring: Callable[[], None] = lambda: None

    def start(self: SomeJob, host: Host) -> SomeJob:
        """Starts in a thread of its own; returns itself."""
        threading.Thread(target=self.work, args=(host,), name=f"citer-run-{self.number}", daemon=True).start()
        return self

    def work(self, host: Host) -> None:
        """Waits for the models and its turn, then works until the end or until cancelled. Never raises."""
        end: State = "failed"
        self.host = host
        try:
            self.pair = host.wait(self.cancel)
            with host.turn(self, self.cancel) as mine:
                if mine and self.pair is not None:
                    self._write()
            end = self._end
        except EngineError as error:
            self.error = str(error)
        except Exception as error:  # a visitor sees what happened; the log has the traceback
            logger.exception("job failed")
            self.error = f"The models stopped with an internal error ({type(error).__name__}: {error})."
        finally:
            self.state = end  # before `finished`: who sees that must see how
            self.finished.set()
            self.ring()

    @property
    def on(self) -> bool:
        """Whether it has not ended yet."""
        return not self.finished.is_set()

    @property
    def _end(self) -> State:
        """How it ended, where nothing failed."""
        return "stopped" if self.cancel.is_set() else "done"

    def told_state(self, whole: bool) -> State:
        """Its state, as a message tells it; to be read before what the message holds.

        Args:
            whole: Whether the message has all that there is. A part tells no end, which may have come since somebody
                looked, with more than the part; the next message has both.
        """
        state = self.state
        return state if whole or state == "waiting" else "running"

    def _write(self) -> None:
        """What it does with `self.pair`, in its turn; sets `state` to "running" once nothing can be refused any more.

        Raises:
            EngineError: What was asked cannot be done.
        """
        raise NotImplementedError
