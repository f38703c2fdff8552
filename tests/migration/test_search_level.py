"""Searches: an index that finds too little fails, one that finds as much as the source passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.migration import schemas, search_level
from vecbridge.query import Hits, Status
from vecbridge.stores.memory import MemoryCollection, MemoryDriver

SPEC = vb.CollectionSpec.single("photos", dim=6, fields={"year": "int64", "tags": "list<string>"})


@pytest.fixture
def urls(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    monkeypatch.setattr(search_level, "MOST_QUERIES", 100)
    made = (f"memory:///{id(request)}-source#photos", f"memory:///{id(request)}-target#photos")
    random = np.random.default_rng(0)
    rows = [
        {"id": f"r{number}", "vector": vector, "year": number % 100, "tags": [str(number % 2)]}
        for number, vector in enumerate(random.standard_normal((400, 6)).astype(np.float32))
    ]
    for url in made:
        with vb.connect(url.partition("#")[0]) as store:
            store.create(SPEC).upsert(rows)
    yield made
    for url in made:
        with vb.connect(url.partition("#")[0]) as store:
            store.drop("photos")


def at_the_target(monkeypatch: pytest.MonkeyPatch, alter: Any, *, source: bool = False) -> None:
    """Alters the hits of the target, or of both sides."""
    original = MemoryCollection.search

    def search(self: Any, request: Any) -> Any:
        result = original(self, request)
        tables = {name: table for name, table in MemoryDriver_tables() if name.endswith("target") or source}
        if any(self._table is table for table in tables.values()):
            result = replace(result, hits=[alter(hits, request) for hits in result.hits])
        return result

    monkeypatch.setattr(MemoryCollection, "search", search)


def MemoryDriver_tables() -> list[tuple[str, Any]]:
    from vecbridge.stores import memory

    return [
        (path, database.tables["photos"])
        for path, database in memory._SHARED.items()
        if "photos" in database.tables
    ]


def missing_some(hits: Hits, request: Any) -> Hits:
    """Every second hit is not found."""
    return Hits(hits.ids[::2], hits.scores[::2])


def missing_the_last(hits: Hits, request: Any) -> Hits:
    return Hits(hits.ids[:9], hits.scores[:9])


def unfiltered_only(hits: Hits, request: Any) -> Hits:
    return hits if request.filter is None else Hits(hits.ids[:1], hits.scores[:1])


def other_scores(hits: Hits, request: Any) -> Hits:
    return Hits(hits.ids, hits.scores * np.float32(1.01))


def kinds(proof: vb.Proof) -> set[str]:
    return {each.kind for each in proof.findings}


def test_an_index_that_finds_too_little_fails_and_passes_below_unless_recall_is_allowed(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_target(monkeypatch, missing_some)
    proof = vb.verify(*urls)
    assert kinds(proof) == {"recall"}
    assert proof.recall[0].target == pytest.approx(0.5)
    assert proof.recall[0].source == 1.0
    assert vb.verify(*urls, level="content").passed
    assert vb.verify(*urls, min_recall=0.45).passed


def test_nine_of_ten_hits_are_not_enough_where_the_source_finds_them_all(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_target(monkeypatch, missing_the_last)
    proof = vb.verify(*urls)
    assert kinds(proof) == {"recall"}
    assert proof.recall[0].target == pytest.approx(0.9)


def test_a_source_that_finds_no_more_is_no_reproach_to_the_target(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_target(monkeypatch, missing_some, source=True)
    proof = vb.verify(*urls)
    assert proof.passed, proof.findings
    assert proof.recall[0].source == proof.recall[0].target == pytest.approx(0.5)


def test_filters_of_three_shares_are_drawn_and_judged_alone(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_target(monkeypatch, unfiltered_only)
    proof = vb.verify(*urls)
    assert [each.passed for each in proof.recall] == [True, False, False, False]
    for each, near in zip(proof.recall, (1.0, 0.5, 0.1, 0.01), strict=True):
        assert near / 2.5 <= each.share <= near * 2.5
    assert "under a filter" in proof.findings[0].detail


def test_a_call_that_takes_too_long_is_asked_again_with_fewer_queries(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = MemoryCollection.search

    def slow(self: Any, request: Any) -> Any:
        sizes.append(len(request.vectors))
        if len(request.vectors) > 10:
            raise vb.DeadlineError("too long")
        return original(self, request)

    monkeypatch.setattr(MemoryCollection, "search", slow)
    proof = vb.verify(*urls)
    assert proof.passed, proof.findings
    assert {100, 25, 6} <= set(sizes)


def test_wrong_scores_are_found(urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_target(monkeypatch, other_scores)
    assert kinds(vb.verify(*urls)) == {"scores"}


def test_queries_of_ones_own_are_asked_and_must_fit(urls: tuple[str, str]) -> None:
    own = np.random.default_rng(5).standard_normal((7, 6))
    proof = vb.verify(*urls, queries=own)
    assert proof.passed
    assert proof.recall[0].queries == 7
    assert kinds(vb.verify(*urls, queries=np.ones((2, 5)))) == {"queries"}


@pytest.mark.parametrize(
    ("declared", "status", "found"),
    [
        (vb.HNSW(), Status(9, {"vector": "ready"}, {}, {"vector": vb.HNSW()}), None),
        (vb.HNSW(), Status(9, {"vector": "ready"}, {}, {"vector": vb.HNSW(m=4)}), "hnsw(m=4"),
        (vb.HNSW(), Status(9, {"vector": "ready"}, {}, {"vector": vb.Flat()}), "has flat,"),
        (vb.HNSW(), Status(9, {"vector": "missing: no index"}, {}, {"vector": None}), "missing"),
        (vb.HNSW(), Status(9, {"vector": "building"}, {}, {"vector": None}), "wait_ready"),
        (vb.HNSW(), Status(9, {"vector": "building"}, {}, {"vector": vb.HNSW(m=4)}), "hnsw(m=4"),
        (vb.HNSW(), Status(9, {"vector": "exact: needs 3 more"}, {}, {"vector": None}), None),
        (vb.HNSW(ef=50), Status(9, {"vector": "ready"}, {}, {"vector": vb.HNSW()}), None),
        (vb.Auto(), Status(9, {"vector": "ready"}, {}, {"vector": vb.IVFFlat()}), None),
    ],
)
def test_an_index_that_is_missing_or_not_as_declared_is_found(
    declared: Any, status: Status, found: str | None
) -> None:
    spec = replace(SPEC, vectors=(replace(SPEC.vector, index=declared),))
    findings = list(schemas.built_findings(spec, "", status))
    assert [each.kind for each in findings] == ([] if found is None else ["index"])
    assert found is None or found in findings[0].detail


def test_an_index_that_the_target_does_not_have_fails_from_the_first_level_on(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Status(400, {"vector": "missing: the server has none"}, {}, {"vector": None})
    monkeypatch.setattr(MemoryCollection, "status", lambda self, deadline: status)
    assert kinds(vb.verify(*urls, level="count", wait=0)) == {"index"}
    assert kinds(vb.verify(*urls, wait=0)) == {"index", "queries"}  # it says that no search was compared


def test_an_index_that_is_not_built_in_time_fails_the_search_level_alone(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Status(400, {"vector": "building"}, {}, {"vector": None})
    monkeypatch.setattr(MemoryCollection, "status", lambda self, deadline: status)
    proof = vb.verify(*urls, level="content", wait=0)
    assert proof.passed
    assert [each for each in proof.notes if "is being built, and was not compared" in each]
    assert kinds(vb.verify(*urls, wait=0)) == {"index"}


def test_an_index_that_is_being_built_otherwise_than_declared_fails_from_the_first_level_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls = "memory:///flat-source#photos", "memory:///flat-target#photos"
    spec = replace(SPEC, vectors=(replace(SPEC.vector, index=vb.Flat()),))
    for url in urls:
        with vb.connect(url.partition("#")[0]) as store:
            store.create(spec, if_exists="replace").upsert(vb.batch(spec, id=["a"], vector=np.ones((1, 6))))
    status = Status(1, {"vector": "building"}, {}, {"vector": vb.HNSW()})
    monkeypatch.setattr(MemoryCollection, "status", lambda self, deadline: status)
    assert kinds(vb.verify(*urls, level="count", wait=0)) == {"index"}


def test_a_side_that_rounds_vectors_cannot_be_verified_by_content(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = replace(MemoryDriver.capabilities, lossless_vectors=False)
    monkeypatch.setattr(MemoryDriver, "capabilities", lossy)
    assert vb.verify(*urls, level="ids").passed
    with pytest.raises(vb.ConfigError, match="bit by bit"):
        vb.verify(*urls, level="content")
