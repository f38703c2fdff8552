"""Classes as the REST API describes them: made from a spec, and read back.

The description of a class holds the spec that it was made from. Fields that are added later stand in the
description of a further property, which has no values and is called after the number of fields before it::

    class Photos             description: token, spec with the fields a and b
      properties a, b        of the spec
      property c             of an added field; no field yet, without the next line
      property _vb_TOKEN_2   description: [c], the third field

That last property makes it so: the server takes a property once, so that of two clients that add to the same
spec one is refused, and one that dies before has added nothing. (A new description of the class, by PUT,
would silently replace what another client wrote there meanwhile.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from vecbridge.driver import Identity
from vecbridge.errors import BackendError, CorruptStoreError, SchemaError, UnsupportedError
from vecbridge.indexes import Auto
from vecbridge.schema import CollectionSpec, Field
from vecbridge.stores.weaviate import index_params
from vecbridge.stores.weaviate.layout import ID, Codec, Column, Layout

_MARK: Final = "vecbridge"
_TYPES: Final[dict[Codec, str]] = {
    "bool": "boolean",
    "number": "number",
    "ordered": "text",
    "text": "text",
    "texts": "text[]",
    "integers": "text[]",
    "floats": "text[]",
    "json": "text",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """What vecbridge wrote into the descriptions of a class and its properties.

    Attributes:
        spec: What it holds.
        token: Changes when the collection is replaced.
    """

    spec: CollectionSpec
    token: str

    @property
    def identity(self) -> Identity:
        """Which collection of its name it is, and how many fields it has."""
        return Identity(self.token, schema=len(self.spec.fields))


def of_spec(spec: CollectionSpec, layout: Layout, token: str) -> dict[str, Any]:
    """The class of a collection, as the server takes it."""
    vectors = {}
    for vector in spec.vectors:
        kind, config = index_params.to_weaviate(vector.index, vector.metric)
        vectors[layout.vectors[vector.name]] = {
            "vectorizer": {"none": {}},
            "vectorIndexType": kind,
            "vectorIndexConfig": config,
        }
    # ids are looked up by their UUIDs
    properties = [_property(ID, "json"), *_properties(layout.columns.values())]
    description = {_MARK: {"token": token, "spec": spec.to_dict()}}
    return {
        "class": layout.class_name,
        "description": json.dumps(description, ensure_ascii=False, separators=(",", ":")),
        "vectorConfig": vectors,
        "properties": properties,
        "invertedIndexConfig": {"indexNullState": True},
        "multiTenancyConfig": {
            "enabled": spec.namespaced,
            "autoTenantCreation": spec.namespaced,
            "autoTenantActivation": spec.namespaced,
        },
    }


def stored(described: Mapping[str, Any]) -> Stored | None:
    """What vecbridge stored with a class; None if it did not make it.

    Raises:
        CorruptStoreError: It cannot be read any more.
    """
    description = described.get("description") or ""
    if not description.startswith(f'{{"{_MARK}":'):
        return None
    try:
        values = json.loads(description)[_MARK]
        spec, token = CollectionSpec.from_dict(values["spec"]), str(values["token"])
        return Stored(_with_added_fields(spec, token, described), token)
    except (ValueError, KeyError, TypeError, RecursionError, SchemaError) as exc:
        raise CorruptStoreError(f"{described.get('class')!r}: the stored spec is damaged: {exc}") from exc


def missing_properties(described: Mapping[str, Any], layout: Layout) -> list[dict[str, Any]]:
    """The properties of a layout that a class does not have yet, as the server takes them.

    Raises:
        UnsupportedError: It has one of them that holds values of another type.
    """
    known = {prop["name"]: prop for prop in described.get("properties") or []}
    missing = []
    for wanted in _properties(layout.columns.values()):
        there = known.get(wanted["name"])
        if there is None:
            missing.append(wanted)
        elif any(there.get(key) != value for key, value in wanted.items()):
            raise UnsupportedError(
                "weaviate",
                f"a field in the property {wanted['name']!r}, which is there with another type",
                "it cannot be removed: choose another name",
            )
    return missing


def addition(old: CollectionSpec, new: CollectionSpec, token: str) -> dict[str, Any]:
    """The property that makes the fields that a new spec has at its end fields of the class."""
    added = [{"name": field.name, "type": field.type} for field in new.fields[len(old.fields) :]]
    return {
        "name": _addition_name(old, token),
        "dataType": ["boolean"],
        "indexFilterable": False,
        "description": json.dumps(added, separators=(",", ":")),
    }


def collection_name(described: Mapping[str, Any]) -> str:
    """What vecbridge calls a class: its own by the name of the spec, others by the name that they have."""
    own = stored(described)
    return str(described["class"]) if own is None else own.spec.name


def require_as_asked(described: Mapping[str, Any], spec: CollectionSpec, layout: Layout) -> None:
    """Compares what was built with what was asked for: a server may take parameters and build something else.

    Raises:
        BackendError: It did.
    """
    built = described.get("vectorConfig") or {}
    for vector in spec.vectors:
        config = built.get(layout.vectors[vector.name], {})
        index, metric = index_params.from_weaviate(
            config.get("vectorIndexType", ""), config.get("vectorIndexConfig", {})
        )
        same = isinstance(vector.index, Auto) or index == vector.index
        if not same or metric is not vector.metric:
            raise BackendError(
                f"{spec.name!r}: asked for {vector.index} and {vector.metric}, and the server says "
                f"{index} and {metric}"
            )


def _with_added_fields(spec: CollectionSpec, token: str, described: Mapping[str, Any]) -> CollectionSpec:
    notes = {prop["name"]: prop.get("description", "") for prop in described.get("properties") or []}
    while (note := notes.pop(_addition_name(spec, token), None)) is not None:
        added = [Field(**values) for values in json.loads(note)]
        spec = replace(spec, fields=(*spec.fields, *added))
    return spec


def _addition_name(spec: CollectionSpec, token: str) -> str:
    return f"_vb_{token}_{len(spec.fields)}"


def _properties(columns: Iterable[Column]) -> list[dict[str, Any]]:
    columns = list(columns)
    properties = [_property(column.key, column.codec) for column in columns]
    return properties + [_property(column.presence, "bool") for column in columns if column.presence]


def _property(key: str, codec: Codec) -> dict[str, Any]:
    kind = _TYPES[codec]
    described: dict[str, Any] = {"name": key, "dataType": [kind], "indexFilterable": codec != "json"}
    if kind.startswith("text"):
        described |= {"tokenization": "field", "indexSearchable": False}
    elif kind == "number":
        described |= {"indexRangeFilters": True}
    return described
