"""Collections made by a database's own client alone: schema, index and every row arrive as planned."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration.sides import PLACES, fresh_name
from vecbridge.migration.plans import Plan

ROWS, DIM = 1_100, 4
VECTORS = np.random.default_rng(3).normal(size=(ROWS, DIM)).astype(np.float32)


def scanned(url: str) -> dict[Any, dict[str, Any]]:
    with vb.open(url) as collection:
        return {row["id"]: row for page in collection.scan() for row in page.batch.to_pylist()}


def certain(plan: Plan) -> set[str]:
    return {loss.kind for loss in plan.losses if loss.certain}


@pytest.mark.parametrize("kind", ["milvus-lite", "milvus"])
def test_a_milvus_collection_with_dynamic_keys_arrives_with_every_key(kind: str, tmp_path: Path) -> None:
    pymilvus = pytest.importorskip("pymilvus")
    url = PLACES[kind].url(tmp_path / kind)
    name = fresh_name("Foreign")
    address = url.replace("milvus+lite://", "").replace("milvus://", "http://")
    client = pymilvus.MilvusClient(address)
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("pk", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("embedding", pymilvus.DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("title", pymilvus.DataType.VARCHAR, max_length=100)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="HNSW", metric_type="L2", params={"M": 24, "efConstruction": 99})
    client.create_collection(name, schema=schema, index_params=index)
    rows = [
        {"pk": number - 50, "embedding": vector.tolist(), "title": f"t{number}"}
        | ({"late": {"n": number}} if number > 1_050 else {"year": number})
        for number, vector in enumerate(VECTORS)
    ]
    client.insert(name, rows)
    target = f"faiss://{tmp_path}/store#moved"
    if kind == "milvus-lite":
        client.close()
    try:
        lost = {"index"} if kind == "milvus-lite" else set()  # which ignores what it is told of an index
        report = vb.migrate(f"{url}#{name}", target, allow=lost)
        assert certain(report.plan) == lost
        spec = report.plan.spec
        assert (spec.id_type, spec.vector.name, spec.vector.metric) == ("int64", "embedding", vb.Metric.L2)
        assert spec.vector.index == (vb.Auto() if lost else vb.HNSW(m=24, ef_construction=99))
        assert [(field.name, field.type) for field in spec.fields] == [("title", "string"), ("extra", "json")]
        found = scanned(target)
        assert len(found) == ROWS
        for row in rows:
            moved = found[row["pk"]]
            expected = {key: row[key] for key in ("late", "year") if key in row}
            assert json.loads(moved["extra"]) == expected
            assert (moved["embedding"], moved["title"]) == (row["embedding"], row["title"])
        with vb.open(target) as collection:
            collection.wait_ready()
        proof = vb.verify(f"{url}#{name}", target, level="search", plan=report.plan)
        assert proof.passed, proof.findings
    finally:
        with vb.connect(url) as store:
            store.drop(name)


def test_a_weaviate_class_arrives_but_for_objects_without_a_vector_or_with_zeros_which_are_named(
    tmp_path: Path,
) -> None:
    weaviate = pytest.importorskip("weaviate")
    from weaviate.classes.config import Configure, DataType, Property
    from weaviate.classes.data import DataObject

    url = PLACES["weaviate"].url(tmp_path)
    host, _, query = url.removeprefix("weaviate://").partition("?")
    port = int(host.rpartition(":")[2])
    grpc_port = int(query.removeprefix("grpc_port="))
    name = fresh_name("Article").capitalize()
    client = weaviate.connect_to_local(port=port, grpc_port=grpc_port, skip_init_checks=True)
    properties = [
        Property(name="title", data_type=DataType.TEXT), Property(name="words", data_type=DataType.INT),
        Property(name="price", data_type=DataType.NUMBER), Property(name="at", data_type=DataType.DATE),
        Property(name="tags", data_type=DataType.TEXT_ARRAY),
    ]  # fmt: skip
    articles = client.collections.create(
        name, properties=properties, vector_config=Configure.Vectors.self_provided()
    )
    keys = [str(uuid.UUID(int=number)) for number in range(1, ROWS + 1)]
    values = [
        {"title": f" t{n} ", "words": n, "price": n / 3, "at": "2020-05-17T10:00:00Z", "tags": [f"g{n % 3}"]}
        if n % 10 else {}
        for n in range(ROWS)
    ]  # fmt: skip
    objects = [
        DataObject(properties=held, uuid=key, vector=vector.tolist())
        for key, held, vector in zip(keys, values, VECTORS, strict=True)
    ]
    objects[700] = DataObject(properties=values[700], uuid=keys[700])
    objects[701] = DataObject(properties=values[701], uuid=keys[701], vector=[0.0] * DIM)
    bad_keys = keys[700:702]
    answer = articles.data.insert_many(objects)
    assert not answer.errors
    source, target = f"{url}#{name}", f"snapshot://{tmp_path}/files#articles"
    bad = tmp_path / "bad.jsonl"
    try:
        with pytest.raises(vb.InvalidRecordError, match="|".join(bad_keys)):
            vb.migrate(source, f"snapshot://{tmp_path}/stopped#articles")
        scan = vb.plan(source, target, scan=True)
        assert {loss.kind: loss.rows for loss in scan.losses if loss.rows} == {
            "row:no_vector": 1, "row:zero_vector": 1
        }  # fmt: skip
        report = vb.migrate(source, target, plan=scan, dead_letters=bad)
        assert (report.written, report.failed) == (ROWS - 2, 2)
        assert sorted(json.loads(line)["id"] for line in bad.read_text("utf-8").splitlines()) == bad_keys
        found = scanned(target)
        assert set(found) == set(keys) - set(bad_keys)
        for key, held, vector in zip(keys, values, VECTORS, strict=True):
            if key in found:
                row = found[key]
                expected = {name: held.get(name) for name in ("title", "words", "price", "tags")}
                assert {name: row[name] for name in expected} == expected
                assert row["default"] == vector.tolist()
                assert (row["at"] is None) == (not held)
        proof = vb.verify(source, target, level="content", plan=report.plan)
        assert not proof.passed
        assert sorted(each.id for each in proof.findings if each.kind == "missing") == bad_keys
    finally:
        client.collections.delete(name)
        client.close()


def test_a_pinecone_index_without_a_schema_arrives_with_the_keys_that_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinecone = pytest.importorskip("pinecone")
    monkeypatch.setenv("PINECONE_API_KEY", "emulated")
    url = PLACES["pinecone"].url(tmp_path)
    host = url.partition("?")[0].replace("pinecone://", "http://")
    name = fresh_name("other").replace("_", "-")
    place = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
    client = pinecone.Pinecone(api_key="emulated", host=host)
    client.indexes.create(name=name, dimension=DIM, metric="cosine", spec=place)
    source, target = f"{url}#{name}", f"faiss://{tmp_path}/store#moved"
    try:
        with client.index(name) as index:
            data = []
            for number, vector in enumerate(VECTORS):
                held: dict[str, Any] = {"year": number, "title": f"t{number}", "tags": ["a"]}
                if number > 1_050:
                    held = {"late": True, "year": "unknown"}
                data.append((f"k{number:04}", vector.tolist(), held))
            for start in range(0, ROWS, 500):
                index.upsert(vectors=data[start : start + 500])
            index.upsert(vectors=[("k1", [1.0, 0.0, 0.0, 0.0], {"year": 1})], namespace="eu")
            index.upsert(vectors=[("lost", [1.0, 0.0, 0.0, 0.0], {"year": 1})], namespace="not ours")
        scan = vb.plan(source, target, scan=True)
        assert [(loss.kind, loss.subject, loss.rows) for loss in scan.losses] == [
            ("namespace", "not ours", 1)
        ]
        assert scan.size.rows == ROWS + 1
        with pytest.raises(vb.InvalidRecordError, match=r"'not ours'.*'lost'.*namespace"):
            vb.migrate(source, f"faiss://{tmp_path}/stopped#moved")
        report = vb.migrate(source, target, plan=scan, dead_letters=tmp_path / "bad.jsonl")
        assert (report.written, report.failed) == (ROWS + 1, 1)
        assert json.loads((tmp_path / "bad.jsonl").read_text("utf-8"))["id"] == "lost"
        proof = vb.verify(source, target, plan=scan, level="content")
        assert [(each.kind, each.namespace) for each in proof.findings] == [("namespace", "not ours")]
        found = scanned(target)
        assert len(found) == ROWS
        assert (found["k0007"]["year"], found["k0007"]["title"], found["k0007"]["tags"]) == (7.0, "t7", ["a"])
        assert json.loads(found["k1099"]["extra"]) == {"late": True, "year": "unknown"}
        assert set(scanned(target.replace("#", "?namespace=eu#"))) == {"k1"}
    finally:
        client.indexes.delete(name)
        client.close()
