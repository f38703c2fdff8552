"""The input of a bulk write: batches from any source, and of each batch the rows that can be written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.bulk.deadletters import json_values, row_values
from vecbridge.bulk.delivery import Part, Rows
from vecbridge.bulk.growth import arrow_types, value_types
from vecbridge.bulk.journal import digest
from vecbridge.errors import ConfigError, Failure, InvalidRecordError
from vecbridge.schema import CollectionSpec, FieldType


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


class RawBatch(Protocol):
    """A batch of the source as it came."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def bytes(self) -> int:
        """Of its columns; 0 where they are not columns yet."""
        ...

    def digest(self) -> str:
        """A digest of what it holds, for the journal."""
        ...

    def slice(self, first: int, rows: int) -> RawBatch:
        """Some of its rows, in a row."""
        ...

    def values(self, row: int, spec: CollectionSpec) -> dict[str, Any]:
        """One row as JSON values, for a dead letter."""
        ...

    def ids(self) -> pa.Array:
        """The ids, as they came."""
        ...

    def origins(self) -> list[str] | None:
        """Where each row stands, such as ``rows.jsonl:17``; None where the source does not say."""
        ...

    def names(self) -> list[str]:
        """Its columns."""
        ...

    def types(self, names: Iterable[str]) -> dict[str, FieldType]:
        """The types of some columns; those that hold nothing but null are left out."""
        ...

    def validate(self, spec: CollectionSpec, unused: Iterable[str] = ()) -> Validated:
        """Separates the rows that can be written from those that cannot.

        Of the good rows with the same id the last wins; a bad row replaces nothing.

        Args:
            spec: The collection's spec.
            unused: Columns that hold nothing but null and are to be left out.

        Raises:
            EmbedderMismatchError: The batch's vectors come from another model than the collection's.
        """
        ...


def raw_batches(batches: Any) -> Iterator[RawBatch]:
    """The batches of a source, one at a time; tables are taken in their chunks, empty batches skipped.

    Args:
        batches: What :func:`vecbridge.records.is_records` accepts, or an iterable of such.

    Raises:
        ConfigError: Something else.
    """
    if records.is_records(batches):
        batches = [batches]
    elif not isinstance(batches, Iterable) or isinstance(batches, str | bytes | Mapping):
        raise ConfigError(f"batches: {type(batches).__name__} is no batch, table or list of dicts")
    for batch in batches:
        if not records.is_records(batch):
            raise ConfigError(
                f"batches: a pyarrow.RecordBatch or Table, a DataFrame or a list of dicts is wanted, not "
                f"{type(batch).__name__}"
            )
        if isinstance(batch, records.Checked):
            batch = batch.batch
        if records.is_rows(batch):
            if batch:
                yield DictRows(list(batch))
        else:
            parts = [batch] if isinstance(batch, pa.RecordBatch) else records.as_table(batch).to_batches()
            yield from (ArrowRows(*records.split_origins(part)) for part in parts if part.num_rows)


@dataclass(frozen=True, slots=True, eq=False)
class ArrowRows:
    """A record batch of the source; see :class:`RawBatch`."""

    batch: pa.RecordBatch
    places: list[str] | None = None

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.batch.num_rows)

    @property
    def bytes(self) -> int:
        """Of the columns."""
        return int(self.batch.nbytes)

    def digest(self) -> str:
        """Of the columns."""
        return digest(self.batch)

    def slice(self, first: int, rows: int) -> ArrowRows:
        """A view."""
        places = None if self.places is None else self.places[first : first + rows]
        return ArrowRows(self.batch.slice(first, rows), places)

    def values(self, row: int, spec: CollectionSpec) -> dict[str, Any]:
        """One row."""
        return row_values(self.batch, row, spec)

    def ids(self) -> pa.Array:
        """The column."""
        return self.batch.column("id")

    def origins(self) -> list[str] | None:
        """As the source has noted them."""
        return self.places

    def names(self) -> list[str]:
        """Of the schema."""
        return list(self.batch.schema.names)

    def types(self, names: Iterable[str]) -> dict[str, FieldType]:
        """By the Arrow types."""
        return arrow_types(self.batch, names)

    def validate(self, spec: CollectionSpec, unused: Iterable[str] = ()) -> Validated:
        """The good rows."""
        batch = self.batch.drop_columns(list(unused)) if unused else self.batch
        return validate(batch, spec)


@dataclass(frozen=True, slots=True, eq=False)
class DictRows:
    """A list of dicts of the source; see :class:`RawBatch`."""

    dicts: Sequence[Mapping[str, Any]]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.dicts)

    @property
    def bytes(self) -> int:
        """Unknown."""
        return 0

    def digest(self) -> str:
        """Of the values as JSON."""
        text = json.dumps([json_values(row) for row in self.dicts], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def slice(self, first: int, rows: int) -> DictRows:
        """The dicts themselves."""
        return DictRows(self.dicts[first : first + rows])

    def values(self, row: int, spec: CollectionSpec) -> dict[str, Any]:
        """One row."""
        return json_values(self.dicts[row])

    def ids(self) -> pa.Array:
        """The values."""
        return pa.array([row.get("id") for row in self.dicts])

    def origins(self) -> list[str] | None:
        """None: dicts do not say."""
        return None

    def names(self) -> list[str]:
        """The keys of all dicts."""
        return list(dict.fromkeys(name for row in self.dicts for name in row))

    def types(self, names: Iterable[str]) -> dict[str, FieldType]:
        """By the Python values."""
        return value_types(self.dicts, names)

    def validate(self, spec: CollectionSpec, unused: Iterable[str] = ()) -> Validated:
        """The good rows."""
        left_out = set(unused)
        rows = [{key: value for key, value in row.items() if key not in left_out} for row in self.dicts]
        problems = _dict_problems(rows, spec)
        good = [row for row in range(len(rows)) if row not in problems]
        last = np.array(sorted({rows[row]["id"]: row for row in good}.values()), np.int64)
        kept = records.checked(records.rows_batch([rows[row] for row in last], spec), spec)
        failures = tuple(Failure(row, _plain(rows[row].get("id")), problems[row]) for row in sorted(problems))
        return Validated(Part(kept, last), failures, len(good) - len(last))


def _dict_problems(rows: Sequence[Mapping[str, Any]], spec: CollectionSpec) -> dict[int, str]:
    """What is wrong with each dict by itself, repeated ids apart."""
    ids_alone = CollectionSpec.foreign(spec.name, (), (), spec.id_type)
    distinct = {id: {"id": id} for row in rows if isinstance(id := row.get("id"), str | int)}
    wrong_ids = _errors_of_dicts(list(distinct.values()), ids_alone)
    by_id = {id: wrong_ids[place] for place, id in enumerate(distinct) if place in wrong_ids}
    made_up = [str(place) if spec.id_type == "string" else place for place in range(len(rows))]
    numbered = [{**row, "id": id} for row, id in zip(rows, made_up, strict=True)]
    problems = _errors_of_dicts(numbered, spec)
    for place, row in enumerate(rows):
        id = row.get("id")
        if not isinstance(id, str | int) or isinstance(id, bool):
            problems.setdefault(place, f"the id is {'missing' if id is None else repr(id)}")
        elif id in by_id:
            problems.setdefault(place, by_id[id])
    return problems


def _errors_of_dicts(rows: Sequence[Mapping[str, Any]], spec: CollectionSpec) -> dict[int, str]:
    """The problems of dicts with distinct ids; those of one column can hide those of the next."""
    problems: dict[int, str] = {}
    left = list(range(len(rows)))
    while left:
        try:
            records.rows_batch([rows[place] for place in left], spec)
            break
        except InvalidRecordError as exc:
            found = {left[failure.row]: failure.error for failure in exc.rows}
            problems |= found or dict.fromkeys(left, str(exc))
        left = [place for place in left if place not in problems]
    return problems


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
