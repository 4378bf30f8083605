"""Sharing work: any number of processes, on one or several machines, make the files of a folder, one at a time each.

Whoever works at a file holds a lock beside it and renews it. A lock that is not renewed belonged to a worker that has
died, and its file is made by another. A file is written beside and renamed, so that one which exists is complete. Two
workers that make the same file by mistake write the same bytes, so no result depends on how the work was shared.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.models.files import remove
from trainer import TrainerError

LOCK = ".lock"
BEAT = 10.0
"""Seconds between two renewals of a lock."""

DEAD = 120.0
"""Seconds after which a lock that was not renewed counts for nothing. Clocks of machines must differ by less."""

LOOK = 1.0
"""Seconds between looks at what others are making."""

_HERE = f"{socket.gethostname()} {os.getpid()}"


def make_all(
    paths: Sequence[Path],
    make: Callable[[int, Path], None],
    what: str,
    report: Callable[[str], None] = print,
) -> None:
    """Makes what is missing of some files or folders, together with others who do the same, until all are there.

    Args:
        paths: In one folder, which is there.
        make: Writes the path of a number, under another name.
        what: What they are, for people.
        report: Told how far it is.
    """
    started, done, waiting = time.monotonic(), 0, False
    if there := sum(path.exists() for path in paths):
        report(f"{what}: {there} of {len(paths)} are there already")
    while missing := [number for number, path in enumerate(paths) if not path.exists()]:
        before = done
        for number in missing:
            with taken(paths[number]) as mine:
                if not mine or paths[number].exists():
                    continue
                _make(paths[number], lambda partial, number=number: make(number, partial))
                done += 1
            left = sum(not path.exists() for path in paths)
            minutes = (time.monotonic() - started) / done * left / 60
            report(f"{what}: {len(paths) - left} of {len(paths)} done, about {minutes:.0f} min left")
        if done == before:
            if not waiting:
                report(f"waiting for {len(missing)} that other processes are making in {paths[0].parent}")
            waiting = True
            time.sleep(LOOK)


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether this process alone works at `path` while the block runs."""
    lock = path.with_name(path.name + LOCK)
    if not _take(lock):
        yield False
        return
    over = threading.Event()
    beat = threading.Thread(target=_renew, args=(lock, over), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        over.set()
        beat.join()
        lock.unlink(missing_ok=True)


@contextmanager
def alone_at(path: Path) -> Iterator[None]:
    """Waits until this process alone works at `path`."""
    while True:
        with taken(path) as mine:
            if mine:
                yield
                return
        time.sleep(LOOK / 20)


def _make(path: Path, make: Callable[[Path], None]) -> None:
    for left in path.parent.glob(f"partial-*-{path.name}"):  # by a worker that has died
        remove(left)
    partial = path.with_name(f"partial-{_HERE.replace(' ', '-')}-{path.name}")
    try:
        make(partial)
        if not path.exists():  # else another worker has made the same
            partial.rename(path)
    finally:
        remove(partial)


def _take(lock: Path) -> bool:
    for _ in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(_HERE)
            return True
        except FileExistsError:
            if not _is_dead(lock):
                return False
            lock.unlink(missing_ok=True)
        except OSError as error:
            raise TrainerError(f"{lock} cannot be written ({error.strerror or error}): choose another folder") from None
    return False


def _is_dead(lock: Path) -> bool:
    """Whether nobody holds a lock any more: it is old, or was made by a process of this machine that has ended."""
    try:
        age, (host, _, pid) = time.time() - lock.stat().st_mtime, lock.read_text("utf-8").partition(" ")
    except OSError:
        return True
    if age > DEAD:
        return True
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _renew(lock: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)
