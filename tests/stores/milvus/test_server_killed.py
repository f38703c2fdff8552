"""A server with passwords, killed in the middle of a bulk write: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.stores.milvus import server
from tests.stores.milvus.helpers import milvus_store, random_vectors, rows, scanned, small
from tests.stores.milvus.server import BRISK, GenuineMilvus
from vecbridge.errors import AuthError, BackendError, DeadlineError, PartialWriteError, UnavailableError
from vecbridge.filters import field
from vecbridge.query import Query
from vecbridge.records import Checked
from vecbridge.store import Store

BATCHES, SIZE = 60, 1_000
SECRET = "hunter2-hunter2"
SPEC = small("photos", fields={"batch": "int64", "version": "int64"})
PATIENCE = 120.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[GenuineMilvus]:
    """A server that wants a password."""
    if (absent := server.missing()) is not None or "MILVUS_URL" in os.environ:
        pytest.skip(f"no genuine Milvus to kill: {absent or 'MILVUS_URL names one that others use'}")
    with server.own(**BRISK, authorization_enabled=True) as own:
        yield own


def of(guarded: GenuineMilvus, password: str = "Milvus", **options: Any) -> Store:
    return milvus_store(guarded.url.replace("//", f"//root:{password}@"), **options)


@pytest.mark.parametrize("login", [f"root:{SECRET}@", f"nobody:{SECRET}@", f":{SECRET}@", "root@", ""])
def test_a_wrong_password_is_refused_and_shown_nowhere(
    guarded: GenuineMilvus, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        milvus_store(guarded.url.replace("//", f"//{login}")) as store,
    ):
        for call in (store.collections, lambda: store.open("photos"), lambda: store.create(SPEC)):
            start = time.monotonic()
            with pytest.raises(AuthError) as caught:
                call()
            assert time.monotonic() - start < 5
            assert not caught.value.retryable
            assert SECRET not in str(caught.value) + repr(caught.value) + repr(store)
            assert SECRET not in repr(caught.value.__cause__)
    assert SECRET not in caplog.text


def test_a_right_password_a_token_and_its_url_work_and_are_shown_nowhere(guarded: GenuineMilvus) -> None:
    with of(guarded) as store, milvus_store(guarded.url, token="root:Milvus") as other:
        assert store.collections() == other.collections() == []
        photos = store.create(small("secrets"))
        assert "Milvus@" not in str(photos.url) + repr(photos.url)
        assert "root@" in str(photos.url)
        assert photos.url.password == store.url.password == ""
        store.drop("secrets")


def test_a_token_of_the_environment_is_taken_where_neither_token_nor_login_is_given(
    guarded: GenuineMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", "root:Milvus")
    with milvus_store(guarded.url) as store:
        assert store.collections() == []
    for url, options in (
        (guarded.url.replace("//", f"//root:{SECRET}@"), {}),
        (guarded.url, {"token": f"root:{SECRET}"}),
    ):
        with milvus_store(url, **options) as store, pytest.raises(AuthError):
            store.collections()


def test_a_server_killed_in_the_middle_of_a_bulk_write_loses_and_doubles_nothing(
    guarded: GenuineMilvus, tmp_path: Path
) -> None:
    path = tmp_path / "run.journal"
    stored = random_vectors(BATCHES * SIZE)
    acknowledged: set[str] = set()
    killed = threading.Event()

    def source(*, kill_at: int | None) -> Iterator[pa.RecordBatch]:
        for number in range(BATCHES):
            if number == kill_at:
                threading.Timer(0.05, lambda: (guarded.kill(), killed.set())).start()
            names = [f"r{place:06d}" for place in range(number * SIZE, (number + 1) * SIZE)]
            yield rows(
                SPEC, names, vector=stored[number * SIZE : (number + 1) * SIZE],
                batch=[number] * SIZE, version=[2] * SIZE,
            )  # fmt: skip

    with of(guarded, timeout=5) as store:
        photos = store.create(SPEC)
        larger = store.create(small("larger"))
        larger.upsert(rows(larger.spec, ["before"]))
        larger.add_fields({"taken": "timestamp"})
        larger.upsert(rows(larger.spec, ["after"], taken=["2020-05-17T10:00:00.000001Z"]))
        old = [f"r{place:06d}" for place in range(0, BATCHES * SIZE, 7)]
        photos.upsert(rows(SPEC, old, version=[1] * len(old)))
        upsert = photos.upsert

        def noting(checked: Checked, **options: Any) -> Any:
            report = upsert(checked, **options)
            acknowledged.update(checked.batch.column("id").to_pylist())
            return report

        def failing(checked: Checked, **options: Any) -> Any:
            """After the server is gone the first error ends the run, instead of minutes of patience."""
            try:
                return noting(checked, **options)
            except (BackendError, PartialWriteError) as exc:
                raise Ended("the server is gone") from exc

        class Ended(vb.AuthError):
            """An error that bulk does not retry."""

        photos.upsert = failing  # type: ignore[method-assign]
        with pytest.raises(Ended):
            vb.write(photos, source(kill_at=20), workers=4, journal=path)
        assert killed.wait(10)
        assert 0 < len(acknowledged) < BATCHES * SIZE
        photos.upsert = noting  # type: ignore[method-assign]

        start = time.monotonic()
        with pytest.raises((UnavailableError, DeadlineError)):
            photos.count()
        assert time.monotonic() - start < 10

        guarded.start()
        survived = when_it_is_back(photos)
        lost = acknowledged - survived.keys()
        assert not lost, f"{len(lost)} acknowledged rows are gone"
        assert all(survived[key] == 2 for key in acknowledged), "an acknowledged row is an old one"
        assert store.open("larger").spec == larger.spec
        assert scanned(larger, filter=field("taken").is_null()) == ["before"]
        assert scanned(larger, filter=field("taken") > "2020-05-17T10:00:00Z") == ["after"]

        report = vb.write(photos, source(kill_at=None), workers=4, journal=path)
        assert report.failed == 0
        assert report.written == BATCHES * SIZE
        names = [f"r{place:06d}" for place in range(BATCHES * SIZE)]
        assert scanned(photos) == names, "every row is there, and once"
        assert photos.count() == BATCHES * SIZE
        assert photos.count(field("version") == 2) == BATCHES * SIZE
        found = photos.fetch(names[::997], include=["vector", "batch"])
        assert found.column("batch").to_pylist() == [place // SIZE for place in range(0, len(names), 997)]
        photos.flush()
        [hits] = photos.search(Query(stored[12_345], k=1))
        assert hits.ids == ["r012345"]
        assert hits.scores[0] == 0


def when_it_is_back(photos: Any) -> dict[str, int]:
    """Version by id, from the first scan that the server answers again; the same objects must do."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return {
                key: version
                for page in photos.scan(include=["version"])
                for key, version in zip(
                    page.batch.column("id").to_pylist(), page.batch.column("version").to_pylist(), strict=True
                )
            }
        except BackendError as exc:
            if not exc.retryable or time.monotonic() >= deadline:
                raise
            time.sleep(0.5)
