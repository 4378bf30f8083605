"""What the trainer's results and cards say of where they come from."""

from __future__ import annotations

import torch

from engine import provenance as engine_provenance


def provenance() -> dict[str, str]:
    """What made a result: the command, the code's revision and the hardware."""
    return {"command": command(), "revision": engine_provenance.revision(), "hardware": hardware()}


def command() -> str:
    """What the user typed."""
    return engine_provenance.command("trainer")


def hardware() -> str:
    """The GPU, or the processor and its threads, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {engine_provenance.processor()}"
