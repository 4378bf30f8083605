"""Where a figure comes from: command, revision, machine. Results, cards and benchmarks store it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.settings import PREFIX, load_settings

ROOT = Path(__file__).resolve().parent.parent
_ARITHMETIC = {"cpu_weights"}
"""Settings with which the same command gives other roundings, and so now and then other tokens."""
_HELD = ("ATEN_CPU_CAPABILITY", "FBGEMM_ENABLE_INSTRUCTIONS", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
"""Variables of torch and its libraries that hold them to fewer instructions; they change roundings, too."""
_KERNEL = "AVX512-BF16"  # what bitsandbytes' 4-bit kernel wants; without it weights are read in other ways


def provenance(program: str) -> dict[str, str]:
    return {"command": command(program), "revision": revision(), "hardware": hardware()}


def command(program: str) -> str:
    """The command that the user typed, quoted for a shell; a path out of the current folder is cut to its name.

    Variables before it are those that change the arithmetic: settings that are not the default, wherever they were set,
    and those that hold the libraries to fewer instructions.
    """
    inside = []
    for each in sys.argv[1:]:
        name, equals, typed = each.rpartition("=")  # also of `name=path`
        path = Path(typed)
        leads_out = path.is_absolute() or ".." in path.parts
        inside.append(f"{name}{equals}{path.name}" if leads_out else each)
    changed = load_settings().model_dump(include=_ARITHMETIC, exclude_defaults=True)
    variables = [f"{name}={os.environ[name]} " for name in _HELD if name in os.environ]
    variables += [f"{PREFIX}{name.upper()}={str(value).lower()} " for name, value in changed.items()]
    return "".join(variables) + shlex.join(["python", "-m", program, *inside])


def revision() -> str:
    """The code's revision, marked if the tree has changes; "unknown" outside a repository."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """What figures were measured on, item by item; "gpu" is None without one."""
    import torch  # late, as elsewhere where commands must explain themselves at once

    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "processor": processor(),
        "instructions": _KERNEL if "AVX512" in capability and torch.cpu._is_avx512_bf16_supported() else capability,
        "held": "ATEN_CPU_CAPABILITY" in os.environ,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def hardware(of: dict[str, Any] | None = None) -> str:
    """The GPU, or the processor and its threads, in words. `of` is what `machine` returned; None asks it now.

    Processors of one name may lack the instructions of the 4-bit kernel, or be held to fewer. The words then name the
    AVX version.
    """
    of = of or machine()
    threads, instructions = of["threads"], of.get("instructions", _KERNEL)
    best = f", held to {instructions}" if of.get("held") else f" ({instructions})"
    best = best if instructions.startswith("AVX") and instructions != _KERNEL else ""
    return of["gpu"] or f"{threads} thread{'s' if threads != 1 else ''} of {of['processor']}{best}"


def pair_title(slm: str, llm: str, quantisation: str) -> str:
    """How results name a pair; figures of another name are those of another pair."""
    return f"{slm} ⇄ {llm} · {quantisation}"


def processor() -> str:
    """The processor in words, as its maker or else the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Versions of packages; None where one is not installed."""
    installed: dict[str, str | None] = dict.fromkeys(packages)
    for name in packages:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
