"""What `tools/soak` counted, how long things took, and what the page's process used; and all of it as tables."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.bench.markdown import table

SLOWER = 5.0
"""An honest visitor's first token may take so many times as long with attackers as without."""

SOON = 2.0
"""Seconds; a first token within them is soon enough in a short run, whose few texts without attackers say little."""

REFUSED = 0.25
"""So many of the texts that honest visitors ask for may be refused, of each kind."""

REFUSED_FOR = 5.0
"""Seconds for which an honest visitor may be refused on end, where an attack is looked at by itself."""

GROWTH = 0.05
"""Memory after the second half may be so much above that after the first, where attackers are there for an `HOUR`."""

SHORT_GROWTH = 0.25
"""The same where they are there for less: a server that has just started is still filling what it keeps."""

HOUR = 3600.0  # seconds
FEW = 10
"""Fewer times than this are not judged, and the report says so."""

_STEPS = 2  # of the curve over time


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
    """Counts of one part of the rehearsal; may be used from any thread.

    Attributes:
        errors: How often each kind of reason came, without its numbers.
        first: The first loss of each kind, with its numbers.
    """

    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    errors: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def held(self, what: str) -> None:
        """Counts a text that came whole, or an attack that did no harm."""
        with self._lock:
            self.rows[what].held += 1

    def refused(self, what: str, reason: str) -> None:
        """The page gave a reason in words, which is as good."""
        with self._lock:
            self.rows[what].refused += 1
            self.errors[f"refused: {_kind(reason)}"] += 1

    def lost(self, what: str, why: str) -> None:
        """Counts anything else. The first of each kind is printed at once, since a run may take an hour."""
        with self._lock:
            self.rows[what].lost += 1
            kind = f"**lost**: {what}: {_kind(why)}"
            self.errors[kind] += 1
            if kind not in self.first:
                self.first[kind] = _line(why)
                print(f"{time.strftime('%H:%M:%S')} lost: {what}: {_line(why)}", file=sys.stderr, flush=True)

    def time(self, what: str, seconds: float) -> None:
        """Notes how long something took."""
        with self._lock:
            self.times[what].append(seconds)

    @property
    def total(self) -> Row:
        """Of all that was tried."""
        rows = self.rows.values()
        return Row(*(sum(getattr(row, name) for row in rows) for name in ("held", "refused", "lost")))

    @property
    def losses(self) -> int:
        """Of all kinds."""
        return self.total.lost


def _kind(text: str) -> str:
    """A reason on one short line, with its numbers left out, so that the same ones are counted together."""
    return "".join("#" if each.isdigit() else each for each in _line(text))[:120]


def _line(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "/").replace("<", "‹").split())[:200]


@dataclass(frozen=True)
class Sample:
    """What the page's process used at a moment."""

    memory: int  # bytes resident
    threads: int
    descriptors: int
    at: float = 0.0  # seconds since the first
    at_rest: bool = False  # whether everybody had left

    @classmethod
    def of(cls, pid: int, at: float, at_rest: bool = False) -> Sample:
        """From /proc; OSError if the process is gone."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(1024 * int(status["VmRSS"].split()[0]), int(status["Threads"]), descriptors, at, at_rest)


class Sampler(threading.Thread):
    """Takes a sample every few seconds until it is stopped, or the process is gone."""

    def __init__(self, pid: int, every: float = 5.0) -> None:
        super().__init__(daemon=True)
        self.pid, self.every = pid, every
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._began = time.monotonic()

    def run(self) -> None:
        """See `threading.Thread`."""
        while not self._over.wait(self.every if self.samples else 0):
            try:
                self._take()
            except (OSError, KeyError):
                return

    def rest(self, seconds: float) -> None:
        """Waits so long, in which nobody comes and the process gives memory back, and takes a sample of that."""
        time.sleep(seconds)
        with suppress(OSError, KeyError):
            self._take(at_rest=True)

    def stop(self) -> list[Sample]:
        """All samples, with a last one."""
        self._over.set()
        self.join()
        with suppress(OSError, KeyError):
            self._take()
        return self.samples

    def _take(self, at_rest: bool = False) -> None:
        self.samples.append(Sample.of(self.pid, time.monotonic() - self._began, at_rest))


def growth(samples: list[Sample]) -> float | None:
    """Memory at rest after the second half over that after the first, less 1; None where it was not looked at.

    While clients are there it rises and falls by a fifth, with the largest of their requests.
    """
    rests = [sample.memory for sample in samples if sample.at_rest]
    return rests[1] / rests[0] - 1 if len(rests) == 2 else None


def counts_table(rows: list[tuple[str, Row]]) -> str:
    """What was tried."""
    counts = [
        [what, f"{row.tried:,}", f"{row.held + row.refused:,}", f"{row.refused:,}", f"{row.lost:,}"]
        for what, row in rows
    ]
    return table(["what", "tried", "held", "of these refused in words", "lost"], counts)


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
    """What the process used over time, in two steps, and the most."""
    if not samples:
        return "The process was gone before it could be looked at."
    chosen = sorted({round(n * (len(samples) - 1) / _STEPS) for n in range(_STEPS + 1)})
    most = Sample(*(max(getattr(s, name) for s in samples) for name in ("memory", "threads", "descriptors")))
    rows = [
        [name, f"{sample.memory / 1e6:.0f} MB", str(sample.threads), str(sample.descriptors)]
        for name, sample in [*((f"{samples[n].at / 60:.1f}", samples[n]) for n in chosen), ("most", most)]
    ]
    return table(["minutes", "memory", "threads", "descriptors"], rows)


def judged(parts: dict[str, Tally], samples: list[Sample], seconds: float) -> tuple[Tally, list[str]]:
    """The limits of the whole rehearsal, as rows; and in words which of them could not be judged.

    Args:
        parts: What honest visitors met: "without attackers" and "with attackers".
        seconds: How long attackers were there.
    """
    tally, silent = Tally(), []
    without, with_ = parts.values()
    for what in ("first token, by the feed", "first token, in a browser", "first token, by a program"):
        before, after = without.times.get(what, []), with_.times.get(what, [])
        if min(len(before), len(after)) >= FEW:
            slower, soon = statistics.median(after), SOON if seconds < HOUR else 0.0
            ratio = slower / statistics.median(before)
            holds = ratio <= SLOWER or slower <= soon
            _judge(tally, f"{what}: within {SLOWER:.0f} times", holds, f"{ratio:.1f} times as long")
        elif before or after:
            silent.append(f"{what}: {len(before)} without attackers and {len(after)} with them, {FEW} of each are due")
    for part, visitors in parts.items():
        for what, row in [*visitors.rows.items()]:
            if what.startswith("texts") and row.tried >= FEW:
                share = row.refused / row.tried
                _judge(tally, f"{what}, {part}: {REFUSED:.0%} refused at most", share <= REFUSED, f"{share:.0%}")
            elif what.startswith("texts"):
                silent.append(f"{what}, {part}, share refused: {row.tried} tried, {FEW} are due")
    grown, bound = growth(samples), GROWTH if seconds >= HOUR else SHORT_GROWTH
    if grown is not None:
        row = f"memory after the second half within {bound:.0%} of that after the first"
        _judge(tally, row, grown <= bound, f"{grown:+.1%}")
    else:
        silent.append("memory: it was not looked at when all had left, after each half")
    return tally, silent


def _judge(tally: Tally, what: str, holds: bool, found: str) -> None:
    if holds:
        tally.held(what)
    else:
        tally.lost(what, found)


def clock(seconds: float) -> float:
    """The moment (`time.monotonic`) in so many seconds."""
    return time.monotonic() + seconds
