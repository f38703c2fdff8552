"""Opening, closing, reopening, dying, and several threads at once."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vecbridge.registry import connect, driver_class, open
from vecbridge.store import Collection, Store
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import ids_of, points, put, query, read, supported_fields
from vecbridge.testing.elsewhere import run_elsewhere
from vecbridge.testing.maker import Maker
from vecbridge.urls import parse


class TestLifecycle:
    """Stores and collections as objects."""

    def test_a_store_and_its_collections_share_the_capabilities_of_their_server(
        self, store_url: str, store: Store, make: Maker
    ) -> None:
        collection = make()
        assert isinstance(store, Store)
        assert isinstance(collection, Collection)
        assert store.capabilities == collection.capabilities
        most = driver_class(parse(store_url).scheme).capabilities  # a server may be an older one
        assert most.backend == store.capabilities.backend
        assert most.indexes >= store.capabilities.indexes
        assert most.max_vectors >= store.capabilities.max_vectors

    def test_a_collection_knows_the_url_that_opens_it(
        self, store_case: StoreCase, store: Store, make: Maker
    ) -> None:
        collection = make(namespaced=True)
        eu = store.open(collection.spec.name, namespace="eu")
        put(collection, id=["a"])
        put(eu, id=["b"])
        for known, keys in ((collection, {"a"}), (eu, {"b"})):
            url = str(known.url)
            with open(url, **store_case.options) as opened:
                assert (ids_of(opened), str(opened.url)) == (keys, url)

    def test_closing_twice_does_nothing(self, store: Store, make: Maker) -> None:
        collection = make()
        put(collection, id=["a"])
        for closed in (collection, collection, store, store):
            closed.close()

    def test_context_managers_return_themselves_and_let_errors_through(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker
    ) -> None:
        name = make().spec.name
        store.close()
        with connect(store_url, **store_case.options) as opened:
            assert isinstance(opened, Store)
            with opened.open(name) as collection:
                assert isinstance(collection, Collection)
            for context in (collection, opened):
                assert not context.__exit__(ZeroDivisionError, ZeroDivisionError(), None)

    def test_closing_one_handle_leaves_another_open(self, store: Store, make: Maker) -> None:
        first = make()
        second = store.open(first.spec.name)
        first.close()
        put(second, id=["a"])
        assert ids_of(second) == {"a"}

    def test_two_handles_see_each_others_writes(self, store: Store, make: Maker) -> None:
        first = make()
        second = store.open(first.spec.name)
        put(first, id=["a"])
        put(second, id=["b"])
        assert ids_of(first) == ids_of(second) == {"a", "b"}

    def test_a_closed_store_reopens_with_its_spec_and_rows(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker
    ) -> None:
        fields = supported_fields(store.capabilities)
        collection = make(dim=8, metric="dot", fields=fields, id_type="int64")
        put(collection, id=range(60), vector=points(60, 8), title=[f"t{row}" for row in range(60)])
        collection.delete([1, 2])
        put(collection, id=[3], vector=points(1, 8), title=["again"])
        before = read(collection)
        asked = query(points(2, 8, seed=9), k=7)
        hits = collection.search(asked)
        store.close()
        with open(f"{store_url}#{collection.spec.name}", **store_case.options) as reopened:
            assert reopened.spec == collection.spec
            assert read(reopened) == before
            for old, new in zip(hits, reopened.search(asked), strict=True):
                assert list(old.ids) == list(new.ids)
                np.testing.assert_allclose(old.scores, new.scores, rtol=1e-5)

    def test_acknowledged_rows_survive_kill_9_of_the_client(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker
    ) -> None:
        spec = make.spec(fields={"year": "int64"})
        store.close()
        code = """
import os, signal
store = vb.connect(url, **options)
spec = vb.CollectionSpec.single(name, dim=4, fields={"year": "int64"})
collection = store.create(spec)
rows = [[float(row), 1.0, 2.0, 3.0] for row in range(50)]
collection.upsert(vb.batch(spec, id=[str(row) for row in range(50)], vector=rows, year=list(range(50))))
collection.upsert(vb.batch(spec, id=["0"], vector=[[9.0, 9.0, 9.0, 9.0]], year=[-1]))
collection.delete(["1"])
os.kill(os.getpid(), signal.SIGKILL)
"""
        done = run_elsewhere(code, store_case, url=store_url, name=spec.name)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with open(f"{store_url}#{spec.name}", **store_case.options) as reopened:
            rows = read(reopened)
            assert reopened.spec == spec
        assert rows.keys() == {str(row) for row in range(50)} - {"1"}
        assert (rows["0"]["year"], rows["0"]["vector"]) == (-1, [9, 9, 9, 9])
        assert rows["49"]["vector"] == [49, 1, 2, 3]

    def test_threads_may_write_and_search_at_once(self, make: Maker) -> None:
        collection = make(metric="l2")

        def write(worker: int) -> None:
            for part in range(5):
                keys = [f"{worker}-{part}-{row}" for row in range(20)]
                put(collection, id=keys, vector=points(20, seed=worker * 10 + part))
                collection.delete(keys[:2])

        def search(worker: int) -> None:
            for _ in range(15):
                [hits] = collection.search(query(points(1, seed=worker), k=5, include=["vector"]))
                assert hits.records is not None
                assert len(set(hits.ids)) == len(hits) == hits.records.num_rows

        with ThreadPoolExecutor(6) as pool:
            tasks = [pool.submit(write, worker) for worker in range(4)]
            tasks += [pool.submit(search, worker) for worker in range(2)]
            for task in tasks:
                task.result()
        collection.flush()
        assert collection.count() == 4 * 5 * 18
        assert len(ids_of(collection)) == 4 * 5 * 18
