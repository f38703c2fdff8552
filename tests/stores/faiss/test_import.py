"""Bare FAISS index files become collections: every row with its id and its vector, or a reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.stores.faiss.helpers import best, contents, found, names, random_vectors, small, vectors_of
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    CorruptStoreError,
    InvalidRecordError,
    SchemaError,
    UnsupportedError,
)
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IVFFlat
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, Metric, VectorField
from vecbridge.store import Store
from vecbridge.stores.faiss import bare, import_index

COUNT = 700
DIM = 8
METRICS = {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}


@pytest.fixture
def values() -> FloatArray:
    return random_vectors(COUNT, DIM)


def written(tmp_path: Path, factory: str, values: FloatArray, *, metric: str = "l2", ids: Any = None) -> Path:
    """An index file, as somebody without vecbridge writes it."""
    index = faiss.index_factory(values.shape[1], factory, METRICS[metric])
    index.train(values)
    if ids is None:
        index.add(values)
    else:
        index.add_with_ids(values, np.asarray(ids, np.int64))
    path = tmp_path / "theirs.faiss"
    faiss.write_index(index, str(path))
    return path


WHOLE = [
    "Flat",
    "HNSW8",
    "HNSW8,Flat",
    "IVF4,Flat",
    "IVF4_HNSW8,Flat",
    "IVF4,SQ8,RFlat",
    "IDMap,Flat",
    "IDMap2,HNSW8",
]
LOSSY = [
    "SQ8",
    "IVF4,SQ8",
    "IVF4,PQ4x4np",
    "PQ4x4np",
    "HNSW8,SQ8",
    "PCA4,Flat",
    "OPQ4_8,IVF4,PQ4x4np",
    "LSH",
    "SQfp16",
]


class TestVectors:
    """Whole vectors come back bit by bit; what lost them is refused."""

    @pytest.mark.parametrize("metric", ["l2", "ip"])
    @pytest.mark.parametrize("factory", WHOLE)
    def test_every_row_of_a_whole_index_is_imported_bit_by_bit(
        self, store: Store, tmp_path: Path, values: FloatArray, factory: str, metric: str
    ) -> None:
        ids = np.random.default_rng(0).permutation(COUNT) if factory.startswith("IDMap") else None
        path = written(tmp_path, factory, values, metric=metric, ids=ids)
        photos = import_index(store, path, name="theirs")
        assert photos.count() == COUNT
        order = range(COUNT) if ids is None else ids.tolist()
        assert np.array_equal(vectors_of(photos, list(order)), values)
        assert photos.spec.vector.metric == ("l2" if metric == "l2" else "dot")
        assert photos.spec.id_type == "int64"
        photos.wait_ready()
        queries = random_vectors(10, DIM, seed=1)
        truth = best(photos.spec.vector.metric, queries, values, list(order), 5)
        knob: dict[str, int] = {"hnsw": {"ef": 700}, "ivf_flat": {"nprobe": 4}}.get(
            photos.spec.vector.index.kind, {}
        )
        assert found(photos, queries, 5, **knob) == truth

    @pytest.mark.parametrize("factory", LOSSY)
    def test_a_lossy_index_is_refused_and_nothing_is_made(
        self, store: Store, tmp_path: Path, values: FloatArray, factory: str
    ) -> None:
        path = written(tmp_path, factory, values)
        with pytest.raises(UnsupportedError, match=r"lost the vectors.*vectors="):
            import_index(store, path, name="theirs")
        assert store.collections() == []

    @pytest.mark.parametrize("factory", LOSSY)
    def test_a_lossy_index_is_imported_with_the_vectors_beside_it(
        self, store: Store, tmp_path: Path, values: FloatArray, factory: str
    ) -> None:
        path = written(tmp_path, factory, values)
        photos = import_index(store, path, name="theirs", vectors=values)
        assert np.array_equal(vectors_of(photos, list(range(COUNT))), values)

    def test_a_graph_that_was_written_without_its_vectors_is_lossy(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        graph = faiss.IndexHNSWFlat(DIM, 8)
        graph.add(values)
        faiss.write_index(graph, str(tmp_path / "graph"), faiss.IO_FLAG_SKIP_STORAGE)
        with pytest.raises(UnsupportedError, match="vectors="):
            import_index(store, tmp_path / "graph", name="theirs")
        assert import_index(store, tmp_path / "graph", name="theirs", vectors=values).count() == COUNT

    def test_rows_are_read_block_by_block(
        self, store: Store, tmp_path: Path, values: FloatArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bare, "_BLOCK_BYTES", 64 * 4 * DIM)
        path = written(tmp_path, "IVF4,Flat", values, ids=5 * np.arange(COUNT)[::-1])
        photos = import_index(store, path, name="theirs")
        assert np.array_equal(vectors_of(photos, list(range(5 * COUNT - 5, -1, -5))), values)

    def test_an_index_without_rows_is_a_collection_without_rows(self, store: Store, tmp_path: Path) -> None:
        for position, factory in enumerate(["Flat", "HNSW8", "IDMap,Flat"]):
            index = faiss.index_factory(DIM, factory)
            faiss.write_index(index, str(tmp_path / "empty"))
            assert contents(import_index(store, tmp_path / "empty", name=f"empty{position}")) == []

    def test_the_file_is_left_as_it_is(self, store: Store, tmp_path: Path, values: FloatArray) -> None:
        path = written(tmp_path, "IVF4,Flat", values)
        before = path.read_bytes()
        photos = import_index(store, path, name="theirs")
        photos.delete([0])
        photos.wait_ready()
        assert path.read_bytes() == before


class TestIds:
    """What rows are called."""

    EXTREMES = (-(2**63), 2**63 - 1, 0, -1)

    def test_an_id_map_keeps_its_ids_to_the_ends_of_int64(self, store: Store, tmp_path: Path) -> None:
        values = random_vectors(4, DIM)
        path = written(tmp_path, "IDMap,Flat", values, ids=self.EXTREMES)
        photos = import_index(store, path, name="theirs")
        assert np.array_equal(vectors_of(photos, self.EXTREMES), values)

    def test_string_ids_are_the_numbers_as_text(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        path = written(tmp_path, "IDMap,Flat", values, ids=np.arange(COUNT) * 3)
        photos = import_index(store, path, small())
        assert np.array_equal(vectors_of(photos, ["0", "3", "2097"]), values[[0, 1, 699]])

    @pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat"])
    def test_ids_may_be_given_by_position(
        self, store: Store, tmp_path: Path, values: FloatArray, factory: str
    ) -> None:
        path = written(tmp_path, factory, values)
        photos = import_index(store, path, small(), ids=names(COUNT))
        assert np.array_equal(vectors_of(photos, names(COUNT)), values)
        [record] = photos.fetch(["r000003"]).to_pylist()
        assert (record["n"], record["s"]) == (None, None)

    def test_ids_given_are_looked_up_by_the_ids_of_the_index(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        order = np.random.default_rng(0).permutation(COUNT)
        path = written(tmp_path, "IDMap,Flat", values, ids=order)
        photos = import_index(store, path, small(), ids=names(COUNT))
        assert np.array_equal(vectors_of(photos, [names(COUNT)[place] for place in order]), values)

    @pytest.mark.parametrize(
        ("ids", "problem"),
        [
            (names(COUNT - 1), "699 ids for the 700 rows"),
            (["same"] * COUNT, "repeats"),
            (list(range(COUNT)), "string ids"),
        ],
    )
    def test_ids_that_do_not_fit_are_refused(
        self, store: Store, tmp_path: Path, values: FloatArray, ids: Any, problem: str
    ) -> None:
        path = written(tmp_path, "Flat", values)
        with pytest.raises(SchemaError, match=problem):
            import_index(store, path, small(), ids=ids)
        assert store.collections() == []

    def test_ids_beside_an_index_that_has_others_are_refused(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        path = written(tmp_path, "IDMap,Flat", values, ids=np.arange(COUNT) + 1)
        with pytest.raises(SchemaError, match="ids of its own"):
            import_index(store, path, small(), ids=names(COUNT))

    def test_two_rows_of_one_id_are_refused(self, store: Store, tmp_path: Path, values: FloatArray) -> None:
        path = written(tmp_path, "IDMap,Flat", values, ids=[*range(COUNT - 1), 5])
        with pytest.raises(SchemaError, match="several rows of id 5"):
            import_index(store, path, name="theirs")


class TestSpecs:
    """What is built."""

    @pytest.mark.parametrize(
        ("factory", "index"),
        [
            ("Flat", Flat()),
            ("HNSW12", HNSW(m=12, ef_construction=40)),
            ("IDMap,HNSW12", HNSW(m=12, ef_construction=40)),
            ("IVF4,Flat", IVFFlat(nlist=4)),
            ("IVF4,SQ8", IVFSQ8(nlist=4)),
            ("IVF4,PQ4x4np", IVFPQ(nlist=4, m=4, nbits=4)),
            ("LSH", Auto()),
        ],
    )
    def test_a_name_alone_builds_what_the_file_is(
        self, store: Store, tmp_path: Path, values: FloatArray, factory: str, index: Any
    ) -> None:
        path = written(tmp_path, factory, values, ids=range(COUNT) if factory.startswith("IDMap") else None)
        photos = import_index(store, path, name="theirs", vectors=values)
        assert photos.spec == CollectionSpec.single(
            "theirs", dim=DIM, metric="l2", index=index, id_type="int64"
        )

    @pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT])
    def test_inner_products_may_be_cosine_or_dot(
        self, store: Store, tmp_path: Path, values: FloatArray, metric: Metric
    ) -> None:
        path = written(tmp_path, "Flat", values, metric="ip")
        photos = import_index(store, path, small(metric=metric), ids=names(COUNT))
        queries = random_vectors(10, DIM, seed=1)
        assert found(photos, queries, 5) == best(metric, queries, values, names(COUNT), 5)

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"dim": 9}, "8 dimensions"),
            ({"metric": "dot"}, "compares by l2"),
            ({"metric": "cosine"}, "compares by l2"),
        ],
    )
    def test_another_dim_or_metric_is_refused(
        self, store: Store, tmp_path: Path, values: FloatArray, changes: Any, problem: str
    ) -> None:
        path = written(tmp_path, "Flat", values)
        with pytest.raises(SchemaError, match=problem):
            import_index(store, path, small(**changes))
        assert store.collections() == []

    def test_several_vector_fields_are_refused(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        spec = CollectionSpec("both", (VectorField("a", DIM, Metric.L2), VectorField("b", DIM, Metric.L2)))
        with pytest.raises(SchemaError, match="several vector fields"):
            import_index(store, written(tmp_path, "Flat", values), spec)

    def test_another_metric_than_faisss_two_is_refused(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        index = faiss.IndexFlat(DIM, faiss.METRIC_L1)
        index.add(values)
        faiss.write_index(index, str(tmp_path / "theirs"))
        with pytest.raises(UnsupportedError, match="metric"):
            import_index(store, tmp_path / "theirs", name="theirs")

    def test_a_namespace_is_imported_into(self, store: Store, tmp_path: Path, values: FloatArray) -> None:
        path = written(tmp_path, "Flat", values)
        photos = import_index(store, path, small(namespaced=True), namespace="eu")
        assert photos.count() == COUNT
        assert store.namespaces("photos") == ["eu"]

    def test_an_existing_collection_is_kept_unless_told_otherwise(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        path = written(tmp_path, "Flat", values)
        import_index(store, path, small(), ids=names(COUNT, 10_000))
        with pytest.raises(CollectionExistsError):
            import_index(store, path, small())
        assert import_index(store, path, small(), if_exists="open").count() == 2 * COUNT
        assert import_index(store, path, small(), if_exists="replace").count() == COUNT


class TestRefusals:
    """What cannot be imported leaves nothing behind."""

    @pytest.mark.parametrize(("bad", "metric"), [(np.nan, "ip"), (np.inf, "l2"), (0, "ip")])
    def test_vectors_that_no_collection_takes_are_named_before_anything_is_made(
        self, store: Store, tmp_path: Path, values: FloatArray, bad: float, metric: str
    ) -> None:
        values[[3, 698]] = bad
        path = written(tmp_path, "Flat", values, metric=metric)
        spec = small(metric="l2" if metric == "l2" else "cosine")
        with pytest.raises(InvalidRecordError, match="2 bad rows") as caught:
            import_index(store, path, spec)
        assert [(each.row, each.id) for each in caught.value.rows] == [(3, "3"), (698, "698")]
        assert store.collections() == []

    def test_vectors_of_another_shape_are_refused(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        path = written(tmp_path, "SQ8", values)
        with pytest.raises(SchemaError, match=r"\(699, 8\)"):
            import_index(store, path, name="theirs", vectors=values[1:])

    def test_a_file_that_is_missing_or_no_index_is_said_to_be(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            import_index(store, tmp_path / "none", name="theirs")
        with pytest.raises(ConfigError, match="directory"):
            import_index(store, tmp_path, name="theirs")
        (tmp_path / "text").write_text("not an index")
        with pytest.raises(CorruptStoreError, match="no index that FAISS can read"):
            import_index(store, tmp_path / "text", name="theirs")

    def test_a_file_that_was_cut_is_no_index(self, store: Store, tmp_path: Path, values: FloatArray) -> None:
        path = written(tmp_path, "HNSW8", values)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(CorruptStoreError):
            import_index(store, path, name="theirs")

    def test_a_spec_or_a_name_is_needed_and_not_both(
        self, store: Store, tmp_path: Path, values: FloatArray
    ) -> None:
        path = written(tmp_path, "Flat", values)
        with pytest.raises(ConfigError, match="exactly one"):
            import_index(store, path)
        with pytest.raises(ConfigError, match="exactly one"):
            import_index(store, path, small(), name="theirs")
