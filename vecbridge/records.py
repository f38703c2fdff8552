"""Arrow batches of records: building, checking, viewing and splitting them.

A batch is a ``pyarrow.RecordBatch`` of ``id`` (string or int64), one ``fixed_size_list<float32>[dim]``
column per vector field, and one column per scalar field. :func:`check` is what every adapter calls
first: it refuses what no backend may take, with the same error everywhere, before a byte is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.errors import EmbedderMismatchError, Failure, InvalidRecordError, SchemaError
from vecbridge.query import FloatArray
from vecbridge.schema import (
    CollectionSpec,
    EmbedderIdentity,
    Field,
    FieldType,
    Metric,
    VectorField,
    suggestion,
)

MAX_ID_BYTES: Final = 512
_CONVERSION_ERRORS: Final = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    TypeError,
    UnicodeEncodeError,
)
_EMBEDDER_KEY: Final = b"vecbridge.embedder"
_ARROW: Final[dict[FieldType, pa.DataType]] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "list<string>": pa.list_(pa.field("item", pa.string())),
    "json": pa.string(),
}


def arrow_type(type: FieldType) -> pa.DataType:
    """The Arrow type of a scalar field."""
    return _ARROW[type]


def arrow_schema(spec: CollectionSpec, include: Sequence[str] | None = None) -> pa.Schema:
    """The Arrow schema of a batch: ``id``, then the included columns in canonical order.

    Args:
        spec: The collection's spec.
        include: Column names; None is all of them.

    Raises:
        SchemaError: A name that the spec does not have.
    """
    columns = [pa.field("id", pa.string() if spec.id_type == "string" else pa.int64(), nullable=False)]
    for vector in spec.vectors:
        item = pa.field("item", pa.float32(), nullable=False)
        columns.append(pa.field(vector.name, pa.list_(item, vector.dim), nullable=False))
    columns += [pa.field(each.name, _ARROW[each.type]) for each in spec.fields]
    if include is None:
        return pa.schema(columns)
    for name in include:
        if name not in spec.column_names:
            raise SchemaError(
                f"include: {spec.name!r} has no column {name!r}{suggestion(name, spec.column_names)}"
            )
    wanted = {"id", *include}
    return pa.schema([column for column in columns if column.name in wanted])


def batch(spec: CollectionSpec, /, **columns: Any) -> pa.RecordBatch:
    """Builds a batch from columns and checks it.

    Args:
        spec: The collection's spec.
        **columns: ``id`` and every vector column are needed; a scalar column left out is null. Vectors are
            arrays of shape (n, dim); the others are lists, NumPy arrays or Arrow arrays. In a json column
            a str is JSON text, None is null, and anything else is encoded.

    Returns:
        A batch of n rows in canonical form.

    Raises:
        InvalidRecordError: Names each row at fault; a column that does not fit names them all.

    Example:
        >>> spec = CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
        >>> batch(spec, id=["a", "b"], vector=[[1, 0], [0, 1]], year=[2020, None]).num_rows
        2
    """
    if "id" not in columns:
        raise InvalidRecordError("column 'id' is missing", [])
    columns = {name: _sized(name, values) for name, values in columns.items()}
    rows = len(columns["id"])
    _require_known(spec, columns, rows)
    types = {each.name: each for each in arrow_schema(spec)}
    jsons = {each.name for each in spec.fields if each.type == "json"}
    arrays = {}
    for name, values in columns.items():
        if name in {each.name for each in spec.vectors}:
            arrays[name] = _vector_column(spec.vector_field(name), values, rows)
        else:
            if name in jsons and not isinstance(values, pa.Array | pa.ChunkedArray):
                values = _json_texts(name, values)
            arrays[name] = _scalar_column(name, values, types[name].type, rows)
        if len(arrays[name]) != rows:
            raise _whole(f"column {name!r} has {len(arrays[name])} rows, and 'id' {rows}", rows)
    return check(pa.RecordBatch.from_pydict(arrays), spec)


def check(batch: pa.RecordBatch, spec: CollectionSpec) -> pa.RecordBatch:
    """The batch in canonical form: every column, in order, of its exact type.

    Args:
        batch: Columns in any order; declared columns may be missing, large and view strings are taken.
        spec: The collection's spec.

    Returns:
        An equivalent batch; vectors are not copied. Its schema metadata is kept.

    Raises:
        InvalidRecordError: A missing id, an id longer than 512 bytes, a duplicate, an unknown column, a wrong
            type or dim, NaN or Inf, a zero vector under cosine, broken JSON. Names every row at fault.
        EmbedderMismatchError: The batch bears another model than the collection.
    """
    _require_known(spec, batch.schema.names, batch.num_rows)
    _require_same_embedder(batch, spec)
    problems: dict[int, str] = {}
    ids = _check_ids(batch, spec, problems)
    arrays = [
        ids,
        *(_check_vectors(batch, each, problems) for each in spec.vectors),
        *(_check_scalars(batch, each, problems) for each in spec.fields),
    ]
    if problems:
        raise _invalid(problems, ids)
    schema = arrow_schema(spec).with_metadata(batch.schema.metadata)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def vectors(batch: pa.RecordBatch, name: str = "vector") -> FloatArray:
    """The vectors of a batch as a view.

    Args:
        batch: A batch, sliced or not.
        name: The vector column.

    Returns:
        float32, shape (n, dim), sharing memory with the batch; read-only.
    """
    column = batch.column(name)
    # flatten() honours the offset of a slice; .values does not
    view: FloatArray = (
        column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)
    )
    return view


def vector_array(values: FloatArray) -> pa.FixedSizeListArray:
    """float32 vectors of shape (n, dim) as an Arrow column, without a copy where they are contiguous."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    item = pa.field("item", pa.float32(), nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, values.shape[1]))


def python_ids(ids: pa.Array) -> list[str] | np.ndarray[Any, np.dtype[np.int64]]:
    """An id column as Hits carries it: list of str, or int64 array."""
    if pa.types.is_integer(ids.type):
        numbers: np.ndarray[Any, np.dtype[np.int64]] = ids.to_numpy(zero_copy_only=False)
        return numbers
    texts: list[str] = ids.to_pylist()
    return texts


def id_array(spec: CollectionSpec, ids: Iterable[str | int]) -> pa.Array:
    """Ids that a caller typed, repeats collapsed, as an Arrow array in the order given.

    Raises:
        SchemaError: An id of another type than the collection's.
    """
    if isinstance(ids, str | bytes):
        raise SchemaError(f"ids={ids!r}: a list of ids")
    values = ids.to_pylist() if isinstance(ids, pa.Array | pa.ChunkedArray) else list(ids)
    wanted = str if spec.id_type == "string" else (int, np.integer)
    for each in values:
        if not isinstance(each, wanted) or isinstance(each, bool):
            raise SchemaError(f"id {each!r}: {spec.name!r} has {spec.id_type} ids")
    try:
        return pa.array(list(dict.fromkeys(values)), pa.string() if spec.id_type == "string" else pa.int64())
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError) as exc:
        raise SchemaError(f"ids: {exc}") from exc


def split(batch: pa.RecordBatch, *, max_rows: int, max_bytes: int | None = None) -> Iterator[pa.RecordBatch]:
    """Cuts a batch by rows and by bytes, without copying.

    Args:
        batch: Any batch.
        max_rows: Rows a part, at most.
        max_bytes: Bytes a part, at most, as Arrow holds them; one row larger than that stands alone.

    Yields:
        Slices, in order, none of them empty.
    """
    if max_bytes is None or batch.nbytes <= max_bytes:
        for start in range(0, batch.num_rows, max_rows):
            yield batch.slice(start, max_rows)
        return
    ends = np.cumsum(row_bytes(batch))
    start = 0
    while start < batch.num_rows:
        before = ends[start - 1] if start else 0
        end = int(np.searchsorted(ends, before + max_bytes, side="right"))
        end = min(max(end, start + 1), start + max_rows, batch.num_rows)
        yield batch.slice(start, end - start)
        start = end


def row_bytes(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each row as Arrow holds them; int64, shape (n,)."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        type = column.type
        if pa.types.is_fixed_size_list(type):
            sizes += type.list_size * type.value_type.bit_width // 8
        elif pa.types.is_list(type):
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            texts = pc.fill_null(pc.binary_length(column.flatten()), 0).to_numpy()
            totals = np.concatenate([[0], np.cumsum(texts)])
            ends = np.cumsum(lengths)
            sizes += totals[ends] - totals[ends - lengths] + 4 * lengths + 4
        elif pa.types.is_string(type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy() + 4
        else:
            sizes += 8
    return sizes


def stamp(batch: pa.RecordBatch, identity: EmbedderIdentity) -> pa.RecordBatch:
    """The batch with the model that made its vectors in its schema metadata."""
    values = {"model": identity.model, "revision": identity.revision, "dim": identity.dim}
    values["preprocessing"] = identity.preprocessing
    metadata = dict(batch.schema.metadata or {}) | {_EMBEDDER_KEY: json.dumps(values).encode()}
    return batch.replace_schema_metadata(metadata)


def stamped(batch: pa.RecordBatch) -> EmbedderIdentity | None:
    """The model that :func:`stamp` noted, if any.

    Raises:
        SchemaError: Something else stands in its place.
    """
    text = (batch.schema.metadata or {}).get(_EMBEDDER_KEY)
    try:
        return EmbedderIdentity(**json.loads(text)) if text else None
    except (ValueError, TypeError) as exc:
        raise SchemaError(f"the batch's embedder stamp cannot be read: {exc}") from exc


def require_same_embedder(field: VectorField, identity: EmbedderIdentity | None) -> None:
    """Refuses vectors from one model where the collection holds another's; absence is unchecked.

    Raises:
        EmbedderMismatchError: Names both models.
    """
    if field.embedder is None or identity is None or field.embedder == identity:
        return
    raise EmbedderMismatchError(
        f"vector {field.name!r} holds vectors of {field.embedder.model} ({field.embedder.revision[:12]}), "
        f"not of {identity.model} ({identity.revision[:12]}): use that model, or another collection"
    )


def canonical_json(text: str) -> str:
    """JSON text with sorted keys, no blanks, exact integers and no escapes that are not needed.

    Raises:
        ValueError: Not JSON, NaN or Infinity, a key twice, half a surrogate pair.
    """
    value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    canonical.encode()
    return canonical


def _require_known(spec: CollectionSpec, names: Iterable[str], rows: int) -> None:
    seen = set()
    for name in names:
        if name not in spec.column_names:
            raise _whole(f"{spec.name!r} has no column {name!r}{suggestion(name, spec.column_names)}", rows)
        if name in seen:
            raise _whole(f"column {name!r} comes twice", rows)
        seen.add(name)
    for name in ("id", *(each.name for each in spec.vectors)):
        if name not in seen:
            raise _whole(f"column {name!r} is missing", rows)


def _require_same_embedder(batch: pa.RecordBatch, spec: CollectionSpec) -> None:
    identity = stamped(batch)
    for each in spec.vectors:
        require_same_embedder(each, identity)


def _check_ids(batch: pa.RecordBatch, spec: CollectionSpec, problems: dict[int, str]) -> pa.Array:
    wanted = pa.string() if spec.id_type == "string" else pa.int64()
    ids = _cast("id", batch.column("id"), wanted, batch.num_rows)
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
    column = batch.column(field.name)
    type = column.type
    if not (pa.types.is_fixed_size_list(type) and pa.types.is_float32(type.value_type)):
        raise _whole(
            f"vector {field.name!r} is {type}, not fixed_size_list<float>[{field.dim}]", batch.num_rows
        )
    if type.list_size != field.dim:
        raise _whole(
            f"vector {field.name!r} has {type.list_size} dimensions, not {field.dim}", batch.num_rows
        )
    if column.null_count:
        _note(problems, pc.is_null(column), f"vector {field.name!r} is null")
        return column
    if column.flatten().null_count:
        parents = np.flatnonzero(pc.is_null(column.flatten()).to_numpy(zero_copy_only=False)) // field.dim
        for row in np.unique(parents).tolist():
            problems.setdefault(row, f"vector {field.name!r} has a null component")
        return column
    values = column.flatten().to_numpy(zero_copy_only=True).reshape(-1, field.dim)
    for row, problem in bad_vectors(values, field.metric):
        problems.setdefault(row, f"vector {field.name!r} {problem}")
    return pa.FixedSizeListArray.from_arrays(column.flatten(), type=arrow_vector_type(field.dim))


def arrow_vector_type(dim: int) -> pa.DataType:
    """The Arrow type of a vector column."""
    return pa.list_(pa.field("item", pa.float32(), nullable=False), dim)


def bad_vectors(values: FloatArray, metric: Metric) -> list[tuple[int, str]]:
    """Rows that no backend may take: (row, what is wrong).

    Args:
        values: float32, shape (n, dim).
        metric: Under cosine a zero vector has no direction.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", values, values)
    suspects = ~np.isfinite(squares) | (squares == 0)  # huge and tiny vectors are suspects too
    found = []
    for row in np.flatnonzero(suspects).tolist():
        if not np.isfinite(values[row]).all():
            found.append((row, "has NaN or Inf"))
        elif metric is Metric.COSINE and not values[row].any():
            found.append((row, "is zero, which has no direction under cosine"))
    return found


def _check_scalars(batch: pa.RecordBatch, field: Field, problems: dict[int, str]) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, _ARROW[field.type])
    column = _cast(field.name, batch.column(field.name), _ARROW[field.type], batch.num_rows)
    if field.type == "float64":
        _note(problems, pc.invert(pc.is_finite(column)), f"field {field.name!r} is NaN or Inf")
        column = pc.add(column, 0.0)  # -0.0 + 0.0 is 0.0
    elif field.type == "list<string>":
        elements = column.flatten()
        if elements.null_count:
            parents = pc.list_parent_indices(column).filter(pc.is_null(elements))
            for row in pc.unique(parents).to_pylist():
                problems.setdefault(row, f"field {field.name!r} has a null element")
    elif field.type == "json":
        column = _check_json(column, field.name, problems)
    return column


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


def _cast(name: str, column: pa.Array, wanted: pa.DataType, rows: int) -> pa.Array:
    if not pa.types.is_primitive(column.type):
        try:
            column.validate(full=True)  # an array from elsewhere may hold bytes that are no UTF-8
        except pa.ArrowInvalid as exc:
            raise _whole(f"column {name!r}: {exc}", rows) from exc
    if column.type == wanted:
        return column
    if pa.types.is_list_view(column.type):
        column = pa.array(column.to_pylist(), pa.large_list(column.type.value_type))  # cast() spoils a view
    if pa.types.is_null(column.type) or _same_kind(column.type, wanted):
        try:
            return column.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            raise _whole(f"column {name!r}: {exc}", rows) from exc
    raise _whole(f"column {name!r} is {column.type}, not {wanted}", rows)


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


def _vector_column(field: VectorField, values: Any, rows: int) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    try:
        with np.errstate(over="ignore"):  # what overflows becomes Inf, which check() refuses by row
            array = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise _whole(f"vector {field.name!r}: {exc}", rows) from exc
    if array.shape == (0,) and rows == 0:
        array = array.reshape(0, field.dim)
    if array.ndim != 2 or array.shape[1] != field.dim:
        raise _whole(f"vector {field.name!r} has shape {array.shape}, not ({rows}, {field.dim})", rows)
    return vector_array(array)


def _scalar_column(name: str, values: Any, wanted: pa.DataType, rows: int) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    try:
        if isinstance(values, np.ndarray) and values.dtype != object:
            return _cast(name, pa.array(values), wanted, rows)
        _refuse_coercion(values, wanted)
        return pa.array(values, wanted)
    except _CONVERSION_ERRORS as exc:
        raise _column_error(name, values, wanted, exc) from exc


def _refuse_coercion(values: Iterable[Any], wanted: pa.DataType) -> None:
    """Arrow takes True for 1, b"a" for "a" and an inexact int for a float; the contract does not."""
    for each in values:
        if isinstance(each, bool | np.bool_) and not pa.types.is_boolean(wanted):
            raise TypeError(f"{each!r} is a bool")
        if isinstance(each, bytes):
            raise TypeError(f"{each!r} is bytes, not str")
        if pa.types.is_list(wanted) and each is not None:
            if isinstance(each, str):
                raise TypeError(f"{each!r} is a str, not a list of them")
            _refuse_coercion(each, wanted.value_type)
        if pa.types.is_float64(wanted) and isinstance(each, int) and int(float(each)) != each:
            raise TypeError(f"{each!r} has no exact float64")
        if pa.types.is_int64(wanted) and isinstance(each, float | np.floating):
            raise TypeError(f"{each!r} is a float")


def _column_error(name: str, values: Any, wanted: pa.DataType, exc: Exception) -> InvalidRecordError:
    """Finds the rows of a Python column that Arrow cannot take."""
    problems: dict[int, str] = {}
    for row, value in enumerate(values):
        try:
            _refuse_coercion([value], wanted)
            pa.array([value], wanted)
        except _CONVERSION_ERRORS as one:
            problems[row] = f"column {name!r} is {wanted}: {one}"
    return _invalid(problems, None) if problems else _whole(f"column {name!r}: {exc}", len(values))


def _sized(name: str, values: Any) -> Any:
    """A column that can be counted and read twice."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidRecordError(f"column {name!r} is {values!r}: a list or an array, one value a row", [])
    return values if hasattr(values, "__len__") else list(values)


def _json_texts(name: str, values: Iterable[Any]) -> list[str | None]:
    texts: list[str | None] = []
    problems: dict[int, str] = {}
    for row, value in enumerate(values):
        if value is None or isinstance(value, str):
            texts.append(value)
            continue
        try:
            texts.append(json.dumps(value, ensure_ascii=False, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as exc:
            problems[row] = f"field {name!r} is no JSON: {exc}"
    if problems:
        raise _invalid(problems, None)
    return texts


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key comes twice")
    return values


def _note(problems: dict[int, str], mask: pa.Array, problem: str) -> None:
    bad = pc.fill_null(mask, False)
    if bad.true_count:
        for row in np.flatnonzero(bad.to_numpy(zero_copy_only=False)).tolist():
            problems.setdefault(row, problem)


def _invalid(problems: Mapping[int, str], ids: pa.Array | None) -> InvalidRecordError:
    failures = []
    for row in sorted(problems):
        key = ids[row].as_py() if ids is not None else None
        failures.append(Failure(row, key, problems[row]))
    shown = "; ".join(f"row {each.row} (id {each.id!r}): {each.error}" for each in failures[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return InvalidRecordError(f"{len(failures)} bad rows: {shown}{more}", failures)


def _whole(problem: str, rows: int) -> InvalidRecordError:
    """An error in the shape of the batch: no row of it can be taken."""
    return InvalidRecordError(problem, [Failure(row, None, problem) for row in range(rows)])
