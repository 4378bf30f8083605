"""What every rehearsal of `tools/soak` needs: the page in a process, clients at once, and a look at its end."""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import httpx

from engine.provenance import ROOT
from tools.soak.attackers import Attacker
from tools.soak.page import LONGEST, Asked, BareWindow, Served
from tools.soak.programs import ProgramVisitor
from tools.soak.tally import Sample, Tally, clock
from tools.soak.visitors import PROMPTS, BrowserVisitor, FeedVisitor, Texts, Visitor
from tools.space_rehearsal import memory_limit

APP = ROOT / "tools" / "soak" / "counted_app.py"
COUNTS = "soak/texts"
"""The program that serves the page, and its route that tells how many texts are being written and how many wait."""

_START = 120.0  # seconds until the page must be there
_IDLE = 60.0  # seconds until nothing may be written any more when all have left


@contextmanager
def page(
    app: Path, log: Path, preset: str = "tiny", gigabytes: float = 0, weights: str = "auto"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The page on a free port, with all that it says in a file.

    With `gigabytes` it is in a control group of that size, where there can be one, and is told so (`CITER_MEMORY`).
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CITER_", "GRADIO_"))}
    env |= {
        "CITER_PRESET": preset,
        "CITER_CPU_WEIGHTS": weights,
        "CITER_SERVER__HOST": "127.0.0.1",
        "CITER_SERVER__PORT": str(port),
        "CITER_SERVER__PROXIES": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    if gigabytes:
        env["CITER_MEMORY"] = str(gigabytes)
    with memory_limit(round(gigabytes * 1e9)) if gigabytes else nullcontext() as enter, log.open("wb") as out:
        if gigabytes and enter is None:
            say("no control group can be made here: memory is not limited")
        command = [sys.executable, str(app)]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, preexec_fn=enter)
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


def say(what: str) -> None:
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


def one_text(served: Served, tally: Tally, marker: str, what: str) -> dict | None:
    """A text in a window while nobody else is there; its trace."""
    found: list[dict] = []
    visitor = Visitor(served, tally, Texts(), marker, 0, 0)

    def write(client: httpx.Client) -> None:
        shown = BareWindow(served, client, f"{marker}-alone")
        shown.write(Asked(f"{PROMPTS[0]} ({marker})", 0.3, 0.5, 48))
        found.append(shown.trace())
        shown.close()

    with served.client(visitor.address) as client:
        visitor.attempt(what, lambda: write(client))
    return found[0] if found else None


def honest(
    options: argparse.Namespace, served: Served, texts: Texts, marker: str, tally: Tally, first: int
) -> list[Visitor]:
    """Honest ones, numbered from `first` on, so that no two of a rehearsal have windows of the same name."""
    kinds: list[type[Visitor]] = [BrowserVisitor] * options.browsers + [FeedVisitor] * options.visitors
    kinds = kinds[: options.visitors] + [ProgramVisitor] * options.programs
    return [kind(served, tally, texts, marker, first + n, options.seed) for n, kind in enumerate(kinds)]


def side_by_side(visitors: Sequence[Visitor], attackers: Sequence[Attacker], until: float) -> None:
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


def check_rows(served: Served, tally: Tally) -> None:
    """Checks that no text is written or waits for a client that has left."""
    until, said = clock(_IDLE), ""
    while time.monotonic() < until:
        said = httpx.get(f"{served.url}{COUNTS}", timeout=30).raise_for_status().text
        if said == "0 0":
            tally.held("no row left")
            return
        time.sleep(0.5)
    tally.lost("no row left", f"after {_IDLE:.0f} s: {said} texts are written and wait")


def check_memory(log: Path, samples: Sequence[Sample], tally: Tally) -> None:
    """Checks that the process took no more memory than its log announces."""
    said = re.search(r"memory: at most ([\d.]+) GB", log.read_text(encoding="utf-8", errors="replace"))
    most = max((sample.memory for sample in samples), default=0) / 1e9
    what = f"memory below the {said[1] if said else '?'} GB that the log announces"
    if said and most <= float(said[1]):
        tally.held(what)
    else:
        tally.lost(what, f"{most:.2f} GB")


def check_log(log: Path, marker: str, tally: Tally) -> None:
    """Checks that the log has no traceback and nothing that a visitor sent."""
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
