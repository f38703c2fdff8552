"""Handles that are closed, or whose collection is gone; calls with nothing to do; calls that are wrong."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

import base64
import gc
import json
import pickle
from collections.abc import Callable
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pytest

from vecbridge import records
from vecbridge.errors import (
    ConfigError,
    CursorExpiredError,
    InvalidRecordError,
    NotFoundError,
    SchemaError,
    VecbridgeError,
)
from vecbridge.filters import And, Filter, Or, field
from vecbridge.query import Query, WriteReport
from vecbridge.registry import connect, driver_class
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection, Store
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import ids_of, points, put, query, read
from vecbridge.testing.elsewhere import run_elsewhere, unseen_elsewhere
from vecbridge.testing.inside import forget_last_look
from vecbridge.testing.maker import Maker, Undeclared
from vecbridge.urls import parse

Call = Callable[[Collection], Any]

READS: dict[str, Call] = {
    "search": lambda each: each.search(query(points(1))),
    "fetch": lambda each: each.fetch(["a"]),
    "scan": lambda each: list(each.scan()),
    "find": lambda each: each.find(None, limit=5),
    "find in order": lambda each: each.find(None, limit=5, order="year"),
    "distinct": lambda each: each.distinct("year"),
    "minmax": lambda each: each.minmax("year"),
    "search by a record": lambda each: each.search(Query(id="a")),
    "scan ids": lambda each: list(each.scan(include=[], batch_rows=1)),
    "count": lambda each: each.count(),
    "count matches": lambda each: each.count(field("year") > 0),
    "status": lambda each: each.status(),
    "flush": lambda each: each.flush(),
    "wait_ready": lambda each: each.wait_ready(),
}
WRITES: dict[str, Call] = {
    "upsert": lambda each: each.upsert(records.batch(each.spec, id=["z"], vector=points(1), year=[1])),
    "upsert what is absent": lambda each: each.upsert(
        [{"id": "z", "vector": [1.0] * each.spec.vector.dim}], on_conflict="skip"
    ),
    "update": lambda each: each.update([{"id": "a", "year": 5}]),
    "delete": lambda each: each.delete(["a"]),
    "delete matches": lambda each: each.delete(filter=field("year") > 0),
}
ON_A_STORE: dict[str, Callable[[Store, CollectionSpec], Any]] = {
    "create": lambda store, spec: store.create(spec),
    "open": lambda store, spec: store.open(spec.name),
    "collections": lambda store, spec: store.collections(),
    "namespaces": lambda store, spec: store.namespaces(spec.name),
    "drop": lambda store, spec: store.drop(spec.name),
    "check": lambda store, spec: store.check(spec),
}
#: Calls that are wrong whatever the data: the type of the error that each must raise.
WRONG: dict[str, tuple[type[VecbridgeError], Call]] = {
    "upsert of a vector": (ConfigError, lambda each: each.upsert([1.0, 2.0])),
    "upsert of dicts without vectors": (InvalidRecordError, lambda each: each.upsert([{"id": "a"}])),
    "update of a vector": (ConfigError, lambda each: each.update([1.0, 2.0])),
    "update of an unknown column": (InvalidRecordError, lambda each: each.update([{"id": "a", "yaer": 1}])),
    "find by text": (SchemaError, lambda each: each.find("year > 1", limit=1)),  # type: ignore[arg-type]
    "find of nothing": (ConfigError, lambda each: each.find(None, limit=0)),
    "upsert of None": (ConfigError, lambda each: each.upsert(None)),
    "search for a bare vector": (SchemaError, lambda each: each.search([1.0, 2.0])),  # type: ignore[arg-type]
    "fetch of one id": (SchemaError, lambda each: each.fetch("a")),
    "fetch of a number": (SchemaError, lambda each: each.fetch([1])),
    "delete of one id": (SchemaError, lambda each: each.delete("a")),
    "delete of nothing": (ConfigError, lambda each: each.delete()),
    "delete of both": (ConfigError, lambda each: each.delete(["a"], filter=field("year") == 1)),
    "count with text": (SchemaError, lambda each: each.count("year > 1")),  # type: ignore[arg-type]
    "delete with text": (SchemaError, lambda each: each.delete(filter="year > 1")),  # type: ignore[arg-type]
    "scan of an unknown column": (SchemaError, lambda each: each.scan(include=["yaer"])),
    "scan of all by None": (SchemaError, lambda each: each.scan(include=None)),  # type: ignore[arg-type]
    "scan of a column in a str": (SchemaError, lambda each: each.scan(include="year")),
    "scan of no rows a page": (ConfigError, lambda each: each.scan(batch_rows=0)),
    "flush in no time": (ConfigError, lambda each: each.flush(timeout=0)),
    "wait for NaN seconds": (ConfigError, lambda each: each.wait_ready(timeout=float("nan"))),
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY")


def nested(levels: int) -> Filter:
    """A filter that no merging of And and Or makes flatter; it matches years from 1."""
    tree: Filter = field("year") > 0
    for level in range(levels):
        tree = And((field("year") > -level, tree)) if level % 2 else Or((field("year") == -level, tree))
    return tree


class TestHandles:
    """What a handle answers at the edges of its life, the same on every store."""

    @pytest.fixture
    def photos(self, make: Maker) -> Collection:
        """A collection of three rows."""
        collection = make(fields={"year": "int64"})
        put(collection, id=["a", "b", "c"], vector=points(3), year=[1, 2, 3])
        return collection

    @pytest.mark.parametrize("call", [*READS, *WRITES])
    @pytest.mark.parametrize("closed", ["collection", "store"])
    def test_after_close_a_collection_refuses_every_call(
        self, store: Store, photos: Collection, closed: str, call: str
    ) -> None:
        other = store.open(photos.spec.name)
        (photos if closed == "collection" else store).close()
        with pytest.raises(ConfigError, match="is closed"):
            (READS | WRITES)[call](photos)
        if closed == "collection":
            assert ids_of(other) == {"a", "b", "c"}

    @pytest.mark.parametrize("call", ON_A_STORE)
    def test_after_close_a_store_refuses_every_call(
        self, store: Store, photos: Collection, call: str
    ) -> None:
        store.close()
        with pytest.raises(ConfigError, match="is closed"):
            ON_A_STORE[call](store, photos.spec)

    def test_a_scan_ends_with_an_error_when_its_handle_is_closed(self, photos: Collection) -> None:
        pages = photos.scan(batch_rows=1)
        next(pages)
        photos.close()
        with pytest.raises(ConfigError, match="is closed"):
            next(pages)

    @pytest.mark.parametrize("call", [*READS, *WRITES])
    @pytest.mark.parametrize("how", ["dropped", "replaced"])
    def test_a_handle_on_a_collection_that_is_gone_refuses_every_call(
        self, store: Store, photos: Collection, how: str, call: str
    ) -> None:
        if how == "dropped":
            store.drop(photos.spec.name)
        else:
            put(store.create(photos.spec, if_exists="replace"), id=["new"], year=[9])
        with pytest.raises(NotFoundError, match="dropped or replaced"):
            (READS | WRITES)[call](photos)
        if how == "replaced":
            assert ids_of(store.open(photos.spec.name)) == {"new"}

    @pytest.mark.parametrize("how", ["drop", "replace", "replace with another shape"])
    def test_what_another_process_does_to_a_collection_is_noticed(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker, how: str
    ) -> None:
        on_fork = driver_class(parse(store_url).scheme).on_fork
        spec = make.spec(fields={"year": "int64"})
        if on_fork in ("keep", "refuse"):
            unseen_elsewhere(store_case, store_url, make)
        columns = {"id": ["a"], "vector": [[1.0, 2.0, 3.0, 4.0]], "year": [1]}
        code = "spec = vb.CollectionSpec.from_json(spec)\nwith vb.connect(url, **options) as store:\n"
        made = code + "    store.create(spec).upsert(vb.batch(spec, **columns))"
        done = run_elsewhere(made, store_case, url=store_url, spec=spec.to_json(), columns=columns)
        assert done.returncode == 0, done.stderr
        reader = store.open(spec.name)
        reader.flush()
        assert ids_of(reader) == {"a"}
        if how == "replace with another shape":
            spec = CollectionSpec.single(spec.name, dim=3)
            columns = {"id": ["b"], "vector": [[1.0, 2.0, 3.0]]}
        act = "drop(spec.name)" if how == "drop" else "create(spec, if_exists='replace')"
        code += f"    made = store.{act}\n    made and made.upsert(vb.batch(spec, **columns))"
        done = run_elsewhere(code, store_case, url=store_url, spec=spec.to_json(), columns=columns)
        assert done.returncode == 0, done.stderr
        for call in (READS | WRITES).values():
            forget_last_look(reader)
            with pytest.raises(NotFoundError, match="dropped or replaced"):
                call(reader)

    def test_a_handle_that_is_collected_unclosed_gives_its_locks_back(
        self, store_case: StoreCase, store_url: str, make: Maker
    ) -> None:
        if driver_class(parse(store_url).scheme).on_fork == "keep":
            unseen_elsewhere(store_case, store_url, make)
        spec = make.spec()
        collection = connect(store_url, **store_case.options).create(spec)
        put(collection, id=["a"])
        del collection
        gc.collect()
        code = "with vb.open(url, **options) as photos:\n    print(photos.delete(['a']))"
        done = run_elsewhere(code, store_case, url=f"{store_url}#{spec.name}")
        assert done.returncode == 0, done.stderr

    def test_nothing_to_do_is_answered_without_asking(self, photos: Collection) -> None:
        nothing = records.batch(photos.spec, id=[], vector=points(0), year=[])
        assert photos.upsert(nothing) == WriteReport()
        assert photos.delete([]) == 0
        assert photos.delete(filter=field("year").isin([])) == 0
        assert photos.fetch([], include=["year"]).schema.names == ["id", "year"]
        assert photos.fetch([]).num_rows == 0
        assert photos.search(query(np.empty((0, 4), np.float32))) == []
        assert photos.count(field("year").isin([])) == 0
        assert photos.count(And(())) == photos.count(~field("year").isin([])) == 3
        assert list(photos.scan(filter=Or(()))) == []
        [hits] = photos.search(query(points(1), filter=field("year").isin([]), include=["year"]))
        assert hits.records is not None
        assert (len(hits), hits.records.schema.names, hits.records.num_rows) == (0, ["id", "year"], 0)
        assert ids_of(photos) == {"a", "b", "c"}

    @pytest.mark.parametrize("call", WRONG)
    def test_what_is_wrong_whatever_the_data_is_a_typed_error(self, photos: Collection, call: str) -> None:
        kind, wrong = WRONG[call]
        with pytest.raises(kind):
            wrong(photos)
        assert ids_of(photos) == {"a", "b", "c"}

    def test_a_wrong_value_names_the_id_of_its_row(self, photos: Collection) -> None:
        bad = np.array([[1, 2, 3, 4], [1, 2, np.inf, 4]], np.float32)
        with pytest.raises(InvalidRecordError, match="'second'"):
            photos.upsert(records.batch(photos.spec, id=["first", "second"], vector=bad))
        with pytest.raises(InvalidRecordError, match="'second'"):
            records.batch(photos.spec, id=["first", "second"], vector=points(2), year=[1, "2"])

    def test_a_cursor_is_refused_where_it_does_not_belong(self, store: Store, make: Maker) -> None:
        collection = make(fields={"year": "int64"}, namespaced=True)
        put(collection, id=["a", "b"], year=[1, 2])
        other = make(fields={"year": "int64"}, namespaced=True)
        put(other, id=["a", "b"], year=[1, 2])
        cursor = next(iter(collection.scan(batch_rows=1))).cursor
        assert len(list(collection.scan(batch_rows=1, cursor=cursor))) == 1
        for elsewhere in (store.open(collection.spec.name, namespace="eu"), other):
            with pytest.raises(ConfigError, match="cursor"):
                list(elsewhere.scan(cursor=cursor))
        with pytest.raises(ConfigError, match="another filter"):
            list(collection.scan(cursor=cursor, filter=field("year") > 0))
        state = json.loads(base64.urlsafe_b64decode(cursor))
        damaged = base64.urlsafe_b64encode(json.dumps([*state[:-1], {"no": "key"}]).encode()).decode()
        for garbage in ("", "garbage", cursor[:-8], cursor[4:], damaged):
            with pytest.raises((ConfigError, CursorExpiredError)):
                list(collection.scan(cursor=garbage))

    @pytest.mark.parametrize("kind", ["deep", "wide"])
    def test_filters_up_to_the_declared_size_are_answered_and_larger_ones_refused(
        self, photos: Collection, kind: str
    ) -> None:
        capabilities = photos.capabilities
        depth, leaves = capabilities.filter_depth, capabilities.filter_leaves
        if kind == "deep":
            largest, larger = nested(depth - 1), nested(depth)
        else:
            names = [field("year") == number for number in range(leaves)]
            largest, larger = Or(tuple(names)), Or((*names, field("year") == -1))
        assert photos.count(largest) == 3
        [hits] = photos.search(query(points(1), filter=largest))
        assert sorted(hits.ids) == ["a", "b", "c"]
        for call in (
            lambda: photos.count(larger),
            lambda: photos.search(query(points(1), filter=larger)),
            lambda: photos.scan(filter=larger),
            lambda: photos.delete(filter=larger),
        ):
            with pytest.raises(SchemaError, match=f"at most {depth if kind == 'deep' else leaves:,}"):
                call()
        assert ids_of(photos) == {"a", "b", "c"}

    def test_no_depth_of_a_filter_breaks_anything(self, photos: Collection) -> None:
        flat = reduce(and_, [field("year") > -number for number in range(1000)])
        assert photos.count(flat) == 3
        for tree in (nested(50_000), ~nested(50_000)):
            with pytest.raises(SchemaError, match="comparisons"):
                photos.count(tree)

    def test_a_pickled_handle_opens_again_without_its_secrets(
        self, store_case: StoreCase, store_url: str, photos: Collection, store: Store,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        on_fork = driver_class(parse(store_url).scheme).on_fork
        if on_fork == "keep":
            for handle in (store, photos):
                with pytest.raises(ConfigError, match="one process"):
                    pickle.dumps(handle)
            raise Undeclared("pickled handles")
        texts = [pickle.dumps(store), pickle.dumps(photos)]
        for secret in store_case.environment.values():
            assert all(secret.encode() not in text for text in texts)
        for name, value in store_case.environment.items():
            monkeypatch.setenv(name, value)
        with pickle.loads(texts[0]) as again:
            assert photos.spec.name in again.collections()
        with pickle.loads(texts[1]) as again:
            assert (str(again.url), again.spec, read(again)) == (str(photos.url), photos.spec, read(photos))

    def test_loopback_never_goes_through_a_proxy(
        self, store_case: StoreCase, store_url: str, make: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = make.spec()
        for name in PROXIES:
            monkeypatch.setenv(name, "http://127.0.0.1:9")
            monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
        for name in ("NO_PROXY", "no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        with connect(store_url, **store_case.options) as fresh:
            collection = fresh.create(spec)
            put(collection, id=["a"])
            assert ids_of(collection) == {"a"}
            assert len(collection.search(query(points(1)))[0]) == 1

    def test_capabilities_and_isinstance_ask_nobody(self, store_case: StoreCase, store_url: str) -> None:
        with connect(store_url, **store_case.options) as fresh:
            most = driver_class(parse(store_url).scheme).capabilities
            assert isinstance(fresh, Store)
            assert fresh.capabilities == most
            assert all(getattr(fresh, name) is not None for name in dir(fresh) if not name.startswith("_"))
            assert fresh.capabilities == most  # nothing of the above has connected
