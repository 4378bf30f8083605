"""Where a router's folder is: a path, a name among the shipped ones, or a model repo of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from engine import operating_points
from engine.errors import RouterError
from engine.events.progress import ProgressCallback
from engine.model import adapter
from engine.models.files import MAX_JSON
from engine.models.hub import Wanted, fetch_repo, is_repo
from engine.models.sources import Preset
from engine.router import CARD, WEIGHTS
from engine.settings import Settings

REQUIRED = (CARD, WEIGHTS)
LIMITS = {
    WEIGHTS: 200_000_000,
    CARD: MAX_JSON,
    operating_points.FILE: operating_points.MAX_BYTES,
    adapter.FILE: adapter.MAX_BYTES,
    "README.md": 1_000_000,
}
"""The files of a published router, and the bytes that each may have."""


def router_folder(
    settings: Settings, preset: Preset, routers: Path, progress: ProgressCallback | None = None
) -> Path | None:
    """The folder of the router that the settings mean; None for "auto" where the shipped `routers` have none.

    It is fetched from the Hub if it is a repo's id and no folder has that name. A RouterError if there is none, a
    WeightsError if what was fetched cannot be written.
    """
    name, setting = settings.router, "CITER_ROUTER"
    if name == "auto":
        return folder if (folder := routers / preset.name).is_dir() else None
    for folder in (Path(name), routers / name):
        if folder.is_dir():
            return folder
    if not is_repo(name):
        known = ", ".join(sorted(path.name for path in routers.glob("*") if path.is_dir())) or "none yet"
        raise RouterError(
            f"{setting} = {name}: no such folder, not among the routers shipped here ({known}), "
            "and not a repo of the Hub (owner/name or owner/name@revision)"
        )
    return fetch_repo(name, Wanted(setting, "router", RouterError, REQUIRED, LIMITS), settings, progress).folder
