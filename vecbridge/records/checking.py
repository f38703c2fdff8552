"""Checks a batch against a spec, with the same errors on every backend, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import timestamps
from vecbridge.errors import ConfigError, Failure, InvalidRecordError, suggestion
from vecbridge.query import FloatArray
from vecbridge.records.arrow import arrow_schema, arrow_type, arrow_vector_type, booleans, numbers, vectors
from vecbridge.records.jsontext import canonical_json, encode_json
from vecbridge.records.recognition import Checked, recognise, remember
from vecbridge.records.stamps import require_same_embedder, stamped
from vecbridge.schema import (
    CollectionSpec,
    Field,
    Metric,
    VectorField,
)

MAX_ID_BYTES: Final = 512
NO_VECTOR: Final = (
    "is null, and every record needs a vector: give such records a placeholder and a boolean field that says "
    "so, and leave them out by a filter on it"
)
_FEW: Final = 16  # numbers that Python compares sooner than NumPy


def check(batch: pa.RecordBatch | Checked, spec: CollectionSpec) -> pa.RecordBatch:
    """The batch in canonical form: every column, in order, of its exact type.

    Args:
        batch: Columns in any order; declared columns may be missing, large and view strings are taken.
        spec: The collection's spec.

    Returns:
        An equivalent batch; vectors are not copied. Its schema metadata is kept.

    Raises:
        ConfigError: Something that is no batch.
        InvalidRecordError: A missing id, an id longer than 512 bytes, a duplicate, an unknown column, a wrong
            type or dim, NaN or Inf, a zero vector under cosine, broken JSON. Names every row at fault.
        EmbedderMismatchError: The batch bears another model than the collection.
    """
    return checked(batch, spec).batch


def checked(batch: pa.RecordBatch | Checked, spec: CollectionSpec) -> Checked:
    """Checks a batch; the costly checks are left out where it is known to have passed them.

    A :class:`Checked` for an equal spec, and a batch that :func:`vecbridge.batch` or :func:`check` returned,
    have passed them. Their vectors are looked at again: NumPy may share their memory.

    Args:
        batch: As for :func:`check`.
        spec: The collection's spec.

    Returns:
        The batch in canonical form; what was given, if it was a Checked that fits.

    Raises:
        ConfigError: Something that is no batch.
        InvalidRecordError: As for :func:`check`.
        EmbedderMismatchError: The batch bears another model than the collection.
    """
    known = batch if isinstance(batch, Checked) else recognise(_require_batch(batch))
    if known is None or not known.fits(spec):
        passed = _check_all(batch.batch if isinstance(batch, Checked) else batch, spec)
        remember(passed)
        return passed
    _require_same_embedder(known.batch, spec)
    problems: dict[int, str] = {}
    for vector in spec.vectors:
        _note_bad_vectors(vectors(known.batch, vector.name), vector, problems)
    if problems:
        raise invalid(problems, known.batch.column("id"))
    return known


def _require_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    if isinstance(batch, pa.RecordBatch):
        return batch
    hint = "vecbridge.write() takes tables" if isinstance(batch, pa.Table) else "vecbridge.batch() makes one"
    raise ConfigError(f"batch: a pyarrow.RecordBatch is wanted, not {type(batch).__name__}; {hint}")


def _check_all(batch: pa.RecordBatch, spec: CollectionSpec) -> Checked:
    require_known(spec, batch.schema.names, batch.num_rows)
    _require_same_embedder(batch, spec)
    problems: dict[int, str] = {}
    ids = _check_ids(batch, spec, problems)
    arrays = [
        ids,
        *(_check_vectors(batch, vector, problems) for vector in spec.vectors),
        *(_check_scalars(batch, field, problems) for field in spec.fields),
    ]
    if problems:
        raise invalid(problems, ids)
    schema = arrow_schema(spec).with_metadata(batch.schema.metadata)
    return Checked(pa.RecordBatch.from_arrays(arrays, schema=schema), spec)


def bad_vectors(values: FloatArray, metric: Metric) -> list[tuple[int, str]]:
    """Rows that no backend may take: (row, what is wrong).

    Args:
        values: float32, shape (n, dim).
        metric: Under cosine a zero vector has no direction.
    """
    squares = np.einsum("ij,ij->i", values, values)
    ends = squares.tolist() if len(squares) <= _FEW else (squares.min(), squares.max())
    if all(0 < square < np.inf for square in ends):  # neither holds for NaN
        return []
    problems: list[tuple[int, str]] = []
    # a finite vector may have a square that is 0 or Inf in float32: only these rows are looked at one by one
    for row in np.flatnonzero(~((squares > 0) & (squares < np.inf))).tolist():
        if not np.isfinite(values[row]).all():
            problems.append((row, "has NaN or Inf"))
        elif metric is Metric.COSINE and not values[row].any():
            problems.append((row, "is zero, which has no direction under cosine"))
    return problems


def require_known(spec: CollectionSpec, names: Iterable[str], rows: int) -> None:
    """Refuses a batch with a column that the spec does not have, or without one that it must have."""
    seen = set()
    for name in names:
        if name not in spec.column_names:
            raise whole_batch(
                f"{spec.name!r} has no column {name!r}{suggestion(name, spec.column_names)}", rows
            )
        if name in seen:
            raise whole_batch(f"column {name!r} comes twice", rows)
        seen.add(name)
    for name in ("id", *(vector.name for vector in spec.vectors)):
        if name not in seen:
            raise whole_batch(f"column {name!r} is missing", rows)


def _require_same_embedder(batch: pa.RecordBatch, spec: CollectionSpec) -> None:
    identity = stamped(batch)
    for vector in spec.vectors:
        require_same_embedder(vector, identity)


def _check_ids(batch: pa.RecordBatch, spec: CollectionSpec, problems: dict[int, str]) -> pa.Array:
    wanted = pa.string() if spec.id_type == "string" else pa.int64()
    ids = cast_column("id", batch.column("id"), wanted, batch.num_rows)
    if spec.id_type == "int64":
        ids = pc.add(ids, 0)  # a copy: NumPy may share the memory, and ids are compared only once
    if ids.null_count:
        _note(problems, pc.is_null(ids), "the id is null")
    if spec.id_type == "string":
        sizes = pc.binary_length(ids)
        _note(problems, pc.equal(sizes, 0), "the id is empty")
        _note(problems, pc.greater(sizes, MAX_ID_BYTES), f"the id is longer than {MAX_ID_BYTES} bytes")
        _note(problems, pc.match_substring(ids, "\0"), "the id has a NUL character")
    if pc.count_distinct(ids, mode="all").as_py() != len(ids):
        firsts: dict[Any, int] = {}
        for row, key in enumerate(ids.to_pylist()):
            first = firsts.setdefault(key, row)
            if first != row:
                problems.setdefault(row, f"the id stands in row {first} of the same batch too")
    return ids


def _check_vectors(batch: pa.RecordBatch, field: VectorField, problems: dict[int, str]) -> pa.Array:
    column = _fixed_size(batch.column(field.name), field, problems)
    type = column.type
    if not (pa.types.is_fixed_size_list(type) and pa.types.is_float32(type.value_type)):
        raise whole_batch(
            f"vector {field.name!r} is {type}, not fixed_size_list<float>[{field.dim}]", batch.num_rows
        )
    if type.list_size != field.dim:
        raise whole_batch(
            f"vector {field.name!r} has {type.list_size} dimensions, not {field.dim}", batch.num_rows
        )
    if column.null_count:
        _note(problems, pc.is_null(column), f"vector {field.name!r} {NO_VECTOR}")
        return column
    if column.flatten().null_count:
        parents = np.flatnonzero(booleans(pc.is_null(column.flatten()))) // field.dim
        for row in np.unique(parents).tolist():
            problems.setdefault(row, f"vector {field.name!r} has a null component")
        return column
    values = numbers(column.flatten()).reshape(-1, field.dim)
    _note_bad_vectors(values, field, problems)
    return pa.FixedSizeListArray.from_arrays(column.flatten(), type=arrow_vector_type(field.dim))


def _fixed_size(column: pa.Array, field: VectorField, problems: dict[int, str]) -> pa.Array:
    """Vectors as lists of float32 of one length: data frames have lists of float64 of any length."""
    type = column.type
    if pa.types.is_list_view(type) or pa.types.is_large_list_view(type):
        column = pa.array(column.to_pylist(), pa.large_list(type.value_type))
        type = column.type
    is_list = pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    if not is_list or not (pa.types.is_floating(type.value_type) or pa.types.is_integer(type.value_type)):
        return column
    if pa.types.is_fixed_size_list(type):
        return (
            column if pa.types.is_float32(type.value_type) else column.cast(arrow_vector_type(type.list_size))
        )
    lengths = pc.list_value_length(column)
    wrong = pc.fill_null(pc.not_equal(lengths, field.dim), False)
    if wrong.true_count:
        for row in np.flatnonzero(booleans(wrong)).tolist():
            has = f"has {lengths[row].as_py()} dimensions, not {field.dim}"
            problems.setdefault(row, f"vector {field.name!r} {has}")
        column = pc.if_else(wrong, pa.scalar([0.0] * field.dim, type), column)
    return column.cast(arrow_vector_type(field.dim))


def _note_bad_vectors(values: FloatArray, field: VectorField, problems: dict[int, str]) -> None:
    for row, problem in bad_vectors(values, field.metric):
        problems.setdefault(row, f"vector {field.name!r} {problem}")


def _check_scalars(batch: pa.RecordBatch, field: Field, problems: dict[int, str]) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, arrow_type(field.type))
    column = batch.column(field.name)
    if field.type == "json" and not _is_text(column.type):
        column = _encoded_json(column, field.name, problems)
    if field.type == "timestamp":
        return _check_timestamps(column, field.name, problems)
    column = cast_column(field.name, column, arrow_type(field.type), batch.num_rows)
    if field.type == "float64":
        column = pc.add(column, 0.0)  # -0.0 + 0.0 is 0.0; and a copy, which NumPy does not share
        _note(problems, pc.invert(pc.is_finite(column)), f"field {field.name!r} is NaN or Inf")
    elif pa.types.is_list(column.type):
        column = _check_list(column, field, problems)
    elif field.type == "json":
        column = _check_json(column, field.name, problems)
    return column


def _check_list(column: pa.Array, field: Field, problems: dict[int, str]) -> pa.Array:
    elements = column.flatten()
    if elements.null_count:
        _note_lists(column, pc.is_null(elements), f"field {field.name!r} has a null element", problems)
        return column
    if pa.types.is_string(elements.type):
        return column
    if field.type == "list<float64>":
        bad = pc.invert(pc.is_finite(elements))
        _note_lists(column, bad, f"field {field.name!r} has NaN or Inf among its elements", problems)
    ends = np.cumsum(numbers(pc.fill_null(pc.list_value_length(column), 0)), dtype=np.int32)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
    copied = pc.add(elements, pa.scalar(0, elements.type))  # -0.0 becomes 0.0, as above
    return pa.ListArray.from_arrays(offsets, copied, type=column.type, mask=pc.is_null(column))


def _note_lists(column: pa.Array, bad: pa.Array, problem: str, problems: dict[int, str]) -> None:
    """Notes the rows that have a bad element."""
    if pc.any(bad).as_py():
        for row in pc.unique(pc.list_parent_indices(column).filter(bad)).to_pylist():
            problems.setdefault(row, problem)


def _check_timestamps(column: pa.Array, name: str, problems: dict[int, str]) -> pa.Array:
    """Timestamps of any unit as microseconds; what is finer, or in no year from 1 to 9999, is a bad row."""
    wanted, type = arrow_type("timestamp"), column.type
    if pa.types.is_null(type):
        return pa.nulls(len(column), wanted)
    if pa.types.is_dictionary(type):
        column = column.dictionary_decode()
        type = column.type
    if not pa.types.is_timestamp(type) or type.tz is None:
        hint = "pyarrow.compute.assume_timezone() gives it one" if pa.types.is_timestamp(type) else "cast it"
        raise whole_batch(f"column {name!r} is {type}, not a timestamp with a time zone: {hint}", len(column))
    values = column.cast(pa.int64())
    if type.unit == "ns":
        micros = pc.divide(values, 1_000)
        finer = pc.not_equal(pc.multiply(micros, 1_000), values)
        _note(problems, finer, f"field {name!r} is finer than microseconds")
        values = micros
    factor = {"s": 1_000_000, "ms": 1_000}.get(type.unit, 1)
    outside = pc.or_(
        pc.less(values, -(-timestamps.EARLIEST // factor)), pc.greater(values, timestamps.LATEST // factor)
    )
    outside = pc.fill_null(outside, False)
    _note(problems, outside, f"field {name!r} is outside of the years 1 to 9999")
    inside = pc.if_else(outside, pa.scalar(None, pa.int64()), values)
    return pc.multiply(inside, factor).cast(wanted)


def _is_text(type: pa.DataType) -> bool:
    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def _encoded_json(column: pa.Array, name: str, problems: dict[int, str]) -> pa.Array:
    """Values of any Arrow type, such as structs, as JSON text."""
    texts: list[str | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            texts.append(None if value is None else encode_json(value))
        except (TypeError, ValueError, RecursionError) as exc:
            problems.setdefault(row, f"field {name!r} is no JSON: {exc}")
            texts.append(None)
    return pa.array(texts, pa.string())


def _check_json(column: pa.Array, name: str, problems: dict[int, str]) -> pa.Array:
    texts: list[str | None] = column.to_pylist()
    for row, text in enumerate(texts):
        if text is None:
            continue
        try:
            texts[row] = canonical_json(text)
        except (ValueError, RecursionError) as exc:
            problems.setdefault(row, f"field {name!r} is no JSON: {exc}")
    return pa.array(texts, pa.string())


def cast_column(name: str, column: pa.Array, wanted: pa.DataType, rows: int) -> pa.Array:
    """A column as the type that is wanted, where that changes the layout and no value."""
    if not pa.types.is_primitive(column.type):
        try:
            column.validate(full=True)  # an array from elsewhere may hold bytes that are no UTF-8
        except pa.ArrowInvalid as exc:
            raise whole_batch(f"column {name!r}: {exc}", rows) from exc
    if column.type == wanted:
        return column
    if pa.types.is_list_view(column.type):
        column = pa.array(column.to_pylist(), pa.large_list(column.type.value_type))  # cast() spoils a view
    if pa.types.is_null(column.type) or _same_kind(column.type, wanted):
        try:
            return column.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            raise whole_batch(f"column {name!r}: {exc}", rows) from exc
    raise whole_batch(f"column {name!r} is {column.type}, not {wanted}", rows)


def _same_kind(type: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast changes the layout and never the value."""
    if pa.types.is_dictionary(type):
        type = type.value_type
    if pa.types.is_list(wanted):
        if not (pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_list_view(type)):
            return False
        return pa.types.is_null(type.value_type) or _same_kind(type.value_type, wanted.value_type)
    if pa.types.is_string(wanted):
        tests = [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view]
    elif pa.types.is_int64(wanted):
        tests = [pa.types.is_integer]
    else:
        tests = [pa.types.is_floating] if pa.types.is_float64(wanted) else [pa.types.is_boolean]
    return any(test(type) for test in tests)


def _note(problems: dict[int, str], mask: pa.Array, problem: str) -> None:
    bad = pc.fill_null(mask, False)
    if bad.true_count:
        for row in np.flatnonzero(bad.to_numpy(zero_copy_only=False)).tolist():
            problems.setdefault(row, problem)


def invalid(problems: Mapping[int, str], ids: Any) -> InvalidRecordError:
    """The error that names the bad rows, the first three of them in its message.

    Args:
        problems: By row, what is wrong with it.
        ids: The ids of the batch, as an Arrow array or as the caller gave them; None if they are not known.
    """
    failures = [Failure(row, _id_at(ids, row), problems[row]) for row in sorted(problems)]
    shown = "; ".join(f"row {failure.row} (id {failure.id!r}): {failure.error}" for failure in failures[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return InvalidRecordError(f"{len(failures)} bad rows: {shown}{more}", failures)


def _id_at(ids: Any, row: int) -> str | int | None:
    if ids is None or row >= len(ids):
        return None
    value = ids[row]
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    elif isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int) else None


def whole_batch(problem: str, rows: int) -> InvalidRecordError:
    """The error for a batch whose shape is wrong: it names every row."""
    return InvalidRecordError(problem, [Failure(row, None, problem) for row in range(rows)])
