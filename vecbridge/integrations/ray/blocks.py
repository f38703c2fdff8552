"""Ray's blocks as Arrow tables that a collection takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.bulk.deadletters import row_values
from vecbridge.errors import ConfigError, SchemaError
from vecbridge.front.arguments import check_namespace
from vecbridge.integrations.ray.installed import Block, BlockAccessor
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter

#: The column in which :class:`~vecbridge.integrations.ray.EmbeddingActor` says why a row has no vector.
ERROR_COLUMN: Final = "vecbridge_error"


def tables(blocks: Iterable[Block], spec: CollectionSpec, namespace_column: str | None) -> Iterator[pa.Table]:
    """The blocks of a task as tables, without empty ones.

    Args:
        blocks: Arrow tables or pandas frames.
        spec: Of the collection that they go into.
        namespace_column: A column beside those of the spec, or None.

    Raises:
        SchemaError: A column that the collection does not have, or a missing one: the job is wrong, and
            not single rows of it.
    """
    for block in blocks:
        table = BlockAccessor.for_block(block).to_arrow()
        if table.num_rows:
            _require_columns(table.column_names, spec, namespace_column)
            yield _without_extension_types(table, {vector.name for vector in spec.vectors})


def _require_columns(names: list[str], spec: CollectionSpec, namespace_column: str | None) -> None:
    extra = {ERROR_COLUMN} | ({namespace_column} if namespace_column else set())
    if unknown := [name for name in names if name not in spec.column_names and name not in extra]:
        raise SchemaError(
            f"{spec.name!r} has no column {', '.join(map(repr, unknown))}: declare it in the spec, or leave "
            f"it out with dataset.drop_columns({unknown})"
        )
    needed = ["id", *(vector.name for vector in spec.vectors), *extra - {ERROR_COLUMN}]
    if missing := [name for name in needed if name not in names]:
        raise SchemaError(f"the dataset has no column {', '.join(map(repr, missing))}, which it needs")


def _without_extension_types(table: pa.Table, vectors: set[str]) -> pa.Table:
    """Ray's tensors as lists, and its pickled objects as what they hold."""
    for position, name in enumerate(table.column_names):
        column = table.column(position)
        if isinstance(column.type, pa.BaseExtensionType):
            plain = pa.chunked_array([_plain(chunk, is_vector=name in vectors) for chunk in column.chunks])
            table = table.set_column(position, name, plain)
    return table


def _plain(chunk: pa.ExtensionArray, *, is_vector: bool) -> pa.Array:
    storage = chunk.storage
    type = storage.type
    if pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type):
        return storage
    values = [_listed(value) for value in chunk.to_pylist()]
    return pa.array(values, pa.list_(pa.float32())) if is_vector else pa.array(values)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def embedded_rows(table: pa.Table, spec: CollectionSpec, on_dead_letter: OnDeadLetter) -> pa.Table:
    """The rows that have a vector; a dead letter for each that the embedding actor could not embed."""
    if ERROR_COLUMN not in table.column_names:
        return table
    errors = table.column(ERROR_COLUMN)
    table = table.drop_columns([ERROR_COLUMN])
    if errors.null_count == len(errors):
        return table
    embedded = pc.is_null(errors)
    rows = table.drop_columns([vector.name for vector in spec.vectors])
    for row, error in enumerate(errors.to_pylist()):
        if error is not None:
            on_dead_letter(_letter(rows, row, spec, error))
    return table.filter(embedded)


def by_namespace(
    table: pa.Table, column: str, spec: CollectionSpec, on_dead_letter: OnDeadLetter
) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each namespace, in their order; a dead letter for each that has no valid one.

    Args:
        table: Of the dataset.
        column: Holds the namespaces; it is stored too where the spec declares it.
        spec: Of the collection.
        on_dead_letter: Receives the others.

    Yields:
        A namespace and its rows.
    """
    names = table.column(column).to_pylist()
    plain = table if column in spec.column_names else table.drop_columns([column])
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        problem = _namespace_problem(name, spec)
        if problem is None:
            rows.setdefault(name, []).append(row)
        else:
            on_dead_letter(_letter(plain, row, spec, problem))
    for name, chosen in rows.items():
        yield name, plain if len(chosen) == len(names) else plain.take(pa.array(chosen))


def _namespace_problem(name: Any, spec: CollectionSpec) -> str | None:
    if not isinstance(name, str):
        return f"the namespace is {'null' if name is None else repr(name)}"
    try:
        check_namespace(spec, name)
    except ConfigError as exc:
        return str(exc)
    return None


def _letter(rows: pa.Table, row: int, spec: CollectionSpec, error: str) -> DeadLetter:
    [record] = rows.slice(row, 1).combine_chunks().to_batches()
    values = row_values(record, 0, spec)
    key = values.get("id")
    return DeadLetter(key if isinstance(key, str | int) else None, None, error, values)
