"""Each attack alone beside honest visitors, as `make soak-attacks`: what it takes from them.

Every attack has a page of its own: first only honest visitors come, then the same beside attackers who do nothing else.
It holds if no honest text is lost, nobody is refused for longer than 5 s on end, and a first token takes at most five
times as long. What was measured is kept line by line in the repository (`--results`), so a run that is broken off goes
on where it was, on another machine too. `--write` puts the table into docs/reliability.md. Ends with status 1 if an
attack did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from engine.bench.markdown import filled, table
from engine.guard.server import raise_descriptors
from engine.provenance import ROOT, hardware, revision
from tools.soak.attackers import damaged_traces
from tools.soak.page import LONGEST, Served
from tools.soak.stage import APP, check_log, check_rows, honest, one_text, page, say, side_by_side
from tools.soak.strangler import Strangler
from tools.soak.tally import REFUSED_FOR, SLOWER, Tally, clock
from tools.soak.visitors import Texts

PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "assets" / "benchmarks" / "attacks.jsonl"
_FIRST = ("first token, by the feed", "first token, by a program")
_TRACES = 50  # mutated ones that attackers draw from
_SLOWER = 1.5  # times as long: from here on an attack is in the table


@dataclass(frozen=True)
class Measured:
    """What one attack did.

    Attributes:
        minutes: How long it went on.
        texts: Honest texts that were asked for.
        lost: Texts and other things that were lost, and harm that the attack did.
        refused: The longest time in which an honest visitor was refused on end, in seconds.
        quiet, under: The median time to an honest first token, in seconds; None without any.
        first_loss: The first thing that was lost.
    """

    attack: str
    minutes: float
    texts: int
    lost: int
    refused: float
    quiet: float | None
    under: float | None
    first_loss: str
    revision: str
    hardware: str

    @property
    def slower(self) -> float | None:
        """How many times as long a first token took."""
        return self.under / self.quiet if self.under and self.quiet else None

    @property
    def holds(self) -> bool:
        """Whether it is within all bounds."""
        return not self.lost and self.refused <= REFUSED_FOR and self.slower is not None and self.slower <= SLOWER


def main(arguments: list[str] | None = None) -> int:
    """Runs the attacks that were not measured yet, and prints the table; 1 if one does not hold."""
    options, where = _parser().parse_args(arguments), (revision(), hardware())
    raise_descriptors()  # for thousands of silent connections
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the page's process ends as well
    nobody = Strangler(Served("http://localhost/", {}, (), 0, 0), Tally(), {}, [], "", 0, 0)
    names = [what for what, _ in nobody.alone() if options.only in what]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    there = _read(options.results, options.minutes)
    missing = [what for what in names if what not in there]
    for number, what in enumerate(missing[: options.most], 1):
        say(f"{number} of {len(missing)}: {what}")
        there[what] = measured = measure(what, options, where)
        with options.results.open("a", encoding="utf-8") as results:
            results.write(json.dumps(asdict(measured)) + "\n")
    found = [there[what] for what in names if what in there]
    text = report(found, options, left=len(names) - len(found))
    print(text)
    if options.write:
        PAGE.write_text(filled(PAGE, {"attacks": text}), encoding="utf-8")
    return int(not all(each.holds for each in found))


def measure(what: str, options: argparse.Namespace, where: tuple[str, str]) -> Measured:
    """One attack, on a page of its own; `where` are revision and hardware."""
    marker, texts = f"plugh{options.seed:x}xyzzy", Texts()
    quiet, under, after = Tally(), Tally(), Tally()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        log = Path(folder) / "log"
        with page(options.app, log) as (url, _):
            served = Served.read(url)
            trace = one_text(served, after, marker, "a first text") or {}
            # Drawing damaged traces takes longer than some attacks.
            traces = damaged_traces(trace, _TRACES, options.seed) if "mutated" in what else []
            sides = options, served, texts, marker
            side_by_side(honest(*sides, quiet, 0), [], clock(60 * options.quiet))
            # In a process of their own, attackers take the page's time and not that of the visitors' threads.
            fork = multiprocessing.get_context("fork")
            harm = fork.SimpleQueue()
            attacking = fork.Process(
                target=_attack, args=(what, options, served, trace, traces, marker, harm), daemon=True
            )
            attacking.start()
            side_by_side(honest(*sides, under, options.visitors + options.programs), [], clock(60 * options.minutes))
            attacking.join(LONGEST)
            attacking.kill()
            lost, loss = (1, "the attackers' process did not end") if harm.empty() else harm.get()
            one_text(served, after, marker, "a text when all is over")
            check_rows(served, after)
        check_log(log, marker, after)
    parts = (quiet, under, after)
    losses = [loss for part in parts for loss in part.first.values()]
    return Measured(
        what,
        options.minutes,
        sum(row.tried for name, row in under.rows.items() if name.startswith("texts")),
        sum(part.losses for part in parts) + lost,
        max(under.times["refused on end"], default=0.0),
        _median(quiet),
        _median(under),
        next(iter([*losses, loss])),
        *where,
    )


def _attack(
    what: str,
    options: argparse.Namespace,
    served: Served,
    trace: dict[str, Any],
    traces: list[str],
    marker: str,
    harm: SimpleQueue[tuple[int, str]],
) -> None:
    """All attackers of one attack; puts the number of losses and the first of them into `harm`."""
    tally, numbers = Tally(), range(options.attackers)
    attackers = [Strangler(served, tally, trace, traces, marker, n, options.seed, what) for n in numbers]
    side_by_side([], attackers, clock(60 * options.minutes))
    harm.put((tally.losses, next(iter(tally.first.values()), "")))


def report(found: Sequence[Measured], options: argparse.Namespace, left: int = 0) -> str:
    """The table as Markdown; `left` attacks were not run yet."""
    rows = []
    for each in (each for each in found if not each.holds or (each.slower or 0) >= _SLOWER):
        slower = "–" if each.slower is None else f"{each.slower:.1f} ×"
        times = [f"{seconds:.2f} s" if seconds else "–" for seconds in (each.quiet, each.under)]
        lost = f"{each.lost}{f': {each.first_loss[:80]}' if each.first_loss else ''}"
        holds = "yes" if each.holds else "**no**"
        rows.append([each.attack, f"{each.texts}", lost, f"{each.refused:.1f} s", *times, slower, holds])
    head = ["attack", "honest texts", "lost", "longest refusal", "first token, quiet", "under attack", "", "holds"]
    held = sum(each.holds for each in found)
    said = f"{left} attacks were not run yet. " if left else ""
    said += f"{held} of {len(found)} attacks held. Each went on for {options.minutes:g} minutes by {options.attackers} "
    said += f"attackers beside {options.visitors} visitors and {options.programs} programs, after {options.quiet:g} "
    said += "min without attackers. Bounds: nothing lost, no refusal longer than 5 s, a first token at most five times "
    said += f"as long. The table has those under which it took {_SLOWER} times as long or more."
    command = f"`make soak-attacks MINUTES={options.minutes:g}`"
    revisions = ", ".join(sorted({each.revision for each in found}))
    machines = "; ".join(sorted({each.hardware for each in found}))
    return f"{said}\n\n{table(head, rows)}\n\n{command}, revision {revisions}, {machines}."


def _median(tally: Tally) -> float | None:
    seconds = [each for what in _FIRST for each in tally.times[what]]
    return statistics.median(seconds) if seconds else None


def _read(path: Path, minutes: float) -> dict[str, Measured]:
    if not path.exists():
        return {}
    lines = path.read_text("utf-8").splitlines()
    return {each.attack: each for each in (Measured(**json.loads(line)) for line in lines) if each.minutes == minutes}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3, help="of each attack")
    parser.add_argument("--quiet", type=float, default=1, help="minutes before it, without attackers")
    parser.add_argument("--visitors", type=int, default=20, help="honest ones")
    parser.add_argument("--programs", type=int, default=4, help="honest ones that ask /v1, beside the visitors")
    parser.add_argument("--attackers", type=int, default=4, help="who do the same attack")
    parser.add_argument("--only", default="", metavar="WORDS", help="attacks whose names have these words")
    parser.add_argument("--most", type=int, default=99, help="attacks that are run now, of those without a result")
    parser.add_argument("--results", type=Path, default=RESULTS, help="kept between runs")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    parser.add_argument("--app", type=Path, default=APP, help="the page's program")
    parser.set_defaults(browsers=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
