"""Classes as the server takes them, fills them in with its defaults, and lets them be changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vecbridge.testing.weaviate.errors import Refused
from vecbridge.testing.weaviate.indexes import METRICS, QUANTIZERS, filled, settings

_CLASS_NAME: Final = re.compile(r"[A-Z][_0-9A-Za-z]*")
_LONGEST_CLASS: Final = 255
_PROPERTY_NAME: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")
_LONGEST_PROPERTY: Final = 231
_VECTOR_NAME: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,229}")
_TENANT_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED: Final = ("_additional", "_id", "id")
_SINGLE: Final = ("text", "int", "number", "boolean", "date", "uuid")
_OTHERS: Final = ("geoCoordinates", "phoneNumber", "blob", "object", "object[]")
_PRIMITIVE: Final = (*_SINGLE, *(f"{each}[]" for each in _SINGLE), *_OTHERS)
_TOKENIZATIONS: Final = (
    "word", "lowercase", "whitespace", "field", "trigram", "gse", "kagome_kr", "kagome_ja", "gse_ch",
)  # fmt: skip
_RANGES: Final = ("number", "int", "date")
_INVERTED: Final[Mapping[str, Any]] = {
    "bm25": {"b": 0.75, "k1": 1.2},
    "cleanupIntervalSeconds": 60,
    "stopwords": {"preset": "en", "additions": None, "removals": None},
    "usingBlockMaxWAND": True,
}
_INVERTED_FLAGS: Final = ("indexNullState", "indexPropertyLength", "indexTimestamps")
_TENANCY: Final[Mapping[str, Any]] = {
    "enabled": False,
    "autoTenantCreation": False,
    "autoTenantActivation": False,
}
_SHARDING: Final[Mapping[str, Any]] = {
    "virtualPerPhysical": 128,
    "desiredCount": 1,
    "actualCount": 1,
    "desiredVirtualCount": 128,
    "actualVirtualCount": 128,
    "key": "_id",
    "strategy": "hash",
    "function": "murmur3",
}
_REPLICATION: Final[Mapping[str, Any]] = {
    "deletionStrategy": "TimeBasedResolution",
    "factor": 1,
    "asyncEnabled": False,
}
#: Settings of an index that a class keeps.
_FIXED: Final = ("distance", "maxConnections", "efConstruction")


def capitalised(name: str) -> str:
    """A class name as it is kept."""
    return name[:1].upper() + name[1:]


def uncapitalised(name: str) -> str:
    """A property name as it is kept."""
    return name[:1].lower() + name[1:]


def described(body: Mapping[str, Any]) -> dict[str, Any]:
    """A class as it is read back, from what was sent.

    Raises:
        Refused: The server would not take it.
    """
    for place, each in enumerate(body.get("properties") or []):
        if (each.get("tokenization") or "word") not in _TOKENIZATIONS:
            listed = f"[{' '.join(_TOKENIZATIONS)}]"
            raise Refused(f"properties.{place}.tokenization in body should be one of {listed}", code=606)
    name = capitalised(body.get("class") or "")
    if len(name) > _LONGEST_CLASS:
        raise Refused(
            f"'{name}' is not a valid class name. Name should not be longer than {_LONGEST_CLASS} characters"
        )
    if not _CLASS_NAME.fullmatch(name):
        raise Refused(f"'{name}' is not a valid class name")
    tenancy = filled(_TENANCY, body.get("multiTenancyConfig") or {})
    for key in ("autoTenantCreation", "autoTenantActivation"):
        if tenancy[key] and not tenancy["enabled"]:
            raise Refused(f"can't enable {key} on a non-multi-tenant class")
    result: dict[str, Any] = {"class": name}
    if body.get("description"):
        result["description"] = body["description"]
    inverted = body.get("invertedIndexConfig") or {}
    flags = {key: True for key in _INVERTED_FLAGS if inverted.get(key)}
    result |= {
        "invertedIndexConfig": filled(_INVERTED, inverted) | flags,
        "multiTenancyConfig": tenancy,
        "properties": None,
        "shardingConfig": _SHARDING if not tenancy["enabled"] else _zeroed(_SHARDING),
        "replicationConfig": dict(_REPLICATION),
    }
    if body.get("properties") is not None:
        result["properties"] = []
        for each in body["properties"]:
            add_property(result, each)
    return result | _vectors(body)


def add_property(described: dict[str, Any], sent: Mapping[str, Any]) -> None:
    """Adds a property to a class.

    Raises:
        Refused: The server would not take it.
    """
    name = uncapitalised(sent.get("name") or "")
    if name in _RESERVED:
        raise Refused(f"'{name}' is a reserved property name")
    if not _PROPERTY_NAME.fullmatch(name):
        raise Refused(
            f"'{name}' is not a valid property name. Property names in Weaviate are restricted to valid "
            "GraphQL names, which must be “/[_A-Za-z][_0-9A-Za-z]{0,230}/”"
        )
    if len(name) > _LONGEST_PROPERTY:
        raise Refused(
            f"'{name}' is not a valid property name. "
            f"Name should not be longer than {_LONGEST_PROPERTY} characters"
        )
    kinds = sent.get("dataType") or []
    if not kinds:
        raise Refused(f"property '{name}': invalid dataType: []: dataType must have at least one element")
    kind = kinds[0]
    if kind not in _PRIMITIVE:
        raise Refused(f"property '{name}': invalid dataType: [{kind}]: unknown primitive data type '{kind}'")
    if properties(described).get(name):
        raise Refused(
            f'class "{described["class"]}": conflict for property "{name}": '
            "already in use or provided multiple times"
        )
    described["properties"] = [*(described["properties"] or []), _property(name, kind, sent)]


def updated(old: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """A class after its settings were written anew.

    Raises:
        Refused: Something that a class keeps would change.
    """
    name = capitalised(body.get("class") or "")
    if name != old["class"]:
        raise Refused(f'class name is immutable: attempted change from "{old["class"]}" to "{name}"')
    before, wanted = _tells_null(old), _tells_null(body)
    if before != wanted:
        raise Refused(
            '"indexNullState" setting is immutable. Value changed from '
            f'"{str(before).lower()}" to "{str(wanted).lower()}"'
        )
    new = described(body)
    place = "updating schema: TYPE_UPDATE_CLASS: bad request :parse class update: "
    if (new["properties"] or []) != (old["properties"] or []):
        raise Refused(
            f"{place}property fields other than description cannot be updated through updating the class. "
            'Use the add property feature (e.g. "POST /v1/schema/{className}/properties") to add additional '
            "properties"
        )
    indexes = vector_configs(new)
    for target, config in vector_configs(old).items():
        if target not in indexes:
            raise Refused(f'{place}missing config for vector "{target}"')
        where = f'invalid update for vector "{target}"' if target else "validate vector index config"
        for key in _FIXED:
            then, now = (each["vectorIndexConfig"].get(key) for each in (config, indexes[target]))
            if then != now:
                change = f'attempted change from "{then}" to "{now}"'
                raise Refused(f"{place}{where}: {key} is immutable: {change}")
    return new


def vector_configs(described: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What says how each vector is indexed, by its name; "" is the one without."""
    return described.get("vectorConfig") or {"": described}


def require_metric(config: Mapping[str, Any], name: str, target: str, shards: Sequence[str]) -> None:
    """Refuses a metric that there is none of; a server notices when it makes the first shard.

    Args:
        config: What says how the vector is indexed.
        name: The class.
        target: The vector; "" is the one without a name.
        shards: Names of the shards of the class.

    Raises:
        Refused: It is unknown.
    """
    metric = config["vectorIndexConfig"]["distance"]
    if metric in METRICS or not shards:
        return
    where = f'cannot create vector index for "{target}": ' if target else ""
    raise Refused(
        f"updating db: TYPE_ADD_CLASS: apply add class: create index: init shard {shards[0]} of index "
        f"{name.lower()}: init shard vectors: {where}init vector index: unrecognized distance metric "
        f'"{metric}",'
        'choose one of ["cosine", "dot", "l2-squared", "manhattan","hamming"]'
    )


def quantizers(described: Mapping[str, Any]) -> set[str]:
    """Which quantizers a class has, over all its vectors."""
    return {
        each
        for config in vector_configs(described).values()
        for each in QUANTIZERS
        if config["vectorIndexConfig"].get(each, {}).get("enabled")
    }


def properties(described: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The properties of a class, by name."""
    return {each["name"]: each for each in described["properties"] or []}


def require_tenant_name(name: str, place: int) -> None:
    """Refuses a name that no tenant can have.

    Raises:
        Refused: With its place in the request.
    """
    if not name:
        raise Refused(f"tenant name at index {place}: empty tenant name")
    if not _TENANT_NAME.fullmatch(name):
        raise Refused(
            f"tenant name at index {place}:  '{name}' is not a valid tenant name. should only contain "
            "alphanumeric characters (a-z, A-Z, 0-9), underscore (_), and hyphen (-), with a length between "
            "1 and 64 characters"
        )


def _property(name: str, kind: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    text = kind.startswith("text")
    result = {
        "dataType": [kind],
        "indexFilterable": _flag(sent, "indexFilterable", True),
        "indexRangeFilters": _flag(sent, "indexRangeFilters", False),
        "indexSearchable": _flag(sent, "indexSearchable", text),
        "name": name,
    }
    if sent.get("description"):
        result["description"] = sent["description"]
    tokenization = sent.get("tokenization") or ("word" if text else "")
    if tokenization and not text:
        raise Refused(f"tokenization is not allowed for data type '{kind}'")
    if result["indexSearchable"] and not text:
        raise Refused(
            "`indexSearchable` is allowed only for text/text[] data types. "
            "For other data types set false or leave empty"
        )
    if result["indexRangeFilters"] and kind not in _RANGES:
        raise Refused(
            "`indexRangeFilters` is allowed only for number/int/date data types. "
            "For other data types set false or leave empty"
        )
    if tokenization:
        result["tokenization"] = tokenization
    return result


def _tells_null(body: Mapping[str, Any]) -> bool:
    return bool((body.get("invertedIndexConfig") or {}).get("indexNullState"))


def _flag(sent: Mapping[str, Any], key: str, default: bool) -> bool:
    value = sent.get(key)
    return default if value is None else bool(value)


def _vectors(body: Mapping[str, Any]) -> dict[str, Any]:
    named = body.get("vectorConfig") or {}
    if not named:
        kind, config = settings(body, "")
        vectorizer = body.get("vectorizer") or "none"
        _require_no_module(vectorizer)
        return {"vectorIndexType": kind, "vectorIndexConfig": config, "vectorizer": vectorizer}
    if any(body.get(key) for key in ("vectorIndexType", "vectorIndexConfig", "vectorizer")):
        raise Refused("creating a class with both a class level vector index and named vectors is forbidden")
    result = {}
    for name, sent in named.items():
        if not _VECTOR_NAME.fullmatch(name):
            raise Refused(
                f'class.VectorConfig target vector name "{name}" is not valid, in Weaviate target vector '
                "names are restricted to valid GraphQL names, which must be “/[_A-Za-z][_0-9A-Za-z]{0,229}/”."
            )
        if not sent:
            raise Refused(f"vectorConfig.{name} in body is required", code=602)
        if not isinstance(sent.get("vectorizer"), dict):
            raise Refused("class.VectorConfig.Vectorizer must be an object, got <nil>")
        _require_no_module(next(iter(sent["vectorizer"]), "none"))
        kind, config = settings(sent, name)
        result[name] = {
            "vectorIndexConfig": config, "vectorIndexType": kind, "vectorizer": sent["vectorizer"]
        }  # fmt: skip
    return {"vectorConfig": result}


def _require_no_module(vectorizer: str) -> None:
    if vectorizer != "none":
        raise Refused(f'vectorizer: no module with name "{vectorizer}" present')


def _zeroed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: type(value)() for key, value in values.items()}
