"""Where a router's folder is: a path, a name among the shipped ones, or a model repo of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from engine import operating_points
from engine.errors import RouterError
from engine.pairs import adapter
from engine.pairs.presets import Preset
from engine.router import CARD, WEIGHTS
from engine.settings import Settings
from engine.weights.files import MAX_JSON
from engine.weights.hub_repo import Wanted, fetch_repo, parse_repo
from engine.weights.progress import ProgressCallback

REQUIRED = (CARD, WEIGHTS)
LIMITS = {
    WEIGHTS: 200_000_000,
    CARD: MAX_JSON,
    operating_points.FILE: operating_points.MAX_BYTES,
    adapter.FILE: adapter.MAX_BYTES,
    "README.md": 1_000_000,
}
"""The files of a published router, and the bytes that each may have."""

_WAY_OUT = f"put {' and '.join(REQUIRED)} into a folder and name its path"


def router_folder(
    settings: Settings, preset: Preset, routers: Path, progress: ProgressCallback | None = None
) -> Path | None:
    """The folder of the router that the settings mean; None for "auto" where the pair has none. Raises `find_router`'s.

    `routers`: Folder of the shipped routers.
    """
    name, setting = settings.router, "CITER_ROUTER"
    if name == "auto" and preset.router is None:
        folder = routers / preset.name
        return folder if folder.is_dir() else None
    if name == "auto" and preset.router is not None:
        name, setting = preset.router, f"CITER_PAIRS: {preset.name}.router"
    cache, timeout = settings.cache_dir / "routers", settings.hub_timeout
    where = {"setting": setting, "hub": settings.hub, "timeout": timeout, "progress": progress}
    return find_router(name, routers, cache, **where)


def find_router(
    name: str,
    routers: Path,
    cache: Path,
    *,
    setting: str = "CITER_ROUTER",
    hub: bool = True,
    timeout: float = 5.0,
    progress: ProgressCallback | None = None,
) -> Path:
    """The folder of a router, fetched from the Hub if it is a repo's id and no folder has that name, or a RouterError.

    A WeightsError instead if what was fetched cannot be written: it is the cache that is at fault, not the router.

    Args:
        name: A path, a folder's name in `routers`, `owner/name` or `owner/name@revision` (branch, tag or commit).
        routers, cache: Folders of the shipped routers, and of fetched ones.
        setting: What named it, for people.
        hub: May the Hub be asked? If not, only the cache is looked at.
        timeout: Seconds after which a silent Hub counts as out of reach.
    """
    for folder in (Path(name), routers / name):
        if folder.is_dir():
            return folder
    repo = parse_repo(name)
    if repo is None:
        known = ", ".join(sorted(p.name for p in routers.glob("*") if p.is_dir())) or "none yet"
        raise RouterError(
            f"{setting} = {name}: no such folder, not among the routers shipped here ({known}), "
            "and not a repo of the Hub (owner/name or owner/name@revision)"
        )
    wanted = Wanted(setting, "router", RouterError, REQUIRED, LIMITS, _WAY_OUT)
    return fetch_repo(repo, wanted, cache, hub=hub, timeout=timeout, progress=progress).folder
