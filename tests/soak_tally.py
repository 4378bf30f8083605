"""What `tests/soak.py` counted, how long things took, and what the page's process used; and all of it as tables."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.benchmark.markdown import table

SLOWER = 5.0
"""An honest visitor's first token may take so many times as long with attackers as without."""

GROWTH = 0.05
"""Memory after the second half may be so much above that after the first, where the halves are long enough to tell."""

LONG_ENOUGH = 1800.0  # seconds
_FEW = 10  # times of which no median is judged


@dataclass
class Row:
    """How something went."""

    held: int = 0
    refused: int = 0
    lost: int = 0

    @property
    def tried(self) -> int:
        """How often."""
        return self.held + self.refused + self.lost


@dataclass
class Tally:
    """Counts of one part of the rehearsal; may be used from any thread."""

    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    errors: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def held(self, what: str) -> None:
        """It came whole, or did no harm."""
        with self._lock:
            self.rows[what].held += 1

    def refused(self, what: str, reason: str) -> None:
        """The page gave a reason in words, which is as good."""
        with self._lock:
            self.rows[what].refused += 1
            self.errors[f"refused: {_kind(reason)}"] += 1

    def lost(self, what: str, why: str) -> None:
        """Anything else."""
        with self._lock:
            self.rows[what].lost += 1
            self.errors[f"**lost**: {what}: {_kind(why)}"] += 1

    def time(self, what: str, seconds: float) -> None:
        """Notes how long something took."""
        with self._lock:
            self.times[what].append(seconds)

    @property
    def losses(self) -> int:
        """Of all kinds."""
        return sum(row.lost for row in self.rows.values())


def _kind(text: str) -> str:
    """A reason on one short line of Markdown, with its numbers left out, so that the same ones are counted together."""
    line = " ".join(text.replace("`", "'").replace("|", "/").replace("<", "‹").split())
    return "".join("#" if each.isdigit() else each for each in line)[:120]


@dataclass(frozen=True)
class Sample:
    """What the page's process used at a moment."""

    memory: int  # bytes resident
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """From /proc; OSError if the process is gone."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(1024 * int(status["VmRSS"].split()[0]), int(status["Threads"]), descriptors)


class Sampler(threading.Thread):
    """Takes a sample every few seconds until it is stopped, or the process is gone."""

    def __init__(self, pid: int, every: float = 5.0) -> None:
        super().__init__(daemon=True)
        self.pid, self.every = pid, every
        self.samples: list[Sample] = []
        self._over = threading.Event()

    def run(self) -> None:
        """See `threading.Thread`."""
        while not self._over.wait(self.every if self.samples else 0):
            try:
                self.samples.append(Sample.of(self.pid))
            except (OSError, KeyError):
                return

    def stop(self) -> list[Sample]:
        """All samples, with a last one."""
        self._over.set()
        self.join()
        with suppress(OSError, KeyError):
            self.samples.append(Sample.of(self.pid))
        return self.samples


def growth(samples: list[Sample]) -> float | None:
    """Memory at the end of the second half over that at the end of the first, less 1; medians of a tenth each."""
    if len(samples) < 4:
        return None
    some, half = max(1, len(samples) // 10), len(samples) // 2
    first, second = (statistics.median(s.memory for s in part[-some:]) for part in (samples[:half], samples[half:]))
    return second / first - 1


def counts_table(parts: list[tuple[str, Tally]]) -> str:
    """What was tried, part by part."""
    rows = [
        [f"{what}{part}", f"{row.tried:,}", f"{row.held + row.refused:,}", f"{row.refused:,}", f"{row.lost:,}"]
        for part, tally in parts
        for what, row in tally.rows.items()
    ]
    return table(["what", "tried", "held", "of these refused in words", "lost"], rows)


def times_table(without: Tally, with_: Tally) -> str:
    """How long visitors waited, without and with attackers."""
    rows = []
    for what in dict.fromkeys((*without.times, *with_.times)):
        before, after = without.times.get(what, []), with_.times.get(what, [])
        ratio = statistics.median(after) / statistics.median(before) if before and after else None
        rows.append([what, *_spread(before), *_spread(after), "–" if ratio is None else f"{ratio:.1f} ×"])
    head = ["seconds", "without: median", "worst", "with attackers: median", "worst", "median, with / without"]
    return table(head, rows)


def _spread(seconds: list[float]) -> list[str]:
    return [f"{statistics.median(seconds):.2f} ({len(seconds)})", f"{max(seconds):.2f}"] if seconds else ["–", "–"]


def samples_table(samples: list[Sample]) -> str:
    """What the process used at the start, half and end."""
    if not samples:
        return "The process was gone before it could be looked at."
    moments = [("start", samples[0]), ("half", samples[len(samples) // 2]), ("end", samples[-1])]
    most = Sample(*(max(getattr(s, name) for s in samples) for name in ("memory", "threads", "descriptors")))
    rows = [
        [name, f"{sample.memory / 1e6:.0f} MB", str(sample.threads), str(sample.descriptors)]
        for name, sample in [*moments, ("most", most)]
    ]
    return table(["the page's process", "memory", "threads", "descriptors"], rows)


def judged(without: Tally, with_: Tally, samples: list[Sample], seconds: float) -> Tally:
    """The two limits that the whole rehearsal has, as rows."""
    tally = Tally()
    for what in ("first token, by the feed", "first token, in a browser"):
        before, after = without.times.get(what, []), with_.times.get(what, [])
        if min(len(before), len(after)) >= _FEW:
            ratio, row = statistics.median(after) / statistics.median(before), f"{what}: within {SLOWER:.0f} times"
            if ratio <= SLOWER:
                tally.held(row)
            else:
                tally.lost(row, f"{ratio:.1f} times as long")
    grown, row = growth(samples), f"memory of the second half within {GROWTH:.0%} of the first's"
    if grown is not None and seconds >= LONG_ENOUGH:
        if grown <= GROWTH:
            tally.held(row)
        else:
            tally.lost(row, f"{grown:+.1%}")
    return tally


def clock(seconds: float) -> float:
    """The moment (`time.monotonic`) in so many seconds."""
    return time.monotonic() + seconds
