"""The emulated Weaviate says what the genuine one says, and starts and stops as a server should."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import (
    compressed,
    random_vectors,
    rows,
    scanned,
    take_key_back,
    weaviate_store,
)
from tests.testing.weaviate_requests import RECORDED, REQUESTS, answers
from vecbridge.driver import Deadline
from vecbridge.errors import AuthError, NotFoundError, UnavailableError
from vecbridge.indexes import HNSW
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate.stubs import base_pb2, batch_delete_pb2
from vecbridge.testing import driver_of
from vecbridge.testing.weaviate import Emulator

VERSION = "1.39."  # of the server that was asked


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(scope="module")
def emulated_answers() -> list[Any]:
    with Emulator() as running:
        return answers(running.url)


@pytest.fixture(scope="module")
def genuine_answers() -> list[Any]:
    if (absent := server.missing()) is not None:
        pytest.skip(f"no genuine Weaviate: {absent}")
    if not (version := server.version(server.shared_url())).startswith(VERSION):
        pytest.skip(f"the answers are those of {VERSION}x, and the server is {version}")
    return answers(server.shared_url())


@pytest.fixture(scope="module")
def recorded() -> list[Any]:
    return list(json.loads(RECORDED.read_text("utf-8")))


@pytest.mark.parametrize("place", range(len(REQUESTS)))
def test_the_emulator_says_what_the_genuine_server_said(
    emulated_answers: list[Any], recorded: list[Any], place: int
) -> None:
    assert emulated_answers[place] == recorded[place], REQUESTS[place]


def test_the_genuine_server_says_what_was_recorded(genuine_answers: list[Any], recorded: list[Any]) -> None:
    for request, now, then in zip(REQUESTS, genuine_answers, recorded, strict=True):
        assert now == then, request


def test_it_starts_at_once_on_ports_of_its_own_and_forgets_everything_when_it_stops() -> None:
    started = time.monotonic()
    with Emulator() as one, Emulator() as other:
        assert time.monotonic() - started < 5
        with weaviate_store(one.url) as store, weaviate_store(other.url) as elsewhere:
            store.create(CollectionSpec.single("photos", dim=2))
            assert (store.collections(), elsewhere.collections()) == (["photos"], [])
            one.close()
            with pytest.raises(UnavailableError):
                store.collections()


@pytest.mark.parametrize("which", ["port", "grpc_port"])
def test_a_port_that_somebody_has_is_an_error(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"in use|cannot have port"):
            Emulator(**{which: taken.getsockname()[1]})


def test_the_command_serves_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "vecbridge.testing.weaviate", "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with weaviate_store(process.stdout.readline().strip()) as store:
            spec = CollectionSpec.single("photos", dim=2)
            store.create(spec).upsert(rows(spec, ["a"]))
            assert scanned(store.open("photos")) == ["a"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_wrong_key_is_refused_by_both_ports() -> None:
    with Emulator(api_key="right") as locked, weaviate_store(locked.url, api_key="right") as store:
        collection = store.create(CollectionSpec.single("photos", dim=2))
        for wrong in ({}, {"api_key": "sesame"}):
            with weaviate_store(locked.url, **wrong) as other, pytest.raises(AuthError, match="REST"):
                other.collections()
        take_key_back(store)
        with pytest.raises(AuthError, match="gRPC"):
            collection.count()


def test_it_says_that_it_is_emulated(emulator: Emulator) -> None:
    assert server.version(emulator.url).endswith("-emulated")


@pytest.mark.parametrize(
    ("quantizer", "trained"),
    [
        ("pq", {0: False, 1: False, 255: False, 256: True}),
        ("sq", {0: False, 1: True}),
        ("bq", {0: True, 1: True}),
        ("rq", {0: False, 1: True}),
    ],
)
def test_a_quantizer_is_trained_when_the_genuine_one_is(
    emulator: Emulator, quantizer: Any, trained: dict[int, bool]
) -> None:
    spec = CollectionSpec.single("photos", dim=8, index=HNSW(quantizer=quantizer))
    with weaviate_store(emulator.url) as store:
        collection = store.create(spec)
        for count, wanted in trained.items():
            if count:
                collection.upsert(rows(spec, list(map(str, range(count)))))
            assert compressed(collection) == (wanted and quantizer in ("bq", "rq"))
            collection.wait_ready()
            assert compressed(collection) == wanted
            assert collection.status().index == "ready"


def test_at_most_10_000_rows_are_deleted_a_call(emulator: Emulator) -> None:
    spec = CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
    with weaviate_store(emulator.url) as store:
        collection = store.create(spec)
        collection.upsert(rows(spec, list(map(str, range(10_002))), year=[7] * 10_002))
        condition = base_pb2.Filters(
            operator=base_pb2.Filters.OPERATOR_IS_NULL,
            target=base_pb2.FilterTarget(property="year"),
            value_boolean=False,
        )
        request = batch_delete_pb2.BatchDeleteRequest(collection="Photos", filters=condition)
        for matches, successful in ((10_002, 10_000), (2, 2), (0, 0)):
            reply = driver_of(store).connection.grpc.call(
                "BatchDelete", request, Deadline.after(30), "delete"
            )
            assert (reply.matches, reply.successful) == (matches, successful)


def test_a_collection_that_was_dropped_is_not_made_anew_by_a_late_write(emulator: Emulator) -> None:
    spec = CollectionSpec.single("photos", dim=2)
    with weaviate_store(emulator.url) as store:
        collection = store.create(spec)
        store.drop("photos")
        with pytest.raises(NotFoundError):
            collection.upsert(rows(spec, ["a"]))
        assert store.collections() == []


def test_many_searches_at_once_are_exact(emulator: Emulator) -> None:
    spec = CollectionSpec.single("photos", dim=16, metric="l2")
    vectors, queries = random_vectors(500, 16), random_vectors(50, 16, seed=1)
    nearest = ((queries[:, None] - vectors) ** 2).sum(axis=2).argsort(axis=1)[:, :10]
    with weaviate_store(emulator.url) as store:
        collection = store.create(spec)
        collection.upsert(rows(spec, list(map(str, range(500))), vector=vectors))
        found = collection.search(Query(queries, k=10))
    assert [list(map(int, hits.ids)) for hits in found] == nearest.tolist()
