"""Indexes: when they are built, that the knobs reach FAISS, and that they never hide or show a wrong row."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.stores.faiss.helpers import (
    DIM,
    best,
    contents,
    faiss_store,
    found,
    names,
    one,
    random_vectors,
    reader_of,
    recall,
    rows,
    scanned,
    small,
    true_score,
    vectors_of,
)
from vecbridge.collection import Collection
from vecbridge.errors import DeadlineError, UnsupportedError
from vecbridge.filters import field
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray, Query
from vecbridge.store import Store
from vecbridge.stores.faiss import indexes, lists, search, segments

TRAINED = [IVFFlat(nlist=8), IVFSQ8(nlist=8), IVFPQ(nlist=8, m=4, nbits=4)]
BUILT = [HNSW(m=8, ef_construction=40), *TRAINED]
METRICS = ["l2", "cosine", "dot"]


def by_kind(index: IndexParams) -> str:
    return index.kind


def built(store: Store, count: int, index: IndexParams, **changes: Any) -> tuple[Collection, FloatArray]:
    """A collection whose index covers every row; and the vectors."""
    spec = small(index=index, **changes)
    photos = store.create(spec)
    stored = random_vectors(count, spec.vector.dim)
    photos.upsert(rows(spec, names(count), stored))
    photos.wait_ready()
    assert photos.status().index == "ready"
    return photos, stored


def index_files(place: Path) -> list[Any]:
    """What FAISS itself reads from the files, by first row."""
    paths = sorted(place.rglob("index-*.faiss"), key=lambda path: int(path.stem.split("-")[2]))
    return [faiss.read_index(str(path)) for path in paths]


class TestBuilding:
    """An index is built when there are rows enough, and searches are exact until then."""

    @pytest.mark.parametrize("index", TRAINED, ids=by_kind)
    def test_the_status_says_how_many_rows_training_lacks(self, store: Store, index: IndexParams) -> None:
        spec = small(index=index)
        photos = store.create(spec)
        needed = 39 * max(8, 2 ** getattr(index, "nbits", 0))
        stored, ids = random_vectors(needed), names(needed)
        assert photos.status().index == "ready"  # for nothing
        photos.upsert(rows(spec, ids[:-5], stored[:-5]))
        assert photos.status().index == "exact: needs 5 more"
        photos.wait_ready()
        assert photos.status().index == "exact: needs 5 more"
        queries = random_vectors(20, seed=1)
        assert found(photos, queries, 10) == best("l2", queries, stored[:-5], ids[:-5], 10)
        photos.upsert(rows(spec, ids[-5:], stored[-5:]))
        assert photos.status().index == "building"
        assert found(photos, queries, 10) == best("l2", queries, stored, ids, 10)
        photos.wait_ready()
        assert photos.status().index == "ready"

    def test_deleted_rows_do_not_count_towards_training(self, store: Store) -> None:
        spec = small(index=IVFFlat(nlist=8))
        photos = store.create(spec)
        photos.upsert(rows(spec, names(400)))
        photos.delete(names(100))
        assert photos.status().index == "exact: needs 12 more"

    def test_an_hnsw_index_needs_one_row(self, store: Store) -> None:
        photos, stored = built(store, 1, HNSW(m=8))
        assert found(photos, stored, 3) == [["r000000"]]

    def test_auto_is_a_graph_from_some_rows_on_and_exact_below(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(indexes, "AUTO_FROM", 500)
        spec = small(index=Auto())
        photos = store.create(spec)
        photos.upsert(rows(spec, names(499)))
        assert photos.status().index == "ready"
        photos.wait_ready()
        assert index_files(place) == []
        photos.upsert(rows(spec, ["another"]))
        assert photos.status().index == "building"
        photos.wait_ready()
        [graph] = index_files(place)
        assert isinstance(graph, faiss.IndexHNSW)

    def test_flat_never_builds_anything(self, store: Store, place: Path) -> None:
        photos, stored = built(store, 600, Flat())
        assert index_files(place) == []
        assert found(photos, stored[:9], 5) == best("l2", stored[:9], stored, names(600), 5)

    @pytest.mark.parametrize("index", BUILT, ids=by_kind)
    def test_flush_extends_an_index_that_has_fallen_behind(
        self, store: Store, index: IndexParams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from vecbridge.stores.faiss import upkeep

        monkeypatch.setattr(upkeep, "_FLUSH_ROWS", 700)
        photos, _ = built(store, 700, index)
        photos.upsert(rows(photos.spec, names(600, 700)))
        photos.flush()
        assert photos.status().index == "building"
        photos.upsert(rows(photos.spec, names(100, 1300)))
        photos.flush()
        assert photos.status().index == "ready"

    @pytest.mark.parametrize("index", BUILT, ids=by_kind)
    def test_a_deadline_keeps_what_was_built(
        self, store: Store, index: IndexParams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(segments, "_ADD_ROWS", 256)
        spec = small(index=index)
        photos = store.create(spec)
        stored, ids = random_vectors(1500), names(1500)
        photos.upsert(rows(spec, ids, stored))
        covered = []
        for _ in range(20):
            try:
                photos.wait_ready(1e-9)
                break
            except DeadlineError:
                covered.append(sum(each.rows for each in reader_of(photos).view().indexes["vector"]))
                assert found(photos, stored[::100], 1, **widest(index)) == [[each] for each in ids[::100]]
        assert covered == [256, 512, 768, 1024, 1280]
        assert photos.status().index == "ready"


def widest(index: IndexParams) -> dict[str, int]:
    """The knob at which an index looks everywhere."""
    return {"ef": 4000} if isinstance(index, HNSW) else {"nprobe": 1000}


class TestParameters:
    """The spec's parameters are those of the file."""

    @pytest.mark.parametrize("metric", METRICS)
    def test_hnsw(self, store: Store, place: Path, metric: str) -> None:
        built(store, 300, HNSW(m=12, ef_construction=77), metric=metric)
        [graph] = index_files(place)
        assert isinstance(graph, faiss.IndexHNSW)
        assert (graph.hnsw.nb_neighbors(0), graph.hnsw.nb_neighbors(1)) == (24, 12)
        assert graph.hnsw.efConstruction == 77
        assert graph.metric_type == (faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)
        assert graph.ntotal == 300

    @pytest.mark.parametrize("index", TRAINED, ids=by_kind)
    @pytest.mark.parametrize("metric", METRICS)
    def test_ivf(self, store: Store, place: Path, metric: str, index: IndexParams) -> None:
        built(store, 700, index, metric=metric)
        [lists] = index_files(place)
        assert (lists.nlist, lists.ntotal, lists.d) == (8, 700, DIM)
        assert lists.metric_type == (faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)
        wanted = {
            "ivf_flat": faiss.IndexIVFFlat,
            "ivf_sq8": faiss.IndexIVFScalarQuantizer,
            "ivf_pq": faiss.IndexIVFPQ,
        }[index.kind]
        assert isinstance(lists, wanted)
        if isinstance(index, IVFPQ):
            assert (lists.pq.M, lists.pq.nbits) == (4, 4)
        if isinstance(index, IVFSQ8):
            assert lists.sq.qtype == faiss.ScalarQuantizer.QT_8bit

    def test_a_graph_is_written_without_its_vectors(self, store: Store, place: Path) -> None:
        built(store, 500, HNSW(m=8, ef_construction=40), dim=256)
        assert one(place, "index-*.faiss").stat().st_size < 500 * 256 * 4 // 2


class TestKnobs:
    """ef and nprobe change what an index finds, so they have reached it."""

    def test_recall_rises_with_ef(self, store: Store) -> None:
        photos, stored = built(store, 4000, HNSW(m=4, ef_construction=8), dim=32)
        queries = random_vectors(100, 32, seed=1)
        truth = best("l2", queries, stored, names(4000), 1)
        recalls = [recall(found(photos, queries, 1, ef=ef), truth) for ef in (1, 8, 64, 1000)]
        assert recalls == sorted(recalls)
        assert recalls[0] < 0.5 < 0.8 < recalls[-1]

    @pytest.mark.parametrize("index", [IVFFlat(nlist=32), IVFSQ8(nlist=32)], ids=by_kind)
    def test_recall_rises_with_nprobe(self, store: Store, index: IndexParams) -> None:
        photos, stored = built(store, 4000, index, dim=32)
        queries = random_vectors(100, 32, seed=1)
        truth = best("l2", queries, stored, names(4000), 1)
        recalls = [recall(found(photos, queries, 1, nprobe=n), truth) for n in (1, 4, 16, 32)]
        assert recalls == sorted(recalls)
        assert recalls[0] < 0.5
        assert recalls[-1] == 1

    @pytest.mark.parametrize("index", BUILT, ids=by_kind)
    def test_a_knob_of_another_index_is_refused(self, store: Store, index: IndexParams) -> None:
        photos = store.create(small(index=index))
        knob = {"nprobe": 4} if isinstance(index, HNSW) else {"ef": 4}
        with pytest.raises(UnsupportedError, match=next(iter(knob))):
            photos.search(Query(random_vectors(1), 1, **knob))

    def test_a_stored_ef_or_a_quantizer_is_refused_before_anything_is_made(self, store: Store) -> None:
        for index in (HNSW(ef=10), HNSW(quantizer="sq")):
            with pytest.raises(UnsupportedError):
                store.create(small(index=index))
        assert store.collections() == []


@pytest.mark.parametrize("index", BUILT, ids=by_kind)
@pytest.mark.parametrize("metric", METRICS)
class TestTruth:
    """Whatever the index covers, the answers are those of the rows."""

    def test_deleted_rows_are_never_returned(self, store: Store, metric: str, index: IndexParams) -> None:
        photos, stored = built(store, 1200, index, metric=metric)
        photos.delete(names(1150))
        left = set(names(50, 1150))
        queries = random_vectors(20, seed=1)
        for hits in found(photos, queries, 50, **widest(index)):
            assert set(hits) == left
        for hits in found(photos, queries, 10):
            assert len(hits) == 10
            assert set(hits) < left
        [[nearest]] = found(photos, stored[1199], 1, filter=field("n") >= 0, **widest(index))
        assert nearest in left

    def test_replaced_rows_are_found_where_they_are_now(
        self, store: Store, metric: str, index: IndexParams
    ) -> None:
        photos, _ = built(store, 800, index, metric=metric)
        ids, moved = names(800), random_vectors(800, seed=5)
        photos.upsert(rows(photos.spec, ids[:400], moved[:400]))
        photos.wait_ready()
        photos.upsert(rows(photos.spec, ids[400:], moved[400:]))
        queries = random_vectors(30, seed=1)
        truth = best(metric, queries, moved, ids, 5)
        assert recall(found(photos, queries, 5, **widest(index)), truth) > 0.99
        for hits in photos.search(Query(queries, 20, **widest(index))):
            assert len(set(hits.ids)) == 20

    def test_rows_past_the_index_are_found_and_merged(
        self, store: Store, metric: str, index: IndexParams
    ) -> None:
        photos, stored = built(store, 800, index, metric=metric)
        late = random_vectors(300, seed=7)
        photos.upsert(rows(photos.spec, names(300, 800), late))
        assert photos.status().index == "building"
        everything, ids = np.concatenate([stored, late]), names(1100)
        queries = random_vectors(30, seed=1)
        truth = best(metric, queries, everything, ids, 10)
        assert recall(found(photos, queries, 10, **widest(index)), truth) > 0.99
        photos.wait_ready()
        [covering] = reader_of(photos).view().indexes["vector"]
        assert (covering.first, covering.rows) == (0, 1100)
        assert recall(found(photos, queries, 10, **widest(index)), truth) > 0.99

    def test_scores_are_the_metrics_own_from_the_truth(
        self, store: Store, metric: str, index: IndexParams
    ) -> None:
        photos, stored = built(store, 700, index, metric=metric)
        queries = random_vectors(20, seed=1)
        for query, hits in zip(queries, photos.search(Query(queries, 10)), strict=True):
            for hit in hits:
                truth = true_score(metric, query, stored[int(str(hit.id)[1:])])
                assert abs(hit.score - truth) <= 1e-4 * max(1, abs(truth))

    def test_several_segments_answer_like_one(
        self, store: Store, place: Path, metric: str, index: IndexParams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(segments, "SEGMENT_BYTES", 0)
        monkeypatch.setattr(segments, "SEGMENT_ROWS", 700)
        photos, stored = built(store, 1000, index, metric=metric)
        ids, values = names(2300), np.concatenate([stored, random_vectors(1300, seed=3)])
        photos.upsert(rows(photos.spec, ids[1000:], values[1000:]))
        photos.delete(ids[100:200])
        photos.wait_ready()
        parts = reader_of(photos).view().indexes["vector"]
        assert [(each.first, each.rows) for each in parts] == [(0, 700), (700, 700), (1400, 700), (2100, 200)]
        assert len(index_files(place)) == 4
        keep = [*range(100), *range(200, 2300)]
        queries = random_vectors(30, seed=1)
        truth = best(metric, queries, values[keep], [ids[row] for row in keep], 10)
        assert recall(found(photos, queries, 10, **widest(index)), truth) > (
            0.9 if isinstance(index, IVFPQ) else 0.99
        )
        store.close()
        with faiss_store(place) as again:
            reopened = again.open("photos")
            assert reopened.status().index == "ready"
            assert recall(found(reopened, queries, 10, **widest(index)), truth) > (
                0.9 if isinstance(index, IVFPQ) else 0.99
            )


class TestGraphs:
    """What is peculiar to graphs whose vectors are elsewhere."""

    @pytest.mark.parametrize("metric", METRICS)
    def test_a_graph_over_mapped_vectors_answers_like_a_plain_one(
        self, store: Store, place: Path, metric: str
    ) -> None:
        built(store, 2000, HNSW(m=8, ef_construction=40), metric=metric)
        store.close()
        stored = random_vectors(2000)
        compared = stored / np.linalg.norm(stored, axis=1, keepdims=True) if metric == "cosine" else stored
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        plain = faiss.IndexHNSWFlat(DIM, 8, kind)
        plain.hnsw.efConstruction = 40
        plain.add(compared)
        queries = random_vectors(50, seed=1)
        asked = queries / np.linalg.norm(queries, axis=1, keepdims=True) if metric == "cosine" else queries
        scores, places = plain.search(asked, 10, params=faiss.SearchParametersHNSW(efSearch=40))
        with faiss_store(place) as again:
            photos = again.open("photos")
            assert photos.status().index == "ready"
            for row, score, hits in zip(
                places, scores, photos.search(Query(queries, 10, ef=40)), strict=True
            ):
                assert [int(str(each)[1:]) for each in hits.ids] == row.tolist()
                np.testing.assert_allclose(hits.scores, score, atol=1e-5)

    def test_answers_outlive_the_handle_that_mapped_them(self, store: Store, place: Path) -> None:
        photos, stored = built(store, 500, HNSW(m=8, ef_construction=40))
        view = reader_of(photos).view()
        photos.upsert(rows(photos.spec, names(500, 500)))
        photos.compact()
        store.close()
        [graph] = view.indexes["vector"]
        assert graph.search(stored[:3], 1, 64).rows.tolist() == [[0], [1], [2]]

    def test_rows_of_length_one_first_and_others_later(self, store: Store, place: Path) -> None:
        spec = small(index=HNSW(m=8, ef_construction=40), metric="cosine")
        photos = store.create(spec)
        values = random_vectors(1000)
        values[:500] /= np.linalg.norm(values[:500], axis=1, keepdims=True)
        ids = names(1000)
        photos.upsert(rows(spec, ids[:500], values[:500]))
        photos.wait_ready()
        assert list(place.rglob("unit-*.f32")) == []
        photos.upsert(rows(spec, ids[500:], 30 * values[500:]))
        queries = random_vectors(40, seed=1)
        truth = best("cosine", queries, values, ids, 10)
        assert recall(found(photos, queries, 10, ef=500), truth) > 0.99
        photos.wait_ready()
        assert photos.status().index == "ready"
        assert one(place, "unit-*.f32").stat().st_size == 1000 * DIM * 4
        assert recall(found(photos, queries, 10, ef=500), truth) > 0.99
        assert np.array_equal(vectors_of(photos, ids[500:]), 30 * values[500:])
        store.close()
        with faiss_store(place) as again:
            reopened = again.open("photos")
            assert recall(found(reopened, queries, 10, ef=500), truth) > 0.99

    @pytest.mark.parametrize("metric", METRICS)
    def test_a_reader_in_another_store_follows_the_index(
        self, store: Store, place: Path, metric: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        spec = small(index=HNSW(m=8, ef_construction=40), metric=metric)
        photos = store.create(spec)
        with faiss_store(place) as readers, caplog.at_level(logging.WARNING, "vecbridge"):
            mine = readers.open("photos")
            for start in range(0, 900, 300):
                photos.upsert(rows(spec, names(300, start), random_vectors(300, seed=start)))
                assert mine.status().index == "building"
                photos.wait_ready()
                assert mine.status().index == "ready"
                assert reader_of(mine).view().indexes["vector"][0].rows == start + 300
            assert scanned(mine) == names(900)
        assert not caplog.records


class TestFilters:
    """A filter costs no recall, whatever it has to do with the geometry."""

    @pytest.mark.parametrize("index", BUILT, ids=by_kind)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("matching", ["near", "far", "random"])
    def test_a_filter_that_goes_with_the_geometry_loses_nothing(
        self,
        store: Store,
        metric: str,
        index: IndexParams,
        matching: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(search, "EXACT_ROWS", 100)
        monkeypatch.setattr(lists, "LISTS_FROM", 1000)
        spec = small(index=index, metric=metric)
        values = random_vectors(3000) + np.float32(0.2)
        queries = random_vectors(25, seed=1)
        queries[:, 0] = np.abs(queries[:, 0]) * 4
        if matching == "near":  # the matches are where the queries are
            order = np.argsort(-values[:, 0], kind="stable")
        elif matching == "far":  # they are where no query is
            order = np.argsort(values[:, 0], kind="stable")
        else:
            order = np.arange(3000)
        values = np.ascontiguousarray(values[order])
        photos = store.create(spec)
        photos.upsert(rows(spec, names(3000), values))
        photos.wait_ready()
        photos.delete(names(20, 100))
        keep = [*range(100), *range(120, 500)]
        truth = best(metric, queries, values[keep], [names(3000)[row] for row in keep], 10)
        for _ in range(3):
            answers = found(photos, queries, 10, filter=field("n") < 500, **widest(index))
            assert recall(answers, truth) > (0.8 if isinstance(index, IVFPQ) else 0.98)
            assert all(len(each) == 10 for each in answers)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("outlier", [False, True], ids=["alike", "outlier"])
    def test_a_filter_that_comes_again_loses_nothing(self, store: Store, metric: str, outlier: bool) -> None:
        spec = small(index=Flat(), metric=metric, dim=32)
        values, ids = random_vectors(6000, 32), names(6000)
        if outlier:
            values[7] = 1e4
        photos = store.create(spec)
        photos.upsert(rows(spec, ids, values))
        queries = random_vectors(10, 32, seed=1)
        truth = best(metric, queries, values[:3000], ids[:3000], 10)
        condition = field("n") < 3000
        for _ in range(4):
            assert found(photos, queries, 10, filter=condition) == truth

    def test_a_filter_sees_what_was_written_since_it_came_last(self, store: Store) -> None:
        photos, stored = built(store, 3000, Flat())
        condition = field("n") >= 0
        for _ in range(3):
            assert found(photos, stored[5], 1, filter=condition) == [["r000005"]]
        photos.delete(["r000005"])
        assert found(photos, stored[5], 1, filter=condition) != [["r000005"]]
        photos.upsert(rows(photos.spec, ["again"], stored[5:6]))
        assert found(photos, stored[5], 1, filter=condition) == [["again"]]
        assert len(contents(photos)) == 3000


@pytest.mark.parametrize("index", [Flat(), *BUILT], ids=by_kind)
def test_the_built_index_is_what_its_file_says(tmp_path: Path, index: IndexParams) -> None:
    with faiss_store(tmp_path) as store:
        photos = store.create(small(index=index))
        assert photos.status().built == {"vector": index if index == Flat() else None}
        photos.upsert(rows(photos.spec, names(700), random_vectors(700)))
        assert photos.status().built == {"vector": index if index == Flat() else None}
        photos.wait_ready()
        assert photos.status().built == {"vector": index}
    with faiss_store(tmp_path) as store:
        assert store.open("photos").status().built == {"vector": index}


def test_an_index_whose_file_is_gone_or_that_was_not_worth_it_is_not_built(tmp_path: Path) -> None:
    with faiss_store(tmp_path) as store:
        built(store, 300, HNSW())
        automatic, _ = built(store, 300, Auto(), name="auto")
        assert automatic.status().built == {"vector": None}
    for path in tmp_path.rglob("index-*.faiss"):
        path.unlink()
    with faiss_store(tmp_path) as store:
        assert store.open("photos").status().built == {"vector": None}
