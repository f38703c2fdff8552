"""What goes wrong on the way: typed, within the deadline, saying which port; the store survives it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import address, fresh, made, rows, scanned, take_key_back, weaviate_store
from vecbridge.errors import (
    AuthError,
    DeadlineError,
    InvalidURLError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.weaviate.options import WeaviateOptions, addresses
from vecbridge.urls import parse


def small(name: str, **changes: Any) -> CollectionSpec:
    return CollectionSpec.single(name, **({"dim": 4} | changes))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@pytest.fixture
def old_port() -> Iterator[int]:
    """Somebody says that it is a Weaviate of 2023."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"version": "1.19.3"}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as old:
        thread = threading.Thread(target=old.serve_forever)
        thread.start()
        yield old.server_port
        old.shutdown()
        thread.join()


def test_making_a_store_sends_nothing(closed_port: int) -> None:
    with weaviate_store(f"weaviate://127.0.0.1:{closed_port}"):
        pass


def test_a_server_that_is_down_is_unavailable_at_once_and_the_rest_port_is_named(closed_port: int) -> None:
    started = time.monotonic()
    with (
        weaviate_store(f"weaviate://127.0.0.1:{closed_port}") as store,
        pytest.raises(UnavailableError, match=rf":{closed_port} \(REST\): nothing answers"),
    ):
        store.collections()
    assert time.monotonic() - started < 5


def test_a_server_that_says_nothing_ends_at_the_deadline(silent_port: int) -> None:
    started = time.monotonic()
    with (
        weaviate_store(f"weaviate://127.0.0.1:{silent_port}?timeout=0.5") as store,
        pytest.raises(DeadlineError, match="REST"),
    ):
        store.collections()
    assert time.monotonic() - started < 5


def test_a_closed_grpc_port_is_named_while_rest_answers(store: Store, closed_port: int) -> None:
    name = fresh("ports")
    with made(store, small(name)) as collection:
        collection.upsert(rows(collection.spec, ["a"]))
        url = f"weaviate://{address(store)}?grpc_port={closed_port}"
        with weaviate_store(url) as other:
            assert name in other.collections()
            started = time.monotonic()
            half = other.open(name)
            for call in (
                half.count,
                lambda: half.upsert(rows(half.spec, ["b"])),
                lambda: half.search(Query([1, 2, 3, 4])),
                lambda: list(half.scan()),
            ):
                with pytest.raises(UnavailableError, match=rf":{closed_port} \(gRPC\): nothing answers"):
                    call()
            assert time.monotonic() - started < 5
        assert collection.count() == 1


def test_a_silent_grpc_port_ends_at_the_deadline(store: Store, silent_port: int) -> None:
    url = f"weaviate://{address(store)}?grpc_port={silent_port}&timeout=1"
    with made(store, small(fresh("silent"))) as collection, weaviate_store(url) as other:
        half = other.open(collection.spec.name)
        started = time.monotonic()
        with pytest.raises((DeadlineError, UnavailableError), match="gRPC"):
            half.count()
        assert time.monotonic() - started < 5


@pytest.mark.usefixtures("executable")
def test_a_wrong_key_is_refused_by_both_ports_and_never_shown() -> None:
    keys = {
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": "right",
        "AUTHENTICATION_APIKEY_USERS": "admin",
        "AUTHORIZATION_ADMINLIST_ENABLED": "true",
        "AUTHORIZATION_ADMINLIST_USERS": "admin",
    }
    with server.own(**keys) as own, weaviate_store(own.url, api_key="right") as store:
        collection = store.create(small("locked"))
        collection.upsert(rows(collection.spec, ["a"]))
        for wrong in ({}, {"api_key": "sesame"}):
            with weaviate_store(own.url, **wrong) as other, pytest.raises(AuthError) as caught:
                other.collections()
            assert "sesame" not in str(caught.value)
        take_key_back(store)
        for call in (collection.count, lambda: collection.search(Query([1, 2, 3, 4]))):
            with pytest.raises(AuthError, match="gRPC") as caught:
                call()
            assert "sesame" not in str(caught.value)
        with weaviate_store(own.url.replace("//", "//:right@")) as keyed:
            assert "right" not in str(keyed.open("locked").url)
            assert scanned(keyed.open("locked")) == ["a"]


def test_a_namespace_that_nobody_wrote_to_is_empty_to_every_call(store: Store) -> None:
    with made(store, small(fresh("tenants"), namespaced=True, fields={"year": "int64"})) as collection:
        absent = store.open(collection.spec.name, namespace="nobody")
        assert absent.count() == 0
        assert list(absent.scan()) == []
        assert [len(hits) for hits in absent.search(Query([[1, 2, 3, 4]] * 3))] == [0, 0, 0]
        assert absent.fetch(["a"]).num_rows == 0
        assert absent.delete(["a"]) == 0
        assert absent.status().rows == 0
        assert store.namespaces(collection.spec.name) == []


def test_a_server_that_is_too_old_is_refused_with_its_version(old_port: int) -> None:
    with (
        weaviate_store(f"weaviate://127.0.0.1:{old_port}") as store,
        pytest.raises(UnsupportedError, match=r"1\.19\.3.*1\.33 or later"),
    ):
        store.collections()


@pytest.mark.usefixtures("executable")
def test_the_same_store_works_again_after_the_server_was_gone() -> None:
    with server.own() as own, weaviate_store(own.url, timeout=5) as store:
        collection = store.create(small("outage"))
        collection.upsert(rows(collection.spec, ["a"]))
        own.kill()
        for call in (store.collections, collection.count, lambda: collection.search(Query([1, 2, 3, 4]))):
            started = time.monotonic()
            with pytest.raises(UnavailableError):
                call()
            assert time.monotonic() - started < 5.5
        time.sleep(10)
        own.start()
        back = time.monotonic()
        while True:
            try:
                assert collection.count() == 1
                break
            except VecbridgeError:
                assert time.monotonic() - back < 10
        collection.upsert(rows(collection.spec, ["b"]))
        assert sorted(scanned(collection)) == ["a", "b"]


def test_connecting_looks_up_no_other_host(
    store: Store, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    genuine = socket.getaddrinfo

    def watched(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return genuine(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    with weaviate_store(server_url) as other, made(other, small(fresh("quiet"))) as collection:
        collection.upsert(rows(collection.spec, ["a"]))
    assert set(asked) == {parse(server_url).host}


def test_what_is_no_collection_name_is_not_found_and_reaches_no_other_path(store: Store) -> None:
    for name in ("../nodes", "a/b", "a?b", "", "é", "x" * 300):
        with pytest.raises(NotFoundError):
            store.open(name)


@pytest.mark.parametrize("url", ["weaviate://", "weaviate://h/db", "weaviate://user:key@h"])
def test_a_url_that_says_what_weaviate_has_not_is_refused(url: str) -> None:
    with pytest.raises(InvalidURLError) as caught:
        weaviate_store(url)
    assert ":key" not in str(caught.value).replace(":key@host", "")


@pytest.mark.parametrize(
    ("url", "options", "rest", "grpc"),
    [
        ("weaviate://h", {}, "http://h:8080", "h:50051"),
        ("weaviate://h:81", {"grpc_port": 7}, "http://h:81", "h:7"),
        ("weaviate://h", {"tls": True}, "https://h:443", "h:443"),
        ("weaviate://[::1]:80", {}, "http://[::1]:80", "[::1]:50051"),
        ("weaviate://h", {"tls": True, "grpc_host": "g"}, "https://h:443", "g:443"),
        (
            "weaviate://x.c0.weaviate.cloud",
            {},
            "https://x.c0.weaviate.cloud:443",
            "grpc-x.c0.weaviate.cloud:443",
        ),
    ],
)
def test_addresses(url: str, options: dict[str, Any], rest: str, grpc: str) -> None:
    assert addresses(parse(url), WeaviateOptions(**options)) == (rest, grpc)
