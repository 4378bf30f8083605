"""The first visit to a checkout: starts its page with the tiny pair, opens it, asks `/v1` one prompt, and ends it.

    python tools/first_visit.py FOLDER --python FOLDER/.venv/bin/python
    python tools/first_visit.py FOLDER --make        # `make demo`, which makes the environment first

It needs nothing but Python, so that it can try an environment that has only what `requirements.txt` names. Exit status:
0 if the page opened and the answer was right, 1 if not; then what the page printed stands on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PROMPT, ANSWER = "Start with 12. Add 30. What is the result?", "42"
_PAUSE = 0.5  # seconds between two looks at whether the page is there
_SHOWN = 4_000  # characters of what the page printed


class Failed(Exception):
    """The page did not do what a visitor expects; the message says what."""


def main() -> int:
    """Makes the visit; returns the exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="the checkout")
    options.add_argument("--python", default=sys.executable, help="runs app.py (default: the one that runs this)")
    options.add_argument("--make", action="store_true", help="run `make demo` instead of app.py")
    options.add_argument("--seconds", type=float, default=900, help="for the page to be there (default: %(default)s)")
    asked = options.parse_args()
    command = ["make", "demo"] if asked.make else [asked.python, "app.py"]
    with tempfile.TemporaryFile("w+") as output:
        try:
            with started(command, asked.folder, output) as (process, url):
                visit(url, process, time.monotonic() + asked.seconds)
        except (Failed, OSError) as error:
            output.seek(0)
            print(f"{output.read()[-_SHOWN:]}\nfirst visit failed: {error}", file=sys.stderr)
            return 1
    print(f"first visit: {' '.join(command)} in {asked.folder}: the page opened, and `/v1` answered")
    return 0


@contextmanager
def started(command: list[str], folder: Path, output: IO[str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The page in a process group of its own, on a free port; ended with all that it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CITER_") and name != "PYTHONPATH"
    }
    environment |= {"CITER_PRESET": "tiny", "CITER_SERVER__HOST": "127.0.0.1", "CITER_SERVER__PORT": str(port)}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, sign)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    continue


def visit(url: str, process: subprocess.Popen[bytes], until: float) -> None:
    """Opens the page, and asks as an OpenAI client does; raises Failed."""
    page = waited(process, until, url)
    if "<html" not in page or "CITER" not in page:
        raise Failed(f"{url} is not the page: {page[:200]!r}")
    asked = {"model": "tiny:0.5", "messages": [{"role": "user", "content": PROMPT}]}
    reply = json.loads(waited(process, until, f"{url}/v1/chat/completions", asked))
    check("/v1/chat/completions", reply["choices"][0]["message"]["content"])
    if not reply["choices"][0]["citer"]["tokens"]:
        raise Failed("/v1/chat/completions told nothing of its tokens")


def check(where: str, text: str) -> None:
    """Raises Failed if a text is not the right answer."""
    if ANSWER not in text:
        raise Failed(f"{where} answered {text!r} to {PROMPT!r}, in which there is no {ANSWER}")


def waited(process: subprocess.Popen[bytes], until: float, url: str, body: Any = None) -> str:
    """`said`, as soon as the page is there and its models are loaded; raises Failed."""
    while True:
        try:
            return said(url, body)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}: {error.read()[:300]!r}"
            if error.code != 503:  # which is said while the models load
                raise Failed(f"{url}: {reason}") from None
        except OSError as error:
            reason = str(error)
        if process.poll() is not None:
            raise Failed(f"it ended with status {process.returncode} before it answered")
        if time.monotonic() > until:
            raise Failed(f"no answer from {url} in time: {reason}")
        time.sleep(_PAUSE)


def said(url: str, body: Any = None) -> str:
    """What is answered at an address, to a body if there is one."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    sys.exit(main())
