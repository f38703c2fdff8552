"""Index parameters: what Milvus is asked for, what it says of an index, and what each version lacks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.stores.milvus.helpers import client_of, fresh, made, random_vectors, rows, small
from vecbridge.errors import UnsupportedError
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IndexParams, IVFFlat, Other
from vecbridge.query import Query
from vecbridge.store import Store
from vecbridge.stores.milvus import dialects, index_params
from vecbridge.testing.maker import undeclared

#: By what is asked: the type that the server names, and the parameters that it reads back.
ASKED: list[tuple[IndexParams, str, dict[str, int | bool]]] = [
    (Auto(), "AUTOINDEX", {}),
    (Flat(), "FLAT", {}),
    (IVFFlat(nlist=37), "IVF_FLAT", {"nlist": 37}),
    (IVFSQ8(nlist=41), "IVF_SQ8", {"nlist": 41}),
    (IVFPQ(nlist=43, m=4, nbits=7), "IVF_PQ", {"nlist": 43, "m": 4, "nbits": 7}),
    (HNSW(m=11, ef_construction=77), "HNSW", {"M": 11, "efConstruction": 77}),
    (SCANN(nlist=39), "SCANN", {"nlist": 39, "with_raw_data": True}),
]
#: Indexes of which no server that the tests can start reads back the parameters.
UNTESTED: list[tuple[IndexParams, str, dict[str, int | bool | str]]] = [
    (DISKANN(), "DISKANN", {}),
    (SCANN(nlist=39, with_raw_data=False), "SCANN", {"nlist": 39, "with_raw_data": False}),
    (HNSW(11, 77, "sq"), "HNSW_SQ", {"M": 11, "efConstruction": 77, "sq_type": "SQ8"}),
    (HNSW(11, 77, "pq"), "HNSW_PQ", {"M": 11, "efConstruction": 77, "m": 4, "nbits": 8}),
]


@pytest.mark.parametrize(("index", "kind", "params"), ASKED, ids=[each[0].kind for each in ASKED])
def test_the_server_reads_back_the_index_that_was_asked_for(
    store: Store, index: IndexParams, kind: str, params: dict[str, int | bool]
) -> None:
    if index.kind not in store.capabilities.indexes:
        undeclared(f"no {index.kind}", lambda: store.create(small(fresh("index"), index=index)))
    spec = small(fresh("index"), index=index, metric="cosine")
    with made(store, spec) as photos:
        client = client_of(store)
        described = client.describe_index(spec.name, client.list_indexes(spec.name)[0])
        client.close()
        assert described["field_name"] == "vector"
        nested = described.get("params")
        flat = described | (nested if isinstance(nested, dict) else {})
        assert (flat["index_type"], flat["metric_type"]) == (kind, "COSINE")
        assert {name: json.loads(str(flat[name]).lower()) for name in params} == params
        assert photos.spec == spec
        assert store.open(spec.name).spec == spec


@pytest.mark.parametrize(("index", "kind", "params"), [*ASKED, *UNTESTED], ids=repr)
def test_what_the_server_says_of_an_index_is_read_back_flat_or_nested(
    index: IndexParams, kind: str, params: dict[str, int | bool | str]
) -> None:
    flat = {"index_type": kind, "metric_type": "L2"}
    flat |= {name: str(value) for name, value in params.items()}
    assert index_params.from_milvus(flat) == (index, "l2")
    nested = {"index_type": kind, "metric_type": "IP", "params": json.dumps(params)}
    assert index_params.from_milvus(nested) == (index, "dot")


@pytest.mark.parametrize(("index", "kind", "params"), [*ASKED, *UNTESTED], ids=repr)
def test_an_index_is_asked_for_by_the_name_and_the_parameters_of_milvus(
    index: IndexParams, kind: str, params: dict[str, int | bool | str]
) -> None:
    assert index_params.to_milvus(index, 16) == (kind, params)


@pytest.mark.parametrize(("dim", "codes"), [(1, 1), (3, 1), (16, 4), (18, 3), (768, 192), (769, 1)])
def test_the_codes_of_a_compressed_graph_divide_the_dimension(dim: int, codes: int) -> None:
    _, params = index_params.to_milvus(HNSW(quantizer="pq"), dim)
    assert params["m"] == codes


@pytest.mark.parametrize("kind", ["GPU_CAGRA", "GPU_IVF_FLAT", "IVF_RABITQ", "HNSW_PRQ"])
def test_an_index_that_no_server_has_shown_is_described_and_not_created(lite: Store, kind: str) -> None:
    described, metric = index_params.from_milvus({"index_type": kind, "metric_type": "L2", "nlist": "9"})
    assert (described, metric) == (Other(kind, {"nlist": "9"}), "l2")
    with pytest.raises(UnsupportedError, match=f"foreign index \\({kind}\\)"):
        lite.create(small("never", index=described))
    assert "never" not in lite.collections()


def test_a_compressed_graph_of_another_sort_is_other() -> None:
    values = {"M": "8", "efConstruction": "40", "sq_type": "BF16"}
    described = {"index_type": "HNSW_SQ", "metric_type": "L2"} | values
    assert index_params.from_milvus(described) == (Other("HNSW_SQ", values), "l2")


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("2.3.5", [HNSW(quantizer="sq"), HNSW(quantizer="pq"), DISKANN()]),
        ("v2.4.15", [HNSW(quantizer="sq"), HNSW(quantizer="pq")]),
        ("2.6.1", [HNSW(quantizer="bq")]),
        ("milvus_lite-3.2.2", [HNSW(quantizer="pq"), SCANN(), DISKANN(), IVFPQ(m=4)]),
    ],
)
def test_what_a_version_lacks_is_refused_by_name(version: str, refused: list[IndexParams]) -> None:
    capabilities = dialects.of_server(version).capabilities
    for index in refused:
        [gap] = capabilities.check(small("photos", index=index))
        assert gap.blocking
        assert (index.quantizer if isinstance(index, HNSW) else index.kind) in gap.detail
    indexes = [HNSW(quantizer="sq"), HNSW(quantizer="pq"), SCANN(), DISKANN(), IVFPQ(m=4)]
    for index in indexes:
        if index not in refused:
            assert not capabilities.check(small("photos", index=index))


def test_milvus_lite_builds_a_compressed_graph(lite: Store) -> None:
    spec = small(fresh("graph"), index=HNSW(m=8, ef_construction=60, quantizer="sq"))
    with made(lite, spec) as photos:
        client = client_of(lite)
        described = client.describe_index(spec.name, client.list_indexes(spec.name)[0])
        client.close()
        assert described["index_type"] == "HNSW_SQ"
        stored = random_vectors(300)
        photos.upsert(rows(spec, [str(number) for number in range(300)], vector=stored))
        photos.wait_ready()
        assert photos.status().built == {"vector": spec.vector.index}
        answers = photos.search(Query(stored[:50], 1))
        assert sum(hits.ids == [str(number)] for number, hits in enumerate(answers)) >= 48


def test_a_scann_index_finds_the_nearest_rows_and_their_scores(genuine: Store) -> None:
    stored, queries = random_vectors(3_000, 32, seed=5), random_vectors(50, 32, seed=6)
    distances = ((queries[:, None, :].astype(np.float64) - stored[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1)[:, :10]
    with made(genuine, small(fresh("scann"), dim=32, index=SCANN(nlist=16))) as photos:
        photos.upsert(rows(photos.spec, [str(number) for number in range(3_000)], vector=stored))
        photos.wait_ready()
        assert photos.status().built == {"vector": SCANN(nlist=16)}
        answers = photos.search(Query(queries, 10, nprobe=16))
    found = [[int(key) for key in hits.ids] for hits in answers]
    shares = [len(set(ids) & set(best)) / 10 for ids, best in zip(found, nearest.tolist(), strict=True)]
    assert sum(shares) / len(shares) >= 0.95
    for hits, ids, line in zip(answers, found, distances, strict=True):
        np.testing.assert_allclose(hits.scores, line[ids], rtol=1e-4)


def test_an_index_of_another_kind_is_other_and_cannot_be_built(genuine: Store) -> None:
    described = {"index_type": "SCANN", "metric_type": "COSINE", "nlist": "many"}
    assert index_params.from_milvus(described) == (Other("SCANN", {"nlist": "many"}), "cosine")
    assert index_params.from_milvus({"index_type": "BIN_FLAT", "metric_type": "JACCARD"})[1] is None
    with pytest.raises(UnsupportedError, match="foreign index"):
        genuine.create(small("never", index=Other("SCANN", {})))
    for index in (HNSW(quantizer="pq"), HNSW(ef=50), DISKANN()):
        with pytest.raises(UnsupportedError):
            genuine.create(small("never", index=index))
    assert "never" not in genuine.collections()
