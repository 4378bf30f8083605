"""What a figure was measured on: hardware, versions, revision, and how fast this machine's memory can be read."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

from engine.provenance import command, processor, revision

VERSIONS = ("torch", "transformers", "bitsandbytes", "llama-cpp-python")
BUFFER = 1 << 30
"""Bytes read for the bandwidth: as much as the models have, so that no cache holds more of it than of them."""


def hardware() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def versions() -> dict[str, str | None]:
    """Versions of the libraries that are compared; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def provenance() -> dict[str, str]:
    """The command as typed, and the code's revision."""
    return {"command": command("engine.benchmark"), "revision": revision()}


class Bandwidth:
    """Reads a large buffer with torch's threads, and keeps how fast that went.

    Three kernels that read every byte once and write next to nothing are tried, since none of them is known to be the
    fastest everywhere; the fastest is what this memory can at least do.
    """

    def __init__(self, device: torch.device) -> None:
        """Allocates the buffer on a device and finds the fastest kernel."""
        flat = torch.ones(BUFFER // 4, device=device)
        matrix, vector = flat.view(-1, 4096), torch.ones(4096, device=device)
        kernels: list[Callable[[], object]] = [
            flat.sum,
            lambda: torch.dot(flat, flat),
            lambda: torch.mv(matrix, vector),
        ]
        self._size, self._device = BUFFER, device
        for kernel in kernels:
            self._read(kernel)  # first touch
        self._kernel = max(kernels, key=self._read)
        self.rounds: list[float] = []

    def measure(self, repeats: int = 5) -> None:
        """Adds one figure in bytes per second: the median of some readings."""
        self.rounds.append(median(self._read(self._kernel) for _ in range(repeats)))

    def _read(self, kernel: Callable[[], object]) -> float:
        return self._size / seconds_of(kernel, self._device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, a GPU's work included."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Waits for a GPU; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
