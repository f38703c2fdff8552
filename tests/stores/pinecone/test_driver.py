"""What the driver alone promises: keys of pages, forks, proxies, lengths of vectors, errors of the client."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pinecone import errors as theirs

import vecbridge as vb
from tests.stores.pinecone.helpers import (
    KEY,
    contents,
    pinecone_store,
    random_vectors,
    rows,
    scanned,
    small,
    url_of,
)
from vecbridge.driver import Key, PageRequest, RequestLimits
from vecbridge.errors import (
    AuthError,
    BackendError,
    CollectionExistsError,
    CursorExpiredError,
    DeadlineError,
    InvalidRecordError,
    NotFoundError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
)
from vecbridge.filters import normalize
from vecbridge.query import Query
from vecbridge.store import Store
from vecbridge.stores.pinecone import encoding, errors
from vecbridge.stores.pinecone.limits import REQUEST_BYTES, REQUEST_ROWS
from vecbridge.testing import driver_of
from vecbridge.testing.pinecone import Emulator

LATER = normalize(vb.field("year") >= 0, small(fields={"year": "int64"}))
ALL_OR_FILTERED = pytest.mark.parametrize("filter", [None, LATER], ids=["all", "filtered"])


def request(filter: Any, rows: int = 30, after: Key = None, limit: int | None = None) -> PageRequest:
    return PageRequest(("year",), filter, rows, 10.0, after, limit)


def filled(store: Store, count: int = 130) -> vb.Collection:
    photos = store.create(small(fields={"year": "int64"}))
    photos.upsert(rows(photos.spec, [f"r{number:03}" for number in range(count)], year=range(count)))
    return photos


@ALL_OR_FILTERED
def test_pages_have_no_more_rows_than_asked_and_the_last_key_says_the_end(store: Store, filter: Any) -> None:
    driver = driver_of(filled(store))
    pages = list(driver.pages(request(filter, rows=30)))
    assert [page.batch.num_rows for page in pages] == [30, 30, 30, 30, 10]
    assert list(driver.pages(request(filter, after=pages[-1].after))) == []
    limited = list(driver.pages(request(filter, rows=30, limit=45)))
    assert [page.batch.num_rows for page in limited] == [30, 15]
    [after] = driver.pages(request(filter, rows=99, after=limited[-1].after, limit=1))
    assert after.batch.column("id").to_pylist() == ["r045"]


@ALL_OR_FILTERED
def test_a_key_of_the_other_kind_of_scan_and_garbage_are_refused(store: Store, filter: Any) -> None:
    driver = driver_of(filled(store))
    other = next(driver.pages(request(LATER if filter is None else None))).after
    for key in (other, ["ids"], [], "ids", 7, ["ids", 7], ["where", ""], ["nowhere", "x"]):
        with pytest.raises(ValueError, match="is no key of a scan"):
            next(driver.pages(request(filter, after=key)))


@ALL_OR_FILTERED
def test_a_token_that_the_service_has_forgotten_is_an_expired_cursor(store: Store, filter: Any) -> None:
    driver = driver_of(filled(store))
    [kind, _] = next(driver.pages(request(filter))).after
    with pytest.raises(CursorExpiredError, match="pagination token"):
        next(driver.pages(request(filter, after=[kind, "forgotten"])))


def in_child(context: str, call: Callable[[], Any]) -> Any:
    """What a call returns in a forked child."""
    forking = multiprocessing.get_context(context)
    receiving, sending = forking.Pipe(duplex=False)
    child = forking.Process(target=lambda: sending.send(call()), daemon=True)
    child.start()
    try:
        assert receiving.poll(60), "the child hangs"
        return receiving.recv()
    finally:
        child.join(10)
        child.kill()


@pytest.mark.parametrize("used", [True, False], ids=["after gRPC was used", "before gRPC was used"])
def test_a_forked_child_speaks_grpc_only_where_its_parent_has_not(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    from vecbridge.stores.pinecone import rpc

    monkeypatch.setattr(rpc._Runtime, "pid", None)  # other tests of this process have used it
    with pinecone_store(emulator) as over_rest:
        filled(over_rest)
    with pinecone_store(emulator, transport="grpc") as store:
        photos = store.open("photos") if used else None

        def count() -> int:
            return int((photos or store.open("photos")).count())

        assert photos is None or photos.count() == 130
        emulator.log.clear()
        assert in_child("fork", count) == 130
        [seen] = emulator.log.requests("describe_index_stats")
        assert seen.protocol == ("rest" if used else "grpc")
        assert photos is None or photos.count() == 130  # the parent goes on, over gRPC
        assert emulator.log.requests("describe_index_stats")[-1].protocol == "grpc"


LEAVES = """
import os, signal, sys, time
import vecbridge as vb

store = vb.connect(sys.argv[1], api_key=sys.argv[2], transport="grpc")
handles = [store.open("photos"), store.create(vb.CollectionSpec.single("dropped", dim=2))]
store.drop("dropped")
if not (child := os.fork()):
    assert handles[0].count() == 130
    sys.exit(0)  # unlike os._exit, destroys what was inherited
until = time.monotonic() + 60
while (left := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
    time.sleep(0.05)
if left == (0, 0):
    os.kill(child, signal.SIGKILL)
assert left == (child, 0), "the child hangs"
assert handles[0].count() == 130
"""


def test_a_forked_child_ends_although_its_parent_has_used_grpc(emulator: Emulator) -> None:
    with pinecone_store(emulator) as store:
        filled(store)
    subprocess.run([sys.executable, "-c", LEAVES, url_of(emulator), KEY], check=True, timeout=120)


def test_no_proxy_of_the_environment_stands_between_this_machine_and_itself(
    emulator: Emulator, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{refusing.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, proxy)
            monkeypatch.setenv(name.upper(), proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pinecone_store(emulator, transport=transport) as store:
            photos = filled(store)
            photos.flush()
            assert photos.count() == 130


@pytest.mark.parametrize("length", [1e-16, 1e-6, 1e6, 1e18])
@pytest.mark.parametrize("asked", [1e-38, 1e-16, 1.0, 1e18, 1e37])
def test_a_cosine_does_not_depend_on_how_long_vectors_are(store: Store, length: float, asked: float) -> None:
    photos = store.create(small(dim=2, metric="cosine"))
    vectors = (np.array([[1, 0], [1, 1], [-1, 0]]) * length).astype(np.float32)
    photos.upsert(rows(photos.spec, ["same", "near", "opposite"], vector=vectors))
    [hits] = photos.search(Query(np.array([asked, 0], np.float32), k=3))
    assert list(hits.ids) == ["same", "near", "opposite"]
    np.testing.assert_allclose(hits.scores, [1, 0.5**0.5, -1], rtol=1e-5)


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_a_vector_whose_cosine_float32_cannot_compute_is_refused(rest: Store, length: float) -> None:
    photos = rest.create(small(dim=2, metric="cosine"))
    vectors = np.array([[1, 0], [length, 0]], np.float32)
    with pytest.raises(InvalidRecordError) as caught:
        photos.upsert(rows(photos.spec, ["a", "b"], vector=vectors))
    assert [row.id for row in caught.value.rows] == ["b"]
    assert photos.count() == 0


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["encoded twice", "kept"])
def test_a_large_batch_is_encoded_in_slices_and_cut_as_if_it_were_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    photos = store.create(small(fields={"title": "string"}))
    count = 2_500
    batch = rows(photos.spec, [f"r{number}" for number in range(count)], title=["x" * 1_500] * count)
    limits = RequestLimits(REQUEST_ROWS, REQUEST_BYTES)
    whole = list(driver_of(photos).prepare(batch, limits))
    monkeypatch.setattr(encoding, "_SLICE", 700)
    monkeypatch.setattr(encoding, "_KEPT_BYTES", kept)
    sliced = list(driver_of(photos).prepare(batch, limits))
    assert [part.rows for part in sliced] == [part.rows for part in whole]
    assert [part.payload for part in sliced] == [part.payload for part in whole]
    bad = rows(photos.spec, [f"r{number}" for number in range(1_399)] + ["é" * 100], title=[None] * 1_400)
    with pytest.raises(InvalidRecordError) as caught:
        driver_of(photos).prepare(bad, limits)
    assert [row.row for row in caught.value.rows] == [1_399]


def test_an_index_made_meanwhile_by_somebody_else_is_said_and_left_alone(
    emulator: Emulator, rest: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pinecone_store(emulator) as other:
        theirs = filled(other)
        driver = driver_of(rest)
        monkeypatch.setattr(driver, "describe", lambda name, deadline: None)  # it was not there a moment ago
        with pytest.raises(CollectionExistsError):
            rest.create(small())
        assert len(contents(theirs)) == 130


def test_any_name_may_be_asked_for(rest: Store) -> None:
    for name in ("a" * 46, "é", "../indexes", "A", "a b", "a.b", "-"):
        with pytest.raises(NotFoundError):
            rest.open(name)


def test_a_replaced_collection_is_as_empty_as_a_new_one(store: Store) -> None:
    old = filled(store)
    new = store.create(small(dim=3), if_exists="replace")
    assert (new.count(), scanned(new), new.spec.vector.dim) == (0, [], 3)
    with pytest.raises(NotFoundError):
        old.count()
    new.upsert(rows(new.spec, ["a"], vector=random_vectors(1, 3)))
    assert scanned(new) == ["a"]


def api_error(status: int, message: str = "no") -> theirs.ApiError:
    return theirs.ApiError(message, status)


@pytest.mark.parametrize(
    ("raised", "kind", "unsent"),
    [
        (api_error(400), BackendError, True),
        (api_error(401), AuthError, True),
        (api_error(403), AuthError, True),
        (api_error(403, "Deletion protection is enabled for this index."), BackendError, True),
        (api_error(408), DeadlineError, False),
        (api_error(409), CollectionExistsError, None),
        (api_error(404), NotFoundError, None),
        (api_error(413), TooLargeError, True),
        (api_error(429), RateLimitedError, True),
        (api_error(500), UnavailableError, False),
        (api_error(503), UnavailableError, False),
        (theirs.PineconeError("Error, message length too large: found 3 bytes"), TooLargeError, True),
        (theirs.PineconeError("the precondition failed"), BackendError, True),
        (theirs.PineconeConnectionError("tcp connect error"), UnavailableError, True),
        (theirs.PineconeConnectionError("the connection was reset"), UnavailableError, False),
        (theirs.PineconeTimeoutError("nobody answers"), DeadlineError, False),
        (theirs.ResponseParsingError("no JSON"), BackendError, False),
    ],
)
def test_an_error_of_the_client_says_what_it_is_and_whether_something_may_be_stored(
    raised: theirs.PineconeError, kind: type[Exception], unsent: bool | None
) -> None:
    error = errors.of(raised, "upsert")
    assert type(error) is kind
    assert str(error).startswith("upsert: ")
    assert getattr(error, "unsent", None) is unsent
