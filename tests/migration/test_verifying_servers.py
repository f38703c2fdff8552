"""Copies on genuine servers: faithful ones pass, and indexes that an SDK changed are found."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration.sides import PLACES, fresh_name
from tests.migration.test_verifying import FIELDS, random_rows
from vecbridge.migration.proof import Finding

DIM, ROWS, FAITHFUL = 8, 1_500, 10
SERVERS = ("milvus", "weaviate")
HNSW = vb.HNSW(m=16, ef_construction=100)


@pytest.fixture
def copied(server: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A collection of files and its copy on a server, with enough rows for the server to build an index."""
    source, target = f"faiss://{tmp_path}#photos", f"{PLACES[server].url(tmp_path)}#{fresh_name()}"
    spec = vb.CollectionSpec.single("photos", dim=DIM, index=HNSW, fields={"year": "int64"})
    vectors = np.random.default_rng(3).standard_normal((ROWS, DIM)).astype(np.float32)
    with vb.connect(f"faiss://{tmp_path}") as store:
        store.create(spec).upsert(
            vb.batch(spec, id=[f"r{n}" for n in range(ROWS)], vector=vectors, year=list(range(ROWS)))
        )
    assert vb.migrate(source, target).written == ROWS
    with vb.open(target) as collection:
        collection.wait_ready()
    assert vb.verify(source, target, level="count").findings == ()
    yield source, target
    drop(target)


def drop(url: str) -> None:
    base, _, name = url.partition("#")
    with vb.connect(base) as store:
        store.drop(name)


def index_findings(source: str, target: str) -> tuple[Finding, ...]:
    """What is found at the lowest level; the deeper levels find it too."""
    for level in ("content", "search"):
        kinds = {each.kind for each in vb.verify(source, target, level=level).findings}
        assert "index" in kinds
        assert kinds <= {"index", "recall", "queries"}
    return count_findings(source, target)


def count_findings(source: str, target: str) -> tuple[Finding, ...]:
    """What is found at the lowest level, once the server is not about to build the index again.

    A server may merge segments minutes after the last write, and builds the index of the merged one; until
    then there is none to compare, which the proof says.
    """
    end = time.monotonic() + 60
    while True:
        proof = vb.verify(source, target, level="count")
        if not any("was not compared" in each for each in proof.notes) or time.monotonic() > end:
            return proof.findings
        time.sleep(0.5)


@pytest.mark.parametrize("server", ["milvus"])
@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("IVF_FLAT", {"nlist": 16}, "the server has ivf_flat(nlist=16"),
        ("HNSW", {"M": 4, "efConstruction": 100}, "m=4"),
        ("FLAT", {}, "the server has flat,"),
    ],
)
def test_an_index_that_pymilvus_built_otherwise_is_found(
    kind: str, params: dict[str, int], said: str, copied: tuple[str, str]
) -> None:
    client, name, field, index = without_index(copied[1])
    params_of_index = client.prepare_index_params()
    params_of_index.add_index(field, index_type=kind, index_name=index, metric_type="COSINE", params=params)
    client.create_index(name, params_of_index)
    client.load_collection(name)
    client.close()
    with vb.open(copied[1]) as opened:
        opened.wait_ready()
    [finding] = index_findings(*copied)
    assert (finding.kind, finding.column) == ("index", "vector")
    assert said in finding.detail
    assert "m=16" in finding.detail


@pytest.mark.parametrize("server", ["milvus"])
def test_an_index_that_pymilvus_dropped_is_found(copied: tuple[str, str]) -> None:
    client, *_ = without_index(copied[1])
    client.close()
    [finding] = vb.verify(*copied, level="count", settle=0).findings
    assert (finding.kind, finding.column) == ("index", "vector")
    assert "missing" in finding.detail


def without_index(url: str) -> tuple[Any, str, str, str]:
    """A client of pymilvus, the collection, and the field and the name of its index, which it has dropped."""
    pymilvus = pytest.importorskip("pymilvus")
    server, _, name = url.removeprefix("milvus://").partition("#")
    client = pymilvus.MilvusClient(f"http://{server}")
    [index] = client.list_indexes(name)
    field = client.describe_index(name, index)["field_name"]
    client.release_collection(name)
    client.drop_index(name, index)
    return client, name, field, index


@pytest.mark.parametrize("server", ["weaviate"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vectorIndexType": "flat"}, "the server has flat,"),
        ({"vectorIndexConfig": {"maxConnections": 4}}, "m=4"),
        ({"vectorIndexConfig": {"skip": True}}, "missing"),
    ],
)
def test_an_index_that_weaviate_was_told_otherwise_is_found(
    change: dict[str, Any], said: str, copied: tuple[str, str]
) -> None:
    name = copied[1].partition("#")[2]
    [described] = [
        each for each in rest(copied[1], "GET", "")["classes"] if name.lower() in each["class"].lower()
    ]
    [vector] = described["vectorConfig"].values()
    if "vectorIndexType" in change:
        vector["vectorIndexConfig"] = {}
    vector["vectorIndexConfig"] |= change.get("vectorIndexConfig", {})
    vector |= {key: value for key, value in change.items() if key == "vectorIndexType"}
    with vb.open(copied[0]) as collection:
        pages = [page.batch for page in collection.scan()]
    rest(copied[1], "DELETE", f"/{described['class']}")
    rest(copied[1], "POST", "", described)
    with vb.open(copied[1]) as collection:
        for page in pages:
            collection.upsert(page)
    [finding] = index_findings(*copied)
    assert (finding.kind, finding.column) == ("index", "vector")
    assert said in finding.detail


def rest(url: str, verb: str, path: str, body: Any = None) -> Any:
    """Asks Weaviate's schema endpoint."""
    host = url.removeprefix("weaviate://").partition("?")[0]
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{host}/v1/schema{path}", data, {"Content-Type": "application/json"}, method=verb
    )
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@pytest.mark.parametrize("server", SERVERS)
def test_faithful_copies_raise_no_alarm(server: str, tmp_path: Path, monkeypatch: Any) -> None:
    from vecbridge.migration import search_level

    monkeypatch.setattr(search_level, "MOST_QUERIES", 16)
    base = PLACES[server].url(tmp_path)
    for seed in range(FAITHFUL):
        random = np.random.default_rng(seed)
        count, dim = int(random.integers(1, 300)), int(random.integers(2, 12))
        spec = vb.CollectionSpec.single(
            fresh_name(), dim=dim, metric=("cosine", "dot", "l2")[seed % 3], fields=FIELDS,
            id_type="int64" if seed % 5 == 0 else "string",
        )  # fmt: skip
        source, target = f"memory:///{spec.name}#{spec.name}", f"{base}#{spec.name}"
        with vb.connect(source.partition("#")[0]) as store:
            store.create(spec).upsert(random_rows(random, spec, count, duplicates=seed % 4 == 0))
        assert vb.migrate(source, target, allow=["index"]).written == count
        proof = vb.verify(source, target)
        assert proof.passed, (seed, proof.findings)
        assert proof.recall
        drop(target)
