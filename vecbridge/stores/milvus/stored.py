"""What vecbridge keeps in the properties of a collection: its spec, its token, and the fields added since.

::

    vecbridge.spec                            the spec as it was created
    vecbridge.token                           which collection of its name this is
    vecbridge.field.TOKEN.taken.timestamp     [3, 1796400000000000000]: the fourth field, and when it came

Milvus sets properties one by one and compares none, so that of two clients who rewrite the spec at the same
time one would undo the other. A property for each field that is added stands beside those of others; where
two clients add one name with two types, the earlier one counts. The token in it keeps a field from a
collection that took the place of the one it was meant for.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from vecbridge.driver import Identity
from vecbridge.errors import CorruptStoreError, SchemaError
from vecbridge.schema import CollectionSpec, Field, FieldType

_SPEC: Final = "vecbridge.spec"
_TOKEN: Final = "vecbridge.token"
_ADDED: Final = "vecbridge.field"


def unpaired(pairs: Iterable[Any]) -> dict[str, str]:
    """The key-value pairs of an answer."""
    return {pair.key: pair.value for pair in pairs}


def of_new(spec: CollectionSpec, token: str) -> dict[str, str]:
    """The properties of a collection that is created."""
    return {_SPEC: spec.to_json(), _TOKEN: token}


def of_added(token: str, fields: Sequence[Field], start: int) -> dict[str, str]:
    """The properties that add fields.

    Args:
        token: Of the collection.
        fields: What is added.
        start: How many fields there are.
    """
    now = time.time_ns()
    return {
        f"{_ADDED}.{token}.{field.name}.{field.type}": json.dumps([place, now])
        for place, field in enumerate(fields, start)
    }


def spec_of(described: Any) -> CollectionSpec | None:
    """The spec in a ``DescribeCollectionResponse``; None where vecbridge did not make the collection.

    Raises:
        CorruptStoreError: It cannot be read.
    """
    properties = unpaired(described.properties)
    if (text := properties.get(_SPEC)) is None:
        return None
    try:
        spec = CollectionSpec.from_json(text)
        names = {name.lower() for name in spec.column_names}
        fields = []
        for field in _added(properties):
            if field.name.lower() not in names:
                names.add(field.name.lower())
                fields.append(field)
        return spec.grown(fields) or spec
    except SchemaError as exc:
        raise CorruptStoreError(f"{described.schema.name!r}: the stored spec is damaged: {exc}") from exc


def identity_of(described: Any) -> Identity:
    """Which collection a ``DescribeCollectionResponse`` tells of.

    Ours have a token. A server numbers those of others and says when they were created; milvus-lite does
    neither, so that there a hash of the schema must do.

    Raises:
        CorruptStoreError: The spec of ours cannot be read.
    """
    if (token := unpaired(described.properties).get(_TOKEN)) is not None:
        spec = spec_of(described)
        return Identity(token, schema=0 if spec is None else len(spec.fields))
    if described.collectionID:
        return Identity(f"{described.collectionID}-{described.created_timestamp}")
    schema = described.schema.SerializeToString(deterministic=True)
    return Identity(hashlib.blake2b(schema, digest_size=16).hexdigest(), certain=False)


def _added(properties: Mapping[str, str]) -> list[Field]:
    """The fields that were added, by place, and in one place by age."""
    start = f"{_ADDED}.{properties.get(_TOKEN)}."
    found = []
    for key, value in properties.items():
        if key.startswith(start):
            name, _, type = key.removeprefix(start).partition(".")
            try:
                place, added_at = json.loads(value)
            except (ValueError, TypeError) as exc:
                raise SchemaError(f"property {key!r}: {value!r} is no place of a field") from exc
            found.append((place, added_at, Field(name, cast(FieldType, type))))
    return [field for *_, field in sorted(found, key=lambda entry: entry[:2])]
