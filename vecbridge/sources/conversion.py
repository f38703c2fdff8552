"""Arrow columns as the columns of a collection: exact, or a problem of the row, never another value."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vecbridge.errors import SchemaError
from vecbridge.records import arrow_type
from vecbridge.schema import FieldType, IdType, VectorField
from vecbridge.sources.deadletters import as_json
from vecbridge.sources.inference import arrow_field_type, as_type, is_list, is_text, plain_type

#: By its own type, the other types as which a column is read where the collection has them. Values that do
#: not fit are dead letters; where none could fit, the file is refused.
_ALSO_READ_AS: Final[dict[FieldType, frozenset[FieldType]]] = {
    "bool": frozenset({"json"}),
    "int64": frozenset({"float64", "json"}),
    "float64": frozenset({"int64", "json"}),
    "string": frozenset({"json"}),
    "timestamp": frozenset({"string", "json"}),
    "list<string>": frozenset({"json"}),
    "list<int64>": frozenset({"list<float64>", "json"}),
    "list<float64>": frozenset({"list<int64>", "json"}),
}

Problems = dict[int, str]


def own_type(type: pa.DataType) -> FieldType | None:
    """The type of a field that keeps a column (text if it has none of its own); None if nothing keeps it."""
    type = plain_type(storage_type(type))
    if pa.types.is_duration(type):
        return "int64"
    if (own := arrow_field_type(type)) is not None:
        return own
    is_printed = pa.types.is_null(type) or pa.types.is_decimal(type) or pa.types.is_temporal(type)
    return "string" if is_printed else None


def type_as_read(column: pa.Field, wanted: FieldType | None, *, all_null: bool) -> FieldType | None:
    """The type as which a column is read: that of the collection's field, if any value may fit it.

    Args:
        column: The column of the file.
        wanted: The type of the field; None where the collection has none.
        all_null: Whether no row has a value, so that every type takes it.

    Raises:
        SchemaError: A timestamp without a time zone, for a field that is one with it.
    """
    plain = plain_type(storage_type(column.type))
    own = _declared(column.type) or own_type(column.type)
    if wanted is None or wanted == own or all_null:
        return wanted or own
    if wanted == "timestamp" and pa.types.is_timestamp(plain) and plain.tz is None:
        raise SchemaError(
            f"column {column.name!r} has no time zone, which a timestamp needs: "
            "pyarrow.compute.assume_timezone() gives it one"
        )
    if wanted == "timestamp" and is_text(plain):
        return wanted
    if wanted == "json" and (own is None or is_text(plain)):
        return wanted
    if wanted.startswith("list<") and is_list(plain) and pa.types.is_null(plain.value_type):
        return wanted
    return wanted if own is not None and wanted in _ALSO_READ_AS.get(own, ()) else own


def why_dropped(type: pa.DataType) -> str:
    """Why a column of a type that no field keeps is left out."""
    plain = plain_type(storage_type(type))
    if _is_binary(plain):
        way_out = 'a json field of this name in the collection takes it as {"$binary": base64}'
        return f"{type} has no vecbridge type: {way_out}"
    return f"{type} has no vecbridge type"


def note_on(name: str, type: pa.DataType) -> str | None:
    """What a user should know about how a column is kept; None where it is as it was."""
    if units := sorted(_durations(type)):
        return f"durations in column {name!r} become whole numbers of {', '.join(units)}"
    if isinstance(type, pa.BaseExtensionType) and not _is_known_extension(type):
        return f"column {name!r} is {type}, and kept as the {type.storage_type} that stands for it"
    if _declared(type) is None and own_type(type) == "json" and _has_binary(type):
        return f'bytes in column {name!r} become {{"$binary": base64}}'
    return None


def decoded(column: pa.Array) -> pa.Array:
    """A column without the layers that stand for its values: dictionaries and extension types."""
    while True:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        elif isinstance(column.type, pa.BaseExtensionType):
            column = _without_extension(column)
        else:
            return column


def storage_type(type: pa.DataType) -> pa.DataType:
    """The type that :func:`decoded` gives a column of an extension type."""
    if not isinstance(type, pa.BaseExtensionType):
        return type
    known = {"arrow.uuid": pa.string(), "arrow.bool8": pa.bool_()}
    return known.get(type.extension_name, type.storage_type)


def is_json_text(type: pa.DataType, texts: pa.Array | None) -> bool:
    """Whether a column of text that goes into a json field holds JSON text, not text that is a value itself.

    Args:
        type: The column's; Parquet's own JSON type says it.
        texts: Some values. JSON text is what is JSON everywhere and somewhere an object, an array or a text
            in quotes: bare numbers may as well be postal codes.
    """
    if _declared(type) == "json":
        return True
    found = [] if texts is None else [text for text in decoded(texts).to_pylist() if text]
    try:
        values = [json.loads(text) for text in found]
    except (ValueError, RecursionError):
        return False
    return any(isinstance(value, dict | list | str) for value in values)


def id_column(column: pa.Array, id_type: str, problems: Problems) -> pa.Array:
    """The ids.

    Raises:
        SchemaError: They are of another type than the collection's.
    """
    column = decoded(column)
    if column.type == pa.uint64() and id_type == "int64":
        return _narrowed(column, problems, "the id")
    same = pa.types.is_integer(column.type) if id_type == "int64" else is_text(column.type)
    if not same and not pa.types.is_null(column.type):
        raise SchemaError(f"the ids are {column.type}, and the collection's {id_type}")
    return column.cast(pa.int64() if id_type == "int64" else pa.string())


def id_type_of(column: pa.Field) -> IdType | None:
    """The type of the ids in a column; None if its values are no ids."""
    type = plain_type(storage_type(column.type))
    if pa.types.is_integer(type):
        return "int64"
    return "string" if is_text(type) or pa.types.is_null(type) else None


def vector_column(
    column: pa.Array, vector: VectorField, problems: Problems
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 of shape (n, dim); rows at fault are zero and noted."""
    column = decoded(column)
    type = column.type
    if pa.types.is_null(type):
        column = column.cast(pa.list_(pa.float32()))
    elif not is_number_list(type):
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


def is_number_list(type: pa.DataType) -> bool:
    """Whether a column may hold vectors."""
    type = plain_type(storage_type(type))
    if not is_list(type):
        return False
    return bool(pa.types.is_floating(type.value_type) or pa.types.is_integer(type.value_type))


def field_column(
    column: pa.Array,
    type: FieldType,
    name: str,
    problems: Problems,
    *,
    truncate_times: bool = False,
    json_text: bool = True,
) -> Any:
    """A column as one of a field of that type; rows whose value does not fit are noted.

    Args:
        column: As the file has it.
        type: The field's.
        name: The field's, for messages.
        problems: Receives {row: what is wrong}.
        truncate_times: Cut timestamps that are finer than microseconds.
        json_text: In a column of text, for a json field: it is JSON text.
    """
    column = decoded(column)
    if column.null_count == len(column):
        return pa.nulls(len(column), arrow_type(type))
    if type == "json":
        is_written = is_text(column.type) and json_text
        return column.to_pylist() if is_written else json_texts(column)
    if type == "timestamp":
        return _timestamps(column, truncate=truncate_times)
    if pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    if type == "int64" and column.type == pa.uint64():
        return _narrowed(column, problems, f"column {name!r}")
    if type == "int64" and pa.types.is_floating(column.type):
        return _as_integers(column, name, problems)
    if type == "float64" and pa.types.is_integer(column.type):
        return _as_floats(column, name, problems)
    if type == "string" and (pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type)):
        return column.cast(pa.string())
    if type.startswith("list<") and is_list(column.type):
        return _lists(column, type)
    if type == "float64" and column.type == pa.float16():
        return column.cast(pa.float32())
    return column


def json_texts(column: pa.Array) -> list[str | None]:
    """Values of any type as JSON text; null stays null.

    Times, dates and decimals are text, durations whole numbers of their unit, bytes ``{"$binary": base64}``.
    """
    exact = _exact_in_python(column.type)
    if exact != column.type:
        column = column.cast(exact)
    return [
        None if value is None else json.dumps(value, ensure_ascii=False, default=as_json)
        for value in column.to_pylist()
    ]


def _exact_in_python(type: pa.DataType) -> pa.DataType:
    """The type of which Python loses nothing: nanoseconds as text, durations as whole numbers."""
    if pa.types.is_duration(type):
        return pa.int64()
    if pa.types.is_time(type) or (pa.types.is_timestamp(type) and type.unit == "ns"):
        return pa.string()
    if pa.types.is_struct(type):
        return pa.struct([each.with_type(_exact_in_python(each.type)) for each in type])
    if pa.types.is_map(type):
        return pa.map_(_exact_in_python(type.key_type), _exact_in_python(type.item_type))
    if is_list(type) and (element := _exact_in_python(type.value_type)) != type.value_type:
        return pa.list_(element)
    return type


def _lists(column: pa.Array, type: FieldType) -> Any:
    own = own_type(column.type)
    if own == type and column.type.value_type != pa.uint64():
        return column.cast(arrow_type(type))
    if own == type or (own, type) == ("list<int64>", "list<float64>"):
        return column.to_pylist()  # each row is looked at: an integer may be too large, or inexact
    if (own, type) == ("list<float64>", "list<int64>"):
        return [as_type(value, type) for value in column.to_pylist()]
    return column.to_pylist() if pa.types.is_null(column.type.value_type) else column


def _timestamps(column: pa.Array, *, truncate: bool) -> Any:
    if is_text(column.type):
        return [as_type(value, "timestamp", truncate_times=truncate) for value in column.to_pylist()]
    if truncate and pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return pc.floor_temporal(column, unit="microsecond")
    return column


def _as_floats(column: pa.Array, name: str, problems: Problems) -> pa.Array:
    floats = column.cast(pa.float64(), safe=False)
    back = floats.cast(column.type, safe=False)
    inexact = pc.fill_null(pc.not_equal(back, column), False)
    for row in np.flatnonzero(inexact.to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, f"column {name!r}: {column[row].as_py()} has no exact float64")
    return floats


def _as_integers(column: pa.Array, name: str, problems: Problems) -> pa.Array:
    known = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    whole = (np.floor(values) == values) & (values >= -(2.0**63)) & (values < 2.0**63)
    for row in np.flatnonzero(known & ~whole).tolist():
        problems.setdefault(row, f"column {name!r}: {values[row]} is no whole number of 64 bits")
    return pa.array(np.where(whole, values, 0).astype(np.int64), mask=~(known & whole))


def _narrowed(column: pa.Array, problems: Problems, what: str) -> pa.Array:
    """uint64 as int64; values beyond it are noted, and null."""
    beyond = pc.fill_null(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())), False)
    for row in np.flatnonzero(beyond.to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, f"{what}: {column[row].as_py()} is beyond int64")
    return pc.if_else(beyond, pa.scalar(None, pa.uint64()), column).cast(pa.int64())


def all_null_columns(metadata: pq.FileMetaData) -> frozenset[str]:
    """The flat columns without a value, by the statistics in the footer of a file."""
    found = set()
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        if column.max_repetition_level or column.path != column.name or not metadata.num_row_groups:
            continue
        parts = [metadata.row_group(group).column(number) for group in range(metadata.num_row_groups)]
        if all(_is_null(part) for part in parts):
            found.add(column.name)
    return frozenset(found)


def _is_null(part: pq.ColumnChunkMetaData) -> bool:
    statistics = part.statistics
    return bool(
        statistics is not None and statistics.has_null_count and statistics.null_count == part.num_values
    )


def _without_extension(column: pa.Array) -> pa.Array:
    match column.type.extension_name:
        case "arrow.uuid":
            return pa.array(
                [None if value is None else str(value) for value in column.to_pylist()], pa.string()
            )
        case "arrow.bool8":
            return column.storage.cast(pa.bool_())
        case _:
            return column.storage


def _declared(type: pa.DataType) -> FieldType | None:
    """The field type that an extension type names."""
    is_json = isinstance(type, pa.BaseExtensionType) and type.extension_name == "arrow.json"
    return "json" if is_json else None


def _is_known_extension(type: pa.BaseExtensionType) -> bool:
    return type.extension_name in ("arrow.uuid", "arrow.bool8", "arrow.json", "arrow.fixed_shape_tensor")


def _is_binary(type: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type)
        or pa.types.is_large_binary(type)
        or pa.types.is_fixed_size_binary(type)
        or pa.types.is_binary_view(type)
    )


def _has_binary(type: pa.DataType) -> bool:
    return any(_is_binary(plain_type(each)) for each in _inner(type))


def _durations(type: pa.DataType) -> set[str]:
    return {each.unit for each in _inner(type) if pa.types.is_duration(each)}


def _inner(type: pa.DataType) -> list[pa.DataType]:
    """A type and those inside it."""
    children = [type.field(number).type for number in range(type.num_fields)]
    return [type, *(each for child in children for each in _inner(child))]
