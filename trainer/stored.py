"""What the trainer has stored, read back and checked: tables in Parquet, and what a JSON file says.

Errors name the file and its first fault. Pages of tables carry checksums, so that a damaged one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from engine.errors import first_fault
from trainer import TrainerError

AGAIN = "delete the file and run the same command again"


def read_json(path: Path, kind: Any, way_out: str) -> Any:
    """A file's content, validated by pydantic as `kind`; a TrainerError names the first fault and the way out."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror or error}; {way_out}") from None
    except ValidationError as error:
        raise TrainerError(f"{path}: {first_fault(error, whole='')}; {way_out}") from None


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: pa.Schema) -> None:
    """Writes rows; the same rows are always the same bytes."""
    write_table(path, pa.Table.from_pylist(list(rows), columns))


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None, **how: Any) -> None:
    """Writes a table with checksums; `read_metadata` gives `metadata` back, and `how` is pyarrow's."""
    table = table.replace_schema_metadata(dict(metadata or {}))
    pq.write_table(table, path, compression="zstd", write_page_checksum=True, **how)


def read_metadata(path: Path) -> dict[str, str]:
    """A file's own metadata; an OSError or ValueError if the file is damaged."""
    found = pq.read_schema(path).metadata or {}
    return {name.decode(): value.decode() for name, value in found.items() if name != b"ARROW:schema"}


def read_table(path: Path, columns: pa.Schema) -> pa.Table:
    """The given columns of a file; a TrainerError if the file is damaged or lacks one."""
    try:
        table = pq.read_table(path, columns=columns.names, page_checksum_verification=True)
        table = table.select(columns.names).cast(columns)
        table.validate(full=True)
        if any(table[field.name].null_count for field in columns if not field.nullable):
            raise ValueError("a value is missing")
        return table
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise TrainerError(f"{path} is damaged ({reason[:200]}); {AGAIN}") from None


def read_rows(path: Path, columns: pa.Schema) -> list[dict[str, Any]]:
    return read_table(path, columns).to_pylist()
