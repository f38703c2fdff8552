"""Which metadata key holds which column, how an id becomes the id of a record, what a namespace is called.

What vecbridge writes: every scalar under its own name, so that other programs filter on it (:mod:`.scalars`
says how). A null is a key that is left out, for the service has none. A second key, ``_vb_<name>``, stands
beside an integer that is no float64 (:mod:`.integers`), and in the place of an empty list, which the service
may not tell from none. The service filters on metadata alone, so that ``_vb_id`` is a copy of the record's
id; the records of an index whose tags say version 1 have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

import pyarrow as pa

from vecbridge.errors import CorruptStoreError
from vecbridge.schema import CollectionSpec, FieldType

DEFAULT_NAMESPACE: Final = "__default__"
_ID_KEY: Final = "_vb_id"
_DISGUISED: Final = f"%{DEFAULT_NAMESPACE}"
_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class Column:
    """Where a scalar column is.

    Attributes:
        name: What vecbridge calls it.
        key: Its metadata key.
        type: Its type.
        second_key: Its second one, "" where there is none (indexes made elsewhere).
    """

    name: str
    key: str
    type: FieldType
    second_key: str = ""

    @property
    def is_list(self) -> bool:
        """Whether its values are lists."""
        return self.type.startswith("list<")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of a collection is.

    Attributes:
        id_type: "string" or "int64".
        columns: The scalar columns but for ``extra``, by vecbridge's name.
        own: Whether vecbridge made the index, and ids and namespaces are written in its way.
        extra: The column that takes every key or value outside the others (indexes made elsewhere), or None.
        id_key: The metadata key of the copy of the id, "" where there is none.
    """

    id_type: str
    columns: Mapping[str, Column]
    own: bool = True
    extra: str | None = None
    id_key: str = ""

    def key(self, id: str | int) -> str:
        """The id of a record."""
        if not self.own or isinstance(id, int):
            return str(id)
        return id if id.isascii() and id.isprintable() and "%" not in id else quote(id, safe=_PLAIN)

    def id(self, key: str) -> str | int:
        """The id behind that of a record.

        Raises:
            CorruptStoreError: vecbridge did not write it.
        """
        if not self.own:
            return key
        try:
            if self.id_type == "int64":
                return int(key)
            return unquote(key, errors="strict") if "%" in key else key
        except ValueError as exc:
            raise CorruptStoreError(f"the record {key!r} was not written by vecbridge") from exc

    def id_array(self, keys: list[str]) -> pa.Array:
        """The ids of some records."""
        return pa.array(map(self.id, keys), pa.string() if self.id_type == "string" else pa.int64())

    def wire_namespace(self, namespace: str) -> str:
        """A namespace as the service calls it; "" is the default one."""
        return _DISGUISED if self.own and namespace == DEFAULT_NAMESPACE else namespace

    def namespace(self, wire_name: str) -> str:
        """A namespace from what the service calls it."""
        if wire_name == DEFAULT_NAMESPACE:
            return ""
        return DEFAULT_NAMESPACE if self.own and wire_name == _DISGUISED else wire_name


class Location(NamedTuple):
    """Where a collection is: the host of its index, and the layout of its records."""

    host: str
    layout: Layout


def of_spec(spec: CollectionSpec, *, copies_ids: bool = True) -> Layout:
    """The layout of a collection that vecbridge made.

    Args:
        spec: What it holds.
        copies_ids: Whether its records have a copy of their id among their metadata.
    """
    columns = {
        field.name: Column(field.name, field.name, field.type, second_key=f"_vb_{field.name}")
        for field in spec.fields
    }
    return Layout(spec.id_type, columns, id_key=_ID_KEY if copies_ids else "")


def index_name(name: str) -> str:
    """The index of a collection."""
    return name.replace("_", "-")


def collection_name(index: str) -> str:
    """The collection of an index that vecbridge made."""
    return index.replace("-", "_")
