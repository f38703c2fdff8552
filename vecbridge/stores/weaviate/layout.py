"""Which Weaviate property holds which column, and how ids and namespaces are called there.

What vecbridge creates: a class of the collection's name with a capital, which Weaviate insists on; a named
vector for each vector field; a property for each scalar, of its name with a small first letter; the id in
``_vb_id``. Null is a property that is left out. The codecs are what keeps every value apart and in order:

    bool      BOOLEAN
    number    NUMBER, which is a float64 bit by bit
    ordered   int64, and the microseconds of a timestamp, as 20 digits of v + 2^63: Weaviate's INT is a
              float64 inside, and its DATE an int64 of nanoseconds, which wraps around before 1678 and in 2262
    text      "~" + text + NUL: the index trims white space and takes "" for null
    texts     so each element; the empty list is ["!"], because Weaviate takes [] for null
    integers  each element of a list<int64> as its digits, likewise
    floats    each element of a list<float64> as Python writes it, which is exact, likewise
    json      the text as it is, not indexed; the BOOLEAN ``_vb_has_NAME`` says whether there is one, as for
              the reserved fields, whose nulls Weaviate does not index because of their names' ``_``

What other programs write is INT (``int``), INT[] (``ints``), NUMBER[] (``numbers``), DATE (``date``), TEXT
(``raw``) and TEXT[] (``raws``). ``schema`` says how fields that are added later are stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from vecbridge.capabilities import Gap
from vecbridge.errors import UnsupportedError
from vecbridge.query import Ids
from vecbridge.schema import CollectionSpec, Field, FieldType

Codec = Literal[
    "bool", "number", "ordered", "text", "texts", "integers", "floats", "json",
    "int", "ints", "numbers", "date", "raw", "raws",
]  # fmt: skip
ID: Final = "_vb_id"
#: The name space of the UUIDs, so that other programs can find the row of an id.
UUID_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "vecbridge:id")
#: The UUID that no row has, since no id is empty.
NO_UUID: Final = str(uuid.uuid5(UUID_NAMESPACE, ""))
#: Added to an int64, so that its text sorts as the number does ("ordered").
SIGN: Final = np.uint64(1 << 63)
_CODECS: Final[dict[FieldType, Codec]] = {
    "bool": "bool",
    "int64": "ordered",
    "float64": "number",
    "string": "text",
    "timestamp": "ordered",
    "list<string>": "texts",
    "list<int64>": "integers",
    "list<float64>": "floats",
    "json": "json",
}
_LONGEST_TENANT: Final = 64
_LONGEST_PROPERTY: Final = 231
_LONGEST_VECTOR: Final = 230
#: Ends of property names that would be those of an index of another property.
_RESERVED_ENDS: Final = (
    "_searchable", "_rangeable", "_temp", "__meta_count", "_propertyLength", "_nullState"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """Where a scalar column is.

    Attributes:
        name: What vecbridge calls it.
        key: The property.
        type: Its type.
        codec: How a value is written.
        comparable: Whether the property is indexed so that comparing means what it says.
        tells_null: Whether the server can say which rows have no value.
        presence: The BOOLEAN property that says whether there is a value, where the column's own is not
            indexed; else "".
    """

    name: str
    key: str
    type: FieldType
    codec: Codec
    comparable: bool = True
    tells_null: bool = True
    presence: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of a collection is.

    Attributes:
        class_name: What Weaviate calls it.
        id_type: "string" or "int64", as vecbridge shows it.
        own_ids: Whether ids are in a property; else a row's id is its UUID.
        tenants: Whether the class has tenants.
        vectors: Named vector of each vector field; "" is the one without a name.
        columns: The scalar columns, by vecbridge's name.
    """

    class_name: str
    id_type: str
    own_ids: bool
    tenants: bool
    vectors: Mapping[str, str]
    columns: Mapping[str, Column]

    def tenant(self, namespace: str) -> str:
        """The tenant of a namespace; "" where there are none.

        The default namespace is "_", and names of nothing but underscores get one more.

        Raises:
            UnsupportedError: The one namespace for which no name is left.
        """
        if not self.tenants:
            return ""
        if not self.own_ids or namespace.strip("_"):
            return namespace
        if len(namespace) == _LONGEST_TENANT:
            raise UnsupportedError("weaviate", "a namespace of 64 underscores", "one underscore less")
        return f"{namespace}_"

    def namespace(self, tenant: str) -> str:
        """The namespace of a tenant."""
        return tenant if not self.own_ids or tenant.strip("_") else tenant[:-1]


def of_spec(spec: CollectionSpec) -> Layout:
    """The layout of a collection that vecbridge made."""
    return Layout(
        class_name(spec.name),
        spec.id_type,
        True,
        spec.namespaced,
        {vector.name: vector.name for vector in spec.vectors},
        {
            field.name: Column(
                field.name, property_name(field.name), field.type, _CODECS[field.type], field.type != "json",
                presence=_presence(field),
            )
            for field in spec.fields
        },
    )  # fmt: skip


def _presence(field: Field) -> str:
    """The property that says whether there is a value.

    Weaviate keeps no index of nulls for JSON texts, which are not indexed, nor for names that begin with an
    underscore, which it takes for its own.
    """
    key = property_name(field.name)
    return f"_vb_has_{key}" if field.type == "json" or key.startswith("_") else ""


def gaps(spec: CollectionSpec) -> Iterator[Gap]:
    """Names of a spec that Weaviate does not take."""
    for vector in spec.vectors:
        if len(vector.name) > _LONGEST_VECTOR:
            detail = f"its name is {len(vector.name) - _LONGEST_VECTOR} characters too long"
            yield Gap(f"vector:{vector.name}", vector.name, detail, blocking=True)
    for column in of_spec(spec).columns.values():
        detail = ""
        if (excess := len(column.presence or column.key) - _LONGEST_PROPERTY) > 0:
            detail = f"its name is {excess} characters too long"
        elif column.key.endswith(_RESERVED_ENDS):
            detail = f"names that end in {', '.join(_RESERVED_ENDS)} are Weaviate's own"
        if detail:
            yield Gap(f"field:{column.name}", column.name, detail, blocking=True)


def class_name(name: str) -> str:
    """The class of a collection: Weaviate gives every name a capital."""
    return name[:1].upper() + name[1:]


def property_name(name: str) -> str:
    """The property of a field; fields that differ in the case of their first letter alone cannot coexist."""
    return name[:1].lower() + name[1:]


def uuids(layout: Layout, ids: pa.Array) -> list[str]:
    """UUIDs of some ids; in a foreign class "" for one that no row can have."""
    keys = ids.to_pylist()
    if not layout.own_ids:
        return [key if is_uuid(key) else "" for key in keys]
    start = UUID_NAMESPACE.bytes
    return [_uuid5(start + str(key).encode()) for key in keys]


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as Weaviate writes it."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def id_array(layout: Layout, texts: Sequence[str]) -> pa.Array:
    """Ids as Arrow holds them, from the texts that Weaviate holds."""
    array = pa.array(texts, pa.string())
    return array if layout.id_type == "string" else array.cast(pa.int64())


def python_ids(layout: Layout, texts: Sequence[str]) -> Ids:
    """Ids as Hits carries them."""
    return list(texts) if layout.id_type == "string" else np.array(texts, np.int64)


def _uuid5(name: bytes) -> str:
    """``str(uuid.uuid5(…))``, in a third of the time."""
    digest = bytearray(sha1(name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
