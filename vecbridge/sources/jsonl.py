"""JSON lines: one record a line, ``{"id": "a", "vector": [0.1, …], "year": 2020}``; dead-letter files too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.schema import CollectionSpec, FieldType, IdType, VectorField
from vecbridge.sources.choosing import (
    Candidate,
    Selection,
    choose_id,
    choose_vectors,
    dims,
    field_names,
    further_vectors,
)
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.elements import is_one_document, read_elements
from vecbridge.sources.inference import SourceSchema, as_type, field_types, guessed_lists
from vecbridge.sources.lines import Line, parse_object, read_lines
from vecbridge.sources.observing import ColumnSeen, Seen, is_vector, shown
from vecbridge.sources.rows import checked

_DEAD_LETTER_KEYS: Final = {"id", "source", "error", "record"}


class JsonlSource:
    """Records from a file of JSON lines.

    A file that is one JSON array of records, or in which records are printed over several lines, is read too.
    Lines that dead letters are made of (``{"id", "source", "error", "record"}``) stand for their record. In a
    json field they tell null, which they leave out, from JSON null; elsewhere ``null`` is null.

    Args:
        path: The file, UTF-8.
        id_column: The key of the ids; None looks for ``id``, ``_id``, ``ID``, ``key`` and ``uuid``.
        vectors: {key: vector field}; None takes ``vector``, ``embedding``, ``embeddings``, ``emb`` or
            ``values``, or else the only key whose values are mostly lists of numbers of one length.
        selection: Which other keys are read.
        truncate_times: Cut timestamps that are finer than microseconds, instead of refusing them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        id_column: str | None = None,
        vectors: Mapping[str, str] | None = None,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        truncate_times: bool = False,
    ) -> None:
        self.path = Path(path)
        self._id_column = id_column
        self._vectors = vectors
        self._selection = selection
        self._truncate_times = truncate_times
        self._known: Seen | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the file has no line, good or bad.

        Raises:
            ConfigError: The file cannot be read.
        """
        return not self._seen.rows and self._seen.bad is None

    @property
    def is_numbered(self) -> bool:
        """Whether ids are row numbers: never."""
        return False

    @property
    def columns(self) -> Sequence[str]:
        """The keys of its records."""
        return list(self._seen.columns)

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """What the file holds, found by reading all of it once; lines that cannot be read count for nothing.

        Ids are int64 where most of them are integers. Types are those of
        :class:`~vecbridge.sources.inference.Observed`; text is taken for a timestamp only where dead letters
        hold timestamps, and lists of numbers are json where the vectors were guessed.

        Args:
            existing: The collection that the records go into: its types hold, and it says what the vectors
                are where they have its names.

        Raises:
            ConfigError: The file cannot be read.
            SchemaError: There is no id, or no vector, in any line.
        """
        seen = self._seen
        if not seen.rows:
            why = f": {seen.bad.source}: {seen.bad.error}" if seen.bad is not None else ""
            raise SchemaError(f"{self.path}: no line of it is a record{why}")
        try:
            id_column = choose_id(seen.columns, self._id_wanted())
            candidates = seen.candidates(self._selection)
            vectors = choose_vectors(candidates, self._vectors_wanted(), existing, self._seen.described)
        except SchemaError as exc:
            raise SchemaError(f"{self.path}: {exc}") from None
        names = field_names(seen.columns, {id_column: "id"} | vectors, existing)
        return self._schema(id_column, vectors, candidates, names, existing)

    def _schema(
        self,
        id_column: str,
        vectors: Mapping[str, str],
        candidates: Mapping[str, Candidate],
        names: Mapping[str, str],
        existing: CollectionSpec | None,
    ) -> SourceSchema:
        known = set() if existing is None else {each.name for each in existing.fields}
        dropped = further_vectors(candidates, vectors, self._selection, known)
        found: dict[str, FieldType] = {}
        untyped = set()
        for key, column in self._seen.columns.items():
            if key == id_column or key in vectors or key in dropped:
                continue
            if not self._selection.keeps(key, names[key]):
                continue
            if column.sample is None:
                if existing is not None and names[key] not in known:
                    dropped[key] = "no row has a value"
                    continue
                untyped.add(names[key])
            found[names[key]] = column.field_type
        chosen = self._vectors is not None or existing is not None
        return SourceSchema(
            self._id_type(id_column, existing),
            dims(candidates, vectors, existing),
            field_types(found, existing, vectors_chosen=chosen),
            {key: name for key, name in names.items() if key != name},
            dropped,
            untyped=frozenset(untyped),
            notes=() if chosen else guessed_lists(found),
        )

    def batches(
        self, spec: CollectionSpec, *, on_dead_letter: OnDeadLetter, batch_rows: int = 1000
    ) -> Iterator[pa.RecordBatch]:
        """Streams the records, holding one batch.

        Args:
            spec: The collection that they go into.
            on_dead_letter: Receives each line that cannot be taken; its source is ``file:line``, or the
                number of the element in an array. Its record has the names of the collection's columns.
            batch_rows: Rows a batch, at most.

        Yields:
            Checked batches.

        Raises:
            ConfigError: The file cannot be read.
            SchemaError: There is no id, or no vector, in any line.
        """
        name_of = self._names(self.schema(spec), spec)
        columns = set(spec.column_names)
        records: list[dict[str, Any]] = []
        origins: list[str | None] = []
        for origin, record, is_letter in self._records(on_dead_letter):
            renamed = {
                name: value
                for key, value in record.items()
                if (name := name_of(key, is_letter)) is not None
                and (value is not None or (is_letter and name in columns))
            }
            problem = _problem(renamed, spec)
            if problem:
                on_dead_letter(DeadLetter(_plain_id(renamed.get("id")), origin, problem, renamed))
                continue
            records.append(renamed)
            origins.append(origin)
            if len(records) == batch_rows:
                yield from checked(spec, self._columns(records, spec), origins, on_dead_letter)
                records, origins = [], []
        yield from checked(spec, self._columns(records, spec), origins, on_dead_letter)

    def _names(self, schema: SourceSchema, spec: CollectionSpec) -> Callable[[str, bool], str | None]:
        """What a key of a record, or of a dead letter, is called in the collection; None if not read."""

        @cache  # for each key of each record
        def name_of(key: str, is_letter: bool) -> str | None:
            # a dead letter has the collection's names already
            own = is_letter and key in spec.column_names
            name = key if own else schema.columns.get(key, key)
            if name == "id" or name in schema.vectors or name in schema.fields:
                return name
            is_read = key not in schema.dropped and self._selection.keeps(key, name)
            return name if is_read else None

        return name_of

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

    def _lines(self) -> Iterator[Line]:
        return read_elements(self.path) if is_one_document(self.path) else read_lines(self.path)

    def _records(self, on_dead_letter: OnDeadLetter) -> Iterator[tuple[str, dict[str, Any], bool]]:
        """Where each record stands, the record, and whether it is that of a dead letter."""
        number = 0
        try:
            for line in self._lines():
                number = line.number
                origin = f"{self.path}:{number}"
                try:
                    if line.data is None:
                        raise ValueError("the line is too long")
                    record, is_letter = _unwrapped(parse_object(line.data))
                except ValueError as exc:
                    on_dead_letter(DeadLetter(None, origin, f"not a record: {exc}"))
                    continue
                yield origin, record, is_letter
        except OSError as exc:
            if not number:
                raise ConfigError(f"{self.path}: {exc.strerror}") from exc
            self._ends_early(number, exc.strerror or str(exc), on_dead_letter)
        except ValueError as exc:  # of an array: where the next element begins is unknown
            self._ends_early(number, str(exc), on_dead_letter)

    def _ends_early(self, number: int, why: str, on_dead_letter: OnDeadLetter) -> None:
        error = f"the records from here on cannot be read: {why}"
        on_dead_letter(DeadLetter(None, f"{self.path}:{number + 1}", error))

    @property
    def _seen(self) -> Seen:
        if self._known is None:
            self._known = self._read_all()
        return self._known

    def _read_all(self) -> Seen:
        seen = Seen()

        def note(letter: DeadLetter) -> None:  # batches() passes all of them on
            seen.bad = seen.bad or letter

        for place, record, is_letter in self._records(note):
            seen.rows += 1
            seen.has_letters |= is_letter
            for key, value in record.items():
                seen.columns.setdefault(key, ColumnSeen()).add(value, place, is_letter=is_letter)
        return seen

    def _id_wanted(self) -> str | None:
        """The column of the ids that was named; in dead letters they are called ``id``."""
        renamed = self._seen.has_letters and self._id_column not in self._seen.columns
        return None if renamed else self._id_column

    def _vectors_wanted(self) -> Mapping[str, str] | None:
        """The columns of vectors that were named; in dead letters they have the names of their fields."""
        if self._vectors is None or not self._seen.has_letters:
            return self._vectors
        known = self._seen.columns
        return {key if key in known else name: name for key, name in self._vectors.items()}

    def _id_type(self, id_column: str, existing: CollectionSpec | None) -> IdType:
        column = self._seen.columns[id_column]
        if existing is not None:
            fitting = column.whole_numbers if existing.id_type == "int64" else column.texts
            if fitting:
                return existing.id_type
        return "int64" if 2 * column.whole_numbers > self._seen.rows else "string"


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
        return None if isinstance(key, str) else f"the id is {shown(key)}, not a string"
    if not isinstance(key, int) or isinstance(key, bool):
        return f"the id is {shown(key)}, not an integer"
    return None if -(2**63) <= key < 2**63 else f"the id {key} is beyond int64"


def _vector_problem(value: Any, vector: VectorField) -> str | None:
    if not is_vector(value):
        return f"vector {vector.name!r} is {shown(value)}, not a list of numbers"
    if len(value) != vector.dim:
        return f"vector {vector.name!r} has {len(value)} dimensions, not {vector.dim}"
    try:
        with np.errstate(over="ignore"):
            finite = bool(np.isfinite(np.array(value, np.float32)).all())
    except OverflowError:
        finite = False
    return None if finite else f"vector {vector.name!r} has a number beyond float32"


def _unwrapped(record: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The record, and whether it is that of a dead letter."""
    if record.keys() != _DEAD_LETTER_KEYS:
        return record, False
    if not isinstance(record["record"], dict):
        raise ValueError(f"a dead letter without a record: {record['error']}")
    return record["record"], True


def _plain_id(key: Any) -> str | int | None:
    return key if isinstance(key, str | int) else None
