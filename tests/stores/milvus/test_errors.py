"""What goes wrong is said by its own error, within its deadline, and without a password."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2

import vecbridge as vb
from tests.stores.milvus import server
from tests.stores.milvus.helpers import (
    fresh,
    lite_url,
    made,
    milvus_store,
    random_vectors,
    rows,
    scanned,
    small,
)
from vecbridge.driver import Deadline
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    DeadlineError,
    InvalidURLError,
    MissingDependencyError,
    NotFoundError,
    PartialWriteError,
    RateLimitedError,
    StoreLockedError,
    UnavailableError,
    UnknownOptionError,
    VecbridgeError,
)
from vecbridge.query import Query
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus import driver as driver_module
from vecbridge.stores.milvus import errors
from vecbridge.testing import driver_of

SECRET = "hunter2-hunter2"
AT_ONCE = 5.0


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@contextlib.contextmanager
def listener(*, accepting: bool) -> Iterator[int]:
    """A port where nothing is ever answered: connections are taken, or not even that."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8 if accepting else 0)
        port = listening.getsockname()[1]
        if not accepting:  # a full queue: the kernel drops whoever comes next
            for _ in range(8):
                each = stack.enter_context(socket.socket())
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
        yield port


CALLS: dict[str, Callable[[Store], Any]] = {
    "collections": lambda store: store.collections(),
    "open": lambda store: store.open("photos"),
    "create": lambda store: store.create(small("photos")),
    "drop": lambda store: store.drop("photos"),
    "check": lambda store: store.check(small("photos")),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_listens_there_is_said_at_once(call: str) -> None:
    with (
        milvus_store(f"milvus://root:{SECRET}@127.0.0.1:{server._free_port()}") as store,
        within(AT_ONCE),
        pytest.raises(UnavailableError) as caught,
    ):
        CALLS[call](store)
    assert caught.value.retryable
    assert SECRET not in repr(caught.value)


def test_a_host_that_no_name_server_knows_is_unavailable() -> None:
    with (
        milvus_store("milvus://nowhere.invalid:19530", timeout=5) as store,
        within(10),
        pytest.raises((UnavailableError, DeadlineError)) as caught,
    ):
        store.collections()
    assert caught.value.retryable


@pytest.mark.parametrize("accepting", [True, False], ids=["never-answers", "swallows-packets"])
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_never_answers_ends_with_the_deadline(call: str, accepting: bool) -> None:
    with (
        listener(accepting=accepting) as port,
        milvus_store(f"milvus://127.0.0.1:{port}", timeout=1) as store,
        within(AT_ONCE),
        pytest.raises(DeadlineError) as caught,
    ):
        CALLS[call](store)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.retryable


def test_making_a_store_and_asking_what_it_can_do_sends_nothing() -> None:
    with within(AT_ONCE), listener(accepting=True) as port:
        store = milvus_store(f"milvus://127.0.0.1:{port}", timeout=60)
        assert store.capabilities.backend == "milvus"
        assert isinstance(store, vb.Store)
        store.close()


def test_a_password_is_in_no_repr_and_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    url = f"milvus://root:{SECRET}@127.0.0.1:{server._free_port()}"
    with (
        caplog.at_level(logging.DEBUG),
        milvus_store(url, token=f"other:{SECRET}") as store,
        pytest.raises(UnavailableError) as caught,
    ):
        store.collections()
    shown = [repr(store), str(caught.value), repr(caught.value), repr(caught.value.__cause__), caplog.text]
    assert SECRET not in "".join(shown)


def test_a_token_stands_in_no_url() -> None:
    with pytest.raises(InvalidURLError, match="MILVUS_TOKEN") as caught:
        vb.connect(f"milvus://localhost?token={SECRET}")
    assert SECRET not in str(caught.value)


def test_of_two_processes_that_make_a_collection_at_once_one_is_told(genuine: Store) -> None:
    spec = small(fresh("twice"))
    driver = driver_of(genuine)
    genuine.collections()
    with made(genuine, spec) as photos:
        photos.upsert(rows(spec, ["a"]))
        for other in (spec, small(spec.name, dim=16)):
            with pytest.raises(CollectionExistsError):
                driver.create(other, "another token", None, Deadline.after(30))
            assert photos.count() == 1, "what the first one made stays"


def test_an_unknown_database_is_not_found(server_url: str) -> None:
    with milvus_store(f"{server_url}/nowhere") as store:
        for call in ("collections", "open", "create"):
            with within(AT_ONCE), pytest.raises(NotFoundError, match="database"):
                CALLS[call](store)


def test_collections_of_two_databases_are_strangers(server_url: str, genuine: Store) -> None:
    name = fresh("database")
    client = MilvusClient(server_url.replace("milvus://", "http://"))
    client.create_database(name)
    with milvus_store(f"{server_url}/{name}") as store:
        spec = small(fresh("stranger"))
        with made(store, spec) as photos:
            photos.upsert(rows(spec, ["a"]))
            assert store.collections() == [spec.name]
            assert spec.name not in genuine.collections()
            assert str(photos.url).endswith(f"/{name}#{spec.name}")
    client.drop_database(name)
    client.close()


def test_an_unknown_collection_is_not_found_and_the_next_name_is_proposed(store: Store) -> None:
    spec = small(fresh("holidays"))
    with made(store, spec):
        for call in (store.open, store.drop, store.namespaces):
            with within(AT_ONCE), pytest.raises(NotFoundError, match=f"did you mean '{spec.name}'"):
                call(spec.name.replace("days", "dayz"))


USES: dict[str, Callable[[Collection], Any]] = {
    "upsert": lambda photos: photos.upsert(rows(photos.spec, ["b"])),
    "search": lambda photos: photos.search(Query(random_vectors(1)[0], k=1)),
    "scan": lambda photos: list(photos.scan()),
    "count": lambda photos: photos.count(),
    "fetch": lambda photos: photos.fetch(["a"]),
    "delete": lambda photos: photos.delete(["a"]),
    "status": lambda photos: photos.status(),
}


def test_a_collection_that_another_client_drops_is_not_found_by_any_call(store: Store) -> None:
    spec = small(fresh("dropped"))
    photos = store.create(spec)
    photos.upsert(rows(spec, ["a"]))
    assert photos.count() == 1
    store.drop(spec.name)
    refused = []
    for name, use in USES.items():
        with within(AT_ONCE), contextlib.suppress(NotFoundError):
            use(photos)
            continue
        refused.append(name)
    assert refused == list(USES)


def test_a_collection_that_another_client_replaces_is_not_written_to(server_url: str, genuine: Store) -> None:
    spec = small(fresh("replaced"))
    with made(genuine, spec) as photos:
        photos.upsert(rows(spec, ["a"]))
        with milvus_store(server_url) as other:
            fresh_one = other.create(spec, if_exists="replace")
            fresh_one.upsert(rows(spec, ["theirs"]))
            for use in (USES["upsert"], USES["delete"]):
                with within(AT_ONCE), pytest.raises(NotFoundError, match="replaced"):
                    use(photos)
            assert scanned(fresh_one) == ["theirs"]
        assert scanned(genuine.open(spec.name)) == ["theirs"]


def test_a_collection_that_another_client_releases_is_loaded_again(server_url: str, genuine: Store) -> None:
    spec = small(fresh("released"))
    with made(genuine, spec) as photos:
        photos.upsert(rows(spec, ["a"]))
        assert photos.count() == 1
        client = MilvusClient(server_url.replace("milvus://", "http://"))
        client.release_collection(spec.name)
        client.close()
        assert photos.count() == 1
        photos.flush()
        [hits] = photos.search(Query(random_vectors(1)[0], k=1))
        assert hits.ids == ["a"]


def test_a_request_too_large_for_the_server_is_sent_again_in_halves(
    genuine: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(fresh("large"), dim=1024)
    with made(genuine, spec) as photos:
        wide = dataclasses.replace(photos.capabilities, request_rows=100_000, request_bytes=1 << 30)
        monkeypatch.setattr(photos._connection, "_capabilities", wide)
        sent = upserts_of(photos, monkeypatch)
        names = [f"r{number:05d}" for number in range(20_000)]
        photos.upsert(rows(spec, names, vector=np.ones((len(names), 1024), np.float32)))
        assert sent == [20_000, 10_000, 10_000], "64 MiB are what it takes"
        assert photos.count() == 20_000


def test_requests_are_cut_by_the_bytes_that_are_sent(genuine: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small(fresh("cut"), fields={"title": "string"})
    with made(genuine, spec) as photos:
        limits = dataclasses.replace(photos.capabilities, request_rows=100, request_bytes=100_000)
        monkeypatch.setattr(photos._connection, "_capabilities", limits)
        table, sizes = driver_of(photos)._table, []
        send = table.call

        def call(rpc: str, deadline: Any, **fields: Any) -> Any:
            if rpc == "Upsert":
                sizes.append(milvus_pb2.UpsertRequest(**fields).ByteSize())
            return send(rpc, deadline, **fields)

        monkeypatch.setattr(table, "call", call)
        titles = ["x" * (3_000 if number % 2 else 10) for number in range(200)]
        photos.upsert(rows(spec, [f"r{number:03d}" for number in range(200)], title=titles))
        assert max(sizes) < 100_000
        assert len(sizes) == 4, "two of each hundred rows"
        assert photos.count() == 200


def test_of_several_requests_the_report_says_which_rows_were_refused(
    genuine: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(fresh("partial"))
    with made(genuine, spec) as photos:
        few = dataclasses.replace(
            photos.capabilities, request_rows=10, parallel_requests=1, max_parallel_requests=1
        )
        monkeypatch.setattr(photos._connection, "_capabilities", few)
        table, sent = driver_of(photos)._table, []
        send = table.call

        def call(rpc: str, deadline: Any, **fields: Any) -> Any:
            sent.append(rpc)
            if sent.count("Upsert") == 3:
                raise RateLimitedError("quota exceeded")
            return send(rpc, deadline, **fields)

        monkeypatch.setattr(table, "call", call)
        with pytest.raises(PartialWriteError) as caught:
            photos.upsert(rows(spec, [f"r{number:03d}" for number in range(50)]))
        report = caught.value.report
        assert (report.written, report.failed) == (20, 30)
        assert [each.row for each in report.failures] == list(range(20, 50))
        assert {each.outcome for each in report.failures} == {"rejected"}
        monkeypatch.undo()
        assert scanned(photos) == [f"r{number:03d}" for number in range(20)]


def test_tls_against_a_server_without_it_is_unavailable_and_hints_at_the_option(server_url: str) -> None:
    with (
        milvus_store(server_url, tls=True) as store,
        within(AT_ONCE),
        pytest.raises(UnavailableError, match="tls"),
    ):
        store.collections()


class Handshake(grpc.RpcError):
    """What gRPC raises, with the details that it was seen to give."""

    def __init__(self, details: str) -> None:
        self._details = f"failed to connect to all addresses; last error: UNKNOWN: {details}"

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:100000f7:SSL routines:"
         "OPENSSL_internal:WRONG_VERSION_NUMBER: Invalid certificate verification context: OK", "leave out"),
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:"
         "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: self signed certificate: OK", "not trusted"),
        ("ipv4:127.0.0.1:39565: Socket closed", "tls=true"),
        ("ipv4:127.0.0.1:1: connect: Connection refused (111)", "nothing answers there"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_connection_is_said_in_plain_words(details: str, said: str) -> None:
    error = errors.of_rpc(Handshake(details), "open 'photos'")
    assert isinstance(error, UnavailableError)
    assert said in str(error)
    assert error.unsent


def upserts_of(photos: Collection, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each upsert that is sent from now on."""
    table, sent = driver_of(photos)._table, []
    send = table.call

    def call(rpc: str, deadline: Any, **fields: Any) -> Any:
        if rpc == "Upsert":
            sent.append(fields["num_rows"])
        return send(rpc, deadline, **fields)

    monkeypatch.setattr(table, "call", call)
    return sent


LITE_USER = """
import sys, time
import vecbridge as vb
store = vb.connect(sys.argv[1])
store.create(vb.CollectionSpec.single("photos", dim=2))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_on_one_milvus_lite_directory_is_locked_out(tmp_path: Path) -> None:
    url = lite_url(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", LITE_USER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "open"
        with milvus_store(url) as store:
            with within(10), pytest.raises(StoreLockedError, match="another process"):
                store.collections()
            process.communicate("")
            assert store.collections() == ["photos"]


def test_looking_for_a_collection_makes_no_milvus_lite_directory(tmp_path: Path) -> None:
    spec = small("photos")
    with milvus_store(lite_url(tmp_path)) as store:
        assert store.collections() == []
        assert store.check(spec) == []
        with pytest.raises(NotFoundError, match="photos"):
            store.open("photos")
        assert list(tmp_path.iterdir()) == []
        store.create(spec).upsert(rows(spec, ["a"]))
        assert store.collections() == ["photos"]


def test_two_stores_of_one_process_share_a_milvus_lite_directory(tmp_path: Path) -> None:
    spec = small("photos")
    with milvus_store(lite_url(tmp_path)) as one, milvus_store(lite_url(tmp_path)) as other:
        one.create(spec).upsert(rows(spec, ["a"]))
        assert scanned(other.open("photos")) == ["a"]
        one.close()
        assert scanned(other.open("photos")) == ["a"]
        with pytest.raises(ConfigError, match="closed"):
            one.open("photos")


def test_nothing_that_comes_late_starts_the_embedded_server_of_a_closed_store_again(tmp_path: Path) -> None:
    with milvus_store(lite_url(tmp_path)) as store:
        photos = store.create(small("photos"))
        driver, collection = driver_of(store), driver_of(photos)
    for late in (
        lambda: driver.connect(Deadline.after(1)),
        lambda: driver.names(Deadline.after(1)),
        lambda: collection.count(Deadline.after(1)),
        lambda: collection.identity(Deadline.after(1)),
    ):
        with pytest.raises((ConfigError, UnavailableError)):
            late()
    driver.close()
    with milvus_store(lite_url(tmp_path)) as another:
        assert another.collections() == ["photos"], "the directory was free"


@pytest.mark.parametrize(
    ("absent", "url"),
    [
        ("pymilvus", "milvus://localhost"),
        ("grpc", "milvus://localhost"),
        ("milvus_lite", "milvus+lite:///tmp/x.db"),
    ],
)
def test_a_missing_package_is_named_with_what_to_type(
    absent: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = driver_module.find_spec
    monkeypatch.setattr(driver_module, "find_spec", lambda name: None if name == absent else find(name))
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[milvus\]'") as caught:
        vb.connect(url)
    assert caught.value.package == absent
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("milvus://", "which host"),
        ("milvus:///db", "which host"),
        ("milvus:db", "which host"),
        ("milvus://localhost/one/two", "one database"),
        ("milvus://localhost:notaport", "milvus URL"),
        ("milvus+lite:///data/file", "ends in .db"),
        ("milvus+lite:///", "which directory"),
        ("milvus+lite:", "which directory"),
        ("milvus+lite://file.db", "takes no host"),
        ("milvus+lite://user:pw@host/file.db", "takes no host"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_before_anything_is_sent(url: str, said: str) -> None:
    with pytest.raises(InvalidURLError, match=said):
        vb.connect(url)


def test_a_url_of_milvus_lite_may_end_in_a_slash() -> None:
    vb.connect("milvus+lite:///data/file.db/").close()


@pytest.mark.parametrize("url", ["milvus://localhost", "milvus+lite:///tmp/x.db"])
def test_an_unknown_option_is_refused_and_the_next_one_is_proposed(url: str) -> None:
    with pytest.raises(UnknownOptionError, match="did you mean 'timeout'"):
        vb.connect(url, timout=3)
    with pytest.raises(UnknownOptionError):
        vb.connect(f"{url}?secure=true")


@pytest.mark.parametrize("options", [{"timeout": "soon"}, {"tls": 7}, {"consistency": "session"}])
def test_a_value_that_an_option_cannot_have_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        vb.connect("milvus://localhost", **options)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        vb.connect("milvus://localhost", timeout=timeout)


@pytest.mark.parametrize("cursor", ["", "x", "bm8=", "W10=", "WzEsMiwzXQ==", "é"])
def test_a_cursor_of_elsewhere_is_refused(lite: Store, cursor: str) -> None:
    spec = small("photos")
    photos = lite.create(spec)
    with pytest.raises(VecbridgeError):
        list(photos.scan(cursor=cursor))
