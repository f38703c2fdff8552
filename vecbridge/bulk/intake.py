"""What a bulk write takes in: batches from any source, and of each batch the rows that may be sent."""

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
class Sifted:
    """A batch of the source after its check.

    Attributes:
        part: The rows to send, in canonical form, each id once.
        failures: The rows that no backend may take.
        duplicates: Rows left out because a later row has their id.
    """

    part: Part
    failures: tuple[Failure, ...]
    duplicates: int


def record_batches(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch]:
    """The batches that have rows, one at a time; tables in their chunks.

    Raises:
        ConfigError: Something else came.
    """
    if isinstance(batches, pa.RecordBatch | pa.Table):
        batches = [batches]
    for each in batches:
        if isinstance(each, pa.Table):
            yield from (chunk for chunk in each.to_batches() if chunk.num_rows)
        elif not isinstance(each, pa.RecordBatch):
            raise ConfigError(f"batches: pyarrow.RecordBatch or Table is wanted, not {type(each).__name__}")
        elif each.num_rows:
            yield each


def sift(batch: pa.RecordBatch, spec: CollectionSpec) -> Sifted:
    """Parts the rows that may be sent from those that may not.

    A row that is refused replaces nothing: the last good row of an id wins.

    Raises:
        EmbedderMismatchError: The batch bears another model than the collection.
    """
    rows = np.arange(batch.num_rows)
    try:
        return Sifted(Part(records.checked(batch, spec), rows), (), 0)
    except InvalidRecordError:
        problems = _problems(batch, spec)  # check() refuses repeats too, and names one problem a row
    good = np.setdiff1d(rows, list(problems))
    keys = batch.column("id").to_pylist() if "id" in batch.schema.names else [None] * len(rows)
    last = np.array(sorted({keys[row]: row for row in good.tolist()}.values()), np.int64)
    failures = tuple(Failure(row, _plain(keys[row]), error) for row, error in sorted(problems.items()))
    return Sifted(Part(_checked(batch, spec, last), last), failures, len(good) - len(last))


def _checked(batch: pa.RecordBatch, spec: CollectionSpec, rows: Rows) -> records.Checked:
    if not len(rows):
        batch = pa.RecordBatch.from_pylist([], schema=records.arrow_schema(spec))
        return records.checked(batch, spec)
    return records.checked(batch.take(pa.array(rows)), spec)


def _problems(batch: pa.RecordBatch, spec: CollectionSpec) -> dict[int, str]:
    """What is wrong with each row by itself, repeated ids apart; linear in the rows, however many repeat."""
    position = batch.schema.get_field_index("id")
    if position < 0 or pa.types.is_nested(batch.column(position).type):
        return _refusals(batch, spec)  # all rows, for the shape of the batch
    numbers = np.arange(batch.num_rows)
    stand_ins = pa.array(map(str, numbers)) if spec.id_type == "string" else pa.array(numbers)
    found = _refusals(batch.set_column(position, "id", stand_ins), spec)
    return found | _id_problems(batch.column(position), spec)


def _id_problems(ids: pa.Array, spec: CollectionSpec) -> dict[int, str]:
    keys = ids.to_pylist()
    firsts = {key: row for row, key in reversed(list(enumerate(keys)))}
    distinct = ids.take(pa.array(firsts.values(), pa.int64()))
    ones = records.vector_array(np.ones((len(distinct), 1), np.float32))
    ids_alone = CollectionSpec.single(spec.name, dim=1, id_type=spec.id_type)
    refused = _refusals(pa.RecordBatch.from_pydict({"id": distinct, "vector": ones}), ids_alone)
    errors = {key: refused[row] for row, key in enumerate(firsts) if row in refused}
    return {row: errors[key] for row, key in enumerate(keys) if key in errors}


def _refusals(batch: pa.RecordBatch, spec: CollectionSpec) -> dict[int, str]:
    try:
        records.check(batch, spec)
    except InvalidRecordError as exc:
        return {each.row: each.error for each in exc.rows}
    return {}


def _plain(key: Any) -> str | int | None:
    return key if isinstance(key, str | int) else None
