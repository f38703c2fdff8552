"""What goes wrong is said by its own error, within its deadline, and without the key."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.stores.pinecone.helpers import (
    KEY,
    contents,
    pinecone_store,
    random_vectors,
    rows,
    scanned,
    small,
)
from vecbridge.driver import Deadline
from vecbridge.errors import (
    AuthError,
    BackendError,
    CollectionExistsError,
    ConfigError,
    CorruptStoreError,
    DeadlineError,
    DimensionMismatchError,
    InvalidRecordError,
    InvalidURLError,
    NotFoundError,
    PartialWriteError,
    UnavailableError,
    UnsupportedError,
)
from vecbridge.query import Query
from vecbridge.store import Store
from vecbridge.stores.pinecone.driver import PineconeDriver
from vecbridge.stores.pinecone.limits import CAPABILITIES
from vecbridge.stores.pinecone.options import PineconeOptions
from vecbridge.testing import driver_of
from vecbridge.testing.pinecone import Emulator, Fault

AT_ONCE = 5.0


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.fixture(autouse=True)
def no_key_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    monkeypatch.delenv("PINECONE_CONTROLLER_HOST", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_missing_key_is_said_when_the_store_is_made() -> None:
    with pytest.raises(ConfigError, match="PINECONE_API_KEY"):
        vb.connect("pinecone://")


@pytest.mark.parametrize("key", [" hunter2", "new\nline", "clé"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        vb.connect("pinecone://", api_key=key)
    assert key not in str(caught.value)


def test_the_key_and_the_host_come_from_the_environment_or_a_file(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"PINECONE_API_KEY={KEY}\nPINECONE_CONTROLLER_HOST={emulator.host}\n"
    Path(".env").write_text(lines, encoding="utf-8")
    with vb.connect("pinecone://") as store:
        assert store.collections() == []
    monkeypatch.setenv("PINECONE_API_KEY", "the environment wins")
    with vb.connect("pinecone://") as store, pytest.raises(AuthError):
        store.collections()


@pytest.mark.parametrize(
    "url", [f"pinecone://?api_key={KEY}", f"pinecone://:{KEY}@127.0.0.1:1", f"pinecone://{KEY}@h"]
)
def test_a_key_in_a_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidURLError) as caught:
        vb.connect(url)
    assert KEY not in str(caught.value)


def test_a_wrong_key_is_an_error_of_its_own_on_both_planes(emulator: Emulator, transport: str) -> None:
    with pinecone_store(emulator) as store:
        store.create(small())
    with pinecone_store(emulator, api_key="wrong", transport=transport) as store:
        for call in (store.collections, lambda: store.open("photos"), lambda: store.drop("photos")):
            with pytest.raises(AuthError) as caught:
                call()
            assert not caught.value.retryable
            assert "wrong" not in str(caught.value)
    with pinecone_store(emulator, transport=transport) as store:
        photos = store.open("photos")
        emulator.faults.add(Fault(status=401))
        for ask in (photos.count, lambda: photos.upsert(rows(photos.spec, ["a"]))):
            with pytest.raises(AuthError):
                ask()


def test_an_unknown_index_is_not_found_and_a_near_one_is_named(rest: Store) -> None:
    rest.create(small("my_photos"))
    for call in (rest.open, rest.drop, rest.namespaces):
        with pytest.raises(NotFoundError, match="did you mean 'my_photos'"):
            call("my_photo")


def test_another_dimension_is_refused_before_anything_is_sent(emulator: Emulator, rest: Store) -> None:
    photos = rest.create(small())
    emulator.log.clear()
    with pytest.raises(InvalidRecordError):
        photos.upsert(rows(small(dim=5), ["a"]))
    with pytest.raises(DimensionMismatchError):
        photos.search(Query(random_vectors(1, 5)))
    with pytest.raises(CollectionExistsError, match="'vector'"):
        rest.create(small(dim=5), if_exists="open")
    assert emulator.log.requests() == []


def test_a_misspelt_namespace_reads_as_empty(store: Store) -> None:
    spec = small(namespaced=True, fields={"year": "int64"})
    photos = store.create(spec, namespace="eu")
    photos.upsert(rows(spec, ["a"], year=[1]))
    typo = store.open("photos", namespace="ue")
    assert (typo.count(), typo.count(vb.field("year") == 1), scanned(typo)) == (0, 0, [])
    assert typo.fetch(["a"]).num_rows == 0
    assert [list(hits.ids) for hits in typo.search(Query(random_vectors(1)))] == [[]]
    typo.delete(["a"])
    typo.delete(filter=vb.field("year") == 1)
    typo.flush(1)
    assert store.namespaces("photos") == ["eu"]
    assert set(contents(photos)) == {"a"}


def test_the_network_goes_in_the_middle_of_a_scan_and_of_a_write(
    emulators: Callable[..., Emulator], transport: str
) -> None:
    emulator = emulators()
    with pinecone_store(emulator, transport=transport, timeout=2) as store:
        photos = store.create(small())
        photos.upsert(rows(photos.spec, [f"r{number:03}" for number in range(300)]))
        pages = photos.scan(batch_rows=50)
        assert next(pages).batch.num_rows == 50
        emulator.close()
        with within(AT_ONCE), pytest.raises((UnavailableError, DeadlineError)) as caught:
            list(pages)
        assert caught.value.retryable
        with within(AT_ONCE), pytest.raises((UnavailableError, DeadlineError, PartialWriteError)):
            photos.upsert(rows(photos.spec, ["a"]))
        with within(AT_ONCE), pytest.raises((UnavailableError, DeadlineError)):
            photos.search(Query(random_vectors(1)))
        with within(AT_ONCE), pytest.raises((UnavailableError, DeadlineError)):
            store.collections()


CALLS: dict[str, Callable[[Store], Any]] = {
    "collections": lambda store: store.collections(),
    "open": lambda store: store.open("photos"),
    "create": lambda store: store.create(small()),
    "drop": lambda store: store.drop("photos"),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_listens_there_is_said_at_once(call: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with (
            vb.connect(f"pinecone://127.0.0.1:{taken.getsockname()[1]}", api_key=KEY) as store,
            within(AT_ONCE),
            pytest.raises(UnavailableError) as caught,
        ):
            CALLS[call](store)  # type: ignore[arg-type]
    assert caught.value.retryable


@pytest.mark.parametrize("call", CALLS)
def test_a_host_that_never_answers_ends_with_the_deadline(call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with (
            vb.connect(f"pinecone://127.0.0.1:{port}", api_key=KEY, timeout=0.5) as store,
            within(AT_ONCE),
            pytest.raises(DeadlineError),
        ):
            CALLS[call](store)  # type: ignore[arg-type]


def test_a_dropped_collection_is_not_found_by_who_writes_to_it(store: Store, emulator: Emulator) -> None:
    photos = store.create(small())
    with pinecone_store(emulator) as other:
        other.drop("photos")
    with within(AT_ONCE), pytest.raises((NotFoundError, PartialWriteError)):
        photos.upsert(rows(photos.spec, ["a"]))
    with within(AT_ONCE), pytest.raises(NotFoundError):
        photos.upsert(rows(photos.spec, ["a"]))


@pytest.mark.parametrize("foreign", [False, True])
def test_an_index_made_anew_at_the_old_address_is_neither_read_nor_changed_through_the_old_handle(
    emulator: Emulator, transport: str, monkeypatch: pytest.MonkeyPatch, foreign: bool
) -> None:
    always_looking = replace(CAPABILITIES, trust_reads=0.0, trust_writes=0.0)
    monkeypatch.setattr(PineconeDriver, "capabilities", always_looking)
    store = pinecone_store(emulator, transport=transport)
    old = store.create(small(fields={"year": "int64"}))
    with pinecone_store(emulator) as other:
        other.drop("photos")
        if foreign:
            driver_of(other)._control().create(small(), PineconeOptions(), {"team": "a"})
            new = other.open("photos")
        else:
            new = other.create(small())
        new.upsert(rows(new.spec, ["a"]))
        # The emulator gives each index a port of its own.
        monkeypatch.setattr(driver_of(old), "_plane", driver_of(new)._plane)
        for call in (
            lambda: old.upsert(rows(old.spec, ["b"])),
            lambda: old.delete(["a"]),
            lambda: old.delete(filter=vb.field("year").is_null()),
            old.count,
            lambda: old.fetch(["a"]),
            lambda: old.search(Query(random_vectors(1))),
            lambda: scanned(old),
        ):
            with pytest.raises(NotFoundError, match="'photos' was dropped or replaced since it was opened"):
                call()
        new.flush()
        assert scanned(new) == ["a"]
    store.close()


def test_a_write_asks_whether_the_index_was_replaced_every_ten_seconds(
    store: Store, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    photos = store.create(small())
    control = driver_of(store)._control()
    monkeypatch.setattr(control, "describe", lambda *a, real=control.describe: looks.append(a) or real(*a))
    for name in "abc":
        photos.upsert(rows(photos.spec, [name]))
    assert looks == []
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + CAPABILITIES.trust_writes)
    for name in "abc":
        photos.upsert(rows(photos.spec, [name]))
    assert looks == [("photos",)]
    assert CAPABILITIES.trust_reads == CAPABILITIES.trust_writes == 10


def test_a_protected_index_is_not_dropped(emulator: Emulator) -> None:
    with pinecone_store(emulator, deletion_protection=True) as store:
        store.create(small())
        with pytest.raises(BackendError, match="Deletion protection is enabled") as caught:
            store.drop("photos")
        assert not isinstance(caught.value, AuthError)
        with pytest.raises(BackendError):
            store.create(small(dim=5), if_exists="replace")
        assert store.open("photos").status().details["deletion_protection"] == "enabled"


def test_an_unknown_region_is_said_as_the_service_says_it(emulator: Emulator) -> None:
    with (
        pinecone_store(emulator, cloud="gcp", region="atlantis") as store,
        pytest.raises(NotFoundError, match="atlantis"),
    ):
        store.create(small())


def test_flush_waits_until_another_reader_sees_the_write_and_not_longer_than_told(
    emulators: Callable[..., Emulator], transport: str
) -> None:
    emulator = emulators(delay=0.6)
    with pinecone_store(emulator, transport=transport) as store, pinecone_store(emulator) as reader:
        photos = store.create(small())
        photos.upsert(rows(photos.spec, ["a", "b"]))
        there = reader.open("photos")
        assert there.count() == 0
        with pytest.raises(DeadlineError, match="not visible"):
            photos.flush(0.1)
        photos.flush()
        assert (there.count(), set(contents(there))) == (2, {"a", "b"})
        photos.delete(["a"])
        photos.wait_ready()
        assert set(contents(there)) == {"b"}


def test_a_new_index_is_waited_for(
    emulators: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pinecone_store(emulators(ready_after=0.5)) as store:
        photos = store.create(small())
        assert photos.status().index == "ready"
        assert photos.status().built == {"vector": vb.Auto()}
    monkeypatch.setattr("vecbridge.store._CREATE_SECONDS", 0.2)
    with pinecone_store(emulators(ready_after=30)) as store:
        with pytest.raises(DeadlineError, match="not ready"):
            store.create(small())
        assert store.collections() == []  # nothing is left behind


def test_flush_ends_in_its_time_where_nobody_answers(emulator: Emulator, store: Store) -> None:
    photos = store.create(small())
    photos.upsert(rows(photos.spec, ["a"]))
    emulator.faults.add(Fault(delay=3))
    with within(2), pytest.raises(DeadlineError):
        photos.flush(0.3)


def test_a_closed_driver_opens_no_connection_again(store: Store) -> None:
    driver, deadline = driver_of(store), Deadline.after(5)
    photos = store.create(small())
    described = driver.describe("photos", deadline)
    store.close()
    store.close()
    for call in (photos.count, store.collections, lambda: photos.fetch(["a"])):
        with pytest.raises(ConfigError, match="closed"):
            call()
    unused = PineconeDriver(driver.url, PineconeOptions(api_key=KEY))
    unused.close()
    for verb in (lambda: unused.names(deadline), lambda: unused.attach(described, "")):
        with pytest.raises(ConfigError, match="closed"):
            verb()


def test_damaged_tags_are_said_and_touched_by_nobody(emulator: Emulator, rest: Store) -> None:
    import pinecone

    rest.create(small())
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client:
        client.indexes.configure("photos", tags={"vecbridge-spec-00": ""})
        with pytest.raises(CorruptStoreError, match="damaged"):
            rest.open("photos")
        client.indexes.configure("photos", tags={"vecbridge": "3-1-abc"})
    with pytest.raises(CorruptStoreError, match="later version"):
        rest.open("photos")


def test_no_text_shows_the_key(
    emulator: Emulator, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = [repr(store), str(vars(driver_of(store))), repr(driver_of(store)._options)]
    with caplog.at_level(logging.DEBUG):
        photos = store.create(small(fields={"year": "int64"}))
        shown += [repr(photos), str(photos.url), str(photos.status())]
        emulator.faults.add(Fault(poison="b"))
        batch = rows(photos.spec, ["a", "b"], year=[1, 2])
        files = {"journal": tmp_path / "run.journal", "dead_letters": tmp_path / "bad.jsonl"}
        assert vb.write(photos, [batch], **files).failed == 1
        emulator.faults.add(Fault(status=401))
        with pytest.raises(AuthError) as caught:
            photos.count()
        shown += [repr(caught.value), repr(caught.value.__cause__), str(vars(caught.value.__cause__))]
    shown += [caplog.text, *(path.read_text() for path in files.values())]
    assert all(KEY not in text for text in shown)


def test_an_index_that_pinecone_does_not_build_is_refused_and_auto_proposed(rest: Store) -> None:
    for index in (vb.HNSW(), vb.IVFFlat(), vb.Flat(), vb.IVFPQ(m=2)):
        spec = small(index=index)
        with pytest.raises(UnsupportedError, match=r"nearest\(spec\) proposes"):
            rest.create(spec)
        proposal, gaps = rest.capabilities.nearest(spec)
        assert proposal == small()
        assert [gap.kind for gap in gaps] == ["index"]
    assert rest.collections() == []


def test_texts_are_not_compared_by_order(rest: Store) -> None:
    photos = rest.create(small(fields={"title": "string"}))
    with pytest.raises(UnsupportedError, match="order of string fields"):
        photos.count(vb.field("title") < "b")


def test_what_cannot_be_stored_is_refused_row_by_row_before_anything_is_sent(
    emulator: Emulator, rest: Store
) -> None:
    photos = rest.create(small(fields={"title": "string", "facts": "json", "tags": "list<string>"}))
    emulator.log.clear()
    vectors = random_vectors(7)
    vectors[5] = 0
    batch = rows(
        photos.spec,
        ["é" * 85, "é" * 86, "%" * 170, "%" * 171, "large", "zero", "tags"],
        vector=vectors,
        title=["x" * 40_000, None, None, None, "x" * 40_000, None, None],
        facts=[None, None, None, None, '"' + "y" * 1_000 + '"', None, None],
        tags=[None, None, None, None, None, None, ["t" * 40_000, "u" * 960]],
    )
    with pytest.raises(InvalidRecordError) as caught:
        photos.upsert(batch)
    assert [(each.row, each.id) for each in caught.value.rows] == [(5, "zero")]
    with pytest.raises(InvalidRecordError) as caught:
        photos.upsert(batch.filter(pa.array([row != 5 for row in range(7)])))
    assert [(each.row, each.id) for each in caught.value.rows] == [
        (1, "é" * 86), (3, "%" * 171), (4, "large"), (5, "tags"),
    ]  # fmt: skip
    assert emulator.log.requests() == []
    assert vb.write(photos, [batch]).failed == 5
    assert set(contents(photos)) == {"é" * 85, "%" * 170}
    kinds = {gap.kind for gap in rest.check(photos.spec)}
    assert {"id", "size", "vector:vector"} <= kinds
