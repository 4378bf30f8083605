"""What a folder of converted weights holds, whatever their layout: every file with its size and SHA-256.

A folder may be damaged in any way; what is wrong with it is said in words, so that it can be made again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from engine.errors import first_fault
from engine.weights.cache_folder import note_beside, sha256_of, sha256_once
from engine.weights.files import read_bytes, write_json
from engine.weights.progress import ProgressCallback

MANIFEST = "manifest.json"
SMALL = 20_000_000  # bytes; what is smaller is hashed at every start

_FileName = Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]
_Value = TypeVar("_Value")
_ByName = Annotated[dict[_FileName, _Value], Field(max_length=100)]


@dataclass(frozen=True)
class Manifest:
    """What a folder holds; stored as `manifest.json` when it is made.

    Attributes:
        format, source_sha256, bitsandbytes, layout: What makes a folder outdated when it changes.
        tokenizer: The tokenizer's fingerprint.
        files: Bytes of each file.
        sha256: Of each file; folders of earlier versions lack that of the weights, which is then taken as it is, once.
    """

    format: int
    source_sha256: str
    bitsandbytes: str
    layout: str
    tokenizer: str
    files: _ByName[Annotated[int, Field(ge=0)]]
    sha256: _ByName[str]

    @classmethod
    def of(cls, folder: Path, stamp: Mapping[str, Any], tokenizer: str) -> Manifest:
        """That of a folder that was just made, hashed once."""
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        hashes = {name: _sha256(folder / name, size, None, again=True) for name, size in sizes.items()}
        return cls(**stamp, tokenizer=tokenizer, files=sizes, sha256=hashes)

    def save(self, folder: Path) -> None:
        """Writes it into its folder."""
        write_json(folder / MANIFEST, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads a folder's; raises ValueError with the first thing that is wrong, also where it is not there."""
        try:
            return TypeAdapter(cls).validate_json(read_bytes(folder / MANIFEST), strict=True)
        except OSError as error:
            raise ValueError(f"its {MANIFEST} cannot be read ({error.strerror or error})") from None
        except ValidationError as error:
            raise ValueError(f"its {MANIFEST} is damaged ({first_fault(error)})") from None


def problem(
    folder: Path,
    stamp: Mapping[str, Any],
    needed: Set[str],
    progress: ProgressCallback | None = None,
    again: bool = False,
) -> str | None:
    """Why a folder cannot be used as it is; None if it can.

    Args:
        stamp: What its manifest must say.
        needed: Files that it must hold.
        again: Hash large files even if they have not changed since the last time.
    """
    if not folder.is_dir():
        return "it is not a folder" if os.path.lexists(folder) else "it is not there"
    try:
        manifest = Manifest.load(folder)
        for key, value in stamp.items():
            if getattr(manifest, key) != value:
                return f"its {key} is {str(getattr(manifest, key))[:80]!r}, not {value!r}"
        if missing := sorted(needed - manifest.files.keys()):
            return f"its {MANIFEST} says nothing of {missing[0]}"
        found = {name: _sha256(folder / name, size, progress, again) for name, size in manifest.files.items()}
    except ValueError as error:
        return str(error)
    if changed := [name for name, sha256 in found.items() if manifest.sha256.get(name, sha256) != sha256]:
        return f"its {changed[0]} has changed"
    if manifest.sha256 != found:
        with contextlib.suppress(OSError):  # a cache that is complete may be read-only
            replace(manifest, sha256=found).save(folder)
    return None


def _sha256(path: Path, size: int, progress: ProgressCallback | None, again: bool) -> str:
    """The hash of one of a folder's files; a ValueError if it is no file of this size."""
    try:
        if not path.is_file():
            raise ValueError(f"its {path.name} is missing, or not a file")
        if path.stat().st_size != size:
            raise ValueError(f"its {path.name} has {path.stat().st_size} bytes, not {size}")
        return sha256_of(path) if size < SMALL else sha256_once(path, note_beside(path), progress, again)
    except OSError as error:
        raise ValueError(f"its {path.name} cannot be read ({error.strerror or error})") from None
