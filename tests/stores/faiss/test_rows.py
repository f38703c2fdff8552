"""Rows in memory and their log: where an id stands, what a scan shows while others write, log rewriting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.children import CHILDREN
from tests.stores.faiss.helpers import contents, faiss_store, names, one, random_vectors, rows, scanned, small
from vecbridge.collection import Collection
from vecbridge.errors import CursorExpiredError
from vecbridge.query import Page
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.faiss import rows as faiss_rows
from vecbridge.stores.faiss import writer
from vecbridge.stores.faiss.log import Frame
from vecbridge.stores.faiss.place import catalogue_schema
from vecbridge.stores.faiss.rows import IdIndex, Snapshot

# monkeypatch is undone after all examples, and every example makes its own collection
EXAMPLES = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class TestIdIndex:
    """It says what a dict says."""

    INTEGERS = st.sampled_from([-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 2, 2**63 - 1]) | st.integers(-9, 9)
    STRINGS = st.text(min_size=1, max_size=3)

    @EXAMPLES
    @given(st.data(), st.sampled_from(["string", "int64"]), st.integers(0, 12), st.booleans())
    def test_it_agrees_with_a_dict_whatever_collides_and_whenever_it_is_rebuilt(
        self, data: st.DataObject, id_type: Any, limit: int, collide: bool
    ) -> None:
        spec = CollectionSpec.single("photos", dim=1, id_type=id_type)
        keys = self.STRINGS if id_type == "string" else self.INTEGERS
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(faiss_rows, "_DELTA_LIMIT", limit)
            if collide:
                patch.setattr(faiss_rows, "_hashes", few_hashes)
            self.compare(data, spec, keys)

    def compare(self, data: st.DataObject, spec: CollectionSpec, keys: st.SearchStrategy[Any]) -> None:
        index, snapshot, truth = IdIndex(), Snapshot.empty(spec), dict[Any, int]()
        type = pa.string() if spec.id_type == "string" else pa.int64()
        for _ in range(data.draw(st.integers(1, 6))):
            index.update(snapshot)
            written = data.draw(st.lists(keys, unique=True, max_size=12))
            if truth and data.draw(st.booleans()):
                gone = data.draw(st.lists(st.sampled_from(sorted(truth)), unique=True))
                dead = np.array([truth.pop(each) for each in gone], np.int64)
                snapshot = snapshot.extended([frame(spec, [], dead, np.full(len(dead), -1))])
            elif written:
                dead = index.find(pa.array(written, type), snapshot)
                known = np.flatnonzero(dead >= 0)
                after = [frame(spec, written, dead[known], snapshot.total + known)]
                truth |= {each: snapshot.total + row for row, each in enumerate(written)}
                snapshot = snapshot.extended(after)
            index.update(snapshot)
            asked = [*truth, *data.draw(st.lists(keys, max_size=5))]
            found = index.find(pa.array(asked, type), snapshot)
            assert found.tolist() == [truth.get(each, -1) for each in asked]
        assert snapshot.live_rows == len(truth)
        assert np.flatnonzero(snapshot.live).tolist() == sorted(truth.values())


def few_hashes(ids: pa.Array, rows: Any, texts: Any) -> Any:
    """Three hashes for everything."""
    values = ids.to_pylist()
    return np.array([len(str(values[row])) % 3 for row in rows.tolist()], np.int64)


def frame(spec: CollectionSpec, ids: list[Any], dead: Any, successors: Any) -> Frame:
    """A commit of rows that have an id and nothing else."""
    schema = catalogue_schema(spec)
    columns = [pa.array(ids, schema[0].type), *(pa.array([1.0] * len(ids)) for _ in spec.vectors)]
    return Frame(pa.RecordBatch.from_arrays(columns, schema=schema), np.asarray(dead, np.int64), successors)


@dataclass
class Watched:
    """A scan under way, and what happened to each id since it began."""

    pages: Iterator[Page]
    present: set[str]
    touched: set[str] = field(default_factory=set)
    shown: list[str] = field(default_factory=list)

    def step(self) -> bool:
        page = next(self.pages, None)
        if page is not None:
            self.shown += page.batch["id"].to_pylist()
        return page is not None

    def finish(self) -> None:
        while self.step():
            pass
        assert len(set(self.shown)) == len(self.shown), "an id came twice"
        assert self.present - self.touched <= set(self.shown), "an id that was there throughout is missing"


KEYS = [f"k{number}" for number in range(12)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "upsert", "delete", "begin", "read", "resume"]),
        st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=6),
        st.integers(1, 5),
    ),
    max_size=25,
)


class TestScans:
    """An id present throughout comes exactly once; one inserted or deleted meanwhile, at most once."""

    @EXAMPLES
    @given(steps=STEPS, frames=st.sampled_from([2, 5, 4096]))
    def test_scans_see_each_id_once_whatever_is_written_meanwhile(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[Any], frames: int
    ) -> None:
        spec = small()
        root = tmp_path_factory.mktemp("scans")
        with (
            pytest.MonkeyPatch.context() as patch,
            faiss_store(root / "s") as store,
            faiss_store(root / "s") as readers,
        ):
            patch.setattr(writer, "_REWRITE_FRAMES", frames)
            photos = store.create(spec)
            mine = readers.open("photos")
            live: set[str] = set()
            scans: list[Watched] = []
            for kind, keys, size in steps:
                if kind == "upsert":
                    photos.upsert(rows(spec, keys, random_vectors(len(keys), seed=size)))
                    for each in scans:
                        each.touched |= set(keys) - live  # those that are replaced are there throughout
                    live |= set(keys)
                elif kind == "delete":
                    photos.delete(keys)
                    for each in scans:
                        each.touched |= set(keys)
                    live -= set(keys)
                elif kind == "begin":
                    reader = photos if size % 2 else mine
                    scans.append(Watched(reader.scan(batch_rows=size), set(live)))
                elif scans and kind == "read":
                    scans[size % len(scans)].step()
                elif scans:
                    self.resume(scans[size % len(scans)], mine, size)
            for each in scans:
                each.finish()
            assert set(scanned(mine)) == live

    def resume(self, scan: Watched, reader: Collection, size: int) -> None:
        """Goes on from a cursor in another store, as another process would."""
        page = next(scan.pages, None)
        if page is not None:
            scan.shown += page.batch["id"].to_pylist()
            scan.pages = reader.scan(batch_rows=size, cursor=page.cursor)

    @EXAMPLES
    @given(count=st.integers(0, 60), parts=st.integers(1, 70), size=st.integers(1, 30), deleted=st.data())
    def test_parts_of_a_split_are_disjoint_and_complete(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        count: int,
        parts: int,
        size: int,
        deleted: st.DataObject,
    ) -> None:
        spec = small()
        with faiss_store(tmp_path_factory.mktemp("split")) as store:
            photos = store.create(spec)
            if count:
                photos.upsert(rows(spec, names(count)))
                gone = deleted.draw(st.lists(st.sampled_from(names(count)), unique=True, max_size=count))
                photos.delete(gone)
                replaced = deleted.draw(st.lists(st.sampled_from(names(count)), unique=True, max_size=9))
                cursors = photos.split(parts)
                if replaced:
                    photos.upsert(rows(spec, replaced))
            else:
                gone, replaced, cursors = [], [], photos.split(parts)
            assert len(cursors) <= parts
            shown = [each for cursor in cursors for each in scanned(photos, batch_rows=size, cursor=cursor)]
            assert len(set(shown)) == len(shown)
            assert set(shown) | set(replaced) >= set(names(count)) - set(gone)
            assert set(shown) >= set(names(count)) - set(gone)


class TestLogs:
    """A log of many frames is written anew as one of few."""

    def test_rows_cursors_and_row_numbers_stay(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_REWRITE_FRAMES", 10)
        spec = small()
        photos = store.create(spec)
        for step in range(8):
            photos.upsert(rows(spec, names(30, 20 * step), random_vectors(30, seed=step)))
        photos.delete(names(15, 3))
        cursor = next(photos.scan(batch_rows=40)).cursor
        rest = scanned(photos, cursor=cursor)
        before, first = contents(photos), one(place, "rows-*.log")
        size = first.stat().st_size
        photos.upsert(rows(spec, ["one more"]))
        log = one(place, "rows-*.log")
        assert (first.name, log.name) == ("rows-0.log", "rows-1.log")
        assert log.stat().st_size < size
        assert [each for each in contents(photos) if each["id"] != "one more"] == before
        assert scanned(photos, cursor=cursor) == rest
        with faiss_store(place) as others:
            mine = others.open("photos")
            assert contents(mine) == contents(photos)
            assert scanned(mine, cursor=cursor) == rest
            for step in range(12):  # once more, under the eyes of a reader
                photos.upsert(rows(spec, [f"more {step}"]))
                assert mine.count() == photos.count() == len(before) + 2 + step
            assert one(place, "rows-*.log").name == "rows-2.log"
        assert scanned(photos, cursor=cursor) == rest

    def test_a_reader_in_another_process_follows(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_REWRITE_FRAMES", 5)
        spec = small()
        photos = store.create(spec)
        photos.upsert(rows(spec, names(100)))
        mine, its = CHILDREN.Pipe()
        reader = CHILDREN.Process(target=follow, args=(place, its), daemon=True)
        reader.start()
        try:
            assert answer(mine) == names(100)
            for step in range(12):
                photos.upsert(rows(spec, names(1, 100 + step)))
                photos.upsert(rows(spec, names(1, step)))
                mine.send("count")
                assert answer(mine) == 101 + step
            assert one(place, "rows-*.log").name != "rows-0.log"
            mine.send("scan")
            assert sorted(answer(mine)) == names(100)
            photos.compact()
            mine.send("scan")
            assert answer(mine) == "CursorExpiredError"
            mine.send("count")
            assert answer(mine) == 112
        finally:
            reader.kill()
            reader.join()

    def test_a_log_that_was_written_anew_keeps_what_replaced_what(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_REWRITE_FRAMES", 3)
        spec = small()
        photos = store.create(spec)
        photos.upsert(rows(spec, names(20)))
        pages = photos.scan(batch_rows=5)
        shown = next(pages).batch["id"].to_pylist()
        for step in range(5):
            photos.upsert(rows(spec, names(10, 8), random_vectors(10, seed=step)))
        assert one(place, "rows-*.log").name != "rows-0.log"
        shown += [each for page in pages for each in page.batch["id"].to_pylist()]
        assert sorted(shown) == names(20)
        with faiss_store(place) as others:
            assert contents(others.open("photos")) == contents(photos)


def answer(pipe: Any) -> Any:
    assert pipe.poll(60)
    return pipe.recv()


def follow(place: Path, pipe: Any) -> None:
    """A reader that goes on from a cursor that it got at the beginning."""
    with faiss_store(place) as store:
        photos = store.open("photos")
        start = photos.split(1)[0]
        pipe.send(scanned(photos, cursor=start))
        while True:
            if pipe.recv() == "count":
                pipe.send(photos.count())
                continue
            try:
                pipe.send(scanned(photos, cursor=start))
            except CursorExpiredError as exc:
                pipe.send(type(exc).__name__)
