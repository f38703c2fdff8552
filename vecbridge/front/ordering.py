"""Order, extremes and distinct values of a field, computed from every match."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.errors import SchemaError, suggestion
from vecbridge.filters import TYPE_OPERATORS
from vecbridge.schema import CollectionSpec, Field
from vecbridge.texts import shown


@dataclass(frozen=True, slots=True)
class Order:
    """The order of rows by a column; the id decides between equal values, and null comes last.

    Attributes:
        name: The column: a field, or "id".
        descending: Whether the largest come first.
    """

    name: str
    descending: bool

    @classmethod
    def of(cls, order: str, spec: CollectionSpec) -> Order:
        """Reads ``order=``: a name, with a minus before it for the largest first.

        Raises:
            SchemaError: No such field, or one whose values have no order.
        """
        if not isinstance(order, str):
            raise SchemaError(f"order={shown(order)}: the name of a field, such as 'year' or '-year'")
        name = order.removeprefix("-")
        type = spec.id_type if name == "id" else _field(spec, name).type
        if "<" not in TYPE_OPERATORS[type]:
            raise SchemaError(f"field {name!r} is {type}, which has no order")
        return cls(name, descending=order.startswith("-"))

    @property
    def columns(self) -> tuple[str, ...]:
        """What has to be read beside the id."""
        return () if self.name == "id" else (self.name,)

    def first_ids(self, batches: Iterable[pa.RecordBatch], limit: int) -> pa.Array | None:
        """The ids of the first rows in this order; None of no rows. Memory is ``limit`` rows and one batch.

        Args:
            batches: ``id`` and the column.
            limit: Ids, at most.
        """
        best: pa.RecordBatch | None = None
        direction = "descending" if self.descending else "ascending"
        keys = (
            [(self.name, direction)] if self.name == "id" else [(self.name, direction), ("id", "ascending")]
        )
        for batch in batches:
            among = batch if best is None else pa.concat_batches([best, batch])
            places = pc.sort_indices(among, sort_keys=keys)  # null comes last
            best = among.take(places[:limit])
        return None if best is None else best.column("id")

    def extremes(self, batches: Iterable[pa.RecordBatch]) -> tuple[Any, Any] | None:
        """The smallest and the largest value; None if all are null."""
        kept: pa.Array | None = None
        for batch in batches:
            values = batch.column(self.name).drop_null()
            values = values if kept is None else pa.concat_arrays([kept, values])
            if len(values):
                places = pc.sort_indices(values)
                kept = values.take(pa.array([places[0].as_py(), places[-1].as_py()]))
        return None if kept is None else (kept[0].as_py(), kept[1].as_py())


def first_rows(batches: Iterable[pa.RecordBatch], limit: int, nothing: pa.RecordBatch) -> pa.RecordBatch:
    """The first rows of some batches.

    Args:
        batches: Read only as far as they are needed.
        limit: Rows, at most.
        nothing: What no rows are.
    """
    parts: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        parts.append(batch.slice(0, limit - rows))
        rows += parts[-1].num_rows
        if rows == limit:
            break
    return pa.concat_batches(parts) if parts else nothing


def distinct_values(batches: Iterable[pa.RecordBatch], field: Field, limit: int) -> list[Any] | None:
    """The distinct values of a column, or of the elements of a column of lists, sorted; None if too many."""
    known: pa.Array | None = None
    for batch in batches:
        values = batch.column(field.name)
        values = (values.flatten() if pa.types.is_list(values.type) else values).drop_null()
        known = pc.unique(values if known is None else pa.concat_arrays([known, values]))
        if len(known) > limit:
            return None
    return [] if known is None else sorted(known.to_pylist())


def require_listable(spec: CollectionSpec, name: str) -> Field:
    """A field whose values can be told apart.

    Raises:
        SchemaError: No such field, or a json field.
    """
    field = _field(spec, name)
    if field.type == "json":
        raise SchemaError(f"field {name!r} is json, whose values are not listed")
    return field


def _field(spec: CollectionSpec, name: object) -> Field:
    for field in spec.fields:
        if field.name == name:
            return field
    known = [field.name for field in spec.fields]
    raise SchemaError(f"{spec.name!r} has no field {name!r}{suggestion(str(name), known)}")
