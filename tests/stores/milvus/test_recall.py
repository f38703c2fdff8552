"""Filters and growing rows cost no neighbours at default knobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.stores.milvus.helpers import fresh, made, milvus_store, random_vectors, rows, small
from vecbridge.driver import Deadline, SearchRequest, SearchResult
from vecbridge.filters import AnyFilter, field
from vecbridge.indexes import HNSW, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray, Hits, Query
from vecbridge.records import batch
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus import index_params, searching

WIDTH, K, CLUSTERS, ASKED = 32, 10, 64, 100
SHARES = (0.9, 0.5, 0.2, 0.1, 0.01, 0.001)
#: Enough rows for a server to search growing ones through an interim index, and for a filter by region to cut
#: off the walk through a graph.
ROWS = 20_000
FEWER = 6_000  # for milvus-lite, which looks at every row in Python
DISTANT = np.random.default_rng(16).standard_normal(WIDTH)


class Sample:
    """Clustered vectors, and the true neighbours of some queries.

    They are in the order in which a plane that moves through the space meets them, so that the first ones
    are a region of it.

    Args:
        count: Rows.
    """

    def __init__(self, count: int) -> None:
        generator = np.random.default_rng(15)
        centres = generator.standard_normal((CLUSTERS, WIDTH))

        def clustered(count: int) -> FloatArray:
            noise = 0.4 * generator.standard_normal((count, WIDTH))
            return (centres[generator.integers(0, CLUSTERS, count)] + noise).astype(np.float32)

        self.queries, stored = clustered(ASKED), clustered(count)
        self.stored = stored[np.argsort(stored @ DISTANT)]
        self.shuffled = np.random.default_rng(17).permutation(count)

    def written(self, store: Store, index: IndexParams) -> Collection:
        """A collection of them, not sealed; ids are places in the order."""
        fields: dict[str, Any] = {"region": "int64", "random": "int64"}
        spec = small(fresh("recall"), dim=WIDTH, index=index, id_type="int64", fields=fields)
        photos = store.create(spec)
        places = np.arange(len(self.stored))
        photos.upsert(batch(spec, id=places, vector=self.stored, region=places, random=self.shuffled))
        photos.flush()
        return photos

    def recall(
        self, photos: Collection, how: str, share: float, *, deleted: int = 0, one_by_one: bool = False
    ) -> float:
        """The lower 95 % bound of recall@min(10, matches).

        Args:
            photos: The collection.
            how: The field that a filter looks at.
            share: Of the rows that it keeps; 1 is no filter.
            deleted: Rows of the region that are gone.
            one_by_one: Whether a fifth of the queries are searches of their own, instead of all in one.
        """
        count, queries = len(self.stored), self.queries[: ASKED // 5] if one_by_one else self.queries
        filter: AnyFilter | None = None if share == 1 else field(how) < int(share * count)
        ranks = np.arange(count) if how == "region" else self.shuffled
        matches = np.flatnonzero((ranks < int(share * count)) & (np.arange(count) >= deleted))
        searches = np.split(queries, len(queries)) if one_by_one else [queries]
        answers = [hits for each in searches for hits in photos.search(Query(each, K, filter=filter))]
        stored = self.stored[matches].astype(np.float64)
        distances = (stored**2).sum(axis=1) - 2 * queries.astype(np.float64) @ stored.T
        best = matches[np.argsort(distances, axis=1)[:, :K]]
        shares = [
            len(np.intersect1d(hits.ids, line)) / len(line) for hits, line in zip(answers, best, strict=True)
        ]
        return float(np.mean(shares) - 1.645 * np.std(shares, ddof=1) / np.sqrt(len(shares)))

    def misses(self, photos: Collection) -> dict[tuple[str, float, bool], float]:
        """The filters under which less than 0.95 is found."""
        bounds = {
            (how, share, one_by_one): self.recall(photos, how, share, one_by_one=one_by_one)
            for how, share, one_by_one in [
                ("region", 1.0, False),
                *(("region", share, False) for share in SHARES),
                *(("random", share, False) for share in SHARES),
                *(("region", share, True) for share in (0.5, 0.1, 0.01)),
            ]
        }
        return {key: bound for key, bound in bounds.items() if bound < 0.95}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return Sample(ROWS)


@pytest.fixture(scope="module")
def graph(server_url: str, sample: Sample) -> Iterator[Collection]:
    """A graph on the genuine server, over rows that are growing until a test seals them."""
    with milvus_store(server_url) as store:
        photos = sample.written(store, HNSW())
        yield photos
        store.drop(photos.spec.name)


def test_among_growing_rows_the_true_neighbours_are_found(graph: Collection, sample: Sample) -> None:
    assert graph.status().details["growing_rows"] == ROWS
    assert not sample.misses(graph)


def test_a_filter_cuts_no_walk_through_a_sealed_graph_short(graph: Collection, sample: Sample) -> None:
    graph.wait_ready(timeout=120)
    assert not sample.misses(graph)


def test_rows_that_are_growing_beside_sealed_ones_are_found_although_others_were_deleted(
    graph: Collection, sample: Sample
) -> None:
    deleted = 3 * ROWS // 4
    places = np.arange(deleted, ROWS)
    columns = {"vector": sample.stored[deleted:], "region": places, "random": sample.shuffled[deleted:]}
    graph.wait_ready(timeout=120)
    graph.upsert(batch(graph.spec, id=places, **columns))  # type: ignore[arg-type]
    graph.delete(filter=field("region") < deleted)
    graph.flush()
    assert graph.status().details["growing_rows"] > 0
    for one_by_one in (False, True):
        assert sample.recall(graph, "region", 1, deleted=deleted, one_by_one=one_by_one) >= 0.95
        assert sample.recall(graph, "random", 0.5, deleted=deleted, one_by_one=one_by_one) >= 0.95


def test_growing_random_vectors_are_found_without_a_filter(genuine: Store) -> None:
    stored, queries = random_vectors(ROWS, 48, seed=1), random_vectors(ASKED, 48, seed=2)
    distances = (stored**2).sum(axis=1) - 2 * queries @ stored.T
    with made(genuine, small(fresh("random"), dim=48, index=Auto(), id_type="int64")) as photos:
        photos.upsert(rows(photos.spec, np.arange(ROWS), vector=stored))  # type: ignore[arg-type]
        photos.flush()
        answers = photos.search(Query(queries, K))
        best = np.argsort(distances, axis=1)[:, :K]
        found = [len(np.intersect1d(hits.ids, line)) for hits, line in zip(answers, best, strict=True)]
        assert sum(found) >= 0.98 * K * ASKED  # the interim index alone finds 0.60


@pytest.mark.parametrize("index", [HNSW(), IVFFlat(nlist=309)], ids=["hnsw", "ivf_flat"])
def test_on_milvus_lite_filters_cost_no_neighbours(lite: Store, index: IndexParams) -> None:
    sample = Sample(FEWER)
    photos = sample.written(lite, index)
    photos.wait_ready()
    assert not sample.misses(photos)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_growing_rows_fewer_than_k_are_all_found_in_their_order(store: Store, metric: Any) -> None:
    spec = small(fresh("few"), index=HNSW(), metric=metric, fields={"n": "int64"})
    with made(store, spec) as photos:
        vectors = random_vectors(12)
        photos.upsert(rows(spec, [f"r{n:02d}" for n in range(12)], vector=vectors, n=list(range(12))))
        photos.flush()
        [every], [some] = (
            photos.search(Query(vectors[3], 50, filter=filter, include=["n"]))
            for filter in (None, field("n") >= 5)
        )
    assert len(every) == 12
    assert sorted(some.ids) == [f"r{n:02d}" for n in range(5, 12)]
    assert [hit.record["n"] for hit in every if hit.record] == [int(str(key)[1:]) for key in every.ids]
    ahead = np.diff(every.scores)
    assert np.all(ahead <= 0 if Metric(metric).higher_is_better else ahead >= 0)


def test_a_graph_of_several_namespaces_answers_for_one(store: Store) -> None:
    spec = small(fresh("spaces"), index=HNSW(), namespaced=True, fields={"n": "int64"})
    vectors = random_vectors(1_500, seed=5)
    names = [f"r{n:04d}" for n in range(1_500)]
    with made(store, spec):
        many, few = (store.open(spec.name, namespace=name) for name in ("many", "few"))
        many.upsert(rows(spec, names, vector=vectors, n=list(range(1_500))))
        few.upsert(rows(spec, names[:100], vector=vectors[:100], n=list(range(100))))
        for ready in (False, True):
            many.wait_ready() if ready else many.flush()
            for photos, count in ((many, 1_500), (few, 100)):
                best = np.argsort(((vectors[:count] - vectors[7]) ** 2).sum(axis=1))
                for filter, kept in ((None, best), (field("n") < 50, best[best < 50])):
                    [hits] = photos.search(Query(vectors[7], K, filter=filter))
                    assert list(hits.ids) == [names[n] for n in kept[:K]]


def test_knobs_that_are_given_are_taken_and_cut_to_what_the_index_takes() -> None:
    def params(index: IndexParams, k: int = 10, **knobs: Any) -> dict[str, int]:
        asked: dict[str, Any] = {"ef": None, "nprobe": None, "filtered": False, "rows": 1_000_000} | knobs
        return index_params.search_params(index, k, **asked)

    for filtered in (False, True):
        assert params(HNSW(), ef=20, filtered=filtered) == {"ef": 20}
        assert params(HNSW(), k=50, ef=20, filtered=filtered) == {"ef": 50}
        assert params(IVFFlat(nlist=100), nprobe=3, filtered=filtered) == {"nprobe": 12 if filtered else 3}
        assert params(IVFFlat(nlist=100), nprobe=300, filtered=filtered) == {"nprobe": 100}
        assert params(Flat(), filtered=filtered) == {}
    assert params(HNSW()) == params(Auto()) == {"ef": 128}
    assert params(HNSW(), k=100) == {"ef": 200}
    assert params(HNSW(), filtered=True) == {"ef": 256}
    assert params(IVFFlat(nlist=160)) == {"nprobe": 10}
    assert params(IVFFlat(nlist=100)) == {"nprobe": 8}
    assert params(IVFFlat(nlist=100), rows=32_768) == {"nprobe": 50}
    assert params(IVFFlat(nlist=100), rows=16_000) == {"nprobe": 100}
    assert params(IVFFlat(nlist=100), rows=0) == {"nprobe": 100}
    assert params(IVFFlat(nlist=5)) == {"nprobe": 5}
    assert params(IVFFlat(nlist=100), filtered=True) == {"nprobe": 100}


def test_an_answer_that_lacks_a_better_hit_of_the_usual_search_is_not_believed() -> None:
    def hits(*scores: float) -> Hits:
        return Hits([f"r{place}" for place in range(len(scores))], np.array(scores, np.float32))

    def doubtful(usual: Hits, other: Hits | None, metric: Metric, matches: int) -> tuple[list[float], bool]:
        request = SearchRequest(
            small("photos", metric=metric).vector, np.zeros((1, 8), np.float32), 2, None, None, None, None,
            Deadline.after(1),
        )  # fmt: skip
        result = searching.surest(request, SearchResult([usual]), [other], matches)
        return result.hits[0].scores.tolist(), bool(result.unsure)

    few, many = searching.READ_ROWS, searching.READ_ROWS + 1
    assert doubtful(hits(0.5, 0.25), hits(0.75, 0.5), Metric.COSINE, few) == ([0.75, 0.5], False)
    assert doubtful(hits(0.5, 0.25), hits(0.5, 0.125), Metric.COSINE, few)[1]
    assert doubtful(hits(0.5, 0.25), hits(0.5, 0.125), Metric.COSINE, many) == ([0.5, 0.25], False)
    assert doubtful(hits(0.25, 0.5), hits(0.25, 0.75), Metric.L2, few)[1]
    assert doubtful(hits(0.25, 0.5), hits(0.125, 0.25), Metric.L2, few) == ([0.125, 0.25], False)
    assert doubtful(hits(0.5, 0.25), hits(0.5), Metric.COSINE, few)[1]
    assert doubtful(hits(0.5), None, Metric.COSINE, few) == ([0.5], True)
    assert doubtful(hits(0.5), None, Metric.COSINE, many) == ([0.5], False)


def test_recall_while_growing_is_a_gap_of_servers_and_of_indexes_that_are_built(
    genuine: Store, lite: Store
) -> None:
    def kinds(store: Store, spec: CollectionSpec) -> list[str]:
        return [gap.kind for gap in store.check(spec)]

    for index, gaps in ((HNSW(), ["recall while growing"]), (Flat(), [])):
        spec = small("photos", index=index)
        assert kinds(genuine, spec) == gaps
        assert kinds(lite, spec) == []
