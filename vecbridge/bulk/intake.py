"""The input of a bulk write: batches from any source, and of each batch the rows that can be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.bulk.delivery import Part, Rows
from vecbridge.errors import ConfigError, Failure, InvalidRecordError
from vecbridge.schema import CollectionSpec


@dataclass(frozen=True, slots=True, eq=False)
class Validated:
    """A batch of the source after its check.

    Attributes:
        part: The good rows, in canonical form, each id once.
        failures: The bad rows.
        duplicates: Rows left out because a later row has their id.
    """

    part: Part
    failures: tuple[Failure, ...]
    duplicates: int


def record_batches(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch]:
    """Record batches, one at a time; tables are taken in their chunks, and empty batches are skipped.

    Raises:
        ConfigError: Neither a batch nor a table.
    """
    if isinstance(batches, pa.RecordBatch | pa.Table):
        batches = [batches]
    for batch in batches:
        if isinstance(batch, pa.Table):
            yield from (chunk for chunk in batch.to_batches() if chunk.num_rows)
        elif not isinstance(batch, pa.RecordBatch):
            raise ConfigError(f"batches: pyarrow.RecordBatch or Table is wanted, not {type(batch).__name__}")
        elif batch.num_rows:
            yield batch


def validate(batch: pa.RecordBatch, spec: CollectionSpec) -> Validated:
    """Separates the rows that can be written from those that cannot.

    Of the good rows with the same id the last wins; a bad row replaces nothing.

    Raises:
        EmbedderMismatchError: The batch's vectors come from another model than the collection's.
    """
    rows = np.arange(batch.num_rows)
    try:
        return Validated(Part(records.checked(batch, spec), rows), (), 0)
    except InvalidRecordError:
        problems = _problems(batch, spec)  # the error names repeated ids too, and one problem a row
    good = np.setdiff1d(rows, list(problems))
    ids = batch.column("id").to_pylist() if "id" in batch.schema.names else [None] * len(rows)
    last = np.array(sorted({ids[row]: row for row in good.tolist()}.values()), np.int64)
    failures = tuple(Failure(row, _plain(ids[row]), error) for row, error in sorted(problems.items()))
    return Validated(Part(_checked_rows(batch, spec, last), last), failures, len(good) - len(last))


def _checked_rows(batch: pa.RecordBatch, spec: CollectionSpec, rows: Rows) -> records.Checked:
    """Some rows of a batch, all of them good; the batch may not fit the spec if there are none."""
    if not len(rows):
        batch = pa.RecordBatch.from_pylist([], schema=records.arrow_schema(spec))
        return records.checked(batch, spec)
    return records.checked(batch.take(pa.array(rows)), spec)


def _problems(batch: pa.RecordBatch, spec: CollectionSpec) -> dict[int, str]:
    """What is wrong with each row by itself, repeated ids apart.

    Linear in the rows, however many repeat: the other columns are checked under ids that are made up, and
    each distinct id is checked once.
    """
    position = batch.schema.get_field_index("id")
    if position < 0 or pa.types.is_nested(batch.column(position).type):
        return _errors(batch, spec)  # all rows, for the shape of the batch
    numbers = np.arange(batch.num_rows)
    distinct = pa.array(map(str, numbers)) if spec.id_type == "string" else pa.array(numbers)
    problems = _errors(batch.set_column(position, "id", distinct), spec)
    return problems | _id_problems(batch.column(position), spec)


def _id_problems(ids: pa.Array, spec: CollectionSpec) -> dict[int, str]:
    values = ids.to_pylist()
    firsts = {value: row for row, value in reversed(list(enumerate(values)))}
    distinct = ids.take(pa.array(firsts.values(), pa.int64()))
    ones = records.vector_array(np.ones((len(distinct), 1), np.float32))
    ids_alone = CollectionSpec.single(spec.name, dim=1, id_type=spec.id_type)
    errors = _errors(pa.RecordBatch.from_pydict({"id": distinct, "vector": ones}), ids_alone)
    by_value = {value: errors[row] for row, value in enumerate(firsts) if row in errors}
    return {row: by_value[value] for row, value in enumerate(values) if value in by_value}


def _errors(batch: pa.RecordBatch, spec: CollectionSpec) -> dict[int, str]:
    try:
        records.check(batch, spec)
    except InvalidRecordError as exc:
        return {failure.row: failure.error for failure in exc.rows}
    return {}


def _plain(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) else None
