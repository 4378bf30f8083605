"""The most memory a call takes on top of what was there before it."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """High-water mark between `start` and `stop`.

    On CUDA it is torch's own count. On a CPU it is the process's resident memory, whose mark Linux lets it reset;
    elsewhere it is not known.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: int | None = None

    def start(self) -> None:
        """Gives freed memory back, so that it does not hide what is taken next, and resets the mark."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            return
        try:
            ctypes.CDLL(None).malloc_trim(0)
            _CLEAR.write_text("5", encoding="ascii")  # proc(5): resets VmHWM to what is resident now
            self._before = _status("VmRSS")
        except (OSError, AttributeError):
            self._before = None

    def stop(self) -> int | None:
        """Bytes above what was there at `start`; None where this system does not tell."""
        if self._before is None:
            return None
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max(0, _status("VmHWM") - self._before)


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
