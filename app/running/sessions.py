"""The sessions of all visitors: how many there may be, and which goes when another one needs its room."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from app.running.job import Job
from app.running.session import Session
from engine import Request
from engine.guard.refusals import LATER, Busy, Places

MAX_EMPTY = 1_024
"""Sessions without a text or a job, at most: a few hundred bytes each."""

MAX_KEPT = 250_000
"""Of all windows together, in tokens as `Job.weight` counts them: half a gigabyte, or five of the largest traces."""

LITTLE = 50
"""Tokens that a newcomer may bring even where others leave no room: 100,000 characters."""


class Sessions:
    """The sessions of all visitors.

    At most `limit` sessions have a text or a job, and at most half of these belong to one known client address. The
    tokens that they keep are bounded in the same way. A newcomer takes the place of a session that is not in use: first
    of one that no browser has open, then of one at the address with the most sessions, the least recently used first.
    Where all are in use, the newcomer is refused. Of sessions without a text or a job the newest `MAX_EMPTY` stay.

    Args:
        limit: How many.
        places: For their jobs; None sets no limit.
        address: Gives the address of who is asking now; None where it is not known.
        leave: Called with the key of a session that is dropped.
    """

    def __init__(
        self,
        limit: int = 64,
        places: Places | None = None,
        address: Callable[[], str | None] = lambda: None,
        leave: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._limit, self._places, self._address, self._leave = limit, places, address, leave
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._open: Counter[str] = Counter()  # heartbeats of windows, by their names
        self._lock = threading.Lock()

    @contextmanager
    def beating(self, name: str) -> Iterator[None]:
        """A browser has the window of this name open until the end of the block."""
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
                self.leave(name)

    def get(self, key: str | None) -> Session:
        """The session of a browser window, new where none is known. Those whose windows went for good are dropped."""
        name, gone = key or "", []
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                gone = [of for of in self._sessions.values() if of.is_over]
                empty = [of for of in self._sessions.values() if not (of.holds or of.in_use)]
                empty.sort(key=self._is_open)  # invented windows before those that somebody has open
                gone += empty[: max(0, len(empty) + 1 - MAX_EMPTY)]
                session = self._sessions[name] = Session(self._admit, name)
            self._sessions.move_to_end(name)
            session.left = False
        for of in gone:
            self.drop(of.name)
        return session

    def adopt(self, key: str | None, former: str) -> Session:
        """Like `get`, for a window that was loaded again: it takes over the session whose feed has the key `former`."""
        name, session = key or "", self.get(key)
        with self._lock:
            left = next((of for of in self._sessions.values() if of.holds and of.key == former), None)
            if left is None or session.holds:
                return session
            del self._sessions[left.name]
            self._sessions[name] = left
            left.name, left.left, left.listeners.last_heard = name, False, time.monotonic()
        return left

    def leave(self, key: str | None) -> None:
        """A window goes: what it has is kept for `KEPT_SECONDS`, in which it may come back by `adopt`."""
        with self._lock:
            session = self._sessions.get(key or "")
            if session is not None and not session.holds:
                del self._sessions[session.name]
        if session is not None:
            session.leave()

    def _admit(self, session: Session, job: Job, replaced: Collection[Job | None]) -> None:
        """Before a session begins a job: finds a place for both, or raises Busy."""
        stopped = None
        with self._lock:
            address = self._address()
            dropped = self._leaving(session, address, job)
            if self._places is not None and job.active:
                stopped = self._take_place(self._places, job, address, replaced)
            doubled = self._sessions.get(session.name)  # made where nobody kept this one yet
            if doubled is not None and doubled is not session:
                dropped.append(doubled)
            for of in dropped:
                del self._sessions[of.name]
            self._sessions[session.name] = session
            self._sessions.move_to_end(session.name)
            session.holds, session.address = True, address
        if stopped is not None:
            stopped.close()
        for of in dropped:
            self._close(of)

    def _take_place(
        self, places: Places, job: Job, address: str | None, replaced: Collection[Job | None]
    ) -> Session | None:
        """Gives a job a place; returns the session whose texts have to stop for it, because no window follows them."""
        try:
            places.take(job, address, replaced)
            return None
        except Busy:
            count = Counter(of.address for of in self._sessions.values() if of.active)
            alone = [of for of in self._sessions.values() if of.active and _gives_way(of, address, count)]
            for of in sorted(alone, key=lambda of: (-count[of.address], of.listeners.last_heard)):
                with suppress(Busy):
                    places.take(job, address, [*replaced, *of.working])
                    return of
            raise

    def _leaving(self, session: Session, address: str | None, job: Job) -> list[Session]:
        """The sessions to drop so that `session` has room for a job; raises Busy if too few can be dropped.

        If what other windows keep leaves no room, only a job that is large from the start is refused, e.g. an opened
        trace or a long prompt.
        """
        held = [of for of in self._sessions.values() if of.holds and of.name != session.name]
        count = Counter(of.address for of in held)
        held.sort(key=lambda of: (self._is_open(of), -count[of.address]))
        near = [of for of in held if of.address == address is not None]
        leaving: list[Session] = []
        for group, part in ((near, 2), (held, 1)):  # of an address half, then of all together
            most, room = max(1, self._limit // part), MAX_KEPT // part - session.weight - job.weight
            staying = [of for of in group if of not in leaving]
            while staying and (len(staying) >= most or sum(of.weight for of in staying) > room):
                ways = (of for of in staying if _gives_way(of, address, count))
                idle = next((of for of in staying if not of.in_use), next(ways, None))
                if idle is not None:
                    staying.remove(idle)
                    leaving.append(idle)
                elif len(staying) >= most or job.weight > LITTLE:
                    whose = "your network address" if part > 1 else "all visitors"
                    said = f"There is no room: {whose} may have {most} windows in use, and what these keep is bounded. "
                    raise Busy(said + LATER)
                else:
                    break
        return leaving

    def _is_open(self, session: Session) -> bool:
        return session.name in self._open

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the page's, as a job has, for something else that takes a while; raises Busy."""
        job = Job(Request("a file"))
        if self._places is not None:
            self._places.take(job, self._address())
        try:
            yield
        finally:
            job.finished.set()

    def drop(self, key: str | None) -> None:
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            self._close(session)

    def find_key(self, key: str) -> Session | None:
        return next((session for session in self._all() if session.key == key), None)

    def find(self, job_id: str) -> Job | None:
        """The text or job with this id, if it is still there."""
        jobs = (job for session in self._all() for job in (*session.history.versions, *session.jobs.values()))
        return next((job for job in jobs if job.id == job_id), None)

    def _close(self, session: Session) -> None:
        session.close()
        if session.holds:
            self._leave(session.key)

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())


def _gives_way(session: Session, address: str | None, count: Counter[str | None]) -> bool:
    """Whether a window that nobody follows loses its place to a newcomer at `address`.

    It does so after a while, and at once if its own address has more windows (`count`) than the newcomer's would have.
    """
    has_more = None not in (address, session.address) and count[session.address] > count[address] + 1
    return not len(session.listeners) and (session.is_alone or has_more)
