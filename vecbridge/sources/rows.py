"""From columns to checked batches: the bad rows go aside, and the good ones go on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.errors import InvalidRecordError
from vecbridge.records import batch, with_origins
from vecbridge.schema import CollectionSpec, FieldType
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter

Columns = Mapping[str, Any]


def checked(
    spec: CollectionSpec, columns: Columns, origins: Sequence[str | None], on_dead_letter: OnDeadLetter
) -> Iterator[pa.RecordBatch]:
    """Batches of the good rows; each bad row becomes one dead letter.

    Args:
        spec: The collection's spec.
        columns: As :func:`vecbridge.records.batch` takes them: lists, arrays of shape (n, dim), Arrow arrays.
        origins: Where each row stands, for its dead letter.
        on_dead_letter: Receives them.

    Yields:
        One batch, or none where nothing is good; more where an id comes again, because a batch holds an id
        once: the later row comes in the later batch, so that it is the one that stays. Each says where its
        rows stand, for the dead letters of those that the store refuses.
    """
    for good, _ in good_rows(spec, columns, origins, lambda row, letter: on_dead_letter(letter)):
        yield good


def good_rows(
    spec: CollectionSpec,
    columns: Columns,
    origins: Sequence[str | None],
    on_bad_row: Callable[[int, DeadLetter], None],
) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
    """As :func:`checked`, with the positions of the rows.

    Args:
        spec: The collection's spec.
        columns: The rows.
        origins: Where each row stands.
        on_bad_row: Receives the position and the dead letter of each bad row.

    Yields:
        A batch, and the position of each of its rows.
    """
    for rows in _rounds(columns["id"]):
        if rows is None:
            found = _good_rows(spec, columns, origins, list(range(len(origins))), on_bad_row)
        else:
            found = _good_rows(spec, taken(columns, rows), [origins[i] for i in rows], rows, on_bad_row)
        if found is not None:
            yield found


def _good_rows(
    spec: CollectionSpec,
    columns: Columns,
    origins: Sequence[str | None],
    positions: list[int],
    on_bad_row: Callable[[int, DeadLetter], None],
) -> tuple[pa.RecordBatch, list[int]] | None:
    while origins:
        try:
            return with_origins(batch(spec, **columns), origins), positions
        except InvalidRecordError as exc:
            if not exc.rows:
                raise
            errors = {failure.row: failure.error for failure in exc.rows}
        for row in sorted(errors):
            record = row_values(columns, row, spec)
            on_bad_row(positions[row], DeadLetter(record["id"], origins[row], errors[row], record))
        keep = [row for row in range(len(origins)) if row not in errors]
        columns, origins = taken(columns, keep), [origins[row] for row in keep]
        positions = [positions[row] for row in keep]
    return None


def _rounds(ids: Any) -> list[list[int] | None]:
    """Row numbers, split so that no id comes twice in a part; None is every row."""
    keys = ids.to_pylist() if isinstance(ids, pa.Array) else list(ids)
    if len(set(keys)) == len(keys):
        return [None]
    seen: Counter[Any] = Counter()
    rounds: list[list[int]] = []
    for row, key in enumerate(keys):
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(row)
        seen[key] += 1
    return list(rounds)


def taken(columns: Columns, rows: list[int]) -> dict[str, Any]:
    """Some rows of columns of any kind."""
    part: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values, pa.Array):
            part[name] = values.take(pa.array(rows, pa.int64()))
        elif isinstance(values, np.ndarray):
            part[name] = values[rows]
        else:
            part[name] = [values[row] for row in rows]
    return part


def row_values(columns: Columns, row: int, spec: CollectionSpec) -> dict[str, Any]:
    """One row of columns as its dead letter has it, so that it is read back as it was.

    A json column holds its value, and is left out where it is null, since null is a JSON value.
    """
    types = {field.name: field.type for field in spec.fields}
    values = {name: _plain(column[row], types.get(name)) for name, column in columns.items()}
    return {
        name: _json_value(value) if types.get(name) == "json" else value
        for name, value in values.items()
        if value is not None or types.get(name) != "json"
    }


def _plain(value: Any, type: FieldType | None) -> Any:
    if not isinstance(value, pa.Scalar):
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if type == "timestamp" and pa.types.is_timestamp(value.type):
        try:
            return value.cast(pa.timestamp("us", "UTC")).as_py()
        except (pa.ArrowInvalid, OverflowError):  # nanoseconds, or no year that Python has
            value = value.cast(pa.timestamp(value.type.unit, "UTC"))
    if pa.types.is_temporal(value.type) or pa.types.is_decimal(value.type):
        return value.cast(pa.string()).as_py()
    return value.as_py()


def _json_value(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):  # broken JSON, which may be why there is a dead letter
        return value
