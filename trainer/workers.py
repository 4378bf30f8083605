"""Sharing work: any number of processes, on one or several machines, make the files of a folder, one at a time each.

A lock beside a file says that somebody makes it. The lock is the operating system's and ends with its process, so a
killed worker holds none. A file is written under another name and renamed, so a file that exists is whole.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from engine.models.files import remove
from trainer import Report, TrainerError

LOOK = 0.5
"""Seconds between two looks at what other processes are making."""


def make_all(
    paths: Sequence[Path],
    make: Callable[[int, Path], None],
    what: str,
    report: Report = print,
) -> None:
    """Makes the missing ones of some files or folders, together with other processes, until all are there.

    Args:
        paths: In one folder, which exists.
        make: Writes the file of a number (an index of `paths`) to the path that it is given.
        what: What the files are, for people.
    """
    started, done, waiting = time.monotonic(), 0, False
    if there := sum(path.exists() for path in paths):
        report(f"{what}: {there} of {len(paths)} are there already")
    while missing := [number for number, path in enumerate(paths) if not path.exists()]:
        before = done
        for number in missing:
            with _taken(paths[number]) as mine:
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
def alone_at(path: Path) -> Iterator[None]:
    """Waits until no other process works at `path`, and keeps others waiting while the block runs."""
    with _taken(path, wait=True):
        yield


@contextmanager
def _taken(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone works at `path` while the block runs."""
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except OSError as error:
        reason = error.strerror or error
        raise TrainerError(f"{lock.lock_file} cannot be written ({reason}): choose another folder") from None
    try:
        yield True
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # before the release: whoever waits for it sees that it is gone
        lock.release()


def _make(path: Path, make: Callable[[Path], None]) -> None:
    for left in path.parent.glob(f"partial-*-{path.name}"):  # by a process that was killed
        remove(left)
    partial = path.with_name(f"partial-{socket.gethostname()}-{os.getpid()}-{path.name}")
    try:
        make(partial)
        if not path.exists():  # else another process, without such locks, has made the same
            partial.rename(path)
    finally:
        remove(partial)
