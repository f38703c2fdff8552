"""Which Milvus field holds which column, and how an id becomes a primary key.

What vecbridge creates: the primary key ``id``, a FLOAT_VECTOR for each vector field, and for each scalar
column one of two forms, a timestamp as microseconds since 1970 in both:

* A typed column is a nullable Milvus field: see :mod:`vecbridge.stores.milvus.typed`.
* A dynamic column is a key of the dynamic field, as JSON has it. A null is a key that is left out, which
  every Milvus version can keep and ask for (``exists``). So a field that is added needs no change of
  Milvus's schema, and is null in the rows that are there.

The spec is in the collection's properties: see :mod:`vecbridge.stores.milvus.stored`.

A primary key is unique in a collection, whatever the partition, so that with namespaces it is "namespace/id".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.query import Ids
from vecbridge.schema import CollectionSpec, Field, FieldType, IdType

DYNAMIC: Final = "$meta"
PK: Final = "id"
_TIMESTAMPTZ: Final = 26  # schema_pb2.DataType.Timestamptz

#: Words that Milvus's expressions take for themselves: a field of such a name can be made and not filtered.
_WORDS: Final = frozenset({
    "and", "or", "not", "in", "like", "exists", "is", "null", "isnull", "true", "false", "to", "between",
    "meta", "interval", "iso", "text_match", "phrase_match", "random_sample", "json_contains",
    "array_contains",
})  # fmt: skip
_WORD_STARTS: Final = ("json_", "array_", "st_", "text_", "phrase_", "random_", "x_")


@dataclass(frozen=True, slots=True)
class Source:
    """The type of a Milvus field.

    Attributes:
        type: As ``schema_pb2.DataType`` numbers it.
        element: The type of the elements, where that is ARRAY.
    """

    type: int
    element: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """Where a scalar column is.

    Attributes:
        name: What vecbridge calls it.
        key: The Milvus field, or the key in the dynamic field.
        type: Its type.
        dynamic: Whether it is in the dynamic field.
        nullable: Whether null can be told; a typed field of an older Milvus has none.
        source: Milvus's type of a typed field (``schema_pb2.DataType``), 0 in the dynamic field.
        element: The type of the elements, where that is ARRAY.
    """

    name: str
    key: str
    type: FieldType
    dynamic: bool = True
    nullable: bool = True
    source: int = 0
    element: int = 0

    @property
    def has_zone(self) -> bool:
        """Whether it is a TIMESTAMPTZ, whose values are ISO 8601 text."""
        return self.source == _TIMESTAMPTZ


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of a collection is.

    Attributes:
        pk: The primary key's field.
        pk_type: "string" or "int64", as Milvus keeps it.
        id_type: "string" or "int64", as vecbridge shows it.
        namespaced: Whether primary keys carry a namespace.
        columns: The scalar columns, by vecbridge's name.
        extra: The column that takes every dynamic key outside the others (foreign collections), or None.
    """

    pk: str
    pk_type: IdType
    id_type: IdType
    namespaced: bool
    columns: Mapping[str, Column]
    extra: str | None = None

    @property
    def pk_column(self) -> Column:
        """The primary key as a column that is filtered."""
        return Column(PK, self.pk, self.pk_type, dynamic=False, nullable=False)

    @property
    def has_dynamic(self) -> bool:
        """Whether the dynamic field is of any use."""
        return self.extra is not None or any(column.dynamic for column in self.columns.values())


def of_spec(spec: CollectionSpec, typed: Mapping[str, Source] | None = None) -> Layout:
    """The layout of a collection of ours.

    Args:
        spec: What it holds.
        typed: By name, the fields of its Milvus schema; a column that is not among them is dynamic.
    """
    typed = typed or {}
    return Layout(
        PK,
        "string" if spec.namespaced else spec.id_type,
        spec.id_type,
        spec.namespaced,
        {field.name: _column(field, typed.get(milvus_name(field.name))) for field in spec.fields},
    )


def _column(field: Field, source: Source | None) -> Column:
    key = milvus_name(field.name)
    if source is None:
        return Column(field.name, key, field.type)
    return Column(field.name, key, field.type, dynamic=False, source=source.type, element=source.element)


def milvus_name(name: str) -> str:
    """The field or dynamic key of a column: its name, unless expressions mean something else by it."""
    lower = name.lower()
    return f"x_{name}" if lower in _WORDS or lower.startswith(_WORD_STARTS) else name


class Keys:
    """Primary keys of one namespace.

    Args:
        layout: The collection's layout.
        namespace: The namespace.

    Attributes:
        layout: The same.
    """

    def __init__(self, layout: Layout, namespace: str) -> None:
        self.layout = layout
        self._prefix = f"{namespace}/" if layout.namespaced else ""

    def encode(self, ids: pa.Array) -> list[str] | list[int]:
        """Primary keys of some ids."""
        keys: list[Any] = ids.to_pylist()
        return [self.of_id(key) for key in keys] if self.layout.namespaced else keys

    def of_id(self, key: Any) -> Any:
        """The primary key of an id."""
        return f"{self._prefix}{key}" if self.layout.namespaced else key

    def ids(self, keys: Sequence[str] | Sequence[int]) -> Ids:
        """Ids of some primary keys of this namespace, as Hits carries them."""
        ids: Sequence[Any] = [key[len(self._prefix) :] for key in keys] if self._prefix else keys  # type: ignore[index]
        return list(ids) if self.layout.id_type == "string" else np.array(ids, np.int64)

    def decode(self, keys: Sequence[str] | Sequence[int]) -> pa.Array:
        """Ids of some primary keys of this namespace, as Arrow holds them."""
        return pa.array(self.ids(keys), pa.string() if self.layout.id_type == "string" else pa.int64())

    @property
    def bounds(self) -> tuple[str, str] | None:
        """Primary keys from the first on and below the second are this namespace's; None if all are."""
        return (self._prefix, after_namespace(self._prefix)) if self.layout.namespaced else None


def after_namespace(prefix: str) -> str:
    """The first primary key beyond a namespace ("eu/" → "eu0": 0 is the character after the slash)."""
    return prefix[:-1] + chr(ord("/") + 1)
