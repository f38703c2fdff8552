"""No error shows the repr of a dataclass: `Name(part=…)` tells its reader about the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

import vecbridge as vb
from vecbridge import field
from vecbridge.errors import SchemaError, UnsupportedError, VecbridgeError
from vecbridge.filters import And, In, Not, to_dict
from vecbridge.schema import EmbedderIdentity
from vecbridge.texts import shown

SPEC = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64", "tags": "list<string>"})
MODEL = EmbedderIdentity("model", "0123456789abcdef", 2, "x")
# The classes whose repr a message may not hold.
CLASSES = {
    name for name in vb.__all__ if isinstance(getattr(vb, name), type) and is_dataclass(getattr(vb, name))
} | {
    "Cmp",
    "In",
    "Contains",
    "IsNull",
    "IsEmpty",
    "And",
    "Or",
    "Not",
    "FieldRef",
    "EmbedderIdentity",
    "Auto",
}
REPR = re.compile(rf"\b(?:{'|'.join(sorted(CLASSES))})\(\w+=")


def other(**changes: Any) -> vb.CollectionSpec:
    values = {"dim": 2, "fields": {"year": "int64", "tags": "list<string>"}} | changes
    return vb.CollectionSpec.single("photos", **values)


def opened(**changes: Any) -> Callable[[], object]:
    """Opens a collection with a spec that differs."""

    def call() -> object:
        with vb.connect("memory://") as store:
            store.create(SPEC)
            return store.create(other(**changes), if_exists="open")

    return call


def asked(*arguments: Any, **more: Any) -> Callable[[], object]:
    def call() -> object:
        with vb.connect("memory://") as store:
            return store.create(SPEC).search(vb.Query(*arguments, **more))

    return call


def on_photos(method: str, *arguments: Any, **more: Any) -> Callable[[], object]:
    def call() -> object:
        with vb.connect("memory://") as store:
            return getattr(store.create(SPEC), method)(*arguments, **more)

    return call


PROVOKED: dict[str, Callable[[], object]] = {
    "a spec with another index": opened(index=vb.Flat()),
    "a spec with another metric": opened(metric="l2"),
    "a spec with another type": opened(fields={"year": "string", "tags": "list<string>"}),
    "a spec with another dim and a model": opened(dim=3, embedder=EmbedderIdentity("m", "r", 3, "x")),
    "no spec but a field": lambda: vb.connect("memory://").create(vb.Field("year", "int64")),  # type: ignore[arg-type]
    "no index but a field": lambda: vb.VectorField("v", 2, index=vb.Field("a", "int64")),  # type: ignore[arg-type]
    "no metric but an index": lambda: vb.VectorField("v", 2, vb.HNSW()),  # type: ignore[arg-type]
    "no dim but a spec": lambda: vb.CollectionSpec.single("photos", dim=SPEC),  # type: ignore[arg-type]
    "no type but a model": lambda: vb.Field("year", MODEL),  # type: ignore[arg-type]
    "no number but an index": lambda: vb.HNSW(m=vb.Flat()),  # type: ignore[arg-type]
    "no query but a filter": on_photos("search", field("year") > 3),
    "no k but a filter": asked([1, 0], k=field("year") > 3),
    "no columns but fields": asked([1, 0], include=[vb.Field("year", "int64")]),
    "no filter but a field": on_photos("count", field("year")),
    "no filter but a spec": on_photos("count", SPEC),
    "no value but a field": lambda: field("year") == field("tags"),
    "no order but a field": on_photos("find", order=field("year")),
    "no fields but specs": on_photos("add_fields", [SPEC]),
    "no ids but a query": on_photos("fetch", vb.Query([1, 0])),
    "no id but a field": on_photos("fetch", [field("year")]),
    "no conflict but an index": on_photos("upsert", [], on_conflict=vb.HNSW()),
    "no rows but a spec": lambda: vb.batch(SPEC, id=SPEC, vector=[[1, 0]]),
}


@pytest.mark.parametrize("name", PROVOKED)
def test_an_error_shows_no_repr_of_a_dataclass(name: str) -> None:
    with pytest.raises((VecbridgeError, TypeError)) as caught:
        PROVOKED[name]()
    assert not REPR.search(str(caught.value)), str(caught.value)


def test_specs_that_differ_are_compared_in_words() -> None:
    with pytest.raises(SchemaError, match=r"vector 'vector' is 2 dimensions, cosine, auto, not 2 dim"):
        opened(index=vb.Flat())()
    with pytest.raises(SchemaError, match="field 'year' is int64, not string"):
        opened(fields={"year": "string", "tags": "list<string>"})()


@pytest.mark.parametrize(
    ("filter", "text"),
    [
        (
            (field("year") >= 2020) & ~field("tags").contains("sea"),
            "(year >= 2020 and not contains(tags, 'sea'))",
        ),
        (field("year").isin([1, None]), "(year in (1) or year is null)"),
        (field("at") < datetime(2024, 5, 17, tzinfo=UTC), "at < '2024-05-17 00:00:00 UTC'"),
        (field("tags").is_empty(), "is_empty(tags)"),
        (field("n").isin(range(9)), "n in (0, 1, 2, 3, 4, 5, …)"),
        (And(()), "all"),
    ],
)
def test_a_filter_is_shown_as_people_write_it(filter: Any, text: str) -> None:
    assert str(filter) == text
    assert str(UnsupportedError("x", f"the filter {filter}")).count(text) == 1


@pytest.mark.parametrize("node", [And(5), And([field("a") == 1]), In("a", 5)], ids=["int", "list", "in"])  # type: ignore[arg-type]
def test_a_node_of_something_else_is_no_error_of_its_own(node: Any) -> None:
    assert str(node) == "…"


def test_a_deep_filter_is_cut() -> None:
    deep = field("a") == 1
    for _ in range(100_000):
        deep = Not(deep)
    assert str(deep) == "not " * 6 + "…"
    assert len(shown([deep] * 100)) < 2_000


def test_a_dataclass_is_shown_in_words_at_any_depth() -> None:
    assert shown({"a": [vb.HNSW(m=8)]}) == "{'a': [hnsw(m=8, ef_construction=200)]}"
    assert shown(vb.Query([1, 0])) == "a Query"
    assert to_dict(field("a") == 1) == {"field": "a", "op": "==", "value": 1}
    assert {each.name for each in fields(vb.HNSW())} <= set(dir(vb.HNSW()))
