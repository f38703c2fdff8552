"""Plans of collections that a database's own client made: what cannot be kept is named, and nothing else."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration.sides import PLACES, fresh_name
from tests.stores.weaviate import server as weaviate_server
from vecbridge.migration.plans import Plan

ROWS, DIM = 1_100, 4
VECTORS = np.random.default_rng(7).normal(size=(ROWS, DIM)).astype(np.float32)


def summary(plan: Plan) -> dict[str, tuple[bool, int | None]]:
    """Whether it is certain, and how many rows were counted, by kind of loss."""
    return {loss.kind: (loss.certain, loss.rows) for loss in plan.losses}


def types(plan: Plan) -> dict[str, str]:
    return {field.name: field.type for field in plan.spec.fields}


def test_of_milvus_its_types_without_a_name_here_and_hostile_names(tmp_path: Path) -> None:
    pymilvus = pytest.importorskip("pymilvus")
    url = PLACES["milvus-lite"].url(tmp_path)
    name = fresh_name("Foreign")
    client = pymilvus.MilvusClient(url.removeprefix("milvus+lite://"))
    schema = client.create_schema(enable_dynamic_field=False)
    schema.add_field("pk", pymilvus.DataType.VARCHAR, is_primary=True, max_length=100)
    schema.add_field("embedding", pymilvus.DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("flags", pymilvus.DataType.ARRAY, element_type=pymilvus.DataType.BOOL, max_capacity=4)
    schema.add_field("words", pymilvus.DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("Title", pymilvus.DataType.VARCHAR, max_length=100)
    schema.add_field("title", pymilvus.DataType.INT32)
    schema.add_field("_hidden", pymilvus.DataType.JSON)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="IVF_FLAT", metric_type="IP", params={"nlist": 32})
    index.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index)
    rows = [
        {"pk": f"k{number}", "embedding": vector.tolist(), "flags": [True], "words": {number: 1.0},
         "Title": "T", "title": number, "_hidden": {"n": number}}
        for number, vector in enumerate(VECTORS[:50])
    ]  # fmt: skip
    client.insert(name, rows)
    client.close()
    target = f"faiss://{tmp_path}/store"
    plan = vb.plan(f"{url}#{name}", target, scan=True)
    assert summary(plan) == dict.fromkeys(["field:flags", "sparse", "index"], (True, None))
    assert types(plan) == {"Title": "string", "title_2": "int64", "f__hidden": "json"}
    assert plan.renamed == {"title": "title_2", "_hidden": "f__hidden"}
    assert plan.target == f"{target}#{name.lower()}"
    assert (plan.spec.vector.index, plan.spec.vector.metric) == (
        vb.Auto(),
        vb.Metric.DOT,
    )  # its nlist is not told
    assert plan.size.rows == 50
    assert {loss.kind for loss in plan.refused(())} == {"field:flags", "sparse", "index"}


def test_of_weaviate_its_types_without_a_name_here_and_objects_without_a_vector(tmp_path: Path) -> None:
    weaviate = pytest.importorskip("weaviate")
    from weaviate.classes.config import Configure, DataType, Property
    from weaviate.classes.data import DataObject

    url = weaviate_server.url()
    host, _, query = url.removeprefix("weaviate://").partition("?")
    name = fresh_name("Article").capitalize()
    client = weaviate.connect_to_local(
        port=int(host.rpartition(":")[2]), grpc_port=int(query.removeprefix("grpc_port=")),
        skip_init_checks=True,
    )  # fmt: skip
    properties = [
        Property(name="wordCount", data_type=DataType.INT), Property(name="at", data_type=DataType.DATE),
        Property(name="place", data_type=DataType.GEO_COORDINATES),
        Property(name="body", data_type=DataType.TEXT),
    ]  # fmt: skip
    try:
        articles = client.collections.create(
            name, properties=properties, vector_config=Configure.Vectors.self_provided()
        )
        objects = [
            DataObject(
                properties={"wordCount": number, "body": f"text {number}"}, uuid=uuid.UUID(int=number + 1),
                vector=None if number in (700, 1_050) else {"default": vector.tolist()},
            )
            for number, vector in enumerate(VECTORS)
        ]  # fmt: skip
        assert not articles.data.insert_many(objects).errors
        before = client.collections.export_config(name).to_dict()
        source, target = f"{url}#{name}", f"faiss://{tmp_path}/store"
        plan = vb.plan(source, target, scan=True)
        assert summary(plan) == {
            "field:place": (True, None), "field:at": (False, None), "row:no_vector": (True, 2)
        }  # fmt: skip
        assert str(uuid.UUID(int=701)) in next(
            loss.detail for loss in plan.losses if loss.kind == "row:no_vector"
        )
        assert types(plan) == {"wordCount": "int64", "at": "timestamp", "body": "string"}
        assert plan.size.rows == ROWS
        assert {loss.kind for loss in plan.refused(())} == {"field:place"}
        assert "field:at" not in summary(vb.plan(source, target, drop=["at"]))
        assert client.collections.export_config(name).to_dict() == before
        assert len(articles) == ROWS
    finally:
        client.collections.delete(name)
        client.close()


def test_of_pinecone_a_key_that_comes_late_sparse_values_and_a_namespace_without_a_name_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinecone = pytest.importorskip("pinecone")
    monkeypatch.setenv("PINECONE_API_KEY", "emulated")
    url = PLACES["pinecone"].url(tmp_path)
    name = fresh_name("other").replace("_", "-")
    client = pinecone.Pinecone(
        api_key="emulated", host=url.partition("?")[0].replace("pinecone://", "http://")
    )
    place = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
    client.indexes.create(name=name, dimension=DIM, metric="dotproduct", spec=place)
    source, target = f"{url}#{name}", f"faiss://{tmp_path}/store"
    try:
        with client.index(name) as index:
            data: list[Any] = [
                (
                    f"k{number:04}",
                    vector.tolist(),
                    {"year": number} | ({"late": "x"} if number > 1_050 else {}),
                )
                for number, vector in enumerate(VECTORS)
            ]
            for start in range(0, ROWS, 500):
                index.upsert(vectors=data[start : start + 500])
            index.upsert(vectors=[("a", [1.0, 0, 0, 0], {})], namespace="old data")
        plan = vb.plan(source, target, scan=True)
        assert summary(plan) == {"namespace": (True, 1)}
        assert [loss.subject for loss in plan.losses] == ["old data"]
        assert plan.refused(()) == ()
        assert plan.extra == "extra"
        assert types(plan) == {"year": "float64", "extra": "json"}
        assert [(each.source, each.rows) for each in plan.namespaces] == [("", ROWS), ("old data", 1)]
        assert plan.size.rows == ROWS
        assert plan.target.endswith(f"#{name.replace('-', '_')}")
        assert "emulated" not in plan.to_json()
        default = vb.plan(source.replace("#", "&namespace=#"), target)
        assert (summary(default), default.size.rows) == ({}, ROWS)
        merged = vb.plan(source, target, id_template="{namespace}/{id}")
        assert {kind for kind, (certain, _) in summary(merged).items() if certain} == set()
        assert merged.size.rows == ROWS + 1
        assert vb.migrate(source, target, plan=merged).written == ROWS + 1
        with vb.open(merged.target) as copied:
            assert copied.fetch(["/k1099"]).column("extra").to_pylist() == ['{"late":"x"}']
            assert copied.fetch(["old data/a"]).num_rows == 1
    finally:
        client.indexes.delete(name)
        client.close()
