"""Classes as the REST API describes them: made from a spec, and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vecbridge.errors import BackendError, CorruptStoreError, SchemaError
from vecbridge.indexes import Auto
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import index_params
from vecbridge.stores.weaviate.layout import ID, Codec, Layout

_MARK: Final = "vecbridge"
_TYPES: Final[dict[Codec, str]] = {
    "bool": "boolean",
    "number": "number",
    "ordered": "text",
    "text": "text",
    "texts": "text[]",
    "json": "text",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """What vecbridge wrote into the description of a class.

    Attributes:
        spec: The spec that it was built from.
        token: Changes when the collection is replaced.
    """

    spec: CollectionSpec
    token: str


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
    properties = [_property(ID, "json")]  # ids are looked up by their UUIDs
    columns = layout.columns.values()
    properties += [_property(column.key, column.codec) for column in columns]
    properties += [_property(column.presence, "bool") for column in columns if column.presence]
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
        return Stored(CollectionSpec.from_dict(values["spec"]), str(values["token"]))
    except (ValueError, KeyError, TypeError, RecursionError, SchemaError) as exc:
        raise CorruptStoreError(f"{described.get('class')!r}: the stored spec is damaged: {exc}") from exc


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


def _property(key: str, codec: Codec) -> dict[str, Any]:
    kind = _TYPES[codec]
    described: dict[str, Any] = {"name": key, "dataType": [kind], "indexFilterable": codec != "json"}
    if kind.startswith("text"):
        described |= {"tokenization": "field", "indexSearchable": False}
    elif kind == "number":
        described |= {"indexRangeFilters": True}
    return described
