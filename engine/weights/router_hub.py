"""Where a router's folder is: a path, a name among the shipped ones, or a model repo of the Hugging Face Hub.

A repo is looked up once and then read at that one commit, so weights and card always belong together. Files not listed
in `LIMITS` are never fetched. What was fetched is used again when the Hub is out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from engine import operating_points
from engine.errors import RouterError, WeightsError
from engine.router import CARD, WEIGHTS
from engine.weights.cache_folder import writing
from engine.weights.files import MAX_JSON, read_json, write_json
from engine.weights.progress import ProgressCallback, say
from engine.weights.sources import SourceUnavailable, hub_failure

REQUIRED = (CARD, WEIGHTS)
LIMITS = {
    WEIGHTS: 200_000_000,
    CARD: MAX_JSON,
    operating_points.FILE: operating_points.MAX_BYTES,
    "README.md": 1_000_000,
}
"""The files of a published router, and the bytes that each may have: a stranger's repo may hold anything."""

MAIN = "main"
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class _Repo:
    """A router's repo, as the setting names it: `owner/name` or `owner/name@revision`."""

    repo_id: str
    revision: str = MAIN

    def __str__(self) -> str:
        return self.repo_id if self.revision == MAIN else f"{self.repo_id}@{self.revision}"

    def record(self, cache: Path) -> Path:
        """The file that says which commit was fetched last, in whole."""
        return cache / f"{self.repo_id.replace('/', '--')}@{quote(self.revision, safe='')}.json"


def find_router(
    name: str,
    routers: Path,
    cache: Path,
    *,
    hub: bool = True,
    timeout: float = 5.0,
    progress: ProgressCallback | None = None,
) -> Path:
    """The folder of a router, fetched from the Hub if it is a repo's id and no folder has that name, or a RouterError.

    A WeightsError instead if what was fetched cannot be written: it is the cache that is at fault, not the router.

    Args:
        name: A path, a folder's name in `routers`, `owner/name` or `owner/name@revision` (branch, tag or commit).
        routers, cache: Folders of the shipped routers, and of fetched ones.
        hub: May the Hub be asked? If not, only the cache is looked at.
        timeout: Seconds after which a silent Hub counts as out of reach.
    """
    for folder in (Path(name), routers / name):
        if folder.is_dir():
            return folder
    repo = _parse(name)
    if repo is None:
        known = ", ".join(sorted(p.name for p in routers.glob("*") if p.is_dir())) or "none yet"
        raise RouterError(
            f"CITER_ROUTER = {name}: no such folder, not among the routers shipped here ({known}), "
            "and not a repo of the Hub (owner/name or owner/name@revision)"
        )
    if _COMMIT.fullmatch(repo.revision) and (folder := _cached(repo, cache)):
        return folder  # what a commit holds never changes
    try:
        if not hub:
            raise SourceUnavailable("CITER_HUB is false")
        return _fetch(repo, cache, timeout, progress)
    except (SourceUnavailable, WeightsError) as reason:
        folder = _cached(repo, cache)
        if folder is None and isinstance(reason, WeightsError):
            raise
        if folder is None:
            raise RouterError(
                f"CITER_ROUTER = {repo}: no such folder, not cached, and not to be had from the Hub ({reason}). "
                f"Try again with a connection, or put {' and '.join(REQUIRED)} into a folder and name its path."
            ) from reason
        why = "a newer one cannot be kept" if isinstance(reason, WeightsError) else "the Hub is out of reach"
        say(progress, f"router {repo} from the cache, as {why} ({reason})", "cache")
        return folder


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps huggingface_hub's own progress bars off the terminal, and leaves the switch as it was."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()  # a context manager itself only in huggingface_hub 2
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _parse(name: str) -> _Repo | None:
    repo_id, at, revision = name.partition("@")
    if repo_id.count("/") != 1 or (at and not _REVISION.fullmatch(revision)):
        return None
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return None
    return _Repo(repo_id, revision) if at else _Repo(repo_id)


def _fetch(repo: _Repo, cache: Path, timeout: float, progress: ProgressCallback | None) -> Path:
    """Brings a repo's files into the cache, all of one commit, and remembers the commit.

    SourceUnavailable is raised if the Hub is out of reach or does not deliver, RouterError if it has no such router,
    WeightsError if the cache cannot be written.
    """
    api = HfApi(endpoint=constants.ENDPOINT, library_name="citer-playground")
    say(progress, f"looking for router {repo}", "hub")
    commit, sizes = _look_up(api, repo, timeout)
    files = _accepted(repo, sizes)
    try:
        with without_bars(), writing(cache, sum(sizes[file] or 0 for file in files)):
            for file in files:
                copy = api.hf_hub_download(repo.repo_id, file, revision=commit, cache_dir=cache, etag_timeout=timeout)
                size = Path(copy).stat().st_size
                if size != sizes[file]:
                    raise SourceUnavailable(f"{file} has {size:,} bytes and was said to have {sizes[file]:,}")
        if read_json(repo.record(cache)).get("commit") != commit:  # a cache that is complete may be read-only
            write_json(repo.record(cache), {"commit": commit})
    except (SourceUnavailable, WeightsError):
        raise
    except Exception as error:  # as in _look_up; here also hf_xet
        raise SourceUnavailable(hub_failure(error)[1]) from error
    return Path(copy).parent


def _look_up(api: HfApi, repo: _Repo, timeout: float) -> tuple[str, dict[str, int | None]]:
    """The commit that a revision is at now, and the sizes of its files."""
    try:
        info = api.model_info(repo.repo_id, revision=repo.revision, files_metadata=True, timeout=timeout)
    except RevisionNotFoundError:
        raise RouterError(
            f"CITER_ROUTER = {repo}: the repo {repo.repo_id} has no branch, tag or commit {repo.revision}"
        ) from None
    except Exception as error:
        # No narrower class would do: the connection's errors are httpx's in huggingface_hub 1 and httpx2's in 2.
        status, words = hub_failure(error)
        if status in (401, 404):
            raise RouterError(
                f"CITER_ROUTER = {repo}: no such folder, and the Hub shows no such repo ({words}). "
                "Look at the spelling; for a private repo set HF_TOKEN or `hf auth login`."
            ) from error
        raise SourceUnavailable(words) from error
    if not _COMMIT.fullmatch(info.sha or ""):  # it becomes part of a path
        raise SourceUnavailable(f"{constants.ENDPOINT} names no commit, so it is not a Hub")
    return str(info.sha), {sibling.rfilename: sibling.size for sibling in info.siblings or ()}


def _accepted(repo: _Repo, sizes: dict[str, int | None]) -> list[str]:
    """The files to fetch, after looking that they are a router's and not too large."""
    for file in REQUIRED:
        if file not in sizes:
            raise RouterError(f"CITER_ROUTER = {repo}: not a router, the repo {repo.repo_id} has no {file}")
    files = [file for file in LIMITS if file in sizes]
    for file in files:
        size = sizes[file]
        if size is None or size > LIMITS[file]:
            has = "an unknown size" if size is None else f"{size:,} bytes"
            raise RouterError(
                f"CITER_ROUTER = {repo}: not fetched, {file} in {repo.repo_id} has {has} "
                f"and a router's has at most {LIMITS[file]:,}"
            )
    return files


def _cached(repo: _Repo, cache: Path) -> Path | None:
    """The folder that was fetched last for a revision, if it is still there."""
    commit = read_json(repo.record(cache)).get("commit")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        return None
    paths = [try_to_load_from_cache(repo.repo_id, file, cache_dir=cache, revision=commit) for file in REQUIRED]
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None  # pyright: ignore
