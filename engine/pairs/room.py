"""Whether disk and memory hold a pair, asked before anything large is fetched or converted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from engine.errors import WeightsError
from engine.model.linear import memory_bytes
from engine.pairs.origin import Origin
from engine.settings import Settings
from engine.weights.cache_folder import in_words, make_folder
from engine.weights.convert import folder_of, problem
from engine.weights.store import FP32

_CGROUP = Path("/sys/fs/cgroup")
_SPARE = 300_000_000  # bytes of memory for Python, its libraries and the texts


def unconverted(origins: Sequence[Origin], settings: Settings, layout: str) -> list[Origin]:
    """Those that are not in the cache in this layout yet; models that are kept as they are never are."""
    if layout == FP32:
        return list(origins)
    places = {origin: folder_of(origin.key, settings, layout) for origin in origins}
    return [origin for origin, folder in places.items() if problem(folder, origin.identity)]


def check_room(
    origins: Sequence[Origin], missing: Sequence[Origin], settings: Settings, layout: str, device: torch.device
) -> None:
    """Raises a WeightsError with all numbers if a pair needs more disk or memory than there is.

    `missing` are those that are yet to be converted (`unconverted`).
    """
    kept = {origin: 0 if layout == FP32 else origin.counts.stored(layout) for origin in missing}
    _check_disk(missing, sum(origin.fetched + size for origin, size in kept.items()), settings)
    _check_memory(origins, missing, layout, device)


def _check_disk(missing: Sequence[Origin], needed: int, settings: Settings) -> None:
    if not needed:
        return
    make_folder(settings.cache_dir)
    free = shutil.disk_usage(settings.cache_dir).free
    if needed > free:
        fetched = sum(origin.fetched for origin in missing)
        titles = " and ".join(origin.title for origin in missing)
        raise WeightsError(
            f"no space in {settings.cache_dir}: {titles} need {in_words(needed)} there, {in_words(fetched)} of it to "
            f"download, and {in_words(free)} are free. Free some, or set CITER_CACHE_DIR to a folder on another disk."
        )


def _check_memory(origins: Sequence[Origin], missing: Sequence[Origin], layout: str, device: torch.device) -> None:
    """Converting goes on beside what is loaded already, and frees each dense matrix; at last both models are loaded."""
    loaded = {origin: origin.counts.stored(layout) for origin in origins}
    here = {origin: 0 if device.type == "cuda" else size for origin, size in loaded.items()}
    before, needs = 0, {}
    for origin in origins:
        if origin in missing:
            needs[f"converting {origin.title}"] = before + max(origin.dense_bytes, loaded[origin])
        before += here[origin]
    needs["loading both"] = before
    what, needed = max(needs.items(), key=lambda each: each[1])
    free = free_memory()
    if free and needed + _SPARE > free:
        raise _too_large(what, needed + _SPARE, free, "memory")
    if device.type == "cuda":
        free, needed = torch.cuda.mem_get_info(device)[0], sum(loaded.values())
        if needed > free:
            raise _too_large("loading both", needed, free, "GPU memory")


def _too_large(what: str, needed: int, free: int, memory: str) -> WeightsError:
    return WeightsError(
        f"not enough {memory}: {what} takes {in_words(needed)}, and {in_words(free)} are free. End other programs, or "
        "choose smaller models (CITER_SLM, CITER_LLM, or CITER_PRESET=tiny)."
    )


def free_memory() -> int:
    """Bytes that programs may still take, swap included, also within a container's limit; 0 where nobody says."""
    told = {}
    for line in _lines(Path("/proc/meminfo")):
        name, _, value = line.partition(":")
        if value.split()[:1] and value.split()[0].isdecimal():
            told[name] = int(value.split()[0]) * 1024
    free = told["MemAvailable"] + told.get("SwapFree", 0) if "MemAvailable" in told else memory_bytes()
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is None or used is None:
        return free
    counted = dict(line.split()[:2] for line in _lines(_CGROUP / "memory.stat") if len(line.split()) == 2)
    cached = int(counted.get("inactive_file", "0")) + int(counted.get("active_file", "0"))  # given back when asked for
    return min(free, max(0, limit - used + cached))


def _number(path: Path) -> int | None:
    text = "".join(_lines(path))
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
