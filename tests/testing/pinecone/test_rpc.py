"""The data plane over gRPC, in messages of the public proto: the same rules, in the statuses of gRPC."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.testing.pinecone.conftest import KEY, Api, Servers
from vecbridge.testing.pinecone import Emulator, Fault
from vecbridge.testing.pinecone.messages import CLASSES, METHODS


class Stub:
    """The methods of the service on one channel."""

    def __init__(self, host: str) -> None:
        self._channel = grpc.insecure_channel(host.removeprefix("http://"))

    def raw(self, method: str, content: bytes, key: str = KEY) -> tuple[bytes, Any]:
        call = self._channel.unary_unary(f"/VectorService/{method}")
        return call.with_call(content, metadata=[("api-key", key)], timeout=10)

    def __call__(self, method: str, **members: Any) -> Any:
        _, request, answer = METHODS[method]
        content, _ = self.raw(method, CLASSES[request](**members).SerializeToString())
        return CLASSES[answer].FromString(content)

    def refused(self, method: str, content: bytes, key: str = KEY) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.raw(method, content, key)
        return caught.value

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def stub(index: Api) -> Iterator[Stub]:
    stub = Stub(index.host)
    yield stub
    stub.close()


def floats(*numbers: float) -> bytes:
    """A list of floats as it is on the wire."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def upsert(*vectors: dict[str, Any]) -> bytes:
    return bytes(CLASSES["UpsertRequest"](vectors=vectors).SerializeToString())


def test_rest_and_grpc_share_one_port_and_the_same_records(stub: Stub, index: Api) -> None:
    metadata = {"year": 2020, "tags": ["a"], "seen": False}
    stub("Upsert", vectors=[{"id": "a", "values": floats(0.1, 0.2), "metadata": metadata}])
    rest = index.get("/vectors/fetch", ids="a").json()["vectors"]["a"]
    assert rest == {"id": "a", "values": [0.1, 0.2], "metadata": metadata}
    fetched = stub("Fetch", ids=["a"]).vectors["a"]
    assert fetched.id == "a"
    assert fetched.values == floats(0.1, 0.2)
    assert dict(fetched.metadata)["year"] == 2020.0


def test_sparse_values_and_nested_filters_are_read(servers: Servers, emulator: Emulator) -> None:
    index = servers.index(emulator, name="words", metric="dotproduct")
    stub = Stub(index.host)
    sparse = {"indices": [7, 9], "values": floats(2.0, 1.0)}
    rows = [{"id": id, "values": floats(1, 0), "metadata": {"tag": id}} for id in "ab"]
    stub("Upsert", vectors=[rows[0] | {"sparse_values": sparse}, rows[1]])
    filter = {"$or": [{"tag": {"$in": ["a", "c"]}}, {"tag": {"$eq": "b"}}]}
    found = stub("Query", vector=floats(1, 0), sparse_vector=sparse, top_k=2, filter=filter).matches
    assert [(match.id, match.score) for match in found] == [("a", 6.0), ("b", 1.0)]
    assert stub("Fetch", ids=["a"]).vectors["a"].sparse_values.values == floats(2.0, 1.0)
    stub.close()


def test_a_write_and_a_query_carry_log_numbers_as_metadata(stub: Stub) -> None:
    _, call = stub.raw("Upsert", upsert({"id": "a", "values": floats(1, 0)}))
    assert dict(call.initial_metadata())["x-pinecone-request-lsn"] == "1"
    query = CLASSES["QueryRequest"](vector=floats(1, 0), top_k=1).SerializeToString()
    _, call = stub.raw("Query", query)
    assert dict(call.initial_metadata())["x-pinecone-max-indexed-lsn"] == "1"


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        ({"id": "a", "values": floats(1)}, "dimension"),
        ({"id": "a", "values": b"12345"}, "Failed to read the request"),
        ({"id": "a", "values": floats(math.nan, 0)}, "finite"),
        ({"id": "a", "values": floats(math.inf, 0)}, "finite"),
        ({"id": "a", "values": floats(0, 0)}, "zeros"),
        ({"id": "ä", "values": floats(1, 0)}, "ASCII"),
        ({"id": "", "values": floats(1, 0)}, "Vector ID"),
        ({"id": "a", "values": floats(1, 0), "metadata": {"key": None}}, "Metadata value"),
        ({"id": "a", "values": floats(1, 0), "metadata": {"key": math.nan}}, ""),
    ],
    ids=str,
)
def test_the_rules_of_rest_hold(stub: Stub, vector: dict[str, Any], says: str) -> None:
    error = stub.refused("Upsert", upsert(vector))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in error.details()


def test_a_request_beyond_2_mb_is_out_of_range(stub: Stub) -> None:
    rows = [{"id": f"{row}", "values": floats(1, 0), "metadata": {"text": "x" * 40_000}} for row in range(60)]
    error = stub.refused("Upsert", upsert(*rows))
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert error.details().endswith("the limit is: 2097152 bytes")


def test_a_wrong_key_is_unauthenticated(stub: Stub) -> None:
    assert stub.refused("DescribeIndexStats", b"", "wrong").code() is grpc.StatusCode.UNAUTHENTICATED


def test_what_is_no_message_is_refused(stub: Stub) -> None:
    assert stub.refused("Upsert", b"\xff\xff").code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_namespace_is_not_found_to_a_delete(stub: Stub) -> None:
    content = CLASSES["DeleteRequest"](delete_all=True, namespace="no").SerializeToString()
    assert stub.refused("Delete", content).code() is grpc.StatusCode.NOT_FOUND


def test_a_fault_says_when_to_come_back(stub: Stub, emulator: Emulator) -> None:
    emulator.faults.add(Fault(status=429, retry_after=0.5, times=1))
    error = stub.refused("Upsert", upsert({"id": "a", "values": floats(1, 0)}))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["retry-after"] == "0.5"


def test_every_method_of_the_service_answers(stub: Stub) -> None:
    stub(
        "Upsert",
        vectors=[{"id": id, "values": floats(1, 0), "metadata": {"year": 1}} for id in "abc"],
        namespace="n",
    )
    here = {"namespace": "n"}
    assert stub("Update", id="a", set_metadata={"year": 2}, **here).ByteSize() == 0
    assert stub("Update", filter={"year": 1}, set_metadata={"new": True}, **here).matched_records == 2
    assert [match.id for match in stub("Query", id="b", top_k=2, **here).matches] == ["a", "b"]
    assert list(stub("FetchByMetadata", filter={"year": 2}, **here).vectors) == ["a"]
    page = stub("List", limit=2, **here)
    rest = stub("List", pagination_token=page.pagination.next, **here)
    assert [item.id for item in [*page.vectors, *rest.vectors]] == ["a", "b", "c"]
    stub("Delete", ids=["a"], **here)
    stats = stub("DescribeIndexStats")
    assert (stats.namespaces["n"].vector_count, stats.dimension, stats.metric) == (2, 2, "cosine")
    assert stub("CreateNamespace", name="m").record_count == 0
    assert stub("DescribeNamespace", namespace="n").record_count == 2
    assert [item.name for item in stub("ListNamespaces").namespaces] == ["m", "n"]
    stub("DeleteNamespace", namespace="n")
    assert stub("ListNamespaces").total_count == 1
