"""A store that nobody closed and nobody holds any more gives its locks back."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.front.drivers import SPEC, store_of
from vecbridge.errors import StoreLockedError
from vecbridge.testing import driver_of

NEEDS = {"faiss": "faiss", "milvus+lite": "milvus_lite"}
WRITE = """
import sys
import vecbridge as vb
with vb.open(sys.argv[1]) as photos:
    photos.upsert([{"id": "other", "vector": [3, 4], "year": 1, "title": "t"}])
    print(photos.count())
"""
ROWS = [{"id": key, "vector": [1, number], "year": number} for number, key in enumerate("abc")]


@pytest.fixture(params=sorted(NEEDS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that one process at a time writes to."""
    pytest.importorskip(NEEDS[request.param])
    return f"{request.param}://{tmp_path}/store.db"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Has cycles stay until they are asked for."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def written(url: str) -> Any:
    """A collection that was written to, whose store nobody holds but itself."""
    photos = vb.connect(url).create(SPEC)
    photos.upsert(ROWS)
    return photos


def another_process_writes(url: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, f"{url}#photos"], capture_output=True, text=True, timeout=120,
        check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if done.returncode:
        assert StoreLockedError.__name__ in done.stderr, done.stderr
        return False
    assert done.stdout.strip() == "4"
    return True


def test_another_process_writes_once_a_cycle_of_references_is_collected(url: str, uncollected: None) -> None:
    holder: list[Any] = [written(url)]
    holder.append(holder)
    del holder
    assert not another_process_writes(url)
    gc.collect()
    assert another_process_writes(url)


def test_a_store_that_was_not_kept_lives_as_long_as_its_collection_and_a_scan_of_that(url: str) -> None:
    with vb.connect(url) as store:
        store.create(SPEC).upsert(ROWS)
    photos = vb.open(f"{url}#photos")
    gc.collect()
    assert photos.count() == 3
    photos.upsert(ROWS)
    scan = photos.scan(batch_rows=1)
    first = next(scan)
    del photos
    gc.collect()
    assert [page.batch.num_rows for page in (first, *scan)] == [1, 1, 1]
    scan = vb.open(f"{url}#photos").scan(batch_rows=1)
    gc.collect()
    assert sum(page.batch.num_rows for page in scan) == 3


def test_a_lock_that_is_held_where_the_collector_runs_does_not_stop_it_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vecbridge.front.processes._CLOSING_SECONDS", 0.05)
    store = store_of()
    lock, closed = threading.Lock(), threading.Event()

    def close() -> None:
        with lock:
            closed.set()

    monkeypatch.setattr(driver_of(store), "close", close)
    with lock:
        del store
        gc.collect()
        assert not closed.is_set()
    assert closed.wait(10)
