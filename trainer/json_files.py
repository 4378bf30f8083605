"""JSON that the trainer wrote earlier, read back as what it should be: the first fault is told with file and line.

Numbers that are not finite are neither written nor read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.errors import first_fault
from engine.files import write_text
from trainer import TrainerError

AGAIN = "delete the file and run the same command again"

GZIP = ".gz"
"""The end of a JSONL file's name that is compressed, as what is kept for long is."""

_MOST = 2**28  # bytes that a compressed file may come to; the longest that was written has two million


def read_json(path: Path, kind: Any, way_out: str) -> Any:
    """A file's content, validated by pydantic as `kind`; a TrainerError names the first fault and the way out."""
    try:
        return _adapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror or error}; {way_out}") from None
    except ValidationError as error:
        raise TrainerError(f"{path}: {first_fault(error, whole='')}; {way_out}") from None


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Writes what `read_json` reads, whole or not at all."""
    write_text(path, _dumped(value, path, indent=indent) + "\n")


def write_result(folder: Path, name: str, value: Any) -> Path:
    """Writes a file of results, indented, into a folder that is made if it is not there; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / name, value, indent=1)
    return folder / name


def read_lines(paths: Sequence[Path], kind: Any = dict[str, Any]) -> list[Any]:
    """The objects of JSONL files, one per line, validated as `kind`; see `numbered_lines`."""
    return [value for path in paths for _, value in numbered_lines(path, kind)]


def numbered_lines(path: Path, kind: Any, way_out: str = AGAIN) -> Iterator[tuple[str, Any]]:
    """Each object of a JSONL file and where it stands; a TrainerError names the first line that is none of `kind`.

    It may be compressed. A line ends with a line feed and nothing else does, since a text may hold U+2028.
    """
    try:
        content = _decompressed(path) if path.suffix == GZIP else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise TrainerError(f"{path}: {getattr(error, 'strerror', None) or error}; {way_out}") from None
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], 1):
        where = f"{path}:{number}"
        try:
            yield where, _adapter(kind).validate_json(line, strict=True)
        except ValidationError as error:
            raise TrainerError(f"{where}: {first_fault(error, whole='')}; {way_out}") from None


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes what `read_lines` reads."""
    path.write_text("".join(_dumped(line, path) + "\n" for line in lines), encoding="utf-8")


def compress_lines(path: Path, out: Path) -> None:
    """Writes a JSONL file compressed; of the same lines always the same bytes."""
    out.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def _decompressed(path: Path) -> bytes:
    with gzip.open(path) as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise OSError(f"it comes to more than {_MOST:,} bytes")
    return content


def _dumped(value: Any, path: Path, indent: int | None = None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode("utf-8")
    except ValueError as error:  # NaN, or half a surrogate pair
        raise TrainerError(f"{path} is not written: {error}") from None
    return text


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
