"""A writer dies at any moment: nothing acknowledged is lost, nothing comes twice, nobody repairs anything."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.children import CHILDREN
from tests.stores.faiss import workload
from tests.stores.faiss.helpers import faiss_store
from vecbridge.collection import Collection
from vecbridge.query import Query
from vecbridge.records import vectors

SEED = 20
PATIENCE = 60.0


@pytest.fixture
def reader(place: Path) -> Iterator[Any]:
    """A process that reads all the while; yields what asks it for its counts, once."""
    with faiss_store(place) as store:
        store.create(workload.SPEC)
    mine, its = CHILDREN.Pipe()
    process = CHILDREN.Process(target=workload.read, args=(place, its), daemon=True)
    process.start()

    def stop() -> dict[str, int]:
        mine.send("stop")
        assert mine.poll(PATIENCE)
        counted = mine.recv()
        assert isinstance(counted, dict), counted
        return counted

    yield stop
    process.kill()
    process.join()


def kill_a_writer(place: Path, first: int, rng: random.Random) -> int:
    """Starts a writer, kills it at some moment, and returns the last step that was acknowledged."""
    mine, its = CHILDREN.Pipe(duplex=False)
    process = CHILDREN.Process(target=workload.write, args=(place, first, its), daemon=True)
    process.start()
    its.close()
    last = first - 1
    for _ in range(rng.randrange(12)):
        assert mine.poll(PATIENCE), "the writer acknowledges nothing"
        last = mine.recv()
    time.sleep(rng.random() ** 3 * 0.2)  # a random point is wanted; nothing waits for anything here
    process.kill()
    process.join()
    while mine.poll():
        try:
            last = mine.recv()
        except EOFError:
            break
    return last


def stored(photos: Collection) -> dict[int, int]:
    """Version by key, as a scan shows it; every record whole, every id once, and fetch and count agree."""
    state: dict[int, int] = {}
    for page in photos.scan():
        workload.require_true(page.batch, {})
        ids = page.batch["id"].to_pylist()
        fresh = dict(zip((int(each[1:]) for each in ids), page.batch["version"].to_pylist(), strict=True))
        assert not fresh.keys() & state.keys(), "a scan showed an id twice"
        state |= fresh
        assert photos.fetch(ids).equals(page.batch)
    assert photos.count() == photos.status().rows == len(state)
    return state


def require_index_and_catalogue_agree(photos: Collection, state: dict[int, int]) -> None:
    """What a search finds is what the catalogue holds, and it finds every row by its own vector."""
    keys = np.array(sorted(state), np.int64)
    sample = keys[:: max(1, len(keys) // 200)]
    versions = np.array([state[key] for key in sample.tolist()])
    queries = workload.vectors_for(sample, versions)
    lost = 0
    for key, hits in zip(
        sample.tolist(), photos.search(Query(queries, 5, include=["version"], ef=400)), strict=True
    ):
        for hit in hits:
            assert hit.record is not None
            assert state[int(str(hit.id)[1:])] == hit.record["version"]
        lost += hits.ids[0] != f"k{key}" or hits.scores[0] != 0
    assert lost <= len(sample) // 50, f"{lost} of {len(sample)} rows were not found by their own vectors"
    gone = np.setdiff1d(np.arange(workload.KEYS), keys)
    assert photos.fetch([f"k{key}" for key in gone.tolist()]).num_rows == 0


def test_a_writer_killed_at_random_points_loses_nothing_that_was_acknowledged(
    place: Path, reader: Any, kills: int
) -> None:
    rng = random.Random(SEED)
    state: dict[int, int] = {}
    step = 0
    for _ in range(kills):
        last = kill_a_writer(place, step, rng)
        for each in range(step, last + 1):
            state = workload.apply(state, each)
        with faiss_store(place) as store:
            photos = store.open("photos")
            found = stored(photos)
            unfinished = workload.apply(state, last + 1)
            assert found in (state, unfinished), "a batch is there in part, or an acknowledged one is not"
            require_index_and_catalogue_agree(photos, found)
            step = last + 2
            workload.perform(photos, step)
            state = workload.apply(found, step)
            assert stored(photos) == state
            step += 1
    with faiss_store(place) as store:
        photos = store.open("photos")
        photos.wait_ready()
        assert photos.status().index == "ready"
        require_index_and_catalogue_agree(photos, state)
        photos.compact()
        assert stored(photos) == state
        assert photos.status().details["dead_rows"] == 0
        left = {path.name for path in (place / "photos" / "ns").iterdir()}
        assert len(left) == 2, f"{left}: CURRENT and one generation; what the dead left behind is gone"
    counted = reader()
    assert counted["search"] > kills
    assert counted["scan"] > 0


def test_killing_a_writer_frees_its_lock(place: Path) -> None:
    with faiss_store(place) as store:
        store.create(workload.SPEC)
    kill_a_writer(place, 0, random.Random(3))
    with faiss_store(place) as store:
        photos = store.open("photos")
        rows = workload.records_for(np.array([1]), np.array([10_000]))
        photos.upsert(rows)
        assert vectors(photos.fetch(["k1"])).tolist() == vectors(rows).tolist()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", range(4))
def test_a_commit_that_is_interrupted_stands_or_falls_whole_and_writing_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, call: int, moment: str
) -> None:
    def batch(keys: range, version: int) -> Any:
        return workload.records_for(np.array(keys), np.full(len(keys), version))

    with faiss_store(place) as store:
        photos = store.create(workload.SPEC)
        photos.upsert(batch(range(100), 0))
        calls = iter(range(10))
        real = os.fdatasync

        def interrupted(descriptor: int) -> None:
            if next(calls) != call:
                real(descriptor)
                return
            if moment == "after":
                real(descriptor)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "fdatasync", interrupted)
            photos.upsert(batch(range(50, 150), 1))
            photos.upsert(batch(range(140, 200), 1))
        photos.upsert(batch(range(3), 2))
        state = stored(photos)
        expected = [
            dict.fromkeys(range(100), 0) | dict.fromkeys(range(3), 2),
            dict.fromkeys(range(100), 0) | dict.fromkeys(range(50, 150), 1) | dict.fromkeys(range(3), 2),
            dict.fromkeys(range(50), 0) | dict.fromkeys(range(50, 200), 1) | dict.fromkeys(range(3), 2),
        ]
        assert state in (expected[:2] if call < 2 else expected[1:])
        with faiss_store(place) as others:
            assert stored(others.open("photos")) == state
    with faiss_store(place) as store:
        assert stored(store.open("photos")) == state


def test_readers_in_threads_never_see_a_moment_without_rows(place: Path) -> None:
    rows = workload.records_for(np.arange(200), np.zeros(200, np.int64))
    wrong: list[int] = []
    stop = threading.Event()
    with faiss_store(place) as store:
        photos = store.create(workload.SPEC)
        photos.upsert(rows)

        def read() -> None:
            while not stop.is_set():
                if (count := photos.count()) != 200:
                    wrong.append(count)

        threads = [threading.Thread(target=read) for _ in range(4)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for _ in range(40):
                photos.upsert(rows)
                photos.compact()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            sys.setswitchinterval(interval)
    assert not wrong


@pytest.mark.parametrize("action", ["rewrite", "compact"])
def test_a_reader_that_becomes_the_writer_goes_on_with_what_the_dead_writer_switched_to(
    tmp_path: Path, action: str
) -> None:
    template = tmp_path / "template"
    with faiss_store(template) as store:
        photos = store.create(workload.SPEC)
        photos.upsert(workload.records_for(np.arange(200), np.zeros(200, np.int64)))
        photos.delete([f"k{key}" for key in range(40)])
        before = stored(photos)
    after = before | dict.fromkeys(range(150, 250), 2) if action == "rewrite" else before
    switched = 0
    for step in range(1000):
        place = tmp_path / f"{action}-{step}"
        shutil.copytree(template, place)
        old = (place / "photos" / "ns" / "CURRENT").read_text()
        with faiss_store(place) as store:
            photos = store.open("photos")
            assert stored(photos) == before
            process = CHILDREN.Process(target=workload.die, args=(place, action, step), daemon=True)
            process.start()
            process.join(PATIENCE)
            switched += (place / "photos" / "ns" / "CURRENT").read_text() != old
            photos.upsert(workload.records_for(np.arange(5), np.full(5, 9)))
            state = stored(photos)
            assert state in [found | dict.fromkeys(range(5), 9) for found in (before, after)]
        with faiss_store(place) as store:
            assert stored(store.open("photos")) == state
        shutil.rmtree(place)
        if process.exitcode == 0:
            break
    assert switched > 1, "it was never killed between the switch and what comes after it"


@pytest.mark.parametrize("action", ["upsert", "rewrite", "wait_ready", "compact", "drop", "replace"])
def test_a_writer_killed_before_any_change_to_the_disk_leaves_the_old_state_or_the_new(
    tmp_path: Path, action: str
) -> None:
    template = tmp_path / "template"
    with faiss_store(template) as store:
        photos = store.create(workload.SPEC)
        photos.upsert(workload.records_for(np.arange(200), np.zeros(200, np.int64)))
        photos.wait_ready()
        photos.upsert(workload.records_for(np.arange(100, 300), np.ones(200, np.int64)))
        photos.delete([f"k{key}" for key in range(40)])
        before = stored(photos)
    after = before | dict.fromkeys(range(150, 250), 2) if action in ("upsert", "rewrite") else before
    for step in range(1000):
        place = tmp_path / f"{action}-{step}"
        shutil.copytree(template, place)
        process = CHILDREN.Process(target=workload.die, args=(place, action, step), daemon=True)
        process.start()
        process.join(PATIENCE)
        with faiss_store(place) as store:
            if not store.collections():
                assert action in ("drop", "replace")
                store.create(workload.SPEC)
            photos = store.open("photos")
            found = stored(photos)
            assert found in (before, after) or (action in ("drop", "replace") and not found)
            if found:
                require_index_and_catalogue_agree(photos, found)
            photos.upsert(workload.records_for(np.arange(5), np.full(5, 9)))
            assert stored(photos) == found | dict.fromkeys(range(5), 9)
            photos.wait_ready()
            require_index_and_catalogue_agree(photos, found | dict.fromkeys(range(5), 9))
            photos.compact()
            assert {path.name[0] for path in (place / "photos" / "ns").iterdir()} <= {"C", *"0123456789"}
            assert len(list((place / "photos" / "ns").iterdir())) == 2
        shutil.rmtree(place)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert step > 3, "it was never killed"
