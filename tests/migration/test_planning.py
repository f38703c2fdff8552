"""A plan names everything that is lost or changed, says how large a migration is, and writes nothing."""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration import drivers
from vecbridge.capabilities import Gap
from vecbridge.errors import ConfigError, NotFoundError, SchemaError, UnsupportedError
from vecbridge.migration import planning
from vecbridge.migration.conversion import Converter, keeps_apart
from vecbridge.migration.planfile import write_plan
from vecbridge.migration.plans import Loss, Plan
from vecbridge.migration.sides import Side
from vecbridge.schema import CollectionSpec, Field, VectorField

FIELDS = {"year": "int64", "title": "string", "tags": "list<string>", "notes": "json"}


def memory(name: str = "photos") -> str:
    return f"memory:///{uuid.uuid4().hex}#{name}"


def photos(**options: Any) -> CollectionSpec:
    return vb.CollectionSpec.single("photos", **{"dim": 2, "fields": FIELDS, "metric": "l2"} | options)


def made(
    spec: CollectionSpec, rows: Mapping[str, list[dict[str, Any]]] | None = None, url: str | None = None
) -> str:
    """URL of a new collection with rows by namespace."""
    place = memory(spec.name) if url is None else url
    with vb.connect(place.partition("#")[0]) as store:
        for namespace, held in (rows or {"": []}).items():
            collection = store.create(spec, if_exists="open", namespace=namespace)
            if held:
                collection.upsert(held)
    return place


def numbered(count: int, **values: Any) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "vector": [1.0, number], "year": number} | values for number in range(count)]


def kinds(plan: Plan) -> dict[str, bool]:
    """Whether it is certain, by kind of loss."""
    return {loss.kind: loss.certain for loss in plan.losses}


def loss_of(plan: Plan, kind: str) -> Loss:
    [loss] = [loss for loss in plan.losses if loss.kind == kind]
    return loss


# ------------------------------------------------------------ the schema


def test_where_both_sides_can_do_the_same_nothing_is_lost_and_the_spec_stays() -> None:
    spec = photos(namespaced=True)
    source = made(spec, {"": numbered(3), "eu": numbered(2)})
    target = memory("copies")
    plan = vb.plan(source, target, scan=True)
    assert plan.losses == ()
    assert plan.spec == spec.renamed("copies")
    assert [(each.source, each.target, each.rows) for each in plan.namespaces] == [
        ("", "", 3),
        ("eu", "eu", 2),
    ]
    assert plan.size.rows == 5
    assert (plan.renamed, plan.dropped) == ({}, ())


@pytest.mark.parametrize(
    ("can", "spec", "kind", "after"),
    [
        ({"indexes": frozenset({"auto"})}, photos(index=vb.Flat()), "index", {"index": vb.Auto()}),
        ({"field_types": frozenset({"int64", "string", "list<string>"})}, photos(), "field:notes",
         {"fields": ["year", "title", "tags"]}),
        ({"max_vectors": 1}, CollectionSpec("photos", (VectorField("a", 2), VectorField("b", 3))), "vector:b",
         {"vectors": ["a"]}),
        ({"nulls": False}, photos(), "null", {}),
    ],
)  # fmt: skip
def test_what_the_target_does_not_have_is_a_certain_loss_that_must_be_allowed(
    monkeypatch: pytest.MonkeyPatch, can: dict[str, Any], spec: CollectionSpec, kind: str, after: Any
) -> None:
    target = drivers.narrow(monkeypatch, **can)
    plan = vb.plan(made(spec), f"{target}#photos")
    assert kinds(plan) == {kind: True}
    assert [loss.kind for loss in plan.refused(())] == [kind]
    assert plan.refused([kind]) == ()
    found = {
        "index": plan.spec.vectors[0].index,
        "fields": [field.name for field in plan.spec.fields],
        "vectors": [vector.name for vector in plan.spec.vectors],
    }
    assert {name: found[name] for name in after} == after
    with pytest.raises(vb.LossRefusedError, match=kind):
        vb.migrate(plan.source, f"{target}#photos")
    with vb.connect(target) as store:
        assert store.collections() == []


def test_a_quantizer_that_the_target_lacks_is_a_loss_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = photos(index=vb.HNSW(m=8, quantizer="sq"))
    source = made(spec, url=f"snapshot:{tmp_path}#photos")
    target = drivers.narrow(monkeypatch, indexes=frozenset({"auto", "hnsw"}))
    plan = vb.plan(source, f"{target}#photos")
    assert kinds(plan) == {"quantization": True}
    assert plan.spec.vector.index == vb.HNSW(m=8)


def test_another_programs_index_becomes_the_targets_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = photos(index=vb.Other("DISKANN", {"search_list": 100}))
    plan = vb.plan(drivers.foreign(monkeypatch, spec), memory())
    assert kinds(plan) == {"index": True}
    assert "DISKANN" in loss_of(plan, "index").detail
    assert plan.spec.vector.index == vb.Auto()


def test_a_metric_that_the_target_lacks_is_named_and_cannot_be_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = drivers.narrow(monkeypatch, metrics=frozenset({vb.Metric.COSINE}))
    source = made(photos(), {"": numbered(3)})
    plan = vb.plan(source, f"{target}#photos")
    assert kinds(plan) == {"metric": True}
    assert [loss.kind for loss in plan.refused(["metric"])] == ["metric"]
    with pytest.raises(vb.LossRefusedError, match="nothing converts a metric"):
        vb.migrate(source, f"{target}#photos")


def test_a_collection_that_the_target_cannot_have_at_all_is_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = drivers.narrow(monkeypatch, max_dim=1)
    with pytest.raises(UnsupportedError, match="2 dimensions are over 1"):
        vb.plan(made(photos()), f"{target}#photos")


def test_a_column_that_only_the_driver_refuses_is_dropped_and_another_name_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    too_long = Gap("field:title", "title", "its name is too long", blocking=True)
    target = drivers.narrow(monkeypatch, [too_long])
    source = made(photos())
    plan = vb.plan(source, f"{target}#photos")
    assert kinds(plan) == {"field:title": True}
    assert plan.dropped == ("title",)
    kept = vb.plan(source, f"{target}#photos", rename={"title": "name"})
    assert (kept.losses, kept.renamed) == ((), {"title": "name"})
    drivers.narrow(monkeypatch, [Gap("vector:vector", "vector", "its name is too long", blocking=True)])
    with pytest.raises(UnsupportedError, match="its name is too long"):  # nothing would be left to search
        vb.plan(source, f"{target}#photos")


def test_losses_are_named_by_the_columns_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    target = drivers.narrow(monkeypatch, field_types=frozenset({"int64", "string", "list<string>"}))
    plan = vb.plan(made(photos()), f"{target}#photos", rename={"notes": "remarks"})
    assert kinds(plan) == {"field:notes": True}


def test_what_another_program_has_and_a_spec_cannot_say_is_lost_for_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = [
        Gap("field:place", "place", "a point has no type here", blocking=False),
        Gap("vector:bits", "bits", "BinaryVector has no type here", blocking=False),
        Gap("sparse", "words", "sparse vectors are not read", blocking=False),
        Gap("namespace", "café", "no such name for a namespace", blocking=False),
        Gap("field:title", "title", "some values are cut", blocking=False),
    ]
    source = drivers.foreign(monkeypatch, photos(), losses=losses)
    plan = vb.plan(source, memory())
    assert kinds(plan) == {
        "field:place": True, "vector:bits": True, "sparse": True, "namespace": True, "field:title": False
    }  # fmt: skip
    assert [loss.kind for loss in plan.refused(())] == ["field:place", "vector:bits", "sparse"]
    assert "field:title" not in kinds(vb.plan(source, memory(), drop=["title"]))


# ------------------------------------------------------------ rows


def test_limits_of_the_target_are_possible_until_every_row_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = drivers.narrow(monkeypatch, int_bits=53, text_bytes=10, id_bytes=4, zero_vectors=False)
    rows = {"": numbered(1_500), "eu": numbered(20)}
    rows[""][1_400] |= {"title": "x" * 11}
    rows[""][1_401] |= {"year": 2**60}
    rows["eu"][7] |= {"vector": [0.0, 0.0]}
    rows["eu"][8] |= {"title": "y" * 99}
    source = made(photos(namespaced=True), rows)
    sampled = vb.plan(source, f"{target}#photos")
    assert sampled.refused(()) == ()
    assert loss_of(sampled, "int_width") == Loss(
        "int_width", "year", "integers beyond 53 bits are refused", certain=False
    )
    assert loss_of(sampled, "size").subject == "title, tags, notes"
    scanned = vb.plan(source, f"{target}#photos", scan=True)
    counts = {loss.kind: loss.rows for loss in scanned.losses}
    assert counts == {"size": 2, "int_width": 1, "row:zero_vector": 1, "id": 498}
    assert "'r1400'" in loss_of(scanned, "size").detail
    assert "'r8' of namespace 'eu'" in loss_of(scanned, "size").detail
    assert loss_of(scanned, "id").detail.endswith("and 495 more")
    assert scanned.refused(()) == ()
    assert scanned.size.exact


def test_rows_of_another_program_that_no_store_takes_are_counted_by_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = photos(metric="cosine", fields={})
    rows: list[dict[str, Any]] = [{"id": f"r{number}", "vector": [1.0, 2.0]} for number in range(10)]
    rows[1]["vector"] = None
    rows[2]["vector"] = [0.0, 0.0]
    rows[3]["vector"] = [math.nan, 1.0]
    rows[4]["id"] = "x" * 513
    rows[5]["vector"] = [math.inf, 1.0]
    source = drivers.foreign(monkeypatch, spec, {"": rows})
    found = {loss.kind: loss.rows for loss in vb.plan(source, memory(), scan=True).losses}
    assert found == {"row:no_vector": 1, "row:zero_vector": 1, "row:not_finite": 2, "row:id": 1}
    sampled = vb.plan(source, memory())  # the sample has them all, and says so without counts
    assert {loss.kind: loss.rows for loss in sampled.losses} == dict.fromkeys(found)


def test_a_sample_is_spread_over_the_namespaces_by_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    target = drivers.narrow(monkeypatch, text_bytes=10)
    rows = {"a": numbered(3_000), "b": numbered(2), "c": numbered(1_000, title="x" * 11)}
    plan = vb.plan(made(photos(namespaced=True), rows), f"{target}#photos")
    assert loss_of(plan, "size").certain
    assert "namespace 'c'" in loss_of(plan, "size").detail


# ------------------------------------------------------------ sizes


def test_the_requests_and_bytes_of_a_scanned_plan_are_those_that_the_copy_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = drivers.narrow(monkeypatch, request_rows=70)
    source = made(photos(namespaced=True), {"": numbered(500), "eu": numbered(71)})
    sampled, scanned = vb.plan(source, f"{target}#photos"), vb.plan(source, f"{target}#photos", scan=True)
    assert drivers.NarrowCollection.sent == []
    vb.migrate(source, f"{target}#photos")
    sent = drivers.NarrowCollection.sent
    assert (scanned.size.requests, scanned.size.bytes) == (len(sent), sum(size for _, size in sent))
    assert sampled.size.requests == len(sent) == 8 + 2
    assert (scanned.size.exact, sampled.size.exact) == (True, False)


def test_sizes_grow_from_the_sample_to_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(photos(), {"": numbered(25_000)})
    target = drivers.narrow(monkeypatch, request_rows=4_000)
    sampled, scanned = vb.plan(source, f"{target}#photos"), vb.plan(source, f"{target}#photos", scan=True)
    assert sampled.size.rows == scanned.size.rows == 25_000
    assert sampled.size.requests == scanned.size.requests == 3 + 3 + 2
    assert sampled.size.bytes == pytest.approx(scanned.size.bytes, rel=0.1)
    assert sampled.size.seconds is not None
    assert 0 < sampled.size.seconds[0] < sampled.size.seconds[1]


def test_an_empty_source_has_a_plan_of_its_schema_and_no_size() -> None:
    for scan in (False, True):
        plan = vb.plan(made(photos()), memory(), scan=scan)
        assert (plan.size.rows, plan.size.bytes, plan.size.requests, plan.size.seconds) == (0, 0, 0, None)
        assert plan.spec == photos()


# ------------------------------------------------------------ names


def test_foreign_names_are_mapped_by_rule_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Title", "title", "taken-at", "2020", "_vbx", "é", "a\n\x1b[31m\"'; drop", "TITLE", "title_2"]
    fields = tuple(Field(name, "string") for name in names)
    spec = CollectionSpec.foreign("My-Photos", (VectorField("vec tor", 2),), fields, "string")
    rows = {"": [{"id": "a", "vec tor": [1.0, 2.0], "vector": 0} | {name: f"<{name}>" for name in names}]}
    source = drivers.foreign(monkeypatch, spec, rows)
    target = memory("").rstrip("#")
    plan = vb.plan(source, target)
    assert plan.target == f"{target}#my_photos"
    assert [column.name for column in plan.columns] == [
        "vec_tor", "Title", "title_3", "taken_at", "f_2020", "f__vbx", "f__", "a___31m____drop", "TITLE_4",
        "title_2",
    ]  # fmt: skip
    assert plan.renamed["taken-at"] == "taken_at"
    assert Plan.from_json(plan.to_json()) == plan
    vb.migrate(source, target, plan=plan)
    with vb.open(plan.target) as copied:
        [row] = copied.fetch(["a"]).to_pylist()
    assert (row["title_3"], row["a___31m____drop"]) == ("<title>", f"<{names[6]}>")


def test_two_columns_of_one_name_are_refused_and_renaming_one_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = (Field("a b", "string"), Field("a_b", "string"))
    source = drivers.foreign(monkeypatch, CollectionSpec.foreign("x", photos().vectors, fields, "string"))
    with pytest.raises(ConfigError, match=r"'a_b' and 'a b' would both be 'a_b'"):
        vb.plan(source, memory())
    assert vb.plan(source, memory(), rename={"a b": "first"}).renamed == {"a b": "first"}
    ours = made(photos())
    with pytest.raises(ConfigError, match=r"'year' and 'title' would both be 'title'"):
        vb.plan(ours, memory(), rename={"year": "title"})
    assert vb.plan(ours, memory(), rename={"year": "title", "title": "year"}).renamed == {
        "year": "title", "title": "year"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        ({"rename": {"yaer": "y"}}, ConfigError, "did you mean 'year'"),
        ({"rename": {"year": "1st"}}, SchemaError, "no name for a column"),
        ({"rename": {"year": "id"}}, SchemaError, "no name for a column"),
        ({"rename": {"year": "Title"}}, ConfigError, "would both be"),
        ({"rename": ["year"]}, ConfigError, "new names by the old ones"),
        ({"rename": {"year": "y"}, "drop": ["year"]}, ConfigError, "both renamed and dropped"),
        ({"drop": ["vector"]}, ConfigError, "at least one vector"),
        ({"drop": ["nothing"]}, ConfigError, "no column 'nothing'"),
        ({"drop": ["id"]}, ConfigError, "no column 'id'"),
        ({"filter": vb.field("yaer") == 1}, SchemaError, "yaer"),
        ({"filter": {"field": "year", "op": "~", "value": 1}}, SchemaError, "operators are"),
        ({"filter": "year = 1"}, SchemaError, "filter"),
        ({"id_template": "{namespace}"}, ConfigError, "id template"),
        ({"id_template": 7}, ConfigError, "id template"),
    ],
)
def test_a_transform_that_cannot_be_is_refused(transform: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vb.plan(made(photos()), memory(), **transform)


def test_columns_are_dropped_and_rows_selected_before_they_are_counted() -> None:
    source = made(photos(), {"": numbered(10)})
    for condition in (vb.field("year") >= 7, {"field": "year", "op": ">=", "value": 7}):
        plan = vb.plan(source, memory(), drop="title", filter=condition, scan=True)
        assert (plan.dropped, plan.size.rows) == (("title",), 3)
        assert plan.filter == {"field": "year", "op": ">=", "value": 7}


# ------------------------------------------------------------ namespaces


def test_several_namespaces_go_to_one_only_by_a_template() -> None:
    source = made(photos(namespaced=True), {"": numbered(2), "eu": numbered(3)})
    target = memory().replace("#", "?namespace=all#")
    with pytest.raises(ConfigError, match=r"2 namespaces, and they would go to one.*\{namespace\}/\{id\}"):
        vb.plan(source, target)
    one = vb.plan(source.replace("#", "?namespace=eu#"), target)
    assert (one.only, one.into, one.size.rows, one.spec.namespaced) == ("eu", "all", 3, True)
    plan = vb.plan(source, target, id_template="{namespace}/{id}")
    assert [each.target for each in plan.namespaces] == ["all", "all"]
    merged = vb.plan(source, memory(), id_template="{namespace}/{id}")
    assert (merged.into, merged.spec.namespaced, merged.spec.id_type) == ("", False, "string")
    assert merged.losses == ()
    loss = loss_of(vb.plan(source, memory(), id_template="{id}", scan=True), "id")
    assert not loss.certain
    assert "replace each other" in loss.detail


def test_one_namespace_goes_to_the_default_one_where_the_target_url_says_so() -> None:
    source = made(photos(namespaced=True), {"": numbered(2), "eu": numbered(3)}).replace(
        "#", "?namespace=eu#"
    )
    plain = vb.plan(source, memory().replace("#", "?namespace=#"))
    assert (plain.into, plain.spec.namespaced) == ("", False)
    existing = made(photos(namespaced=True))
    assert vb.plan(source, existing.replace("#", "?namespace=#")).spec.namespaced
    kept = vb.plan(source, memory())
    assert (kept.target_namespace("eu"), kept.spec.namespaced) == ("eu", True)


def test_a_target_without_namespaces_takes_one_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    target = drivers.narrow(monkeypatch, namespaces=False)
    source = made(photos(namespaced=True), {"eu": numbered(3)})
    plan = vb.plan(source, f"{target}#photos")
    assert kinds(plan) == {"namespace": True}
    assert (plan.target_namespace("eu"), plan.spec.namespaced) == ("", False)
    assert vb.migrate(source, f"{target}#photos").written == 3
    made(photos(namespaced=True), {"us": numbered(1)}, source)
    with pytest.raises(ConfigError, match="2 namespaces"):
        vb.plan(source, f"{target}#photos")


def test_ids_that_a_template_makes_too_long_are_counted() -> None:
    source = made(photos(), {"": [{"id": "x" * 512, "vector": [1.0, 2.0]}, *numbered(3)]})
    plan = vb.plan(source, memory(), id_template="photos/{id}", scan=True)
    assert {loss.kind: loss.rows for loss in plan.losses} == {"id": 1}


@pytest.mark.parametrize(
    ("template", "apart"),
    [
        ("{namespace}/{id}", True), ("x-{namespace}:{id}", True), ("{namespace}/{id}{namespace}", True),
        ("{{{namespace}}}{id}", True), ("{namespace}é{id}", True), ("{id}", False),
        ("{namespace}{id}", False),
        ("{namespace}-{id}", False), ("{id}/{namespace}", False),
    ],
)  # fmt: skip
def test_a_template_keeps_namespaces_apart_if_something_no_namespace_has_stands_behind(
    template: str, apart: bool
) -> None:
    assert keeps_apart(template) is apart


# ------------------------------------------------------------ targets that exist


def test_a_target_that_exists_keeps_its_index_and_must_agree_in_all_else(tmp_path: Path) -> None:
    source = made(photos(index=vb.Flat()))
    existing = made(photos(index=vb.HNSW(m=8)), url=f"faiss:{tmp_path}#photos")
    plan = vb.plan(source, existing)
    assert kinds(plan) == {"index": True}
    assert "exists with hnsw(m=8" in loss_of(plan, "index").detail
    assert plan.spec.vector.index == vb.HNSW(m=8)
    other = made(photos(fields={"year": "float64", "size": "int64"}, id_type="int64"))
    with pytest.raises(SchemaError) as caught:
        vb.plan(source, other)
    for difference in ("id_type is int64", "'size' is missing", "'title' is not", "'year' is"):
        assert difference in str(caught.value)


def test_a_collection_is_not_copied_onto_itself() -> None:
    source = made(photos(namespaced=True), {"": numbered(2), "eu": numbered(3)})
    for one, other in ((source, source), (source, source.replace("#", "?namespace=eu#"))):
        with pytest.raises(ConfigError, match=r"the same collection|they would go to one"):
            vb.plan(one, other)
    plan = vb.plan(source.replace("#", "?namespace=eu#"), source.replace("#", "?namespace=copy#"))
    assert (plan.only, plan.into) == ("eu", "copy")


def test_a_source_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="photos"):
        vb.plan(memory(), memory())


@pytest.mark.parametrize("scheme", ["faiss", "milvus+lite", "snapshot", "memory"])
def test_a_plan_writes_nothing_on_either_side(scheme: str, tmp_path: Path) -> None:
    source = made(photos(), {"": numbered(50)}, url=f"faiss:{tmp_path}/source#photos")
    target = memory() if scheme == "memory" else f"{scheme}:{tmp_path}/target.db#photos"
    before = tree(tmp_path)
    assert vb.plan(source, target, scan=True).size.rows == 50
    assert tree(tmp_path) == before
    with vb.connect(target.partition("#")[0]) as store:
        assert store.collections() == []


def tree(directory: Path) -> dict[str, str]:
    """A digest of every file below a directory."""
    return {
        str(path): hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()
        for path in directory.rglob("*")
    }


# ------------------------------------------------------------ the identity plan


def test_without_a_plan_columns_of_one_name_and_type_are_the_same() -> None:
    source = made(photos(fields=FIELDS | {"price": "float64"}))
    target = made(photos(fields={"year": "int64", "title": "json", "size": "int64"}))
    with Side(source) as from_side, Side(target) as to_side:
        plan = planning.derive(from_side, to_side)
    assert [column.name for column in plan.columns] == ["vector", "year"]
    for other in (photos(dim=3), photos(id_type="int64")):
        with Side(source) as from_side, Side(made(other)) as to_side, pytest.raises(SchemaError):
            planning.derive(from_side, to_side)


def test_without_a_plan_a_source_without_a_schema_is_laid_out_as_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today = photos(fields={"title": "string", "extra": "json"})
    row = {"id": "a", "vector": [1.0, 2.0], "title": "A", "extra": '{"price": 1.5}'}
    source = drivers.foreign(monkeypatch, today, {"": [row]}, extra="extra")
    target = made(photos(fields={"price": "float64", "extra": "json"}))
    with Side(source) as from_side, Side(target) as to_side:
        plan = planning.derive(from_side, to_side)
        collection = from_side.collection()
        converter = Converter(plan, collection.spec, collection.extra)
        [page] = collection.scan(include=converter.include)
        [converted] = converter.convert(page.batch, "").to_pylist()
    assert converted == {"id": "a", "vector": [1.0, 2.0], "price": 1.5, "extra": '{"title":"A"}'}


# ------------------------------------------------------------ JSON


def test_a_plan_as_json_shows_no_password_and_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    target = drivers.narrow(monkeypatch).replace(":///", "://somebody:hunter2@host/")
    source = drivers.narrow(monkeypatch).replace(":///", "://reader:hunter3@host/")
    made(photos(), {"": numbered(2)}, url=f"{source}#photos")
    text = vb.plan(f"{source}#photos", f"{target}#photos").to_json()
    for secret in ("hunter", "somebody", "reader"):
        assert secret not in text
    assert "narrow://host/" in text


def test_a_plan_is_the_same_after_json_whatever_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    target = drivers.narrow(monkeypatch, int_bits=53, indexes=frozenset({"auto"}))
    source = made(photos(namespaced=True, index=vb.Flat()), {"": numbered(5), "eu": numbered(2)})
    plan = vb.plan(
        source, f"{target}#photos", scan=True, id_template="{namespace}/{id}", rename={"year": "made"},
        drop=["tags"], filter=vb.field("title").isin(["a", "é\x1b"]) | ~vb.field("year").is_null(),
    )  # fmt: skip
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert (again.size, again.digest()) == (plan.size, plan.digest())


def test_a_damaged_plan_is_a_configuration_error() -> None:
    values = vb.plan(made(photos(), {"": numbered(2)}), memory()).to_dict()
    for name in values:
        for junk in (None, 7, "x", [], [1], {}, {"a": 1}, [{}], [{"name": 1}]):
            try:
                Plan.from_dict(json.loads(json.dumps(values | {name: junk})))
            except ConfigError:
                continue
    for name in ("source_spec", "spec", "size"):
        for inner in values[name]:
            for junk in (None, 7, "x", [], [1], {}, [{}]):
                try:
                    Plan.from_dict(json.loads(json.dumps(values | {name: values[name] | {inner: junk}})))
                except ConfigError:
                    continue


def test_a_spec_that_no_store_may_have_is_not_created_from_a_plan() -> None:
    source = made(photos(), {"": numbered(2)})
    target = memory()
    values = vb.plan(source, target).to_dict()
    values["spec"]["name"] = "../elsewhere"
    with pytest.raises(vb.VecbridgeError):
        vb.migrate(source, target, plan=Plan.from_dict(values))


def test_a_plan_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = vb.plan(made(photos()), memory())
    file = tmp_path / "move.plan"
    write_plan(file, plan)
    assert Plan.load(file) == plan
    whole = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_plan(file, plan)
    monkeypatch.setattr(os, "fsync", whole)
    assert list(tmp_path.iterdir()) == [file]
    assert Plan.load(file) == plan
    for place in (tmp_path, tmp_path / "absent" / "move.plan"):
        with pytest.raises(ConfigError):
            write_plan(place, plan)


def test_vectors_of_a_plan_are_not_touched_by_a_dry_run() -> None:
    values = np.random.default_rng(5).normal(size=(30, 2)).astype(np.float32)
    source = made(photos(), {"": [{"id": f"r{n}", "vector": row.tolist()} for n, row in enumerate(values)]})
    vb.plan(source, memory(), scan=True)
    with vb.open(source) as collection:
        found = np.concatenate([vb.vectors(page.batch, "vector") for page in collection.scan()])
    assert np.array_equal(found, values)
