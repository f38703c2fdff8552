"""JSON lines: one record a line, ``{"id": "a", "vector": [0.1, …], "year": 2020}``; dead-letter files too."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.schema import CollectionSpec, IdType, VectorField
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.inference import (
    Observed,
    SourceSchema,
    as_type,
    choose_id,
    choose_vectors,
    field_name,
    field_types,
)
from vecbridge.sources.lines import parse_object, read_lines
from vecbridge.sources.rows import checked

_DEAD_LETTER_KEYS: Final = {"id", "source", "error", "record"}
_NUMBERS: Final = {int, float}


@dataclass(slots=True)
class _Seen:
    """What all lines of a file hold.

    Attributes:
        rows: How many records.
        columns: The type of each column.
        lengths: How many rows have a list of numbers of that length, by column and length.
        whole_numbers: How many rows have a whole number there.
    """

    rows: int = 0
    columns: dict[str, Observed] = field(default_factory=dict)
    lengths: Counter[tuple[str, int]] = field(default_factory=Counter)
    whole_numbers: Counter[str] = field(default_factory=Counter)


class JsonlSource:
    """Records from a file of JSON lines.

    Lines that dead letters are made of (``{"id", "source", "error", "record"}``) stand for their record. In a
    json field they tell null, which they leave out, from JSON null; elsewhere ``null`` is null.

    Args:
        path: The file, UTF-8.
        id_column: The key of the ids; None looks for ``id``, ``_id``, ``ID``, ``key`` and ``uuid``.
        vectors: {key: vector field}; None takes ``vector``, ``embedding``, ``embeddings``, ``emb`` or
            ``values``, or else the only key whose values are lists of numbers of one length.
        truncate_times: Cut timestamps that are finer than microseconds, instead of refusing them.
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
        self._seen: _Seen | None = None

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """What the file holds, found by reading all of it once; lines that cannot be read count for nothing.

        Ids are int64 where each of them is an integer. Types are those of
        :class:`~vecbridge.sources.inference.Observed`; text is never taken for a timestamp, and lists of
        numbers are json where the vectors were guessed.

        Args:
            existing: The collection that the records go into: its types hold, and it says what the vectors
                are where they have its names.

        Raises:
            ConfigError: The file cannot be read.
            SchemaError: There is no id, or no vector, in any line.
        """
        if self._seen is None:
            self._seen = self._read_all()
        seen = self._seen
        # most rows decide, so that one bad line is a dead letter and does not change the schema
        candidates = {key: length for (key, length), count in seen.lengths.items() if 2 * count > seen.rows}
        id_column = choose_id(seen.columns, self._id_column)
        vectors = choose_vectors(candidates, self._vectors, existing)
        columns = {id_column: "id"} | vectors
        for key in seen.columns.keys() - columns.keys():
            columns[key] = field_name(key, columns.values())
        found = {
            columns[key]: observed.type
            for key, observed in seen.columns.items()
            if key != id_column and key not in vectors
        }
        chosen = self._vectors is not None or existing is not None
        return SourceSchema(
            "int64" if 2 * seen.whole_numbers[id_column] > seen.rows else "string",
            {vectors[key]: candidates[key] for key in vectors},
            field_types(found, existing, vectors_chosen=chosen),
            {key: name for key, name in columns.items() if key != name},
        )

    def batches(
        self, spec: CollectionSpec, *, on_dead_letter: OnDeadLetter, batch_rows: int = 1000
    ) -> Iterator[pa.RecordBatch]:
        """Streams the records, holding one batch.

        Args:
            spec: The collection that they go into.
            on_dead_letter: Receives each line that cannot be taken; its source is ``file:line``.
            batch_rows: Rows a batch, at most.

        Yields:
            Checked batches.

        Raises:
            ConfigError: The file cannot be read.
            SchemaError: There is no id, or no vector, in any line.
        """
        names = self.schema(spec).columns
        records: list[dict[str, Any]] = []
        origins: list[str | None] = []
        for origin, record, is_letter in self._records(on_dead_letter):
            if not is_letter:
                record = {key: value for key, value in record.items() if value is not None}
            renamed = {names.get(key, key): value for key, value in record.items()}
            problem = _problem(renamed, spec)
            if problem:
                on_dead_letter(DeadLetter(_plain_id(renamed.get("id")), origin, problem, record))
                continue
            records.append(renamed)
            origins.append(origin)
            if len(records) == batch_rows:
                yield from checked(spec, self._columns(records, spec), origins, on_dead_letter)
                records, origins = [], []
        yield from checked(spec, self._columns(records, spec), origins, on_dead_letter)

    def _columns(self, records: Sequence[Mapping[str, Any]], spec: CollectionSpec) -> dict[str, Any]:
        columns: dict[str, Any] = {"id": [record["id"] for record in records]}
        for vector in spec.vectors:
            rows = [record[vector.name] for record in records]
            columns[vector.name] = np.array(rows, np.float32).reshape(len(rows), vector.dim)
        for name, type in ((each.name, each.type) for each in spec.fields):
            columns[name] = [
                as_type(record[name], type, truncate_times=self._truncate_times) if name in record else None
                for record in records
            ]
        return columns

    def _records(self, on_dead_letter: OnDeadLetter) -> Iterator[tuple[str, dict[str, Any], bool]]:
        """Where each record stands, the record, and whether it is that of a dead letter."""
        try:
            for line in read_lines(self.path):
                origin = f"{self.path}:{line.number}"
                try:
                    if line.data is None:
                        raise ValueError("the line is too long")
                    yield origin, *_unwrapped(parse_object(line.data))
                except ValueError as exc:
                    on_dead_letter(DeadLetter(None, origin, f"not a record: {exc}"))
        except OSError as exc:
            raise ConfigError(f"{self.path}: {exc.strerror}") from exc

    def _read_all(self) -> _Seen:
        seen = _Seen()
        for _, record, _ in self._records(_ignore):
            seen.rows += 1
            for key, value in record.items():
                seen.columns.setdefault(key, Observed()).add(value)
                seen.whole_numbers[key] += type(value) is int
                if _is_vector(value):
                    seen.lengths[key, len(value)] += 1
        if not seen.rows:
            raise SchemaError(f"{self.path}: no line of it is a record")
        return seen


def _problem(record: Mapping[str, Any], spec: CollectionSpec) -> str | None:
    """What keeps a record out of any column; what its values may be is checked with the batch."""
    problem = _id_problem(record.get("id"), spec.id_type)
    if problem:
        return problem
    unknown = record.keys() - set(spec.column_names)
    if unknown:
        return f"{spec.name!r} has no column {min(unknown)!r}"
    for vector in spec.vectors:
        problem = _vector_problem(record.get(vector.name), vector)
        if problem:
            return problem
    for each in spec.fields:
        # Arrow would take a text for the list of its characters
        if each.type.startswith("list<") and not isinstance(record.get(each.name), list | None):
            return f"field {each.name!r} is {record[each.name]!r}, not a list"
    return None


def _id_problem(key: Any, id_type: IdType) -> str | None:
    if id_type == "string":
        return None if isinstance(key, str) else f"the id is {key!r}, not a string"
    if not isinstance(key, int) or isinstance(key, bool):
        return f"the id is {key!r}, not an integer"
    return None if -(2**63) <= key < 2**63 else f"the id {key} is beyond int64"


def _vector_problem(value: Any, vector: VectorField) -> str | None:
    if not _is_vector(value):
        return f"{vector.name!r} is not a list of numbers"
    if len(value) != vector.dim:
        return f"vector {vector.name!r} has {len(value)} dimensions, not {vector.dim}"
    try:
        with np.errstate(over="ignore"):
            finite = bool(np.isfinite(np.array(value, np.float32)).all())
    except OverflowError:
        finite = False
    return None if finite else f"vector {vector.name!r} has a number beyond float32"


def _is_vector(value: Any) -> bool:
    """A list of numbers; True is none, although Python counts it as one."""
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= _NUMBERS


def _unwrapped(record: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The record, and whether it is that of a dead letter."""
    if record.keys() != _DEAD_LETTER_KEYS:
        return record, False
    if not isinstance(record["record"], dict):
        raise ValueError(f"a dead letter without a record: {record['error']}")
    return record["record"], True


def _plain_id(key: Any) -> str | int | None:
    return key if isinstance(key, str | int) else None


def _ignore(letter: DeadLetter) -> None:
    """The schema's pass is silent: reading names the bad lines."""
