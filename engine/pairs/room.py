"""Whether disk and memory hold a pair, asked before anything large is fetched or converted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.errors import WeightsError
from engine.model.memory import CGROUP, container_bytes, memory_bytes
from engine.pairs.origin import Origin
from engine.settings import Settings
from engine.weights.cache_folder import in_words, make_folder
from engine.weights.convert import folder_of, problem
from engine.weights.store import FP32

_SPARE = 300_000_000  # bytes of memory for Python, its libraries and the texts


def unconverted(origins: Sequence[Origin], settings: Settings, layout: str) -> list[Origin]:
    """Those that are not in the cache in this layout yet; models that are kept as they are never are."""
    if layout == FP32:
        return list(origins)
    places = {origin: folder_of(origin.key, settings, layout) for origin in origins}
    return [origin for origin, folder in places.items() if problem(folder, origin.identity)]


@dataclass(frozen=True)
class Room:
    """What a pair takes, and what there is of it, in bytes.

    Attributes:
        titles: Of the models that are yet to be fetched or converted, for people.
        folder: The cache.
        download: What is yet to be fetched of the weights.
        disk, disk_free: What is written to the cache, the download included; what is free there, 0 where nothing is.
        what: The step that takes the most memory, for people.
        memory, memory_free: What it takes, and what there is; 0 free where nobody says.
        gpu, gpu_free: The same of a GPU's; 0 and 0 without one.
    """

    titles: str
    folder: Path
    download: int
    disk: int
    disk_free: int
    what: str
    memory: int
    memory_free: int
    gpu: int = 0
    gpu_free: int = 0

    def check(self) -> None:
        """Raises a WeightsError with all numbers if a pair needs more disk or memory than there is."""
        if self.disk > self.disk_free:
            raise WeightsError(
                f"no space in {self.folder}: {self.titles} need {in_words(self.disk)} there, {in_words(self.download)} "
                f"of it to download, and {in_words(self.disk_free)} are free. Free some, or set CITER_CACHE_DIR to a "
                "folder on another disk."
            )
        if self.memory_free and self.memory > self.memory_free:
            raise _too_large(self.what, self.memory, self.memory_free, "memory")
        if self.gpu > self.gpu_free:
            raise _too_large("loading both", self.gpu, self.gpu_free, "GPU memory")


def room_of(
    origins: Sequence[Origin], missing: Sequence[Origin], settings: Settings, layout: str, device: torch.device
) -> Room:
    """What a pair takes, and what there is; `missing` are those that are yet to be converted (`unconverted`)."""
    fetched = sum(origin.fetched for origin in missing)
    disk = fetched + sum(0 if layout == FP32 else origin.counts.stored(layout) for origin in missing)
    disk_free = 0
    if disk:
        make_folder(settings.cache_dir)
        disk_free = shutil.disk_usage(settings.cache_dir).free
    what, memory = _most_memory(origins, missing, layout, device)
    gpu, gpu_free = 0, 0
    if device.type == "cuda":
        gpu, gpu_free = sum(origin.counts.stored(layout) for origin in origins), torch.cuda.mem_get_info(device)[0]
    return Room(
        " and ".join(origin.title for origin in missing),
        settings.cache_dir,
        fetched,
        disk,
        disk_free,
        what,
        memory + _SPARE,
        free_memory(),
        gpu,
        gpu_free,
    )


def _most_memory(
    origins: Sequence[Origin], missing: Sequence[Origin], layout: str, device: torch.device
) -> tuple[str, int]:
    """The step that takes the most, and how much.

    Converting goes on beside what is loaded already, and frees each dense matrix; at last both models are loaded.
    """
    loaded = {origin: origin.counts.stored(layout) for origin in origins}
    here = {origin: 0 if device.type == "cuda" else size for origin, size in loaded.items()}
    before, needs = 0, {}
    for origin in origins:
        if origin in missing:
            needs[f"converting {origin.title}"] = before + max(origin.dense_bytes, loaded[origin])
        before += here[origin]
    needs["loading both"] = before
    return max(needs.items(), key=lambda each: each[1])


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
    limit, used = map(container_bytes, ("memory.max", "memory.current"))
    if limit is None or used is None:
        return free
    counted = dict(line.split()[:2] for line in _lines(CGROUP / "memory.stat") if len(line.split()) == 2)
    cached = int(counted.get("inactive_file", "0")) + int(counted.get("active_file", "0"))  # given back when asked for
    return min(free, max(0, limit - used + cached))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
