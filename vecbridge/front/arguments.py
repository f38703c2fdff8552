"""Arguments of the public methods: what cannot be right is refused before anything is done."""

from __future__ import annotations

import math
from typing import Literal, get_args

import pyarrow as pa

from vecbridge import names, reserved
from vecbridge.errors import ConfigError, SchemaError
from vecbridge.query import Include, Query, require_include
from vecbridge.records import arrow_schema, is_records
from vecbridge.schema import CollectionSpec
from vecbridge.texts import shown

IfExists = Literal["error", "open", "replace"]
OnConflict = Literal["replace", "skip", "error"]


def require_if_exists(if_exists: object) -> None:
    """Refuses an unknown ``if_exists``: a misspelt one must not replace anything.

    Raises:
        ConfigError: Names those that there are.
    """
    if if_exists not in get_args(IfExists):
        raise ConfigError(f"if_exists={shown(if_exists)}: one of {', '.join(get_args(IfExists))}")


def require_grow(grow: object, if_exists: object) -> None:
    """Refuses ``grow`` where nothing would be opened to grow.

    Raises:
        ConfigError: Says what it goes with.
    """
    if not isinstance(grow, bool) or (grow and if_exists != "open"):
        raise ConfigError(
            f'grow={shown(grow)} with if_exists={shown(if_exists)}: grow=True goes with if_exists="open"'
        )


def require_spec(spec: object) -> None:
    """Refuses what is no spec.

    Raises:
        SchemaError: It is something else.
    """
    if not isinstance(spec, CollectionSpec):
        raise SchemaError(f"{_shown(spec)} is no vecbridge.CollectionSpec: CollectionSpec.single() makes one")


def require_name(name: object) -> str:
    """The name of a collection.

    Raises:
        ConfigError: It is no text.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{_shown(name)} is no name of a collection")
    return name


def require_on_conflict(on_conflict: object) -> None:
    """Refuses an unknown ``on_conflict``: a misspelt one must not replace anything.

    Raises:
        ConfigError: Names those that there are.
    """
    if on_conflict not in get_args(OnConflict):
        raise ConfigError(f"on_conflict={shown(on_conflict)}: one of {', '.join(get_args(OnConflict))}")


def require_records(data: object) -> None:
    """Refuses what holds no records, such as a bare vector.

    Raises:
        ConfigError: Says what is taken.
    """
    if not is_records(data):
        raise ConfigError(
            f"records are a pyarrow.RecordBatch or Table, a DataFrame or a list of dicts: {_shown(data)}; "
            "vecbridge.batch(spec, id=…, vector=…) makes a batch of columns, and vecbridge.write() takes many"
        )


def require_query(query: object) -> None:
    """Refuses what is no query, such as a bare vector.

    Raises:
        SchemaError: Says how to make one.
    """
    if not isinstance(query, Query):
        raise SchemaError(f"search() takes a vecbridge.Query, not {_shown(query)}: Query(vector, k=10)")


def require_one_of(ids: object, filter: object) -> None:
    """Refuses ``delete()`` with neither ids nor a filter, or with both.

    Raises:
        ConfigError: It is not clear what is to be removed.
    """
    if (ids is None) == (filter is None):
        raise ConfigError("delete() takes ids or filter=, exactly one of them")


def require_count(name: str, value: object) -> int:
    """A whole number from 1.

    Args:
        name: Of the argument, for the message.
        value: Of the argument.

    Raises:
        ConfigError: Another value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={shown(value)}: a whole number from 1")
    return value


def require_seconds(value: object) -> float:
    """A ``timeout``: a positive number of seconds.

    Raises:
        ConfigError: Another value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"timeout={shown(value)}: a positive number of seconds")
    return float(value)


def columns_of(spec: CollectionSpec, include: Include) -> tuple[str, ...]:
    """The columns that ``include`` names, in the order of the spec, without the id.

    Raises:
        SchemaError: A column that the spec does not have, or neither "all" nor a sequence of names.
    """
    require_include(include)
    if include == "all":
        return reserved.public(spec).column_names[1:]
    names: list[str] = arrow_schema(spec, tuple(include)).names
    return tuple(names[1:])


def empty_batch(spec: CollectionSpec, columns: tuple[str, ...] | None) -> pa.RecordBatch:
    """A batch of the id and these columns (None: all of them) without a row."""
    return pa.RecordBatch.from_pylist([], schema=arrow_schema(spec, columns))


def _shown(value: object) -> str:
    text = shown(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:40]}…"


def check_namespace(spec: CollectionSpec, namespace: str) -> str:
    """The namespace, if the collection may have it.

    Raises:
        ConfigError: A bad name, or a namespace on a collection that is not namespaced.
    """
    if namespace == "":
        return namespace
    if not spec.namespaced:
        raise ConfigError(f"{spec.name!r} is not namespaced: namespace {namespace!r} cannot be opened in it")
    if not names.is_namespace(namespace):
        raise ConfigError(f"namespace {namespace!r}: 1 to 64 of A-Z a-z 0-9 _ -")
    return namespace
