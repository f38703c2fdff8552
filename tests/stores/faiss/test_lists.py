"""The coarse lists of a segment: what they say, and that the file can be lost at no cost but time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.faiss.helpers import (
    best,
    faiss_store,
    found,
    names,
    one,
    random_vectors,
    reader_of,
    recall,
    rows,
    small,
)
from vecbridge.collection import Collection
from vecbridge.errors import BackendError, CorruptStoreError
from vecbridge.filters import field
from vecbridge.indexes import IVFFlat
from vecbridge.query import FloatArray
from vecbridge.records import batch
from vecbridge.schema import VectorField
from vecbridge.store import Store
from vecbridge.stores.faiss import lists, search
from vecbridge.stores.faiss.exact import FieldVectors, search_rows

METRICS = ["l2", "cosine", "dot"]
COUNT = 1500
HALF = field("n") < COUNT // 2
SPEC = small(index=IVFFlat(nlist=8), dim=16)


@pytest.fixture(autouse=True)
def _small_segments_have_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_FROM", 500)
    monkeypatch.setattr(search, "EXACT_ROWS", 100)


@pytest.fixture
def stored() -> FloatArray:
    return random_vectors(COUNT, 16)


def filled(store: Store, stored: FloatArray) -> Collection:
    """A collection whose index covers every row."""
    photos = store.create(SPEC)
    photos.upsert(rows(SPEC, names(COUNT), stored))
    photos.wait_ready()
    return photos


def with_lists(photos: Collection) -> list[bool]:
    """Which of the open indexes has its lists."""
    return [index.lists is not None for index in reader_of(photos).view().indexes["vector"]]


def require_the_half(photos: Collection, stored: FloatArray) -> None:
    queries = random_vectors(20, 16, seed=1)
    truth = best("l2", queries, stored[: COUNT // 2], names(COUNT // 2), 10)
    assert recall(found(photos, queries, 10, filter=HALF), truth) >= 0.95


def vectors_of(metric: str, stored: FloatArray) -> FieldVectors:
    norms = np.linalg.norm(stored.astype(np.float64), axis=1)
    return FieldVectors(stored, norms, VectorField("vector", stored.shape[1], metric).metric, False)


@pytest.mark.parametrize("metric", METRICS)
class TestWhatTheySay:
    """Each row is in the list of its nearest centroid, and distances are where they were predicted."""

    def test_every_row_is_in_the_list_of_its_nearest_centroid(self, metric: str) -> None:
        stored = vectors_of(metric, random_vectors(2000, 24))
        made = lists.built(stored, 500, 2000)
        assert np.array_equal(np.sort(made.order), np.arange(1500))
        assert made.starts[0] == 0
        assert made.starts[-1] == 1500
        values = stored.prepare(stored.values[500:])
        labels = np.repeat(np.arange(len(made.sizes)), made.sizes)
        for label in np.flatnonzero(made.sizes):
            members = values[made.order[labels == label]]
            np.testing.assert_allclose(members.mean(axis=0), made.centroids[label], atol=1e-4)
        distances = np.square(values[made.order][:, None] - made.centroids[None]).sum(axis=2)
        assert (distances.argmin(axis=1) == labels).mean() > 0.8  # the means moved after they were assigned

    def test_distances_have_the_predicted_mean_and_deviation(self, metric: str) -> None:
        random = np.random.default_rng(4)
        scales = np.linspace(0.2, 2, 24)  # some directions matter more than others
        values = (3 + random.standard_normal((4000, 24)) * scales).astype(np.float32)
        stored = vectors_of(metric, values)
        made = lists.built(stored, 0, 4000)
        labels = np.repeat(np.arange(len(made.sizes)), made.sizes)
        many = np.flatnonzero(
            made.sizes[labels] >= 5
        )  # a row alone is its centroid, and deviates from nothing
        compared = stored.prepare(values)[made.order].astype(np.float64)
        standard = []
        for query in stored.prepare((3 + random.standard_normal((40, 24)) * scales).astype(np.float32)):
            means, deviations = made.predicted(query, stored.metric)
            distances = -compared @ query
            if metric == "l2":
                distances = np.square(compared - query).sum(axis=1)
            standard.append(((distances - means[labels])[many]) / deviations[labels[many]])
        assert abs(np.mean(standard)) < 0.05
        assert 0.8 < np.std(standard) < 1.25

    def test_as_many_rows_are_near_as_the_measured_excess_makes_expect(self, metric: str) -> None:
        random = np.random.default_rng(6)
        shrunk = 1 / (1 + 6 * random.random((4100, 1)))  # many rows near the middle: no normal distribution
        values = (shrunk * random.standard_normal((4100, 24))).astype(np.float32)
        stored = vectors_of(metric, values[:4000])
        made = lists.built(stored, 0, 4000)
        assert (made.excess >= 1).all()
        for k in (10, 30, 100):
            near = []
            for query in stored.prepare(values[4000:]):
                found = search_rows(stored, query[None], k, np.arange(4000)).distances[0, k - 1]
                near.append(lists.expected(made.sizes, *made.predicted(query, stored.metric), float(found)))
            assert np.median(near) / made.excess_at(k) < 1.5 * k
        assert made.excess_at(1) == made.excess[0]
        assert made.excess_at(1000) == made.excess[1]


class TestTheFile:
    """It is derived: what is lost is made again, and what is damaged is not believed."""

    def test_it_says_the_same_when_it_is_read_back(self, tmp_path: Path) -> None:
        made = lists.built(vectors_of("l2", random_vectors(900, 16)), 0, 900)
        lists.write(made, tmp_path / "lists.bin")
        again = lists.read(tmp_path / "lists.bin", 900, 16)
        for name in ("centroids", "squares", "variances", "residuals", "starts", "order", "excess"):
            assert np.array_equal(getattr(made, name), getattr(again, name)), name

    @pytest.mark.parametrize("damage", ["cut", "flipped", "other rows", "empty"])
    def test_damage_is_told(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "lists.bin"
        lists.write(lists.built(vectors_of("l2", random_vectors(900, 16)), 0, 900), path)
        _damage(path, damage)
        with pytest.raises(CorruptStoreError):
            lists.read(path, 900 if damage != "other rows" else 901, 16)

    @pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "empty"])
    @pytest.mark.parametrize("repair", ["flush", "wait_ready", "compact"])
    def test_a_collection_opens_and_answers_without_it_and_gets_it_again(
        self, place: Path, stored: FloatArray, damage: str, repair: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with faiss_store(place) as store:
            assert with_lists(filled(store, stored)) == [True]
        path = one(place, "lists-*.bin")
        _damage(path, damage)
        with faiss_store(place) as store, caplog.at_level(logging.WARNING, "vecbridge"):
            photos = store.open("photos")
            assert with_lists(photos) == [False]
            assert photos.status().index == "ready"
            require_the_half(photos, stored)
            assert [
                record for record in caplog.records if "lists-" in record.getMessage()
            ] or damage == "gone"
            photos.upsert(rows(SPEC, ["r000000"], stored[:1]))  # who writes may build
            getattr(photos, repair)()
            assert with_lists(photos) == [True]
            require_the_half(photos, stored)

    def test_a_reader_in_another_store_takes_up_what_was_made_again(
        self, place: Path, stored: FloatArray
    ) -> None:
        with faiss_store(place) as store:
            filled(store, stored)
        one(place, "lists-*.bin").unlink()
        with faiss_store(place) as store, faiss_store(place) as readers:
            photos, mine = store.open("photos"), readers.open("photos")
            assert with_lists(mine) == [False]
            photos.upsert(rows(SPEC, ["r000000"], stored[:1]))
            photos.flush()
            assert with_lists(mine) == [True]

    def test_what_a_writer_left_half_written_is_not_taken_for_it(
        self, place: Path, stored: FloatArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def half(made: lists.Lists, path: Path) -> None:
            write(made, path)
            path.write_bytes(path.read_bytes()[:100])
            raise OSError("the machine goes down")

        write = lists.write
        with faiss_store(place) as store:
            photos = store.create(SPEC)
            photos.upsert(rows(SPEC, names(COUNT), stored))
            monkeypatch.setattr(lists, "write", half)
            with pytest.raises(BackendError, match="goes down"):
                photos.wait_ready()
            assert list(place.rglob("*lists-*")) == []
            require_the_half(photos, stored)
            monkeypatch.setattr(lists, "write", write)
            photos.wait_ready()
            assert with_lists(photos) == [True]
        path = one(place, "lists-*.bin")
        remains = path.with_name(f".{path.name}")  # as a killed process leaves it
        remains.write_bytes(b"half")
        with faiss_store(place) as store:
            photos = store.open("photos")
            photos.upsert(rows(SPEC, ["r000000"], stored[:1]))
            assert not remains.exists()
            require_the_half(photos, stored)

    def test_it_grows_with_the_index_and_the_old_one_goes(self, place: Path, stored: FloatArray) -> None:
        with faiss_store(place) as store:
            photos = filled(store, stored)
            first = one(place, "lists-*.bin")
            more = batch(
                SPEC,
                id=names(600, COUNT),
                vector=random_vectors(600, 16, seed=5),
                n=list(range(COUNT, COUNT + 600)),
            )
            photos.upsert(more)
            photos.wait_ready()
            assert not first.exists()
            assert one(place, "lists-*.bin").stem == one(place, "index-*.faiss").stem.replace(
                "index", "lists"
            )
            [index] = reader_of(photos).view().indexes["vector"]
            assert index.lists is not None
            assert len(index.lists.order) == COUNT + 600
            require_the_half(photos, stored)


def _damage(path: Path, how: str) -> None:
    data: Any = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-5])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
