"""Raw requests to a Weaviate; what a genuine node of 1.39.0 said to each is in the JSON file beside it.

What was said to those about the class "Later" is of 1.40.0-dev. They are sent in this order, each to what
the ones before it left behind. After a change, have it recorded anew from the server of WEAVIATE_URL or from
PATH::

    python -m tests.testing.weaviate_requests
"""

from __future__ import annotations

import base64
import json
import re
import struct
import uuid
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
from google.protobuf import json_format

from vecbridge.stores.weaviate.stubs import (
    aggregate_pb2,
    batch_delete_pb2,
    batch_pb2,
    search_get_pb2,
    tenants_pb2,
    weaviate_pb2_grpc,
)

RECORDED: Final = Path(__file__).with_suffix(".json")
MESSAGES: Final = {
    "Search": search_get_pb2.SearchRequest,
    "BatchObjects": batch_pb2.BatchObjectsRequest,
    "BatchDelete": batch_delete_pb2.BatchDeleteRequest,
    "TenantsGet": tenants_pb2.TenantsGetRequest,
    "Aggregate": aggregate_pb2.AggregateRequest,
}
#: What differs from one answer to the next, and what the emulator does not show.
UNTOLD: Final = {
    "actualCount", "allowed", "asyncReplicationStatus", "batchStats", "creationTimeUnix", "hostname",
    "lastUpdateTimeUnix", "modules", "numberOfReplicas", "objectCount", "operationalMode",
    "replicationFactor", "stats", "statistics", "totalResults", "vectorWeights", "version",
}  # fmt: skip

TEXT: Final = {"dataType": ["text"], "tokenization": "field"}
CLASSES: Final[list[dict[str, Any]]] = [
    {
        "class": "Many",
        "invertedIndexConfig": {"indexNullState": True},
        "vectorIndexConfig": {"distance": "l2-squared"},
        "properties": [
            {"name": "text", **TEXT},
            {"name": "words", "dataType": ["text"]},
            {"name": "int", "dataType": ["int"]},
            {"name": "number", "dataType": ["number"], "indexRangeFilters": True},
            {"name": "range", "dataType": ["number"], "indexFilterable": False, "indexRangeFilters": True},
            {"name": "bool", "dataType": ["boolean"]},
            {"name": "texts", "dataType": ["text[]"], "tokenization": "field"},
            {"name": "bare", "dataType": ["text"], "indexFilterable": False, "indexSearchable": False},
            {"name": "date", "dataType": ["date"]},
        ],
    },
    {"class": "Plain", "properties": [{"name": "text", **TEXT}]},
    {
        "class": "Tenants",
        "vectorConfig": {name: {"vectorizer": {"none": {}}} for name in ("a", "b")},
        "multiTenancyConfig": {"enabled": True},
    },
    {"class": "Auto", "multiTenancyConfig": {"enabled": True, "autoTenantCreation": True}},
    {
        "class": "Later",
        "invertedIndexConfig": {"indexNullState": True},
        "properties": [
            {"name": "when", "dataType": ["date"]},
            {"name": "ints", "dataType": ["int[]"]},
            {"name": "floats", "dataType": ["number[]"]},
        ],
    },
    *(
        {"class": f"Metric{metric[:2]}", "vectorIndexConfig": {"distance": metric}}
        for metric in ("cosine", "dot", "l2-squared", "manhattan", "hamming")
    ),
]


def key(number: int) -> str:
    """A UUID."""
    return str(uuid.UUID(int=number))


def packed(*vector: float) -> str:
    """A vector, as JSON has bytes."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def made(
    place: int, name: str = "Many", vector: tuple[float, ...] | None = (1, 2), **values: Any
) -> dict[str, Any]:
    """An object of a batch."""
    result: dict[str, Any] = {"collection": name, "uuid": key(place), "properties": {}}
    if vector is not None:
        result["vectorBytes"] = packed(*vector)
    for each in ("tenant", "vectors", "uuid"):
        if each in values:
            result[each] = values.pop(each)
    for each in list(values):
        if isinstance(values[each], list):
            kind = {int: "int", float: "number"}.get(type(next(iter(values[each]), "")), "text")
            lists = result["properties"].setdefault(f"{kind}ArrayProperties", [])
            lists.append({"propName": each, "values": values.pop(each)})
    if values:
        result["properties"]["nonRefProperties"] = values
    return result


OBJECTS: Final[list[dict[str, Any]]] = [
    made(1, text="a", int=1, number=0.5, bool=True, texts=["p", "q"], bare="r", words="Hello world"),
    made(2, vector=(1, 2.5), text=" a ", int=2, number=-0.0, bool=False, texts=[]),
    made(3, vector=(3, 4), text=""),
    made(4, vector=None, text="b", int=-5, number=1e300),
    made(5, vector=(0, 0)),
    *(
        made(number, f"Metric{metric}", vector)
        for metric in ("co", "do", "l2", "ma", "ha")
        for number, vector in ((1, (3.0, 4.0)), (2, (0.0, 0.0)), (3, (1e-30, 1e-30)), (4, (1e30, 0.0)))
    ),
]


def of(name: str, operator: str, **value: Any) -> dict[str, Any]:
    """A filter on one property."""
    value = {each: {"values": given} if each.endswith("Array") else given for each, given in value.items()}
    return {"operator": f"OPERATOR_{operator}", "target": {"property": name}, **value}


def joined(operator: str, *filters: dict[str, Any]) -> dict[str, Any]:
    """A filter of filters."""
    return {"operator": f"OPERATOR_{operator}", "filters": list(filters)}


def near(*vector: float, **more: Any) -> dict[str, Any]:
    """A search near a vector."""
    return {"nearVector": {"vectors": [{"vectorBytes": packed(*vector)}]}, "metadata": NEAR} | more


def targeted(name: str, *vector: float, **more: Any) -> dict[str, Any]:
    """A search near a named vector."""
    given = {"name": name, "vectors": [{"vectorBytes": packed(*vector)}]}
    sought = {"targets": {"targetVectors": [name]}, "vectorForTargets": [given]}
    return {"nearVector": sought, "metadata": NEAR, "tenant": "one"} | more


UUID: Final = {"uuid": True}
NEAR: Final = {"uuid": True, "distance": True}
NOTHING: Final = {"nonRefProperties": []}
NAMED: Final = {"vectorizer": {"none": {}}}
COMPARED: Final = ("EQUAL", "NOT_EQUAL", "LESS_THAN", "LESS_THAN_EQUAL", "GREATER_THAN", "GREATER_THAN_EQUAL")
CONTAINED: Final = ("CONTAINS_ANY", "CONTAINS_ALL", "CONTAINS_NONE")
FILTERS: Final = [
    *(of("text", each, valueText=value) for each in COMPARED for value in ("a", " a\t", "")),
    *(of("int", each, valueInt=1) for each in COMPARED),
    *(of("number", each, valueNumber=0.0) for each in COMPARED),
    *(of("range", each, valueNumber=0.0) for each in COMPARED),
    *(of("bool", each, valueBoolean=True) for each in COMPARED),
    *(of("texts", each, valueText="p") for each in COMPARED),
    *(of("_id", each, valueText=key(2)) for each in COMPARED),
    *(of("text", each, valueTextArray=value) for each in CONTAINED for value in (["a", "b"], [""], [])),
    *(of("texts", each, valueTextArray=value) for each in CONTAINED for value in (["p"], ["q", "z"])),
    *(of("int", each, valueIntArray=[1, 2]) for each in CONTAINED),
    *(of("number", each, valueNumberArray=[0.5]) for each in CONTAINED),
    *(of("bool", each, valueBooleanArray=[True]) for each in CONTAINED),
    *(of("_id", each, valueTextArray=[key(3), key(99)]) for each in CONTAINED),
    *(
        of(name, "IS_NULL", valueBoolean=value)
        for name in ("text", "words", "int", "range", "bool", "texts", "bare", "date", "_id", "absent")
        for value in (True, False)
    ),
    *(
        of(name, "EQUAL", **value)
        for name in ("text", "int", "number", "bool", "absent", "Text", "bare")
        for value in (
            {"valueText": "x"}, {"valueText": "1"}, {"valueInt": 1}, {"valueNumber": 1.0},
            {"valueNumber": 1.5}, {"valueBoolean": True}, {"valueTextArray": ["a"]}, {},
        )
    ),
    *(
        of(name, "CONTAINS_ANY", **value)
        for name in ("text", "int", "number", "bool", "_id")
        for value in (
            {"valueText": "1"}, {"valueTextArray": ["1"]}, {"valueIntArray": [1]},
            {"valueNumberArray": [1.0]}, {"valueBooleanArray": [True]},
        )
    ),
    of("text", "IS_NULL", valueText="x"),
    of("int", "CONTAINS_ANY", valueIntArray=[]),
    of("words", "EQUAL", valueText="world HELLO"),
    of("words", "EQUAL", valueText="!"),
    of("words", "NOT_EQUAL", valueText="world"),
    of("_id", "EQUAL", valueText="no UUID"),
    of("text", "UNSPECIFIED", valueText="a"),
    {"operator": "OPERATOR_EQUAL", "on": ["text"], "valueText": "a"},
    {},
    joined("AND"), joined("OR"), joined("NOT"),
    joined("AND", of("int", "GREATER_THAN", valueInt=0), of("text", "EQUAL", valueText="a")),
    joined("OR", of("int", "EQUAL", valueInt=2), of("text", "EQUAL", valueText="b")),
    joined("NOT", of("int", "EQUAL", valueInt=1)),
    joined("NOT", of("int", "EQUAL", valueInt=1), of("int", "EQUAL", valueInt=2)),
    joined("OR", of("absent", "EQUAL", valueInt=2)),
]  # fmt: skip
NOON: Final = "2020-05-17T12:00:00Z"
#: Of a class to which a property was added, of dates and of lists of numbers.
LATER: Final = [
    *(of("added", "IS_NULL", valueBoolean=value) for value in (True, False)),
    joined("NOT", of("added", "IS_NULL", valueBoolean=False)),
    *(of("added", each, valueText="x") for each in ("EQUAL", "NOT_EQUAL")),
    *(
        of("when", each, valueText=value)
        for each in COMPARED
        for value in (NOON, "2020-05-17T12:00:00.0000001Z", "2300-01-01T00:00:00+01:00")
    ),
    *(of("when", each, valueTextArray=[NOON, "0001-01-01T00:00:00Z"]) for each in CONTAINED),
    *(of("when", "EQUAL", **value) for value in ({"valueInt": 1}, {"valueBoolean": True})),
    *(of("when", "CONTAINS_ANY", **value) for value in ({"valueText": NOON}, {"valueIntArray": [1]})),
    *(of("ints", each, valueIntArray=[1]) for each in CONTAINED),
    *(of("floats", each, valueNumberArray=[0.1, 5e-324]) for each in CONTAINED),
    *(of(name, "IS_NULL", valueBoolean=True) for name in ("when", "ints", "floats")),
    joined("AND", of("_id", "EQUAL", valueText=key(1)), of("_id", "EQUAL", valueText=key(2))),
    of("_id", "NOT_EQUAL", valueText="no UUID"),
]  # fmt: skip
NOTED: Final = {"name": "noted", "dataType": ["boolean"]}
FIRST: Final = of("_id", "EQUAL", valueText=key(1))
A: Final = of("text", "EQUAL", valueText="a")
BAD: Final = (
    of("text", "EQUAL", valueInt=1),
    of("bare", "EQUAL", valueText="r"),
    of("absent", "EQUAL", valueText="r"),
)


def index(**config: Any) -> dict[str, Any]:
    """A class that says how its vector is indexed."""
    return {"class": "Fresh", "vectorIndexConfig": config}


def properties(*names: str, **more: Any) -> dict[str, Any]:
    """A class with properties, texts unless it is said."""
    return {"class": "Fresh", "properties": [{"name": each, "dataType": ["text"]} | more for each in names]}


CREATED: Final[list[Any]] = [
    {"class": "fresh"},
    {"class": "many"}, {"class": "MANY"}, {"class": "1a"}, {"class": "A b"}, {"class": "A-b"}, {"class": ""},
    {}, {"class": "A" * 256}, [1],
    properties("id"), properties("Id"), properties("_id"), properties("_additional"), properties("vector"),
    properties("a", "A"), properties("a b"), properties("9"), properties("a" * 232),
    properties("Upper", "x9_"),
    properties("a", dataType=["texts"]), properties("a", dataType=[]), properties("a", tokenization="none"),
    properties("a", dataType=["int"], tokenization="field"),
    properties("a", dataType=["int"], indexSearchable=True),
    properties("a", indexRangeFilters=True), properties("a", dataType=["uuid[]"], description="d"),
    properties("a", tokenization="field", indexSearchable=False, indexFilterable=False),
    index(), index(distance="dot", ef=77, maxConnections=9, efConstruction=50), index(distance="euclid"),
    index(maxConnections=3), index(efConstruction=3), index(filterStrategy="none"),
    index(filterStrategy="sweeping"),
    *(index(**{each: {"enabled": True}}) for each in ("pq", "sq", "bq", "rq")),
    index(pq={"enabled": True}, bq={"enabled": True}), index(skipDefaultQuantization=True, unheard=1),
    *({**index(), "vectorIndexType": each} for each in ("flat", "hfresh", "dynamic", "ivf")),
    *({**index(**{each: {"enabled": True}}), "vectorIndexType": "flat"} for each in ("pq", "sq", "bq", "rq")),
    {"class": "Fresh", "vectorConfig": {"a": {**NAMED, "vectorIndexType": "flat"}, "B_1": NAMED}},
    {"class": "Fresh", "vectorConfig": {"a": {**NAMED, "vectorIndexType": "ivf"}}},
    {"class": "Fresh", "vectorConfig": {"a": {**NAMED, "vectorIndexConfig": {"distance": "euclid"}}}},
    {"class": "Fresh", "vectorConfig": {"a b": NAMED}}, {"class": "Fresh", "vectorConfig": {"a": {}}},
    {"class": "Fresh", "vectorConfig": {"a": NAMED}, "vectorIndexConfig": {"distance": "dot"}},
    {"class": "Fresh", "multiTenancyConfig": {"autoTenantCreation": True}},
    {"class": "Fresh", "multiTenancyConfig": {"autoTenantActivation": True}},
    {"class": "Fresh", "multiTenancyConfig": {"enabled": True, "autoTenantActivation": True}},
    {"class": "Fresh", "invertedIndexConfig": {"indexNullState": True}, "description": "“words”"},
]  # fmt: skip

#: A PUT takes what is left out for another value than a POST does.
WHOLE: Final = CLASSES[1] | {
    "multiTenancyConfig": {"enabled": False},
    "replicationConfig": {"deletionStrategy": "TimeBasedResolution", "factor": 1},
}
Request = tuple[Any, ...]
REQUESTS: Final[list[Request]] = [
    *(("POST", "/v1/schema", each) for each in CLASSES),
    # classes
    *(
        request
        for each in CREATED
        for request in (("POST", "/v1/schema", each), ("DELETE", "/v1/schema/fresh"))
    ),
    *(("GET", path) for path in ("/v1/meta", "/v1/.well-known/ready", "/v1/none", "/v1/schema/Absent")),
    ("GET", "/v1/cluster/statistics"),
    ("GET", "/v1/nodes/Absent?output=verbose"),
    ("POST", "/v1/meta"),
    ("DELETE", "/v1/schema/Absent"),
    ("PUT", "/v1/schema/Absent", {"class": "Absent"}),
    ("PUT", "/v1/schema/Plain", {**WHOLE, "class": "Other"}),
    ("PUT", "/v1/schema/Plain", {**WHOLE, "description": "new"}),
    ("PUT", "/v1/schema/Plain", {"class": "Plain"}),
    ("PUT", "/v1/schema/Plain", {**WHOLE, "invertedIndexConfig": {"indexNullState": True}}),
    *(
        ("PUT", "/v1/schema/Plain", {**WHOLE, "vectorIndexConfig": {name: value}})
        for name, value in (("ef", 50), ("maxConnections", 8), ("efConstruction", 8), ("distance", "dot"))
    ),
    ("GET", "/v1/schema/plain"),
    # tenants
    ("POST", "/v1/schema/Tenants/tenants", [{"name": "one"}, {"name": "two"}]),
    *(
        ("POST", "/v1/schema/Tenants/tenants", [{"name": each}])
        for each in ("one", "a b", "", "x" * 65, "x" * 64)
    ),
    ("POST", "/v1/schema/Tenants/tenants", [{"name": "d"}, {"name": "d"}]),
    ("DELETE", "/v1/schema/Tenants/tenants", ["x" * 64, "absent"]),
    *(
        (method, f"/v1/schema/{name}/tenants", body)
        for name in ("Plain", "Absent")
        for method, body in (("POST", [{"name": "a"}]), ("DELETE", ["a"]))
    ),
    *(("TenantsGet", {"collection": each}) for each in ("Tenants", "Plain", "Absent")),
    ("TenantsGet", {"collection": "Tenants", "names": {"values": ["two", "absent"]}}),
    ("TenantsGet", {"collection": "Tenants", "names": {"values": []}}),
    # objects that are taken, one a request, so that the server numbers them in this order
    *(("BatchObjects", {"objects": [each]}) for each in OBJECTS),
    *(
        ("BatchObjects", {"objects": [made(each, "Tenants", None, tenant="one", vectors=[vector])]})
        for each, vector in (
            (1, {"name": "a", "vectorBytes": packed(1, 2)}),
            (2, {"name": "b", "vectorBytes": packed(1, 2, 3)}),
        )
    ),
    # and some that are not
    *(
        ("BatchObjects", {"objects": [made(9, **{name: value})]})
        for name, values in {
            "text": (1, True), "int": ("1", 1.5, True, 1e300), "number": ("1", True, "NaN"),
            "bool": (1, "true"),
            "date": ("2020", 1), "a b": ("x",), "id": ("x",), "uuid": ("x", "", "x" * 36), "tenant": ("one",),
        }.items()
        for value in values
    ),
    ("BatchObjects", {"objects": [made(9), made(9, vector=(1, 2, 3)), made(9, int="1")]}),
    ("BatchObjects", {"objects": [made(9, vector=None, vectors=[{"name": "a", "vectorBytes": packed(1)}])]}),
    ("BatchObjects", {"objects": [{"uuid": key(9), "collection": "Many"}]}),
    ("BatchObjects", {"objects": []}),
    ("BatchObjects", {"objects": [made(9, text=None), made(9, "many", vector=None)]}),
    *(
        ("BatchObjects", {"objects": [made(9, "Tenants", None, **more)]})
        for more in (
            {}, {"tenant": "absent"}, {"tenant": "one", "vectors": [{"name": "c", "vectorBytes": packed(1)}]},
            {"tenant": "one", "vectors": [{"name": "a", "vectorBytes": packed(1)}]},
        )
    ),
    ("BatchObjects", {"objects": [made(9, "Tenants", tenant="one")]}),
    ("BatchObjects", {"objects": [made(9, "Auto", tenant="a b")]}),
    ("BatchObjects", {"objects": [made(9, "Auto", tenant="good")]}),
    ("TenantsGet", {"collection": "Auto"}),
    # what the schema lacks is added
    ("BatchObjects", {"objects": [made(1, "made", new="x", number=1, Bool=True, texts=["a"])]}),
    ("Search", {"collection": "Made", "metadata": {"uuid": True, "vector": True}}),
    ("DELETE", "/v1/schema/Made"),
    ("BatchDelete", {"collection": "Many", "filters": of("_id", "EQUAL", valueText=key(9))}),
    # looking
    *(
        ("Search", {"collection": "Many", "metadata": UUID, "properties": NOTHING, "filters": each})
        for each in FILTERS
    ),
    *(("Search", {"collection": "Many", "filters": each, **near(1, 2)}) for each in (A, *BAD)),
    *(
        ("Search", {"collection": "Plain", "metadata": UUID, "filters": each})
        for each in (A, of("text", "IS_NULL", valueBoolean=True))
    ),
    *(
        ("Search", {"collection": "Many", "metadata": UUID, "properties": NOTHING, **window, **more})
        for more in ({}, {"filters": A}, near(1, 2), {"after": key(2)})
        for window in (
            {}, {"limit": 2}, {"limit": 1, "offset": 1}, {"limit": 10_000}, {"limit": 10_001},
            {"offset": 9_999},
        )
    ),
    *(
        ("Search", {"collection": "Many", "metadata": UUID, "after": key(1), **more})
        for more in ({"filters": A}, near(1, 2), {"after": "x"})
    ),
    *(
        ("Search", {"collection": "Many", "limit": 1, "properties": {"nonRefProperties": each}})
        for each in (["text", "int", "texts", "bool", "date"], ["Text"], ["absent"])
    ),
    ("Search", {"collection": "Many", "metadata": {"uuid": True, "vector": True, "vectors": ["a"]}}),
    ("Search", {"collection": "Tenants", "tenant": "one", "metadata": {"uuid": True, "vector": True}}),
    ("Search", {"collection": "Tenants", "tenant": "one", "metadata": {"uuid": True, "vectors": ["b", "c"]}}),
    *(
        ("Search", {"collection": name, "metadata": UUID, **more, **tenant})
        for name, tenant in (
            ("Tenants", {}), ("Tenants", {"tenant": "absent"}), ("Many", {"tenant": "one"}), ("Absent", {}),
        )
        for more in ({}, near(1, 2), {"filters": A})
    ),
    *(("Search", {"collection": "Many", **near(*vector)}) for vector in ((1.0, 2.0, 3.0), (3.0, 4.0))),
    ("Search", {"collection": "Many", "nearVector": {}}),
    ("Search", {"collection": "Many", "nearVector": {"vector": [1, 2]}, "metadata": UUID}),
    ("Search", {"collection": "Many", "nearVector": {"vectorBytes": packed(1, 2)}, "metadata": UUID}),
    ("Search", {"collection": "Many", "nearVector": {"vectors": [{"vectorBytes": packed(1, 2)}] * 2}}),
    ("Search", {"collection": "Plain", **near(1, 2)}),
    ("Search", {"collection": "Many", **targeted("a", 1, 2, tenant="")}),
    *(("Search", {"collection": "Tenants", **targeted(each, 2, 1)}) for each in ("a", "b", "c")),
    ("Search", {"collection": "Tenants", **targeted("a", 2, 1, tenant="absent")}),
    ("Search", {"collection": "Tenants", "tenant": "one", **near(1, 2)}),
    *(
        ("Search", {"collection": f"Metric{metric}", **near(*vector)})
        for metric in ("co", "do", "l2", "ma", "ha")
        for vector in ((1.0, 2.0), (0.0, 0.0))
    ),
    # counting
    *(
        ("Aggregate", {"collection": "Many", "objectsCount": True, **more})
        for more in ({}, {"filters": A}, {"tenant": "one"}, *({"filters": each} for each in BAD))
    ),
    ("Aggregate", {"collection": "Many"}),
    *(
        ("Aggregate", {"collection": name, "tenant": tenant, "objectsCount": True})
        for name, tenant in (("Tenants", "one"), ("Tenants", ""), ("Tenants", "absent"), ("Absent", ""))
    ),
    # single objects, as REST shows them
    ("GET", "/v1/objects?class=Many&limit=2"),
    ("GET", "/v1/objects?class=Many&limit=1&include=vector"),
    ("GET", "/v1/objects?class=Absent"),
    ("POST", "/v1/objects", {"class": "Many", "id": key(8), "vector": [1, 2], "properties": {"int": 3}}),
    ("POST", "/v1/objects", {"class": "Many", "id": key(8), "vector": [1, 2]}),
    ("POST", "/v1/objects", {"class": "Many", "id": "x"}),
    # removing
    *(
        ("BatchDelete", {"collection": "Many", **more})
        for more in ({}, {"filters": A, "tenant": "one"}, *({"filters": each} for each in (*BAD, {})))
    ),
    *(
        ("BatchDelete", {"collection": name, "tenant": tenant, "filters": FIRST})
        for name, tenant in (("Tenants", ""), ("Tenants", "absent"), ("Absent", ""), ("Tenants", "one"))
    ),
    ("BatchDelete", {"collection": "Many", "filters": A, "dryRun": True}),
    ("BatchDelete", {"collection": "Many", "filters": A}),
    ("BatchDelete", {"collection": "Many", "filters": A}),
    ("Aggregate", {"collection": "Many", "objectsCount": True}),
    # properties that are added later
    *(
        ("BatchObjects", {"objects": [each]})
        for each in (
            made(1, "Later", when="2020-05-17T14:00:00+02:00", ints=[1, 2], floats=[0.1, 5e-324]),
            made(2, "Later", when="2300-01-01T00:00:00Z", ints=[]),
            made(3, "Later", when="1969-12-31T23:59:59.9999999Z", floats=[-0.0]),
            made(4, "Later"),
        )
    ),
    *(
        ("POST", f"/v1/schema/{name}/properties", sent)
        for name, sent in (
            ("Later", {"name": "Added", "indexSearchable": False, **TEXT}),
            ("Later", {"name": "added", "dataType": ["int"]}),
            ("later", NOTED | {"indexFilterable": False, "description": "[1]"}),
            ("Later", NOTED | {"description": "[2]"}),
            ("Later", {"name": "id", "dataType": ["text"]}),
            ("Later", {"name": "x", "dataType": ["texts"]}),
            ("Absent", {"name": "x", "dataType": ["text"]}),
            ("absent", {"name": "x", "dataType": ["text"]}),
        )
    ),
    *(
        ("BatchObjects", {"objects": [each]})
        for each in (
            made(5, "Later", added="x"), made(6, "Later"),
            made(2, "Later", when="2300-01-01T00:00:00Z"), made(4, "Later", vector=(2, 2)),
        )
    ),
    *(
        ("Search", {"collection": "Later", "metadata": UUID, "properties": NOTHING, "filters": each})
        for each in LATER
    ),
    *(
        ("Search", {"collection": "Later", "metadata": UUID, "properties": {"nonRefProperties": [each]}})
        for each in ("when", "ints", "floats", "added")
    ),
    ("GET", "/v1/schema/Later"),
]  # fmt: skip


def answers(url: str) -> list[Any]:
    """What a server says to each request; afterwards it has none of the classes any more.

    Args:
        url: As vecbridge takes it.
    """
    address, _, grpc_port = url.partition("//")[2].partition("?grpc_port=")
    target = f"{address.rpartition(':')[0]}:{grpc_port}"
    with (
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
        grpc.insecure_channel(target) as channel,
    ):
        stub = weaviate_pb2_grpc.WeaviateStub(channel)
        try:
            return [_steady(_answer(client, stub, *each)) for each in REQUESTS]
        finally:
            for each in [*(described["class"] for described in CLASSES), "Fresh", "Made"]:
                client.delete(f"/v1/schema/{each}")


def _answer(client: httpx.Client, stub: Any, name: str, *arguments: Any) -> Any:
    if name not in MESSAGES:
        path, body = (*arguments, None)[:2]
        response = client.request(name, path, json=body)
        return [response.status_code, response.json() if response.content else None]
    request = json_format.ParseDict(arguments[0], MESSAGES[name]())
    try:
        reply = json_format.MessageToDict(getattr(stub, name)(request, timeout=60))
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    reply.pop("took", None)
    reply.pop("generativeGroupedResult", None)
    if "results" in reply:  # equally near ones, and matches, come in any order
        reply["results"].sort(key=lambda each: (_distance(each), each.get("metadata", {}).get("id", "")))
    if "tenants" in reply:  # the server keeps them in a map
        reply["tenants"].sort(key=lambda each: each["name"])
    return reply


def _distance(result: dict[str, Any]) -> float:
    """How far a result is, as exactly as float32 is summed in another order."""
    metadata = result.get("metadata", {})
    if "distance" in metadata:
        metadata["distance"] = float(f"{float(metadata['distance']):.4g}")
    return float(metadata.get("distance", 0))


def _steady(value: Any) -> Any:
    """An answer without what changes from one time to the next."""
    if isinstance(value, dict):
        return {name: _steady(each) for name, each in sorted(value.items()) if name not in UNTOLD}
    if isinstance(value, list):
        return [_steady(each) for each in value]
    if isinstance(value, str):
        value = re.sub(r'(shard[ =]"?(?:[a-z]+_)?|search [a-z]+_)[A-Za-z0-9]{12}\b', r"\1…", value)
        return re.sub(r"(feature on |named vectors ).*", r"\1…", value)
    return value


if __name__ == "__main__":
    from tests.stores.weaviate import server

    lines = (json.dumps(each, ensure_ascii=False) for each in answers(server.shared_url()))
    RECORDED.write_text("[\n" + ",\n".join(lines) + "\n]\n")
