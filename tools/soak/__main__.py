"""A hostile rehearsal of the page on this machine, as `make soak`: honest visitors and attackers, seeded and bounded.

Starts the page in a process of its own, lets honest visitors come without and then with attackers,
and watches the process and its log. Afterwards what is parsed is damaged by chance. Prints what was tried, what held,
and what was lost, and ends with status 1 if anything was; `--write` puts the tables into docs/reliability.md.
Everything stays on the loopback interface. Each client has an address of its own, as a proxy would say.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from engine.bench.markdown import filled
from engine.guard.server import raise_descriptors
from engine.provenance import ROOT
from tools.soak import kills as soak_kills
from tools.soak import mutations as soak_mutations
from tools.soak.attackers import damaged_traces
from tools.soak.page import Served
from tools.soak.report import Rehearsal, report
from tools.soak.stage import APP, check_log, check_memory, check_rows, honest, one_text, page, say, side_by_side
from tools.soak.strangler import Strangler
from tools.soak.tally import Sampler, Tally, clock
from tools.soak.visitors import Texts

PAGE = ROOT / "docs" / "reliability.md"
_REST = 80.0  # seconds after each half in which nobody comes: memory is given back once a minute
_TRACES = 200  # mutated ones that attackers draw from


def main(arguments: list[str] | None = None) -> int:
    """Rehearses, prints the tables; 1 if anything was lost."""
    options = _parser().parse_args(arguments)
    raise_descriptors()  # for thousands of silent connections
    if options.browsers and not (shutil.which("chromium") or shutil.which("chromium-browser")):
        print("no chromium on PATH: no visitor comes with a browser", file=sys.stderr)
        options.browsers = 0
    rehearsal = rehearse(options)
    asked = arguments if arguments is not None else sys.argv[1:]
    print(report(options, rehearsal, asked, brief=False))
    if options.write:
        text = report(options, rehearsal, asked, brief=True)
        PAGE.write_text(filled(PAGE, {f"soak {options.preset}": text}), encoding="utf-8")
    return int(rehearsal.losses > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="with attackers; a tenth more before, without")
    parser.add_argument("--visitors", type=int, default=20, help="honest ones, browsers among them")
    parser.add_argument("--programs", type=int, default=4, help="honest ones that ask /v1, beside the visitors")
    parser.add_argument("--attackers", type=int, default=4)
    parser.add_argument("--browsers", type=int, default=0, help="visitors with Chromium")
    parser.add_argument("--mutations", type=int, default=200, help="of each kind of file afterwards; 0 leaves them out")
    parser.add_argument("--kills", type=int, default=10, help="of each kind of process")
    parser.add_argument("--preset", default="tiny", help="pair of the page")
    parser.add_argument("--gigabytes", type=float, default=0, help="that the page may take; 0 is what there is")
    parser.add_argument("--weights", default="auto", help="CITER_CPU_WEIGHTS of the page")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reliability.md")
    parser.add_argument("--app", type=Path, default=APP, help="the page's program")
    return parser


def rehearse(options: argparse.Namespace) -> Rehearsal:
    """Rehearses without attackers, with them and after them; then kills processes and damages files."""
    marker, seconds = f"plugh{options.seed:x}xyzzy", 60 * options.minutes
    without, with_attackers, attacks, after, disk = Tally(), Tally(), Tally(), Tally(), Tally()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        log = Path(folder) / "log"
        with page(options.app, log, options.preset, options.gigabytes, options.weights) as (url, process):
            say("the page is there")
            served = Served.read(url, options.preset)
            texts = Texts(served.tiny)
            trace = one_text(served, after, marker, "a first text")
            traces = damaged_traces(trace, _TRACES, options.seed) if trace and options.attackers else []
            sides = options, served, texts, marker
            say("visitors come")
            side_by_side(honest(*sides, without, 0), [], clock(seconds / 10))
            clients, count = options.visitors + options.programs, options.attackers if trace else 0
            sampler = Sampler(process.pid, min(5.0, max(0.2, seconds / 60)))
            sampler.start()
            for half in (1, 2):
                say("attackers come as well")
                numbers = range(half * count, half * count + count)
                attackers = [Strangler(served, attacks, trace or {}, traces, marker, n, options.seed) for n in numbers]
                side_by_side(honest(*sides, with_attackers, half * clients), attackers, clock(seconds / 2))
                say("all have left")
                sampler.rest(min(_REST, seconds / 10))
            samples = sampler.stop()
            one_text(served, after, marker, "a text when all is over")
            check_rows(served, after)
            gone = process.poll()
        check_log(log, marker, after)
        check_memory(log, samples, after)
        if gone is not None:
            after.lost("the page's process runs to the end", f"it ended with status {gone}")
    if options.kills:
        say("processes are killed")
        soak_kills.run(options.kills, options.seed, disk)
    if options.mutations:
        say("files are damaged")
    mutations = soak_mutations.run(options.mutations, options.seed) if options.mutations else {}
    return Rehearsal(seconds, without, with_attackers, attacks, after, disk, samples, mutations)


if __name__ == "__main__":
    sys.exit(main())
