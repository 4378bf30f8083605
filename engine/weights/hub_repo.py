"""A repo of the Hugging Face Hub at one commit: a few small files of it in the cache, and what it holds besides.

A repo is looked up once and then read at that one commit, so its files always belong together. What was fetched is used
again when the Hub is out of reach. Files that nobody asked for are never fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from engine.errors import EngineError, WeightsError
from engine.weights.cache_folder import writing
from engine.weights.files import read_json, write_json
from engine.weights.progress import ProgressCallback, say
from engine.weights.sources import SourceUnavailable, hub_failure

MAIN = "main"
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubRepo:
    """A repo as a setting names it: `owner/name` or `owner/name@revision` (branch, tag or commit)."""

    repo_id: str
    revision: str = MAIN

    def __str__(self) -> str:
        return self.repo_id if self.revision == MAIN else f"{self.repo_id}@{self.revision}"

    def record(self, cache: Path) -> Path:
        """The file that says which commit was fetched last, in whole."""
        return cache / f"{self.repo_id.replace('/', '--')}@{quote(self.revision, safe='')}.json"


@dataclass(frozen=True)
class Wanted:
    """What is fetched of a repo, and how its faults are told.

    Attributes:
        setting: The variable that names the repo, for people.
        thing: What the repo should be, "router" or "model".
        error: Raised for a repo that is not what was asked for.
        required: Files that it must have.
        limits: All files that are fetched, and the bytes that each may have: a stranger's repo may hold anything.
        way_out: What to do without the Hub.
    """

    setting: str
    thing: str
    error: type[EngineError]
    required: Sequence[str]
    limits: Mapping[str, int]
    way_out: str


@dataclass(frozen=True)
class RepoFile:
    """A file that a repo holds; `bytes` is -1 and `sha256` empty where the Hub does not say."""

    bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A repo's wanted files in a folder, its commit, and all that it holds by name."""

    folder: Path
    commit: str
    holds: Mapping[str, RepoFile]


def parse_repo(name: str) -> HubRepo | None:
    """The repo that a name means; None if it means none."""
    repo_id, at, revision = name.partition("@")
    if repo_id.count("/") != 1 or (at and not _REVISION.fullmatch(revision)):
        return None
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return None
    return HubRepo(repo_id, revision) if at else HubRepo(repo_id)


def fetch_repo(
    repo: HubRepo,
    wanted: Wanted,
    cache: Path,
    *,
    hub: bool = True,
    timeout: float = 5.0,
    progress: ProgressCallback | None = None,
) -> Snapshot:
    """The wanted files of a repo, from the Hub or, where that is out of reach, as they were fetched last.

    Args:
        cache: Folder of what was fetched.
        hub: May the Hub be asked? If not, only the cache is looked at.
        timeout: Seconds after which a silent Hub counts as out of reach.

    Raises:
        EngineError: `wanted.error` if there is no such thing; a WeightsError if what was fetched cannot be written.
    """
    if _COMMIT.fullmatch(repo.revision) and (known := _cached(repo, wanted, cache)):
        return known  # what a commit holds never changes
    try:
        if not hub:
            raise SourceUnavailable("CITER_HUB is false")
        return _fetch(repo, wanted, cache, timeout, progress)
    except (SourceUnavailable, WeightsError) as reason:
        if isinstance(reason, wanted.error):
            raise
        known = _cached(repo, wanted, cache)
        if known is None and isinstance(reason, WeightsError):
            raise
        if known is None:
            raise wanted.error(
                f"{wanted.setting} = {repo}: no such folder, not cached, and not to be had from the Hub ({reason}). "
                f"Try again with a connection, or {wanted.way_out}."
            ) from reason
        why = "a newer one cannot be kept" if isinstance(reason, WeightsError) else "the Hub is out of reach"
        say(progress, f"{wanted.thing} {repo} from the cache, as {why} ({reason})", "cache")
        return known


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


def _fetch(repo: HubRepo, wanted: Wanted, cache: Path, timeout: float, progress: ProgressCallback | None) -> Snapshot:
    """Brings a repo's files into the cache, all of one commit, and remembers the commit.

    SourceUnavailable is raised if the Hub is out of reach or does not deliver, `wanted.error` if it has no such repo,
    WeightsError if the cache cannot be written.
    """
    api = HfApi(endpoint=constants.ENDPOINT, library_name="citer-playground")
    say(progress, f"looking for {wanted.thing} {repo}", "hub")
    commit, holds = _look_up(api, repo, wanted, timeout)
    files = _accepted(repo, wanted, holds)
    try:
        with without_bars(), writing(cache, sum(holds[file].bytes for file in files)):
            for file in files:
                copy = api.hf_hub_download(repo.repo_id, file, revision=commit, cache_dir=cache, etag_timeout=timeout)
                size = Path(copy).stat().st_size
                if size != holds[file].bytes:
                    raise SourceUnavailable(f"{file} has {size:,} bytes and was said to have {holds[file].bytes:,}")
        known = {"commit": commit, "files": {name: [file.bytes, file.sha256] for name, file in holds.items()}}
        if read_json(repo.record(cache)) != known:  # a cache that is complete may be read-only
            write_json(repo.record(cache), known)
    except (SourceUnavailable, WeightsError):
        raise
    except Exception as error:  # as in _look_up; here also hf_xet
        raise SourceUnavailable(hub_failure(error)[1]) from error
    return Snapshot(Path(copy).parent, commit, holds)


def _look_up(api: HfApi, repo: HubRepo, wanted: Wanted, timeout: float) -> tuple[str, dict[str, RepoFile]]:
    """The commit that a revision is at now, and what it holds."""
    asked = f"{wanted.setting} = {repo}"
    try:
        info = api.model_info(repo.repo_id, revision=repo.revision, files_metadata=True, timeout=timeout)
    except RevisionNotFoundError:
        raise wanted.error(f"{asked}: the repo {repo.repo_id} has no branch, tag or commit {repo.revision}") from None
    except Exception as error:
        # No narrower class would do: the connection's errors are httpx's in huggingface_hub 1 and httpx2's in 2.
        status, words = hub_failure(error)
        if status in (401, 404):
            raise wanted.error(
                f"{asked}: no such folder, and the Hub shows no such repo ({words}). "
                "Look at the spelling; for a private repo set HF_TOKEN or `hf auth login`."
            ) from error
        raise SourceUnavailable(words) from error
    if not _COMMIT.fullmatch(info.sha or ""):  # it becomes part of a path
        raise SourceUnavailable(f"{constants.ENDPOINT} names no commit, so it is not a Hub")
    return str(info.sha), {each.rfilename: _repo_file(each) for each in info.siblings or ()}


def _repo_file(sibling: Any) -> RepoFile:
    size, stored = sibling.size, getattr(sibling, "lfs", None)
    sha256 = stored.get("sha256") if isinstance(stored, dict) else getattr(stored, "sha256", None)
    known = isinstance(sha256, str) and _SHA256.fullmatch(sha256)
    return RepoFile(size if isinstance(size, int) and size >= 0 else -1, str(sha256) if known else "")


def _accepted(repo: HubRepo, wanted: Wanted, holds: Mapping[str, RepoFile]) -> list[str]:
    """The files to fetch, after looking that they are what is wanted and not too large."""
    asked = f"{wanted.setting} = {repo}"
    for file in wanted.required:
        if file not in holds:
            raise wanted.error(f"{asked}: not a {wanted.thing}, the repo {repo.repo_id} has no {file}")
    files = [file for file in wanted.limits if file in holds]
    for file in files:
        size = holds[file].bytes
        if not 0 <= size <= wanted.limits[file]:
            has = "an unknown size" if size < 0 else f"{size:,} bytes"
            raise wanted.error(
                f"{asked}: not fetched, {file} in {repo.repo_id} has {has} "
                f"and a {wanted.thing}'s has at most {wanted.limits[file]:,}"
            )
    return files


def _cached(repo: HubRepo, wanted: Wanted, cache: Path) -> Snapshot | None:
    """What was fetched last for a revision, if it is still there."""
    known = read_json(repo.record(cache))
    commit, files = known.get("commit"), known.get("files")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        return None
    paths = [try_to_load_from_cache(repo.repo_id, file, cache_dir=cache, revision=commit) for file in wanted.required]
    if not all(isinstance(path, str) for path in paths):
        return None
    holds: dict[str, RepoFile] = {}
    for name, told in (files if isinstance(files, dict) else {}).items():
        match told:
            case [int(size), str(sha256)] if not sha256 or _SHA256.fullmatch(sha256):
                holds[name] = RepoFile(size, sha256)
    return Snapshot(Path(str(paths[0])).parent, commit, holds)
