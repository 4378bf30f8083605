"""A hostile rehearsal of the page on this machine, as `make soak`: honest visitors and attackers, seeded and bounded.

Starts the page with the tiny pair in a process of its own, lets honest visitors come without and then with attackers,
and watches the process and its log. Afterwards what is parsed is damaged by chance. Prints what was tried, what held,
and what was lost, and ends with status 1 if anything was; `--write` puts the tables into docs/reliability.md.
Everything stays on the loopback interface. Each client has an address of its own, as a proxy would say.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from engine.bench.markdown import filled
from engine.provenance import ROOT
from tools.soak import kills as soak_kills
from tools.soak import mutations as soak_mutations
from tools.soak.attackers import Attacker, damaged_traces
from tools.soak.page import LONGEST, Asked, Served, call, check_whole, result
from tools.soak.programs import ProgramVisitor
from tools.soak.report import Rehearsal, report
from tools.soak.strangler import Strangler
from tools.soak.tally import Sampler, Tally, clock
from tools.soak.visitors import PROMPTS, ApiVisitor, BrowserVisitor, FeedVisitor, Texts, Visitor

PAGE = ROOT / "docs" / "reliability.md"
_START = 120.0  # seconds until the page must be there
_IDLE = 60.0  # seconds until nothing may be written any more when all have left
_REST = 80.0  # seconds after each half in which nobody comes: memory is given back once a minute
_TRACES = 200  # mutated ones that attackers draw from


def main(arguments: list[str] | None = None) -> int:
    """Rehearses, prints the tables; 1 if anything was lost."""
    options = _parser().parse_args(arguments)
    if options.browsers and not (shutil.which("chromium") or shutil.which("chromium-browser")):
        print("no chromium on PATH: no visitor comes with a browser", file=sys.stderr)
        options.browsers = 0
    rehearsal = rehearse(options)
    text = report(options, rehearsal, arguments if arguments is not None else sys.argv[1:])
    print(text)
    if options.write:
        PAGE.write_text(filled(PAGE.read_text("utf-8"), "soak", text, PAGE), encoding="utf-8")
    return int(rehearsal.losses > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="with attackers; a tenth more before, without")
    parser.add_argument("--visitors", type=int, default=20, help="honest ones, browsers among them")
    parser.add_argument("--programs", type=int, default=4, help="honest ones that ask /v1, beside the visitors")
    parser.add_argument("--attackers", type=int, default=4)
    parser.add_argument("--browsers", type=int, default=0, help="visitors with Chromium")
    parser.add_argument("--mutations", type=int, default=200, help="of each kind of file afterwards; 0 leaves them out")
    parser.add_argument("--kills", type=int, default=10, help="of each kind of process, and as many downloads")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reliability.md")
    parser.add_argument("--app", type=Path, default=ROOT / "app.py", help="the page's program")
    return parser


def rehearse(options: argparse.Namespace) -> Rehearsal:
    """Without attackers, with them, after them, and the files."""
    marker, seconds = f"plugh{options.seed:x}xyzzy", 60 * options.minutes
    without, with_attackers, attacks, after, disk = Tally(), Tally(), Tally(), Tally(), Tally()
    texts = Texts()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        log = Path(folder) / "log"
        with page(options.app, log) as (url, process):
            _say("the page is there")
            served = Served.read(url)
            trace = _one_text(served, after, marker, "a first text")
            traces = damaged_traces(trace, _TRACES, options.seed) if trace and options.attackers else []
            sides = options, served, texts, marker
            _say("visitors come")
            _side_by_side(_visitors(*sides, without, 0), [], clock(seconds / 10))
            clients, count = options.visitors + options.programs, options.attackers if trace else 0
            sampler = Sampler(process.pid, min(5.0, max(0.2, seconds / 60)))
            sampler.start()
            for half in (1, 2):
                _say("attackers come as well")
                numbers = range(half * count, half * count + count)
                attackers = [Strangler(served, attacks, trace or {}, traces, marker, n, options.seed) for n in numbers]
                _side_by_side(_visitors(*sides, with_attackers, half * clients), attackers, clock(seconds / 2))
                _say("all have left")
                sampler.rest(min(_REST, seconds / 10))
            samples = sampler.stop()
            _one_text(served, after, marker, "a text when all is over")
            _check_rows(served, after)
            gone = process.poll()
        _check_log(log, marker, after)
        if gone is not None:
            after.lost("the page's process runs to the end", f"it ended with status {gone}")
    if options.kills:
        _say("processes are killed")
        soak_kills.run(options.kills, options.seed, disk)
    if options.mutations:
        _say("files are damaged")
    mutations = soak_mutations.run(options.mutations, options.seed) if options.mutations else {}
    return Rehearsal(seconds, without, with_attackers, attacks, after, disk, samples, mutations)


@contextmanager
def page(app: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The page on a free port, with all that it says in a file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CITER_", "GRADIO_"))}
    env |= {
        "CITER_PRESET": "tiny",
        "CITER_HUB": "false",
        "CITER_MIRROR": "false",
        "CITER_SERVER__HOST": "127.0.0.1",
        "CITER_SERVER__PORT": str(port),
        "CITER_SERVER__PROXIES": "1",
        "CITER_SERVER__METRICS": "true",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, str(app)], cwd=ROOT, env=env, stdout=out, stderr=out)
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for(url, process, log)
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = clock(_START)
    while time.monotonic() < until:
        if process.poll() is not None:
            sys.exit(f"the page ended with status {process.returncode}: {log.read_text(errors='replace')[-500:]}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}config", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    sys.exit(f"no page after {_START:.0f} s")


def _one_text(served: Served, tally: Tally, marker: str, what: str) -> dict | None:
    """A text by the API while nobody else is there; its trace."""
    found: list[dict] = []
    visitor = Visitor(served, tally, Texts(), marker, 0, 0)
    with served.client(visitor.address) as client:
        asked = Asked(f"{PROMPTS[0]} ({marker})", 0.3, 0.5, 48).call()
        asked[12] = 2  # candidates, so that mutations have some to damage
        if visitor.attempt(what, lambda: found.append(result(client, call(client, asked)))):
            visitor.attempt(f"{what}, whole", lambda: check_whole(found[0]))
    return found[0] if found else None


def _visitors(
    options: argparse.Namespace, served: Served, texts: Texts, marker: str, tally: Tally, first: int
) -> list[Visitor]:
    """Honest ones, numbered from `first` on, so that no two of a rehearsal have windows of the same name."""
    kinds: list[type[Visitor]] = [BrowserVisitor] * options.browsers + [
        FeedVisitor,
        FeedVisitor,
        ApiVisitor,
    ] * options.visitors
    kinds = kinds[: options.visitors] + [ProgramVisitor] * options.programs
    return [kind(served, tally, texts, marker, first + n, options.seed) for n, kind in enumerate(kinds)]


def _side_by_side(visitors: Sequence[Visitor], attackers: Sequence[Attacker], until: float) -> None:
    """Lets all come at once until the time is over, and waits for the last text of each."""
    everybody = [*((each.tally, "visitors", each.stay) for each in visitors)]
    everybody += [(each.tally, "attackers", each.attack) for each in attackers]
    threads = [threading.Thread(target=_stay, args=(*each, until), daemon=True) for each in everybody]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()) + 2 * LONGEST)
    for (tally, who, _), thread in zip(everybody, threads, strict=True):
        if thread.is_alive():
            tally.lost(f"{who} who leave in the end", "one waits for ever")


def _stay(tally: Tally, who: str, stay: Callable[[float], None], until: float) -> None:
    try:
        stay(until)
    except Exception as error:  # a fault of the rehearsal is none of the page, but nothing may go unseen
        tally.lost(who, f"{type(error).__name__}: {error}")


def _check_rows(served: Served, tally: Tally) -> None:
    """That no text is written or waited with for somebody who has left."""
    until, said = clock(_IDLE), ""
    while time.monotonic() < until:
        said = httpx.get(f"{served.url}metrics", timeout=30).raise_for_status().text
        if {"citer_rows 0", "citer_waiting 0"} <= set(said.splitlines()):
            tally.held("no row left")
            return
        time.sleep(0.5)
    counts = [line for line in said.splitlines() if line.startswith(("citer_rows", "citer_waiting"))]
    tally.lost("no row left", f"after {_IDLE:.0f} s: {', '.join(counts)}")


def _check_log(log: Path, marker: str, tally: Tally) -> None:
    """Neither a traceback nor anything that a visitor sent."""
    text = log.read_text(encoding="utf-8", errors="replace")
    tracebacks = text.count("Traceback (most recent call last)")
    for what, count in (("no prompt in the log", text.count(marker)), ("no traceback in the log", tracebacks)):
        if count:
            tally.lost(what, f"{count} times")
        else:
            tally.held(what)
    for line in text.splitlines():
        if " failed: " in line:
            tally.errors[f"in the log: {line[:100]}"] += 1


if __name__ == "__main__":
    sys.exit(main())
