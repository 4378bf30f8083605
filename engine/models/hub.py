"""A few small files of a repo on the Hugging Face Hub, in the cache.

A repo is looked up once and then read at that one commit, so its files always belong together. Where the Hub is out of
reach, the files of the last time are used. No other files are ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from engine.errors import EngineError, WeightsError
from engine.events.progress import ProgressCallback, say
from engine.models.cache import make_folder, writing
from engine.models.files import write_text
from engine.settings import Settings

MAIN = "main"
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"Bearer \S+")


class SourceUnavailable(Exception):
    """A file does not come from this source; `str` is the reason."""


def hub_failure(error: Exception) -> tuple[int, str]:
    """What went wrong between here and the Hub: the HTTP status, 0 without an answer, and the words on one line."""
    # A download without a copy wraps what happened into an error that says less.
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    response = getattr(error, "response", None)
    if response is None:
        status, words = 0, str(error) or type(error).__name__
    else:
        status = response.status_code
        words = f"{status} {getattr(error, 'server_message', None) or response.reason_phrase}"
    # A token that no header may hold is quoted in the connection's complaint.
    return status, _BEARER.sub("Bearer …", " ".join(words.split()))


def is_repo(name: str) -> bool:
    """Whether a text names a repo: `owner/name` or `owner/name@revision` (branch, tag or commit)."""
    repo_id, at, revision = name.partition("@")
    if repo_id.count("/") != 1 or (at and not _REVISION.fullmatch(revision)):
        return False
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return True


class Wanted(NamedTuple):
    """A kind of repo: the setting that names it; "router" or "model"; the error for one that is something else.

    `required` are files that it must have, `limits` all files that are fetched, with the bytes that each may have: a
    stranger's repo may hold anything.
    """

    setting: str
    thing: str
    error: type[EngineError]
    required: Sequence[str]
    limits: Mapping[str, int]


class Listed(NamedTuple):
    """What the Hub says of a file: its bytes, -1 if unknown, and its SHA-256, empty unless it is a large file."""

    bytes: int = -1
    sha256: str = ""


class Snapshot(NamedTuple):
    """A repo at one commit: the folder of the wanted files, and all files by name, {} where the Hub was not asked."""

    folder: Path
    commit: str
    listed: Mapping[str, Listed]


def fetch_repo(name: str, wanted: Wanted, settings: Settings, progress: ProgressCallback | None = None) -> Snapshot:
    """The wanted files of a repo, from the Hub or, out of its reach, those of last time.

    Raises `wanted.error` if there is no such repo, and WeightsError if its files cannot be written.
    """
    repo_id, _, revision = name.partition("@")
    revision, cache = revision or MAIN, settings.cache_dir / f"{wanted.thing}s"
    try:
        if not settings.hub:
            raise SourceUnavailable("CITER_HUB is false")
        say(progress, f"looking for {wanted.thing} {name}")
        return _fetch(repo_id, revision, f"{wanted.setting} = {name}", wanted, cache, settings.hub_timeout)
    except (SourceUnavailable, WeightsError) as reason:
        known, full = _cached(repo_id, revision, wanted, cache), isinstance(reason, WeightsError)
        if isinstance(reason, wanted.error) or (full and known is None):
            raise
        if known is None:
            raise wanted.error(
                f"{wanted.setting} = {name}: no such folder, not cached, and not to be had from the Hub ({reason}). "
                "Try again with a connection, or name the path of a folder that holds it."
            ) from reason
        why = "a newer one cannot be stored" if full else "the Hub is out of reach"
        say(progress, f"{wanted.thing} {name} from the cache, as {why} ({reason})")
        return known


def _fetch(repo_id: str, revision: str, asked: str, wanted: Wanted, cache: Path, timeout: float) -> Snapshot:
    """Brings a repo's files into the cache, all of one commit, and remembers which commit the revision was at."""
    api = HfApi(endpoint=constants.ENDPOINT, library_name="citer-playground")
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=timeout)
    except RevisionNotFoundError:
        raise wanted.error(f"{asked}: the repo {repo_id} has no branch, tag or commit {revision}") from None
    except Exception as error:
        # No narrower class would do: the connection's errors are httpx's in huggingface_hub 1 and httpx2's in 2.
        status, words = hub_failure(error)
        if status in (401, 404):
            raise wanted.error(
                f"{asked}: no such folder, and the Hub shows no such repo ({words}). "
                "Look at the spelling; for a private repo set HF_TOKEN or `hf auth login`."
            ) from error
        raise SourceUnavailable(words) from error
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):  # it becomes part of a path
        raise SourceUnavailable(f"{constants.ENDPOINT} names no commit, so it is not a Hub")
    listed = {file.rfilename: _listed(file) for file in info.siblings or ()}
    if missing := [file for file in wanted.required if file not in listed]:
        raise wanted.error(f"{asked}: not a {wanted.thing}, the repo has no {missing[0]}")
    files = [file for file in wanted.limits if file in listed]
    for file in files:
        if not 0 <= (size := listed[file].bytes) <= (most := wanted.limits[file]):
            has = "an unknown size" if size < 0 else f"{size:,} bytes"
            raise wanted.error(
                f"{asked}: not fetched, its {file} has {has} and a {wanted.thing}'s has at most {most:,}"
            )
    disable_progress_bars()
    try:
        make_folder(cache)
        with writing(cache, 0):
            for file in files:
                copy = Path(api.hf_hub_download(repo_id, file, revision=commit, cache_dir=cache, etag_timeout=timeout))
                if (size := copy.stat().st_size) != listed[file].bytes:
                    raise SourceUnavailable(f"{file} has {size:,} bytes and was said to have {listed[file].bytes:,}")
            reference = cache / repo_folder_name(repo_id=repo_id, repo_type="model") / "refs" / revision
            if not reference.is_file() or reference.read_text() != commit:  # a complete cache may be read-only
                reference.parent.mkdir(parents=True, exist_ok=True)
                write_text(reference, commit)
    except (SourceUnavailable, WeightsError):
        raise
    except Exception as error:  # as above; here also hf_xet
        raise SourceUnavailable(hub_failure(error)[1]) from error
    return Snapshot(copy.parent, commit, listed)


def _listed(file: Any) -> Listed:
    sha256 = str(file.lfs.sha256) if file.lfs else ""
    return Listed(file.size if isinstance(file.size, int) else -1, sha256 if _SHA256.fullmatch(sha256) else "")


def _cached(repo_id: str, revision: str, wanted: Wanted, cache: Path) -> Snapshot | None:
    """The files that were fetched last for a revision, if they are still there."""
    paths = [try_to_load_from_cache(repo_id, file, cache_dir=cache, revision=revision) for file in wanted.required]
    if not all(isinstance(path, str) for path in paths):
        return None
    folder = Path(str(paths[0])).parent
    return Snapshot(folder, folder.name, {}) if _COMMIT.fullmatch(folder.name) else None
