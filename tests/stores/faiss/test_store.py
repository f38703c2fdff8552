"""Stores and collections: compaction, dropping, namespaces, closing, devices, exact scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.children import CHILDREN
from tests.stores.faiss.helpers import (
    best,
    contents,
    digest,
    faiss_store,
    found,
    names,
    random_vectors,
    reader_of,
    rows,
    scanned,
    small,
    true_score,
)
from vecbridge.collection import Collection
from vecbridge.driver import Deadline
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    CursorExpiredError,
    DeadlineError,
    NotFoundError,
)
from vecbridge.filters import field
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Flat, IVFFlat
from vecbridge.query import Query
from vecbridge.store import Store
from vecbridge.stores.faiss import segments
from vecbridge.stores.faiss.driver import FaissDriver
from vecbridge.stores.faiss.place import Place, StoredSpec
from vecbridge.stores.faiss.upkeep import Upkeep

GRAPH = HNSW(m=8, ef_construction=40)


def worn(store: Store, index: Any = GRAPH) -> Collection:
    """A collection of 600 rows with as many dead ones, and an index."""
    spec = small(index=index)
    photos = store.create(spec)
    photos.upsert(rows(spec, names(900)))
    photos.wait_ready()
    photos.upsert(rows(spec, names(300), random_vectors(300, seed=4)))
    photos.delete(names(300, 600))
    photos.wait_ready()
    assert photos.status().details["dead_rows"] == 600
    return photos


class TestCompaction:
    """The live rows go to a new generation, and nothing about them changes."""

    @pytest.mark.parametrize(
        "index", [HNSW(m=8, ef_construction=40), IVFFlat(nlist=8), Flat()], ids=lambda i: i.kind
    )
    def test_dead_rows_go_and_the_rest_stays(self, store: Store, place: Path, index: Any) -> None:
        photos = worn(store, index)
        before, order = contents(photos), scanned(photos)
        queries = random_vectors(20, seed=1)
        answers = found(photos, queries, 5, filter=field("n") >= 0)
        size = sum(path.stat().st_size for path in place.rglob("vectors-*"))
        photos.compact()
        assert contents(photos) == before
        assert scanned(photos) == order
        assert found(photos, queries, 5, filter=field("n") >= 0) == answers
        assert photos.status().details["dead_rows"] == 0
        assert photos.status().index == "ready"
        assert sum(path.stat().st_size for path in place.rglob("vectors-*")) == size // 2
        store.close()
        with faiss_store(place) as again:
            reopened = again.open("photos")
            assert contents(reopened) == before
            assert reopened.status().index == "ready"
            reopened.upsert(rows(reopened.spec, ["later"]))
            assert reopened.count() == 601

    def test_a_cursor_expires(self, store: Store) -> None:
        photos = worn(store)
        pages = photos.scan(batch_rows=100)
        cursor = next(pages).cursor
        parts = photos.split(3)
        photos.compact()
        with pytest.raises(CursorExpiredError):
            next(pages)
        for each in (cursor, *parts):
            with pytest.raises(CursorExpiredError):
                list(photos.scan(cursor=each))
        assert len(scanned(photos)) == 600

    @pytest.mark.parametrize("stage", ["copying", "indexing"])
    def test_a_deadline_leaves_everything_as_it_was(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        photos = worn(store)
        before, files_before = contents(photos), digest(place)
        cursor = next(photos.scan(batch_rows=100)).cursor
        if stage == "indexing":
            monkeypatch.setattr(segments, "_ADD_ROWS", 256)
            monkeypatch.setattr(Upkeep, "_copy_live", ends_while_indexing(Upkeep._copy_live))
        with pytest.raises(DeadlineError):
            photos.compact(1e-9 if stage == "copying" else 600)
        assert digest(place) == files_before
        assert contents(photos) == before
        assert photos.status().index == "ready"
        assert sum(page.batch.num_rows for page in photos.scan(cursor=cursor)) == 500
        monkeypatch.undo()
        photos.compact()
        assert contents(photos) == before

    def test_a_collection_without_rows_is_compacted(self, store: Store) -> None:
        photos = store.create(small(index=HNSW(m=8)))
        photos.compact()
        photos.upsert(rows(photos.spec, names(5)))
        photos.delete(names(5))
        photos.compact()
        assert contents(photos) == []
        assert photos.status().details["dead_rows"] == 0
        photos.upsert(rows(photos.spec, names(5)))
        assert photos.count() == 5

    def test_readers_in_another_process_follow_and_their_scans_expire(
        self, store: Store, place: Path
    ) -> None:
        photos = worn(store)
        mine, its = CHILDREN.Pipe()
        reader = CHILDREN.Process(target=follow, args=(place, its), daemon=True)
        reader.start()
        try:
            assert answer(mine) == (600, 100)
            photos.compact()
            photos.upsert(rows(photos.spec, ["later"]))
            mine.send("go on")
            assert answer(mine) == ("CursorExpiredError", 601, 601)
        finally:
            reader.kill()
            reader.join()


def ends_while_indexing(copy: Any) -> Any:
    """The copying of live rows with a deadline that passes when the index is begun."""

    def copied(self: Any, directory: Path, deadline: Deadline) -> None:
        with pytest.MonkeyPatch.context() as patch:
            extend = segments.Segments.extend
            patch.setattr(segments.Segments, "extend", lambda *args: extend(*args[:-1], Deadline(0.0)))
            copy(self, directory, deadline)

    return copied


def answer(pipe: Any) -> Any:
    assert pipe.poll(60)
    return pipe.recv()


def follow(place: Path, pipe: Any) -> None:
    """A reader that holds a scan over a compaction."""
    with faiss_store(place) as store:
        photos = store.open("photos")
        pages = photos.scan(batch_rows=100)
        pipe.send((photos.count(), next(pages).batch.num_rows))
        pipe.recv()
        try:
            next(pages)
            name = "no error"
        except CursorExpiredError as exc:
            name = type(exc).__name__
        pipe.send((name, photos.count(), len(scanned(photos))))


class TestDropping:
    """Handles that were open before."""

    CALLS: tuple[Any, ...] = (
        lambda photos: photos.count(),
        lambda photos: photos.status(),
        lambda photos: photos.search(Query(random_vectors(1), 1)),
        lambda photos: photos.fetch(["r000000"]),
        lambda photos: list(photos.scan()),
        lambda photos: photos.upsert(rows(photos.spec, ["new"])),
        lambda photos: photos.delete(["r000000"]),
        lambda photos: photos.delete(filter=field("n") > 0),
        lambda photos: photos.wait_ready(),
        lambda photos: photos.compact(),
    )

    @pytest.mark.parametrize("written", [False, True], ids=["empty", "with rows"])
    @pytest.mark.parametrize("how", ["dropped", "replaced", "dropped elsewhere", "replaced elsewhere"])
    def test_they_find_nothing_and_write_nothing(
        self, store: Store, place: Path, how: str, written: bool
    ) -> None:
        spec = small()
        photos = store.create(spec)
        if written:
            with faiss_store(place) as writer:
                writer.open("photos").upsert(rows(spec, names(5)))
            assert photos.count() == 5
        with faiss_store(place) as others:
            actor = others if "elsewhere" in how else store
            if how.startswith("dropped"):
                actor.drop("photos")
            else:
                fresh = actor.create(small(dim=4), if_exists="replace")
            for call in self.CALLS:
                with pytest.raises(NotFoundError, match="photos"):
                    call(photos)
            if how.startswith("dropped"):
                assert list(place.glob("*")) == []
            else:
                fresh.upsert(rows(fresh.spec, ["fresh"]))
                with pytest.raises(NotFoundError, match="photos"):
                    photos.upsert(rows(spec, ["old"]))
                assert scanned(fresh) == ["fresh"]
        store.close()
        if how.startswith("replaced"):
            with faiss_store(place) as again:
                again.open("photos").upsert(rows(small(dim=4), ["more"]))

    def test_a_dropped_namespace_is_empty_and_its_handles_go_on(self, store: Store) -> None:
        spec = small(namespaced=True)
        photos = store.create(spec, namespace="eu")
        photos.upsert(rows(spec, names(50)))
        cursor = next(photos.scan(batch_rows=10)).cursor
        store.drop("photos", namespace="eu")
        again = store.open("photos", namespace="eu")
        assert photos.count() == again.count() == 0
        photos.upsert(rows(spec, ["old handle"]))
        again.upsert(rows(spec, ["new handle"]))
        photos.upsert(rows(spec, ["old handle again"]))
        assert contents(photos) == contents(again)
        assert photos.count() == 3
        with pytest.raises(CursorExpiredError):
            list(photos.scan(cursor=cursor))

    def test_what_a_process_died_over_while_it_dropped_it_goes_with_the_next_drop(
        self, store: Store, place: Path
    ) -> None:
        store.create(small())
        (place / "photos").rename(place / ".removed-0123")
        assert store.collections() == []
        store.create(small())
        store.drop("photos")
        assert list(place.iterdir()) == []

    def test_two_that_create_at_once_get_one_collection(self, store: Store, place: Path) -> None:
        real = FaissDriver.create

        def overtaken(self: Any, spec: Any, *arguments: Any) -> Any:
            with faiss_store(place) as other, pytest.MonkeyPatch.context() as patch:
                patch.setattr(FaissDriver, "create", real)
                other.create(spec)
            return real(self, spec, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FaissDriver, "create", overtaken)
            with pytest.raises(CollectionExistsError):
                store.create(small())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FaissDriver, "create", overtaken)
            store.create(small("others"), if_exists="open").upsert(rows(small("others"), ["a"]))
        assert store.collections() == ["others", "photos"]
        assert [path.name for path in place.glob(".*")] == []


class TestNamespaces:
    """Names that some file systems take for one."""

    def test_names_that_differ_in_case_are_two_namespaces(self, store: Store, place: Path) -> None:
        spec = small(namespaced=True)
        store.create(spec)
        every = ["", "-", "EU", "Eu", "eu", "a_B", "ns", "nseu", "9"]
        for position, name in enumerate(every):
            store.open("photos", namespace=name).upsert(rows(spec, names(position + 1)))
        assert store.namespaces("photos") == sorted(every)
        for position, name in enumerate(every):
            assert store.open("photos", namespace=name).count() == position + 1
        folders = [path.name.lower() for path in (place / "photos").iterdir() if path.is_dir()]
        assert len(set(folders)) == len(every)
        store.drop("photos", namespace="EU")
        assert store.open("photos", namespace="eu").count() == 5
        assert "EU" not in store.namespaces("photos")


class TestClosing:
    """A closed store answers nothing."""

    @pytest.mark.parametrize("written", [False, True])
    def test_every_call_says_so(self, store: Store, written: bool) -> None:
        photos = store.create(small())
        if written:
            photos.upsert(rows(photos.spec, names(5)))
        pages = photos.scan(batch_rows=2)
        store.close()
        for call in TestDropping.CALLS:
            with pytest.raises(ConfigError, match="closed"):
                call(photos)
        if written:
            with pytest.raises(ConfigError, match="closed"):
                next(pages)


class TestDevices:
    """Device "cuda" on a machine without one."""

    def test_it_is_refused_and_says_what_to_do(self, place: Path) -> None:
        faiss = pytest.importorskip("faiss")
        if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
            pytest.xfail("there is a GPU here")
        with pytest.raises(ConfigError, match=r"device='cuda'.*(faiss-gpu|sees no GPU).*device='cpu'"):
            faiss_store(place, device="cuda")
        with pytest.raises(ConfigError, match="device"):
            faiss_store(place, device="tpu")


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("length", [1e-12, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("index", [Flat(), HNSW(m=8), IVFFlat(nlist=4)], ids=lambda index: index.kind)
def test_scores_keep_their_digits_for_long_and_short_vectors(
    store: Store, metric: str, length: float, index: Any
) -> None:
    spec = small(metric=metric, index=index, dim=64)
    photos = store.create(spec)
    stored = (length * random_vectors(500, 64)).astype(np.float32)
    queries = (length * random_vectors(8, 64, seed=1)).astype(np.float32)
    photos.upsert(rows(spec, names(500), stored))
    for _ in range(2):
        for condition in (None, field("n") >= 0):
            for query, hits in zip(queries, photos.search(Query(queries, 10, filter=condition)), strict=True):
                assert len(hits) == 10
                for hit in hits:
                    truth = true_score(metric, query, stored[int(str(hit.id)[1:])])
                    assert abs(hit.score - truth) <= 1e-4 * max(1, abs(truth))
        photos.wait_ready()


@pytest.mark.parametrize("index", [Flat(), HNSW(m=8), IVFFlat(nlist=4)], ids=lambda index: index.kind)
def test_distances_of_long_vectors_that_are_near_each_other_keep_their_digits(
    store: Store, index: Any
) -> None:
    spec = small(index=index, dim=64)
    photos = store.create(spec)
    stored = np.float32(1000) + random_vectors(500, 64)
    queries = np.float32(1000) + random_vectors(8, 64, seed=1)
    photos.upsert(rows(spec, names(500), stored))
    truth = best("l2", queries, stored, names(500), 5)
    for _ in range(2):
        for condition in (None, field("n") >= 0):
            for line, query, hits in zip(
                truth, queries, photos.search(Query(queries, 5, filter=condition)), strict=True
            ):
                if not reader_of(photos).view().indexes["vector"] or condition is not None:
                    assert list(hits.ids) == line
                for hit in hits:
                    exact = true_score("l2", query, stored[int(str(hit.id)[1:])])
                    assert abs(hit.score - exact) <= 1e-4 * max(1, exact)
        photos.wait_ready()


KINDS = [Flat(), HNSW(m=8), IVFFlat(nlist=4), IVFSQ8(nlist=4), IVFPQ(nlist=4, m=4, nbits=4)]


@pytest.mark.parametrize("index", KINDS, ids=lambda index: index.kind)
@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_vectors_at_the_end_of_float32_are_indexed_and_found(store: Store, metric: str, index: Any) -> None:
    spec = small(metric=metric, index=index)
    photos = store.create(spec)
    stored, ids = random_vectors(800), names(800)
    stored[:5], stored[5:9] = 3e38, -3e38
    stored[9:20] *= np.float32(1e25)
    stored[20:30] *= np.float32(1e-30)
    photos.upsert(rows(spec, ids, stored))
    queries = random_vectors(5, seed=1)
    for _ in range(2):
        for condition in (None, field("n") >= 0):
            for query, hits in zip(
                queries, photos.search(Query(queries, 800, filter=condition)), strict=True
            ):
                assert sorted(hits.ids) == ids
                with np.errstate(over="ignore"):
                    truth = np.array(
                        [true_score(metric, query, stored[int(str(each)[1:])]) for each in hits.ids],
                        np.float32,
                    )
                np.testing.assert_allclose(hits.scores, truth, rtol=1e-4, atol=1e-4)
                assert metric != "l2" or np.isinf(hits.scores).any()
        photos.wait_ready()
        assert photos.status().index == "ready"


def test_a_read_that_compaction_overtakes_is_answered(store: Store) -> None:
    photos = worn(store)
    view = reader_of(photos).view()
    photos.compact()
    files = view.files["vector"].path
    assert not files.exists()
    assert os.path.exists(files.parent.parent)
    assert photos.fetch(names(3)).num_rows == 3


@pytest.mark.parametrize("token", ["of another one", None], ids=["replaced", "dropped"])
def test_the_place_of_a_collection_is_refused_to_what_took_it(place: Path, token: str | None) -> None:
    here = Place.at(place / "photos" / "namespace", StoredSpec("its own", small(), 0), "cpu")
    here.require_token("its own")
    with pytest.raises(NotFoundError, match="dropped or replaced"):
        here.require_token(token)
