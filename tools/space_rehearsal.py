"""Rehearses a free Hugging Face Space on this machine: how long a visitor waits, and how much memory it takes.

`make rehearse-space` makes what a Space makes: the committed project in a folder of a user who is not root,
an environment from `requirements.txt` and gradio's `oauth` and `mcp`, two cores, 16 GB (a limit of the system, where
one can be set), `SPACE_ID`, and the libraries held to AVX2. It starts the page with an empty cache, then with the one
that it left, asks for a text both times, and prints a table (`--write` puts it into docs/deploy.md). Only downloading
weights is left out: they are taken from this machine's cache.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from engine.bench.markdown import filled, table
from engine.provenance import ROOT, hardware, revision
from engine.settings import load_settings

USER = 1000
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Environment variables that hold the libraries to AVX2, as a Space's processor may have no more."""
MEMORY = 16 * 10**9
PAGE = "http://127.0.0.1:7860"  # a Space's port is always this
HOST = {"Host": "rehearsal-citer.hf.space"}
PYTHONS = ("python3.12", "/usr/bin/python3.12", "python3.13", "/usr/bin/python3.13")
GROUP = Path("/sys/fs/cgroup/memory/citer")
DEADLINE = 900.0  # seconds


def main() -> None:
    """Makes the environment, starts the page twice, and says what was measured."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--python", help="interpreter of the Space; by default the first of " + ", ".join(PYTHONS))
    options.add_argument("--write", action="store_true", help="put the table into docs/deploy.md")
    asked = options.parse_args()
    python = choose_python([asked.python] if asked.python else PYTHONS)
    if answers():
        sys.exit(f"something answers at {PAGE} already: end it first")
    with tempfile.TemporaryDirectory(prefix="space-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        installed = prepare(folder, python)
        runs = [run(folder) for _ in range(2)]
    text = report(python, installed, runs)
    print(text)
    if asked.write:
        path = ROOT / "docs" / "deploy.md"
        path.write_text(filled(path, {"rehearsal": text}), encoding="utf-8")


def choose_python(names: Sequence[str]) -> str:
    """The first interpreter that the user without rights can run; one in root's home is none of them."""
    for name in names:
        with suppress(OSError):
            command = [*as_user(), name, "-c", "import ensurepip, venv"]
            if subprocess.run(command, capture_output=True, cwd="/", check=False).returncode == 0:
                return name
    sys.exit(f"a user without rights can run none of {', '.join(names)}: name another with --python")


def prepare(folder: Path, python: str) -> float:
    """Lays out project, environment and downloaded weights; returns the seconds that installing took."""
    (folder / "app").mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder / "app")], input=archive, check=True)
    version = re.search(r"^sdk_version: (\S+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert version, "README.md names no sdk_version"
    started = time.monotonic()
    subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", "-r", str(folder / "app/requirements.txt")]
    subprocess.run([*pip, f"gradio[oauth,mcp]=={version[1]}"], check=True)
    installed = time.monotonic() - started
    weights = folder / "home/.cache/citer-playground/gguf"
    shutil.copytree(load_settings().cache_dir / "gguf", weights)
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{USER}:{USER}", str(folder / "home"), str(folder / "app")], check=True)
    return installed


def run(folder: Path) -> dict[str, Any]:
    """Starts the page and asks for two texts; seconds from the start, and the most memory in bytes."""
    with memory_limit(MEMORY) as enter:
        started = time.monotonic()
        page = subprocess.Popen(
            [*as_user(), str(folder / "venv/bin/python"), "app.py"],
            cwd=folder / "app",
            env=environment(folder),
            preexec_fn=enter,
            stdout=subprocess.DEVNULL,
        )
        try:
            shown = wait_for_page(page, started)
            ask(1)
            first = time.monotonic() - started
            again = time.monotonic()
            ask(64)
            seconds = time.monotonic() - again
            status = Path(f"/proc/{page.pid}/status").read_text()
            peak, now = (1024 * int(re.findall(rf"{key}:\s+(\d+)", status)[0]) for key in ("VmHWM", "VmRSS"))
        finally:
            page.terminate()
            page.wait()
    return {"page": shown, "first": first, "text": seconds, "peak": peak, "rest": now, "limited": enter is not None}


def environment(folder: Path) -> dict[str, str]:
    """A Space's variables; nothing of ours but what holds the libraries to AVX2."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
    path = f"{folder / 'venv/bin'}:/usr/local/bin:/usr/bin:/bin"
    return {**kept, **AVX2, "PATH": path, "HOME": str(folder / "home"), "SPACE_ID": "rehearsal/citer"}


def as_user() -> list[str]:
    """The start of a command that runs it on two cores, and as a user without rights if this user is root."""
    cores = ["taskset", "-c", "0,1"]
    ids = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    return [*cores, *(["setpriv", *ids] if os.getuid() == 0 else [])]


@contextmanager
def memory_limit(size: int) -> Iterator[Callable[[], object] | None]:
    """A control group of so many bytes (version 1), entered by what is yielded; None where there can be none."""
    try:
        GROUP.mkdir(exist_ok=True)
        (GROUP / "memory.limit_in_bytes").write_text(str(size))
    except OSError:
        yield None
        return
    try:
        yield lambda: (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        time.sleep(0.5)  # the group is empty once its process is gone for good
        GROUP.rmdir()


def wait_for_page(page: subprocess.Popen[bytes], started: float) -> float:
    """Seconds from the start to the page's first answer."""
    while time.monotonic() - started < DEADLINE:
        if page.poll() is not None:
            sys.exit(f"the page ended with status {page.returncode}")
        if answers():
            return time.monotonic() - started
        time.sleep(0.05)
    sys.exit(f"no page after {DEADLINE:.0f} s")


def answers() -> bool:
    """Whether there is a page."""
    try:
        return httpx.get(PAGE, headers=HOST, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def ask(tokens: int) -> None:
    """Has a text of so many tokens written over HTTP, as a client does, and waits for it."""
    until = time.monotonic() + DEADLINE
    body = {"model": "cpu:0.5@0", "prompt": "Write a function that reverses a string.", "max_tokens": tokens}
    url = f"{PAGE}/v1/completions"
    while (answer := httpx.post(url, json=body, headers=HOST, timeout=DEADLINE)).status_code == 503:
        if time.monotonic() > until:
            sys.exit(f"no models after {DEADLINE:.0f} s")
        time.sleep(0.1)
    print(f"{answer.raise_for_status().json()['usage']['completion_tokens']} tokens", file=sys.stderr)


def report(python: str, installed: float, runs: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    named = [("first start, weights to be converted", runs[0]), ("second start", runs[1])]
    rows = [
        [
            name,
            f"{run['page']:.1f} s",
            f"{run['first']:.1f} s",
            f"{run['text']:.1f} s",
            f"{run['peak'] / 1e9:.1f} GB",
            f"{run['rest'] / 1e9:.1f} GB",
        ]
        for name, run in named
    ]
    head = ["", "to the page", "to the first token", "64 more tokens", "most memory", "memory after"]
    limit = "a limit of 16 GB" if runs[0]["limited"] else "no limit of memory (none could be set here)"
    user = "a user without rights" if os.getuid() == 0 else "this user"
    return (
        f"{table(head, rows)}\n\n{hardware()}, held to AVX2, two cores, {limit}, {user}, {Path(python).name}; "
        f"installing took {installed:.0f} s. `make rehearse-space`, revision {revision()}."
    )


if __name__ == "__main__":
    main()
