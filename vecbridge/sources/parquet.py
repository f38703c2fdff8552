"""Parquet files: ids, vectors and scalar columns, streamed as Arrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.records import arrow_type, stamped
from vecbridge.schema import CollectionSpec, FieldType, VectorField
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter, as_text
from vecbridge.sources.inference import (
    SourceSchema,
    arrow_field_type,
    as_type,
    choose_id,
    choose_vectors,
    field_name,
    field_types,
    is_list,
    is_text,
    plain_type,
)
from vecbridge.sources.rows import checked, row_values, taken

_UNREADABLE: Final = (OSError, pa.ArrowException)  # broken pages, codecs that are not built in
_SAMPLE_ROWS: Final = 1000
#: By its own type, the other types as which a column is read where the collection has them.
_ALSO_READ_AS: Final[dict[FieldType, frozenset[FieldType]]] = {
    "int64": frozenset({"float64"}),
    "timestamp": frozenset({"string"}),
    "list<string>": frozenset({"json"}),
    "list<int64>": frozenset({"list<float64>", "json"}),
    "list<float64>": frozenset({"json"}),
}
_TEXT_IS_READ_AS: Final = frozenset({"timestamp", "json"})


class ParquetSource:
    """Records from a Parquet file.

    Types: bool; integers become int64; floats float64; strings, and dictionaries of them, string; timestamps
    with a time zone timestamp; lists of strings list<string>; lists of numbers list<int64> and list<float64>,
    or json where the vectors were guessed; timestamps without a time zone, dates, times and decimals the text
    that Arrow prints, so that nothing is rounded; structs, maps and other lists json. Binary columns have no
    type here: ``schema().dropped`` names them.

    Args:
        path: The file.
        id_column: The column of the ids; None looks for ``id``, ``_id``, ``ID``, ``key`` and ``uuid``.
        vectors: {column: vector field}; None takes ``vector``, ``embedding``, ``embeddings``, ``emb`` or
            ``values``, or else the only column that holds lists of floats of one length.
        truncate_times: Cut timestamps that are finer than microseconds, instead of refusing them.

    Raises:
        ConfigError: Not a Parquet file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        id_column: str | None = None,
        vectors: Mapping[str, str] | None = None,
        truncate_times: bool = False,
    ) -> None:
        self.path = Path(path)
        self._id_column = id_column
        self._vectors = vectors
        self._truncate_times = truncate_times
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                self._arrow: pa.Schema = file.schema_arrow
                self._sample: pa.RecordBatch | None = next(file.iter_batches(_SAMPLE_ROWS), None)
        except _UNREADABLE as exc:
            raise ConfigError(f"{self.path}: not a Parquet file that can be read: {exc}") from exc

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """What the file holds, from its schema; a list column's length is looked up in its first rows.

        Args:
            existing: The collection that the rows go into: its types hold where the columns can be read as
                them, and it says what the vectors are where they have its names.

        Raises:
            SchemaError: There is no id, or no vector; or a timestamp without a time zone for a field that is
                one with it.
        """
        if len(set(self._arrow.names)) != len(self._arrow.names):
            raise SchemaError(f"{self.path}: a column name comes twice")
        id_column = choose_id(self._arrow.names, self._id_column)
        candidates = {name: dim for name in self._arrow.names if (dim := self._length(name))}
        vectors = choose_vectors(candidates, self._vectors, existing)
        known = {} if existing is None else {field.name: field.type for field in existing.fields}
        columns, found, dropped = {id_column: "id"} | vectors, {}, {}
        for name in self._arrow.names:
            if name in columns:
                continue
            type = _field_type(self._arrow.field(name).type)
            if type is None:
                dropped[name] = f"{self._arrow.field(name).type} has no vecbridge type"
                continue
            columns[name] = field_name(name, columns.values())
            found[columns[name]] = _type_for(self._arrow.field(name), type, known.get(columns[name]))
        id_type = plain_type(self._arrow.field(id_column).type)
        chosen = self._vectors is not None or existing is not None
        return SourceSchema(
            "int64" if pa.types.is_integer(id_type) else "string",
            {vectors[name]: candidates[name] for name in vectors},
            field_types(found, None, vectors_chosen=chosen),
            {column: name for column, name in columns.items() if column != name},
            dropped,
            stamped(self._sample) if self._sample is not None else None,
        )

    def batches(
        self, spec: CollectionSpec, *, on_dead_letter: OnDeadLetter, batch_rows: int = 1000
    ) -> Iterator[pa.RecordBatch]:
        """Streams the records, holding one batch.

        Args:
            spec: The collection that they go into. Columns that it does not have are left out.
            on_dead_letter: Receives each row that cannot be taken, its source ``file:row`` counted from 0,
                and one more where a damaged file ends early.
            batch_rows: Rows a batch, at most.

        Yields:
            Checked batches.

        Raises:
            SchemaError: There is no id, or no vector.
        """
        columns = self.schema(spec).columns
        names = {name: columns.get(name, name) for name in self._arrow.names}
        wanted = {name: each for name, each in names.items() if each in spec.column_names}
        start = 0
        for part in self._parts(list(wanted), batch_rows, on_dead_letter):
            renamed = part.rename_columns([wanted[name] for name in part.schema.names])
            yield from self._checked(renamed, spec, start, on_dead_letter)
            start += part.num_rows

    def _parts(
        self, columns: list[str], batch_rows: int, on_dead_letter: OnDeadLetter
    ) -> Iterator[pa.RecordBatch]:
        start = 0
        with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
            parts = file.iter_batches(batch_rows, columns=columns)
            while True:
                try:
                    part = next(parts, None)
                except _UNREADABLE as exc:
                    error = f"the rows from here on cannot be read: {exc}"
                    on_dead_letter(DeadLetter(None, f"{self.path}:{start}", error))
                    return
                if part is None:
                    return
                yield part
                start += part.num_rows

    def _checked(
        self, part: pa.RecordBatch, spec: CollectionSpec, start: int, on_dead_letter: OnDeadLetter
    ) -> Iterator[pa.RecordBatch]:
        origins: list[str | None] = [f"{self.path}:{start + row}" for row in range(part.num_rows)]
        problems: dict[int, str] = {}
        named = choose_id(self._arrow.names, self._id_column)
        columns: dict[str, Any] = {"id": _ids(part.column("id"), spec.id_type, problems, named, start)}
        for vector in spec.vectors:
            if vector.name in part.schema.names:
                columns[vector.name] = _vectors(part.column(vector.name), vector, problems)
        for each in spec.fields:
            if each.name in part.schema.names:
                column = _decoded(part.column(each.name))
                if each.type == "timestamp":
                    columns[each.name] = _timestamps(column, truncate=self._truncate_times)
                else:
                    columns[each.name] = _scalars(column, each.type, problems)
        raw = dict(zip(part.schema.names, part.columns, strict=True))
        for row, error in sorted(problems.items()):
            record = row_values(raw, row, spec)
            on_dead_letter(DeadLetter(_plain_id(record["id"]), origins[row], error, record))
        if problems:
            keep = [row for row in range(part.num_rows) if row not in problems]
            origins = [origins[row] for row in keep]
            columns = taken(columns, keep)
        yield from checked(spec, columns, origins, on_dead_letter)

    def _length(self, name: str) -> int | None:
        """The length of a column of float lists, None where it is not one."""
        type = plain_type(self._arrow.field(name).type)
        if not is_list(type) or not pa.types.is_floating(type.value_type):
            return None
        if pa.types.is_fixed_size_list(type):
            return int(type.list_size)
        if self._sample is None:
            return None
        lengths = pc.drop_null(pc.list_value_length(self._sample.column(name)))
        common = pc.mode(lengths).to_pylist()
        # most rows decide, so that one bad row is a dead letter and does not hide the column
        return int(common[0]["mode"]) if common and 2 * common[0]["count"] > len(lengths) else None


def _field_type(type: pa.DataType) -> FieldType | None:
    """The type of a field that keeps a column; what has no type of its own is text."""
    if (own := arrow_field_type(type)) is not None:
        return own
    type = plain_type(type)
    is_text = pa.types.is_null(type) or pa.types.is_decimal(type) or pa.types.is_temporal(type)
    return "string" if is_text else None


def _ids(column: pa.Array, id_type: str, problems: dict[int, str], name: str, start: int) -> pa.Array:
    column = _decoded(column)
    wanted = pa.int64() if id_type == "int64" else pa.string()
    if column.type == pa.uint64() and id_type == "int64":
        return _narrowed(column, problems, "the id")
    same = pa.types.is_integer(column.type) if id_type == "int64" else is_text(column.type)
    if not same:
        usual = pa.types.is_integer(column.type) or is_text(column.type)
        wanted_type = f"the collection's are {id_type}" if usual else "text or whole numbers are wanted"
        first = f"row {start} has {column[0].as_py()!r}"
        raise SchemaError(f"column {name!r}: the ids are {column.type}, and {wanted_type}: {first}")
    return column.cast(wanted)


def _vectors(
    column: pa.Array, vector: VectorField, problems: dict[int, str]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 of shape (n, dim); rows at fault are zero and noted."""
    type = column.type
    if not is_list(type) or not (
        pa.types.is_floating(type.value_type) or pa.types.is_integer(type.value_type)
    ):
        raise SchemaError(f"vector {vector.name!r} is {type}, not a list of numbers")
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    right = lengths == vector.dim
    values = np.zeros((len(column), vector.dim), np.float32)
    flat = pc.list_flatten(column.filter(pa.array(right)))
    with np.errstate(over="ignore"):  # what overflows becomes Inf, which the check refuses
        numbers = flat.to_numpy(zero_copy_only=False).astype(np.float32)  # a null is NaN
    values[right] = numbers.reshape(-1, vector.dim)
    for row in np.flatnonzero(~right).tolist():
        has = "is null" if lengths[row] < 0 else f"has {lengths[row]} dimensions, not {vector.dim}"
        problems.setdefault(row, f"vector {vector.name!r} {has}")
    return values


def _type_for(column: pa.Field, type: FieldType, wanted: FieldType | None) -> FieldType:
    """The type as which a column is read: that of the field, if it can be."""
    plain = plain_type(column.type)
    if wanted == "timestamp" and pa.types.is_timestamp(plain) and plain.tz is None:
        raise SchemaError(
            f"column {column.name!r} has no time zone, which a timestamp needs: "
            "pyarrow.compute.assume_timezone() gives it one"
        )
    others = _TEXT_IS_READ_AS if is_text(plain) else _ALSO_READ_AS.get(type, frozenset())
    return wanted if wanted is not None and (wanted in others or pa.types.is_null(plain)) else type


def _scalars(column: pa.Array, type: FieldType, problems: dict[int, str]) -> Any:
    if type == "json":
        values = column.to_pylist()
        return values if is_text(column.type) else [_json(value) for value in values]
    if type == "int64" and column.type == pa.uint64():
        return _narrowed(column, problems, "a value")
    if type == "float64" and pa.types.is_integer(column.type):
        return _as_floats(column, problems)
    if type == "string" and (pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type)):
        return column.cast(pa.string())
    if type.startswith("list<") and is_list(column.type):
        own = _field_type(column.type)
        if column.type.value_type == pa.uint64() or (own, type) == ("list<int64>", "list<float64>"):
            return column.to_pylist()  # each row is looked at: an integer may be too large, or inexact
        return column.cast(arrow_type(type)) if own == type else column
    if type == "float64" and column.type == pa.float16():
        return column.cast(pa.float32())
    return column


def _timestamps(column: pa.Array, *, truncate: bool) -> Any:
    if is_text(column.type):
        return [as_type(value, "timestamp", truncate_times=truncate) for value in column.to_pylist()]
    if truncate and pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return pc.floor_temporal(column, unit="microsecond")
    return column


def _as_floats(column: pa.Array, problems: dict[int, str]) -> pa.Array:
    floats = column.cast(pa.float64(), safe=False)
    back = floats.cast(column.type, safe=False)
    inexact = pc.fill_null(pc.not_equal(back, column), False)
    for row in np.flatnonzero(inexact.to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, f"{column[row].as_py()} has no exact float64")
    return floats


def _narrowed(column: pa.Array, problems: dict[int, str], what: str) -> pa.Array:
    """uint64 as int64; values beyond it are noted, and null."""
    beyond = pc.fill_null(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())), False)
    for row in np.flatnonzero(beyond.to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, f"{what} is beyond int64")
    return pc.if_else(beyond, pa.scalar(None, pa.uint64()), column).cast(pa.int64())


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=as_text)


def _plain_id(key: Any) -> str | int | None:
    return key if isinstance(key, str | int) else None
