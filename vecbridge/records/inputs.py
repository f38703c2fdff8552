"""Records as people have them: Arrow batches and tables, data frames, lists of dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from vecbridge.errors import ConfigError, suggestion
from vecbridge.records.building import batch
from vecbridge.records.checking import check, invalid, whole_batch
from vecbridge.records.recognition import Checked
from vecbridge.schema import CollectionSpec

#: What a write takes: a RecordBatch, a Table, whatever exports Arrow data (a pandas or Polars DataFrame, a
#: DuckDB relation), or a list of dicts.
Records: TypeAlias = Any


def is_records(data: object) -> bool:
    """Whether these are the records of one write, and not several of them, or something else."""
    return isinstance(data, pa.RecordBatch | pa.Table | Checked) or _is_arrow(data) or is_rows(data)


def is_rows(data: object) -> bool:
    """Whether this is a list of dicts; an empty list is one."""
    return isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data)


def as_table(data: Records) -> pa.Table:
    """Arrow data of any kind as a table, without a copy where it is in memory.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if not _is_arrow(data):
        raise ConfigError(
            f"{type(data).__name__}: a RecordBatch, a Table, a DataFrame or a list of dicts is wanted; "
            "vecbridge.batch(spec, id=…, vector=…) makes a batch of columns"
        )
    return pa.table(data)


def as_batch(data: Records, spec: CollectionSpec) -> pa.RecordBatch | Checked:
    """The records of one write as one batch; it is not checked yet.

    Args:
        data: What :func:`is_records` accepts.
        spec: The collection's spec, by which dicts are read.

    Raises:
        ConfigError: Something else.
        InvalidRecordError: Dicts that no batch can hold; names each of them.
    """
    if isinstance(data, pa.RecordBatch | Checked):
        return data
    if is_rows(data):
        return rows_batch(data, spec)
    table = as_table(data)
    parts = table.combine_chunks().to_batches()
    if not parts:
        return pa.RecordBatch.from_pylist([], schema=table.schema)
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def rows_batch(rows: Sequence[Mapping[str, Any]], spec: CollectionSpec) -> pa.RecordBatch:
    """A batch of dicts; a key that a dict leaves out is null.

    Raises:
        InvalidRecordError: Names each row at fault.
    """
    names = {name: None for row in rows for name in row} | {"id": None}
    known = set(spec.column_names)
    if not known.issuperset(names):
        raise invalid(_strange_keys(rows, spec, known), [record.get("id") for record in rows])
    if not rows:
        names |= {vector.name: None for vector in spec.vectors}
    return batch(spec, **{name: [row.get(name) for row in rows] for name in names})


def _strange_keys(rows: Sequence[Mapping[str, Any]], spec: CollectionSpec, known: set[str]) -> dict[int, str]:
    """Which dicts have a key that is no column."""
    problems: dict[int, str] = {}
    for row, record in enumerate(rows):
        if strange := [name for name in record if name not in known]:
            hint = suggestion(str(strange[0]), spec.column_names)
            problems[row] = f"{spec.name!r} has no column {strange[0]!r}{hint}"
    return problems


def changes(data: Records, spec: CollectionSpec) -> pa.RecordBatch:
    """The id and some columns of records, checked like whole ones.

    Raises:
        ConfigError: No records.
        InvalidRecordError: An unknown column, a wrong value, or dicts that do not have the same keys.
    """
    if is_rows(data):
        first = set(data[0]) if data else {"id"}
        problems = {
            row: f"has the columns {', '.join(sorted(record))}, and row 0 {', '.join(sorted(first))}: change "
            "the same columns in every row"
            for row, record in enumerate(data)
            if set(record) != first
        }
        if problems:
            raise invalid(problems, [record.get("id") for record in data])
        names, rows = list(first), len(data)
    else:
        data = as_batch(data.batch if isinstance(data, Checked) else data, spec)
        names, rows = data.schema.names, data.num_rows
    for name in names:
        if name not in spec.column_names:
            raise whole_batch(
                f"{spec.name!r} has no column {name!r}{suggestion(name, spec.column_names)}", rows
            )
    part = CollectionSpec.foreign(  # a spec of some columns, which may have no vector
        spec.name,
        tuple(vector for vector in spec.vectors if vector.name in names),
        tuple(field for field in spec.fields if field.name in names),
        spec.id_type,
    )
    return check(as_batch(data, part), part)


def _is_arrow(data: object) -> bool:
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")
