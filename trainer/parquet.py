"""Rows in Parquet files, one for each shard of a stage; `datasets.load_dataset("parquet", ...)` streams them, too.

Pages carry checksums, so that a damaged file is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from trainer import TrainerError
from trainer.json_files import AGAIN

PARQUET = ".parquet"
Value = TypeVar("Value")


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


class ByQuestion(Mapping[str, Value]):
    """What shards hold for each question. One shard at a time is in memory."""

    def __init__(
        self,
        paths: Sequence[Path],
        questions: Sequence[str],
        size: int,
        read: Callable[[Path], Iterable[Mapping[str, Any]]],
        made: Callable[[Sequence[Mapping[str, Any]]], Value],
    ) -> None:
        """Takes the shards in order, each with the next `size` of the questions; `made` makes a value of one's rows."""
        self._paths, self._read, self._made = paths, read, made
        self._shard_of = {question: number // size for number, question in enumerate(questions)}
        self._number, self._rows = -1, {}

    def __getitem__(self, question: str) -> Value:
        number = self._shard_of[question]
        if number != self._number:
            rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for row in self._read(self._paths[number]):
                rows[row["question"]].append(row)
            self._number, self._rows = number, rows
        if question not in self._rows:
            raise TrainerError(f"{self._paths[number]} has nothing of question {question}; {AGAIN}")
        return self._made(self._rows[question])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)
