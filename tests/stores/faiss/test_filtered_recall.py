"""Recall under filters at default knobs: random ones, and regions asked from inside and outside."""

from __future__ import annotations

import numpy as np
import pytest

from tests.stores.faiss.helpers import best, found, names, random_vectors, small
from tests.stores.faiss.test_default_recall import WANTED
from vecbridge.collection import Collection
from vecbridge.filters import field
from vecbridge.indexes import HNSW, IndexParams, IVFFlat
from vecbridge.query import FloatArray, Query
from vecbridge.records import batch
from vecbridge.store import Store
from vecbridge.stores.faiss import exact, lists, search
from vecbridge.stores.faiss.indexes import Loaded
from vecbridge.stores.faiss.walk import Walk

COUNT, DIM, CLUSTERS, QUERIES, K = 12_000, 32, 64, 100, 10
SHARES = [0.01, 0.1, 0.2, 0.5, 0.9]


@pytest.fixture(autouse=True)
def _few_rows_take_the_ways_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_FROM", 1000)
    monkeypatch.setattr(search, "EXACT_ROWS", 200)
    monkeypatch.setattr("vecbridge.stores.faiss.walk._LEAST_ROWS", 600)


def clustered(count: int, clusters: range, seed: int) -> tuple[FloatArray, np.ndarray]:
    """Gaussians whose numbers follow one direction of the space, and the number of each row."""
    centres = np.random.default_rng(3).standard_normal((CLUSTERS, DIM))
    centres = centres[np.argsort(centres[:, 0])]
    random = np.random.default_rng(seed)
    chosen = random.integers(clusters.start, clusters.stop, count)
    values = centres[chosen] + 0.6 * random.standard_normal((count, DIM))
    return values.astype(np.float32), chosen


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many queries went by the lists and by the graph, and how many rows were compared."""
    taken = {"walk": 0, "graph": 0, "compared": 0}
    by_lists, by_graph, one_by_one = Walk.best, Loaded.search, exact.search_rows

    def best_of(self: Walk, *args: object) -> object:
        taken["walk"] += 1
        return by_lists(self, *args)  # type: ignore[arg-type]

    def graph(self: Loaded, queries: FloatArray, k: int, breadth: int, selector: object = None) -> object:
        taken["graph"] += len(queries) if selector is not None else 0
        return by_graph(self, queries, k, breadth, selector)

    def compared(stored: object, queries: FloatArray, k: int, some: np.ndarray) -> object:
        taken["compared"] += len(queries) * len(some)
        return one_by_one(stored, queries, k, some)  # type: ignore[arg-type]

    monkeypatch.setattr(Walk, "best", best_of)
    monkeypatch.setattr(Loaded, "search", graph)
    monkeypatch.setattr(exact, "search_rows", compared)
    return taken


def filled(
    store: Store, index: IndexParams, metric: str, sealed: int = COUNT
) -> tuple[Collection, FloatArray]:
    """A collection whose field ``n`` is the cluster of a row, and ``s`` none of it."""
    spec = small(index=index, dim=DIM, metric=metric, fields={"n": "int64", "year": "int64"})
    values, clusters = clustered(COUNT, range(CLUSTERS), 1)
    years = np.random.default_rng(2).integers(0, 1000, COUNT)
    photos = store.create(spec)
    whole = batch(spec, id=names(COUNT), vector=values, n=clusters.tolist(), year=years.tolist())
    photos.upsert(whole.slice(0, sealed))
    photos.wait_ready()
    if sealed < COUNT:
        photos.upsert(whole.slice(sealed))
    return photos, values


def lower_bounds(photos: Collection, values: FloatArray, metric: str) -> dict[str, float]:
    """The lower 95 % bound of recall by share and kind of filter."""
    clusters = clustered(COUNT, range(CLUSTERS), 1)[1]
    years = np.random.default_rng(2).integers(0, 1000, COUNT)
    ids = np.array(names(COUNT))
    bounds = {}
    for share in SHARES:
        edge = max(1, round(share * CLUSTERS))
        outside = range(CLUSTERS // 2, CLUSTERS) if share <= 0.5 else range(CLUSTERS - 3, CLUSTERS)
        for kind, condition, keep, where in (
            ("random", field("year") < round(1000 * share), years < round(1000 * share), range(CLUSTERS)),
            ("inside", field("n") < edge, clusters < edge, range(edge)),
            ("outside", field("n") < edge, clusters < edge, outside),
        ):
            queries = clustered(QUERIES, where, 7)[0]
            true = best(metric, queries, values[keep], ids[keep].tolist(), K)
            answers = found(photos, queries, K, filter=condition)
            recalls = np.array([len(set(a) & set(b)) / K for a, b in zip(answers, true, strict=True)])
            bounds[f"{share} {kind}"] = recalls.mean() - 1.645 * recalls.std(ddof=1) / np.sqrt(QUERIES)
    return bounds


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
def test_by_the_lists(store: Store, metric: str, taken: dict[str, int]) -> None:
    photos, values = filled(store, IVFFlat(nlist=16), metric)
    bounds = lower_bounds(photos, values, metric)
    assert min(bounds.values()) >= WANTED, bounds
    assert taken["walk"] >= 10 * QUERIES, "the path that this test is about was not taken"
    assert taken["graph"] == 0


def test_by_the_graph_where_matches_are_dense_and_by_the_lists_elsewhere(
    store: Store, taken: dict[str, int]
) -> None:
    photos, values = filled(store, HNSW(m=16, ef_construction=100), "l2")
    bounds = lower_bounds(photos, values, "l2")
    assert min(bounds.values()) >= WANTED, bounds
    assert taken["walk"] >= 5 * QUERIES, "the path that this test is about was not taken"
    assert taken["graph"] >= 4 * QUERIES, "the path that this test is about was not taken"


def test_with_rows_that_no_index_covers_yet(store: Store) -> None:
    photos, values = filled(store, IVFFlat(nlist=16), "l2", sealed=COUNT * 3 // 4)
    bounds = lower_bounds(photos, values, "l2")
    assert min(bounds.values()) >= WANTED, bounds


def test_one_query_at_a_time_finds_what_many_at_once_find(store: Store) -> None:
    photos, _ = filled(store, IVFFlat(nlist=16), "cosine")
    queries = clustered(300, range(CLUSTERS), 8)[0]
    condition = field("year") < 300
    together = found(photos, queries, K, filter=condition)
    assert together[::30] == [found(photos, query, K, filter=condition)[0] for query in queries[::30]]


def test_a_query_amid_matches_compares_few_of_them(store: Store, taken: dict[str, int]) -> None:
    photos, _ = filled(store, IVFFlat(nlist=16), "l2")
    taken["compared"] = 0  # making the lists compares some
    queries = clustered(QUERIES, range(CLUSTERS), 8)[0]
    for query in queries:
        found(photos, query, K, filter=field("year") < 500)
    assert taken["walk"] == QUERIES
    assert taken["compared"] < QUERIES * COUNT * 0.5 / 3


def test_more_hits_than_a_list_holds(store: Store) -> None:
    photos, values = filled(store, IVFFlat(nlist=16), "l2")
    queries = random_vectors(5, DIM, seed=9)
    years = np.random.default_rng(2).integers(0, 1000, COUNT)
    keep = years < 500
    true = best("l2", queries, values[keep], np.array(names(COUNT))[keep].tolist(), 1000)
    answers = found(photos, queries, 1000, filter=field("year") < 500)
    assert all(len(each) == 1000 for each in answers)
    shares = [len(set(a) & set(b)) / 1000 for a, b in zip(answers, true, strict=True)]
    assert np.mean(shares) >= WANTED


@pytest.mark.parametrize(
    ("index", "knob", "low", "high"),
    [(IVFFlat(nlist=16), "nprobe", 1, 16), (HNSW(m=16, ef_construction=100), "ef", 10, 400)],
)
def test_a_broader_query_compares_more_matches(
    store: Store, taken: dict[str, int], index: IndexParams, knob: str, low: int, high: int
) -> None:
    photos, _ = filled(store, index, "l2")
    queries = clustered(QUERIES, range(CLUSTERS // 2, CLUSTERS), 11)[0]
    condition = field("n") < CLUSTERS // 4
    compared: list[int] = []
    for breadth in (low, high):
        taken["compared"] = 0
        for query in queries:
            photos.search(Query(query, K, filter=condition, **{knob: breadth}))
        compared.append(taken["compared"])
    assert taken["walk"] == 2 * QUERIES
    assert compared[1] > 1.2 * compared[0]
    keep = np.flatnonzero(clustered(COUNT, range(CLUSTERS), 1)[1] < CLUSTERS // 4)
    if knob == "nprobe":  # all lists
        assert compared[1] == QUERIES * len(keep)
