"""The sessions of all visitors: which are kept, bounded, and never seen by another window."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection

from app.running.places import LATER, Busy, Places
from app.running.run import Job, Run
from app.running.session import Session, View
from engine import InvalidRequest

MAX_EMPTY = 1_024
"""Windows that have nothing yet of which anything is kept: a few hundred bytes each."""

LONGEST_HASH = 100
"""Characters of what a window calls itself; gradio's have some ten, and its Python client's 36."""


class Sessions:
    """The sessions of all visitors.

    At most `limit` that have a text or a job. One that is in use is never dropped for another: then the newcomer is
    refused; else the least recently used is. Of those that have nothing at most `MAX_EMPTY` are remembered.

    Args:
        limit: How many.
        view: A new session's.
        places: For their jobs; None sets no limit.
        address: Gives the address of who is asking now; None where it is not known.
        leave: Is told the key of a session that is dropped.
    """

    def __init__(
        self,
        limit: int = 64,
        view: View | None = None,
        places: Places | None = None,
        address: Callable[[], str | None] = lambda: None,
        leave: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._limit, self._view, self._places, self._address = limit, view, places, address
        self._leave = leave
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str | None) -> Session:
        """The session of a browser window; one that is not known here is new, and kept once it begins something.

        Raises:
            InvalidRequest: Its name is too long.
        """
        name = key or ""
        if len(name) > LONGEST_HASH:
            raise InvalidRequest(f"session_hash has {len(name):,} characters; at most {LONGEST_HASH} are accepted.")
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                return Session(self._view, lambda *asked: self._admit(name, *asked))
            self._sessions.move_to_end(name)
            return session

    def enter(self, key: str | None) -> Session:
        """`get` for a window that was just opened: what it is told now holds for what it begins later."""
        name, session = key or "", self.get(key)
        with self._lock:
            session = self._sessions.setdefault(name, session)
            empty = [other for other, of in self._sessions.items() if not of.holds and not of.in_use]
            for other in empty[: max(0, len(empty) - MAX_EMPTY)]:
                del self._sessions[other]
        return session

    def _admit(self, name: str, session: Session, job: Job, replaced: Collection[Job | None]) -> None:
        """Before a session begins a job: finds a place for both, or raises Busy."""
        with self._lock:
            others = {other: of for other, of in self._sessions.items() if of.holds and other != name}
            idle = None
            if len(others) >= self._limit:
                idle = next((other for other, of in others.items() if not of.in_use), None)
                if idle is None:
                    raise Busy(f"{self._limit} visitors are here, which is all there is room for. {LATER}")
            if self._places is not None and job.active:
                self._places.take(job, self._address(), replaced)
            dropped = self._sessions.pop(idle) if idle is not None else None
            doubled = self._sessions.get(name)  # made where nobody kept this one yet
            self._sessions[name] = session
            self._sessions.move_to_end(name)
            session.holds = True
        for other in (dropped, doubled):
            if other is not None and other is not session:
                self._close(other)

    def drop(self, key: str | None) -> None:
        """Forgets a session and stops its run."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            self._close(session)

    def find_key(self, key: str) -> Session | None:
        """The session whose feed has this key."""
        return next((session for session in self._all() if session.key == key), None)

    def find_job(self, kind: str, job_id: str) -> Job | None:
        """The job of a kind with this id, if it is still there."""
        jobs = (session.jobs.get(kind) for session in self._all())
        return next((job for job in jobs if job is not None and job.id == job_id), None)

    def find(self, run_id: str) -> tuple[Session, Run] | None:
        """The run with this id and its session, if it is still there."""
        runs = ((session, run) for session in self._all() for run in (session.run, session.shown))
        return next(((session, run) for session, run in runs if run is not None and run.id == run_id), None)

    def _close(self, session: Session) -> None:
        session.close()
        self._leave(session.key)

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())
