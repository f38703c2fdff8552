"""Parquet files: ids, vectors and scalar columns, streamed as Arrow."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vecbridge.errors import ConfigError, SchemaError, suggestion
from vecbridge.records import stamped
from vecbridge.schema import CollectionSpec, FieldType, IdType
from vecbridge.sources.choosing import (
    Candidate,
    Selection,
    choose_id,
    choose_vectors,
    dims,
    field_names,
    further_vectors,
    usual_id,
)
from vecbridge.sources.conversion import (
    all_null_columns,
    decoded,
    field_column,
    id_column,
    id_type_of,
    is_json_text,
    is_number_list,
    note_on,
    storage_type,
    type_as_read,
    vector_column,
    why_dropped,
)
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.inference import SourceSchema, field_types, guessed_lists, is_text, plain_type
from vecbridge.sources.observing import shown
from vecbridge.sources.pandasindex import PandasIndex
from vecbridge.sources.rows import checked, row_values, taken
from vecbridge.sources.unreadable import why_no_parquet

_UNREADABLE: Final = (OSError, pa.ArrowException)  # broken pages, codecs that are not built in
_SAMPLE_ROWS: Final = 1000


class ParquetSource:
    """Records from a Parquet file.

    Types: bool; integers become int64; floats float64; strings, and dictionaries of them, string; timestamps
    with a time zone timestamp; lists of strings list<string>; lists of numbers list<int64> and list<float64>,
    or json where the vectors were guessed; timestamps without a time zone, dates, times and decimals the text
    that Arrow prints, so that nothing is rounded; durations int64; structs, maps and other lists json, in
    which bytes are ``{"$binary": base64}``. Binary columns have no type here: ``schema().dropped`` names
    them, and columns that look like a second vector. A json field of the collection takes any column.

    Without a column of ids, the index that pandas wrote with the frame is taken if it has a name or is text;
    otherwise ids are row numbers.

    Args:
        path: The file.
        id_column: The column of the ids; None looks for ``id``, ``_id``, ``ID``, ``key`` and ``uuid``.
        vectors: {column: vector field}; None takes ``vector``, ``embedding``, ``embeddings``, ``emb`` or
            ``values``, or else the only column that holds lists of floats, most of one length.
        selection: Which other columns are read.
        first_id: Id of the first row where ids are row numbers.
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
        selection: Selection = Selection(),  # noqa: B008 - frozen
        first_id: int = 0,
        truncate_times: bool = False,
    ) -> None:
        self.path = Path(path)
        self.first_id = first_id
        self._id_column = id_column
        self._vectors = vectors
        self._selection = selection
        self._truncate_times = truncate_times
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                self._arrow: pa.Schema = file.schema_arrow
                self._rows: int = file.metadata.num_rows
                untyped = {each.name for each in self._arrow if pa.types.is_null(each.type)}
                self._all_null = untyped | all_null_columns(file.metadata)
                self._sample: pa.RecordBatch | None = next(file.iter_batches(_SAMPLE_ROWS), None)
        except _UNREADABLE as exc:
            raise ConfigError(
                f"{self.path}: not a Parquet file that can be read: {why_no_parquet(self.path, exc)}"
            ) from exc
        self._index = PandasIndex.of(self._arrow)
        self._lengths: dict[str, Counter[int]] = {}

    def __len__(self) -> int:
        return self._rows

    @property
    def is_empty(self) -> bool:
        """Whether the file has no row."""
        return not self._rows

    @property
    def is_numbered(self) -> bool:
        """Whether ids are row numbers."""
        return self._id is None and self._range() is None

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns."""
        return list(self._arrow.names)

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """What the file holds, from its schema; a list column's length is looked up in its first values.

        Args:
            existing: The collection that the rows go into: its types hold where the columns can be read as
                them, and it says what the vectors are where they have its names.

        Raises:
            SchemaError: There is no vector, or no id of the name given; or a timestamp without a time zone
                for a field that is one with it.
        """
        if len(set(self._arrow.names)) != len(self._arrow.names):
            raise SchemaError(f"{self.path}: a column name comes twice")
        try:
            key = self._id
            candidates = self._candidates(key)
            vectors = choose_vectors(candidates, self._vectors, existing, self._described)
            taken_names = vectors if key is None else {key: "id"} | vectors
            names = field_names(self._arrow.names, taken_names, existing)
            return self._schema(key, vectors, candidates, names, existing)
        except SchemaError as exc:
            raise SchemaError(f"{self.path}: {exc}") from None

    def _schema(
        self,
        key: str | None,
        vectors: Mapping[str, str],
        candidates: Mapping[str, Candidate],
        names: Mapping[str, str],
        existing: CollectionSpec | None,
    ) -> SourceSchema:
        known = {} if existing is None else {field.name: field.type for field in existing.fields}
        dropped = self._unnamed_levels(key) | further_vectors(
            candidates, vectors, self._selection, set(known)
        )
        found: dict[str, FieldType] = {}
        notes = [] if (note := self._id_note(key)) is None else [note]
        for column in self._arrow:
            name = names[column.name]
            read = column.name not in {key, *vectors, *dropped}
            if not read or not self._selection.keeps(column.name, name):
                continue
            all_null = column.name in self._all_null
            type = type_as_read(column, known.get(name), all_null=all_null)
            if type is None:
                dropped[column.name] = why_dropped(column.type)
            elif all_null and existing is not None and name not in known:
                dropped[column.name] = "no row has a value"
            else:
                found[name] = type
                notes += [note] if (note := note_on(column.name, column.type)) else []
        chosen = self._vectors is not None or existing is not None
        return SourceSchema(
            self._id_type(key, existing),
            dims(candidates, vectors, existing),
            field_types(found, None, vectors_chosen=chosen),
            {column: name for column, name in names.items() if column != name},
            dropped,
            stamped(self._sample) if self._sample is not None else None,
            frozenset(names[column] for column in self._all_null if names[column] in found),
            (*notes, *(() if chosen else guessed_lists(found))),
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
        schema = self.schema(spec)
        read = {"id", *schema.vectors, *schema.fields} & set(spec.column_names)
        names = {name: schema.columns.get(name, name) for name in self._arrow.names}
        wanted = {column: name for column, name in names.items() if name in read}
        is_json = {
            wanted[column]: is_json_text(self._arrow.field(column).type, self._texts(column))
            for column in wanted
            if schema.fields.get(wanted[column]) == "json"
        }
        start = 0
        for part in self._parts(list(wanted), batch_rows, on_dead_letter):
            renamed = part.rename_columns([wanted[name] for name in part.schema.names])
            yield from self._checked(renamed, spec, start, is_json, on_dead_letter)
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
        self,
        part: pa.RecordBatch,
        spec: CollectionSpec,
        start: int,
        is_json: Mapping[str, bool],
        on_dead_letter: OnDeadLetter,
    ) -> Iterator[pa.RecordBatch]:
        origins: list[str | None] = [f"{self.path}:{start + row}" for row in range(part.num_rows)]
        problems: dict[int, str] = {}
        raw = {name: decoded(column) for name, column in zip(part.schema.names, part.columns, strict=True)}
        if "id" not in raw:
            raw["id"] = self._numbers(start, part.num_rows, spec.id_type)
        columns: dict[str, Any] = {"id": id_column(raw["id"], spec.id_type, problems)}
        for vector in spec.vectors:
            if vector.name in raw:
                columns[vector.name] = vector_column(raw[vector.name], vector, problems)
        for each in spec.fields:
            if each.name in raw:
                columns[each.name] = field_column(
                    raw[each.name],
                    each.type,
                    each.name,
                    problems,
                    truncate_times=self._truncate_times,
                    json_text=is_json.get(each.name, True),
                )
                if each.type == "json":
                    raw[each.name] = columns[each.name]
        for row, error in sorted(problems.items()):
            record = row_values(raw, row, spec)
            on_dead_letter(DeadLetter(_plain_id(record["id"]), origins[row], error, record))
        if problems:
            keep = [row for row in range(part.num_rows) if row not in problems]
            origins = [origins[row] for row in keep]
            columns = taken(columns, keep)
        yield from checked(spec, columns, origins, on_dead_letter)

    # ------------------------------------------------------------------------------------------- ids

    @cached_property
    def _id(self) -> str | None:
        """The column of the ids; None where they are row numbers or pandas' range.

        Raises:
            SchemaError: There is no column of the name given.
        """
        names = [name for name in self._arrow.names if name not in self._selection.drop]
        if self._id_column is not None:
            is_range = self._index.range is not None and self._index.range[0] == self._id_column
            return None if is_range else choose_id(names, self._id_column)
        return usual_id(names) or self._index.ids(self._sample, names)

    def _range(self) -> tuple[str | None, int, int] | None:
        """Pandas' range index, if it has a name; others are what every frame has."""
        found = self._index.range
        return None if found is None or found[0] is None or self._id is not None else found

    def _numbers(self, start: int, count: int, id_type: IdType) -> pa.Array:
        _, first, step = self._range() or (None, self.first_id, 1)
        ids = pa.array(first + step * np.arange(start, start + count, dtype=np.int64))
        return ids if id_type == "int64" else ids.cast(pa.string())

    def _id_type(self, key: str | None, existing: CollectionSpec | None) -> IdType:
        if key is None:
            return "int64" if existing is None else existing.id_type
        column = self._arrow.field(key)
        if (type := id_type_of(column)) is not None:
            return type
        first = "" if self._sample is None else f": row 0 has {self._sample.column(key)[0].as_py()!r}"
        raise SchemaError(
            f"column {key!r} is {column.type}, and ids are whole numbers or text{first}: "
            "name another column with id_column="
        )

    def _id_note(self, key: str | None) -> str | None:
        if (found := self._range()) is not None:
            return f"{self.path}: ids are pandas' index {found[0]!r}"
        if key is None:
            last = self.first_id + self._rows - 1
            return (
                f"{self.path}: ids are row numbers, {self.first_id} to {last}, because no column is called id"
            )
        is_level = self._id_column is None and key in self._index.columns
        return f"{self.path}: ids are pandas' index {self._index.columns[key] or key!r}" if is_level else None

    def _unnamed_levels(self, key: str | None) -> dict[str, str]:
        return {
            column: "it is pandas' index, which has no name"
            for column, name in self._index.columns.items()
            if name is None and column != key and not self._selection.insists_on(column)
        }

    # --------------------------------------------------------------------------------------- vectors

    def _candidates(self, key: str | None) -> dict[str, Candidate]:
        found = {}
        rows = 0 if self._sample is None else self._sample.num_rows
        for column in self._arrow:
            if column.name == key or column.name in self._selection.drop or not is_number_list(column.type):
                continue
            if lengths := self._known_lengths(column):
                type = plain_type(storage_type(column.type)).value_type
                found[column.name] = Candidate(lengths, rows, pa.types.is_integer(type))
        return found

    def _known_lengths(self, column: pa.Field) -> Counter[int]:
        """How many rows have a list of each length, in the first rows where any has one."""
        if column.name not in self._lengths:
            type = plain_type(storage_type(column.type))
            lengths = Counter[int]({type.list_size: 0} if pa.types.is_fixed_size_list(type) else {})
            for part in self._values(column.name):
                counts = pc.value_counts(pc.drop_null(pc.list_value_length(decoded(part)))).to_pylist()
                lengths.update({each["values"]: each["counts"] for each in counts if each["values"]})
                if lengths:
                    break
            self._lengths[column.name] = lengths
        return self._lengths[column.name]

    def _values(self, column: str) -> Iterator[pa.Array]:
        """One column, its first rows first."""
        if self._sample is None:
            return
        yield self._sample.column(column)
        if self._sample.num_rows < self._rows:
            try:
                with pq.ParquetFile(self.path) as file:
                    for part in file.iter_batches(_SAMPLE_ROWS, columns=[column]):
                        yield part.column(0)
            except _UNREADABLE:  # batches() says which rows cannot be read
                return

    def _texts(self, column: str) -> pa.Array | None:
        """The first values of a column of text."""
        if not is_text(plain_type(storage_type(self._arrow.field(column).type))):
            return None
        return next((part for part in self._values(column) if part.null_count < len(part)), None)

    def _described(self, name: str) -> str:
        if name not in self._arrow.names:
            return f"no column {name!r}{suggestion(name, self._arrow.names)}"
        type = self._arrow.field(name).type
        row = 0
        for part in self._values(name):
            for number in np.flatnonzero(part.is_valid().to_numpy(zero_copy_only=False))[:1].tolist():
                found = shown(decoded(part)[number].as_py())
                return f"column {name!r} is {type}, not lists of numbers: row {row + number} has {found}"
            row = 0 if part is self._sample else row + len(part)
        return f"column {name!r} ({type}) is null in every row"


def _plain_id(key: Any) -> str | int | None:
    return key if isinstance(key, str | int) else None
