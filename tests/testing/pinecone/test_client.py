"""The official client finds in the emulator what it expects of the service, over REST and over gRPC."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.pinecone.conftest import KEY
from vecbridge.testing.pinecone import Emulator, Fault

pinecone = pytest.importorskip("pinecone")
errors = pytest.importorskip("pinecone.errors")

ONCE = pinecone.RetryConfig(max_retries=0)
PLACE = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    # Without a scheme the gRPC channel speaks TLS, whatever the host says.
    with pinecone.Pinecone(api_key=KEY, host=emulator.host, grpc_scheme="http", retry_config=ONCE) as client:
        yield client


@pytest.fixture(params=["rest", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def index(client: Any, protocol: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # Over REST an index retries whatever it is told (client 10.2), so at least it does not wait.
    monkeypatch.setattr("pinecone._internal.http_client._retry_sleep", lambda seconds: None)
    client.indexes.create(name="photos", dimension=2, metric="cosine", spec=PLACE)
    with client.index("photos", grpc=protocol == "grpc") as index:
        yield index


def test_indexes_are_created_listed_configured_and_deleted(client: Any) -> None:
    tags = {"team": "a"}
    made = client.indexes.create(
        name="photos", dimension=2, metric="dotproduct", spec=PLACE, deletion_protection="enabled", tags=tags
    )
    assert (made.dimension, made.metric, made.vector_type) == (2, "dotproduct", "dense")
    assert (made.deployment.cloud, made.deployment.region) == ("aws", "us-east-1")
    assert made.status.ready
    assert [index.name for index in client.indexes.list()] == ["photos"]
    with pytest.raises(errors.ConflictError):
        client.indexes.create(name="photos", dimension=2, spec=PLACE)
    with pytest.raises(errors.ForbiddenError):
        client.indexes.delete("photos")
    client.indexes.configure("photos", deletion_protection="disabled", tags={"team": "b"})
    assert client.indexes.describe("photos").tags == {"team": "b"}
    client.indexes.delete("photos")
    with pytest.raises(errors.NotFoundError):
        client.indexes.describe("photos")


def test_a_sparse_index_is_described_as_one(client: Any) -> None:
    made = client.indexes.create(name="words", vector_type="sparse", metric="dotproduct", spec=PLACE)
    assert (made.vector_type, made.metric, made.dimension) == ("sparse", "dotproduct", None)


def test_a_wrong_key_is_unauthorized(emulator: Emulator, index: Any) -> None:
    with (
        pinecone.Pinecone(api_key="wrong", host=emulator.host, retry_config=ONCE) as other,
        pytest.raises(errors.UnauthorizedError),
    ):
        other.indexes.describe("photos")
    with (
        pinecone.Pinecone(api_key="wrong", grpc_scheme="http", retry_config=ONCE) as other,
        other.index(host=index.host, grpc=True) as same,
        pytest.raises(errors.UnauthorizedError),
    ):
        same.describe_index_stats()


def test_records_come_back_as_they_were_written(index: Any) -> None:
    metadata = {"year": 2020.0, "tags": ["a", ""], "none": [], "seen": False, "title": "ä"}
    index.upsert(vectors=[("a", [0.25, -2.0], metadata), ("b", [1.0, 0.0])], namespace="n")
    found = index.fetch(ids=["a", "b", "c"], namespace="n").vectors
    assert set(found) == {"a", "b"}
    assert (list(found["a"].values), found["a"].metadata) == ([0.25, -2.0], metadata)
    [match] = index.query(vector=[1, 0], top_k=1, include_values=True, namespace="n").matches
    assert (match.id, match.score, list(match.values)) == ("b", 1.0, [1.0, 0.0])
    [match] = index.query(id="a", top_k=1, filter={"tags": "a"}, include_metadata=True, namespace="n").matches
    assert (match.id, match.metadata) == ("a", metadata)
    assert list(index.fetch_by_metadata(filter={"year": {"$gt": 1}}, namespace="n").vectors) == ["a"]
    assert index.query(vector=[1, 0], top_k=1).matches == []


def test_records_are_updated_listed_counted_and_deleted(index: Any) -> None:
    index.upsert(vectors=[(f"{number:03}", [1, number], {"odd": bool(number % 2)}) for number in range(150)])
    index.update(id="000", set_metadata={"odd": True}, values=[0, 7])
    assert index.update(filter={"odd": True}, set_metadata={"new": 1}, dry_run=True).matched_records == 76
    assert [len(page.vectors) for page in index.list()] == [100, 50]
    assert next(item.id for page in index.list(prefix="14") for item in page.vectors) == "140"
    index.delete(filter={"odd": True})
    index.delete(ids=["002"])
    stats = index.describe_index_stats()
    assert (stats.total_vector_count, stats.dimension, stats.metric) == (73, 2, "cosine")
    assert stats.namespaces["__default__"].vector_count == 73
    index.delete(delete_all=True)
    assert index.describe_index_stats().total_vector_count == 0


def test_namespaces_are_listed_described_and_deleted(index: Any) -> None:
    for name in ("one", "two"):
        index.upsert(vectors=[("a", [1, 0])], namespace=name)
    assert [item.name for page in index.list_namespaces() for item in page.namespaces] == ["one", "two"]
    assert index.describe_namespace(name="one").record_count == 1
    index.delete_namespace(name="one")
    with pytest.raises(errors.NotFoundError):
        index.describe_namespace(name="one")
    with pytest.raises(errors.NotFoundError):
        index.delete(ids=["a"], namespace="no")


def test_a_refusal_is_an_api_error_with_its_message(index: Any) -> None:
    with pytest.raises(
        errors.ApiError, match="Vector dimension 3 does not match the dimension of the index 2"
    ):
        index.upsert(vectors=[("a", [1, 0, 0])])
    with pytest.raises(errors.ApiError, match="Vector values must be"):
        index.upsert(vectors=[("a", [math.nan, 0])])
    with pytest.raises(errors.ApiError, match="valid operator"):
        index.query(vector=[1, 0], top_k=1, filter={"a": {"$near": 1}})


def test_a_request_beyond_2_mb_is_refused_over_both(index: Any) -> None:
    rows = [(f"{number}", [1, 0], {"text": "x" * 40_000}) for number in range(60)]
    with pytest.raises(errors.PineconeError, match="the limit is: 2097152 bytes"):
        index.upsert(vectors=rows)
    assert index.describe_index_stats().total_vector_count == 0


@pytest.mark.parametrize(
    ("fault", "over_rest", "over_grpc"),
    [
        (Fault(status=429, retry_after=0.01), errors.RateLimitError, errors.ApiError),
        (Fault(status=500), errors.ServiceError, errors.ServiceError),
        (Fault(status=503), errors.ServiceError, errors.PineconeConnectionError),
        (Fault(drop="before"), errors.PineconeConnectionError, errors.PineconeError),
        (Fault(drop="after"), errors.PineconeConnectionError, errors.PineconeError),
    ],
    ids=lambda value: value.model_dump_json(exclude_defaults=True) if isinstance(value, Fault) else "",
)
def test_a_fault_reaches_the_caller_as_the_clients_error(
    emulator: Emulator, protocol: str, index: Any, fault: Fault, over_rest: type, over_grpc: type
) -> None:
    index.upsert(vectors=[("a", [1, 0])])
    emulator.faults.add(fault)
    with pytest.raises(over_rest if protocol == "rest" else over_grpc):
        index.upsert(vectors=[("b", [1, 0])])
    emulator.faults.clear()
    for _ in range(2):  # over gRPC, the call after a drop may still meet the same connection
        with contextlib.suppress(errors.PineconeError):
            index.upsert(vectors=[("c", [1, 0])])
    assert set(index.fetch(ids=["a", "b", "c"]).vectors) == {"a", "c"} | (
        {"b"} if fault.drop == "after" else set()
    )


def test_the_log_tells_rest_from_grpc(emulator: Emulator, index: Any, protocol: str) -> None:
    index.upsert(vectors=[("a", [1, 0]), ("b", [0, 1])])
    [logged] = emulator.log.requests("upsert")
    assert (logged.protocol, logged.rows, logged.status) == (protocol, 2, 200)
    assert logged.bytes > 16


def test_many_threads_may_write_at_once(emulator: Emulator, index: Any) -> None:
    rows = [(f"{number}", [1, number]) for number in range(1_000)]
    answer = index.upsert(vectors=rows, batch_size=20, max_concurrency=8)
    assert (answer.upserted_count, answer.has_errors) == (1_000, False)
    assert index.describe_index_stats().total_vector_count == 1_000
    assert len(emulator.log.requests("upsert")) == 50
