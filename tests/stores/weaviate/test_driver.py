"""What the driver promises to the front: options, identities, requests, keys, and what is left behind."""

from __future__ import annotations

import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.weaviate.helpers import foreign, fresh, made, random_vectors, rest, rows
from vecbridge import records
from vecbridge.driver import Deadline, Described, Identity, PageRequest, RequestLimits
from vecbridge.errors import (
    AuthError,
    BackendError,
    ConfigError,
    InvalidRecordError,
    InvalidURLError,
    NotFoundError,
    UnavailableError,
)
from vecbridge.filters import field
from vecbridge.indexes import Flat, IndexParams
from vecbridge.query import Query
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.weaviate import schema
from vecbridge.stores.weaviate.connection import Connection
from vecbridge.stores.weaviate.driver import WeaviateDriver
from vecbridge.stores.weaviate.foreign import identity
from vecbridge.stores.weaviate.layout import class_name
from vecbridge.stores.weaviate.limits import CAPABILITIES
from vecbridge.testing import driver_of

BOOK = {
    "vectorizer": "none",
    "vectorIndexConfig": {"distance": "l2-squared"},
    "properties": [{"name": "pages", "dataType": ["int"]}],
}
LATER = Deadline.after(600)


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor the working directory has a key."""
    monkeypatch.delenv("WEAVIATE_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


def key_of(url: str, **options: Any) -> str:
    with connect(url, **options) as store:
        return str(driver_of(store)._api_key)


# ----------------------------------------------------------------------------------------------- options


@pytest.mark.usefixtures("no_key")
def test_the_key_comes_from_the_argument_the_url_the_environment_or_dotenv_in_this_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert key_of("weaviate://h") == ""
    Path(".env").write_text("WEAVIATE_API_KEY=of-the-file\n", "utf-8")
    assert key_of("weaviate://h") == "of-the-file"
    monkeypatch.setenv("WEAVIATE_API_KEY", "of-the-environment")
    assert key_of("weaviate://h") == "of-the-environment"
    assert key_of("weaviate://:of-the-url@h") == "of-the-url"
    assert key_of("weaviate://:of-the-url@h", api_key="of-the-argument") == "of-the-argument"


def test_a_key_is_shown_by_nothing(no_key: None) -> None:
    for url, options in (("weaviate://:sesame@h", {}), ("weaviate://h", {"api_key": "sesame"})):
        with connect(url, **options) as store:
            driver = driver_of(store)
            shown = [store.url, driver.url, store, driver, driver.connection]
            assert not [thing for thing in shown if "sesame" in f"{thing} {thing!r}"]
    with pytest.raises(InvalidURLError, match="WEAVIATE_API_KEY") as caught:
        connect("weaviate://h?api_key=sesame")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("key", [" sesame", "sesame\n", "sésame"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="key") as caught:
        connect("weaviate://h", api_key=key)
    assert "same" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, "inf", "nan"])
def test_a_timeout_is_a_positive_number(timeout: Any) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        connect("weaviate://h", timeout=timeout)


# ------------------------------------------------------------------------------------------- collections


def test_a_foreign_class_that_was_made_anew_is_not_read_or_written_through_the_old_handle(
    store: Store,
) -> None:
    key, values = str(uuid.UUID(int=7)), {"pages": 3}
    described = {"class": fresh("Book"), **BOOK}
    with foreign(store, described, [{"id": key, "vector": [1, 2], "properties": values}]) as name:
        old = store.open(name)
        cursor = next(iter(old.scan())).cursor
        assert store.open(name).count() == old.count() == 1
        rest(store, "DELETE", f"/v1/schema/{name}")
        rest(store, "POST", "/v1/schema", described)
        rest(store, "POST", "/v1/objects", {"class": name, "id": key, "vector": [3, 4]})
        with pytest.raises(NotFoundError, match="replaced"):
            old.upsert(records.batch(old.spec, id=[key], vector=[[5, 6]]))
        old._looked_at = 0.0
        with pytest.raises(NotFoundError, match="replaced"):
            old.count()
        new = store.open(name)
        assert new.fetch([key]).column("vector").to_pylist() == [[3, 4]]
        with pytest.raises(Exception, match="replaced since"):
            list(new.scan(cursor=cursor))


class Shards:
    """A server that says which shards a class has, or refuses to."""

    def __init__(self, *names: str, refused: bool = False) -> None:
        self._names = names
        self._refused = refused

    def shards(self, class_name: str, deadline: Deadline) -> list[dict[str, str]]:
        if self._refused:
            raise AuthError("forbidden")
        return [{"name": name} for name in self._names]


def told(server: Any, known: Identity | None = None, *, tenants: bool = False) -> Identity:
    described = {"class": "Book", "multiTenancyConfig": {"enabled": tenants}}
    return identity(described, server, LATER, known)


def test_one_shard_is_enough_to_know_a_foreign_class_again_while_a_node_is_down() -> None:
    known = told(Shards("b", "a"))
    assert known == Identity("a,b")
    assert told(Shards("b"), known) == told(Shards(), known) == known
    assert told(Shards("c"), known) == Identity("c")
    assert told(Shards("c"), Identity("token of ours")) == Identity("c")


def test_where_nothing_tells_foreign_classes_apart_the_identity_says_so() -> None:
    for unsure in (told(Shards(refused=True)), told(Shards("eu"), tenants=True), told(Shards())):
        assert unsure == Identity("Book", certain=False)
        assert told(Shards("a"), Identity("a")) == Identity("a")


def test_a_class_that_was_built_otherwise_than_asked_is_removed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: Any) -> None:
        raise BackendError("something else was built")

    name = fresh("other")
    monkeypatch.setattr(schema, "require_as_asked", differ)
    with pytest.raises(BackendError, match="something else"):
        store.create(CollectionSpec.single(name, dim=2))
    assert name not in store.collections()


def test_a_class_whose_creation_was_not_acknowledged_is_removed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.rest

    def lose_the_answer(connection: Connection, method: str, *rest: Any) -> Any:
        answer = send(connection, method, *rest)
        if method == "POST":
            raise UnavailableError("the connection broke")
        return answer

    name = fresh("lost")
    monkeypatch.setattr(Connection, "rest", lose_the_answer)
    with pytest.raises(UnavailableError, match="broke"):
        store.create(CollectionSpec.single(name, dim=2))
    assert name not in store.collections()


def test_a_class_that_somebody_made_meanwhile_is_left_alone(store: Store) -> None:
    driver: WeaviateDriver = driver_of(store)
    spec = CollectionSpec.single(fresh("meanwhile"), dim=2)
    with made(store, spec) as theirs:
        theirs.upsert(rows(spec, ["a"]))
        with pytest.raises(Exception, match="created meanwhile"):
            driver.create(spec, "token", None, Deadline.after(60))
        assert theirs.count() == 1


# ---------------------------------------------------------------------------------------------- requests


def test_requests_are_cut_by_the_bytes_that_are_sent(store: Store) -> None:
    spec = CollectionSpec.single(fresh("cut"), dim=2, fields={"title": "string", "tags": "list<string>"})
    with made(store, spec) as collection:
        sizes = [10 * number for number in range(100)]
        batch = rows(
            spec, list(map(str, range(100))),
            title=["x" * size for size in sizes], tags=[["y"] * (size // 5) for size in sizes],
        )  # fmt: skip
        limits = RequestLimits(30, 20_000)
        parts = list(driver_of(collection).prepare(batch, limits))
        assert [row for part in parts for row in part.rows] == list(range(100))
        encoded = [part.payload[2].ByteSize() for part in parts]
        assert all(size <= 20_000 or len(part.rows) == 1 for part, size in zip(parts, encoded, strict=True))
        assert max(len(part.rows) for part in parts) > 5
        for part in parts:
            assert not driver_of(collection).write(part, Deadline.after(60)).refused
        assert collection.fetch(batch.column("id").to_pylist()).equals(batch)


def test_a_row_that_is_larger_than_a_request_stands_alone(store: Store) -> None:
    spec = CollectionSpec.single(fresh("large"), dim=2, fields={"title": "string"})
    with made(store, spec) as collection:
        batch = rows(spec, ["a", "b", "c"], title=["", "x" * 1000, ""])
        parts = list(driver_of(collection).prepare(batch, RequestLimits(10, 500)))
        assert [part.rows for part in parts] == [range(1), range(1, 2), range(2, 3)]


@pytest.mark.parametrize("filtered", [False, True])
def test_a_page_has_at_most_the_rows_that_are_asked_for_and_each_key_goes_on_from_there(
    store: Store, filtered: bool
) -> None:
    spec = CollectionSpec.single(fresh("keys"), dim=2, fields={"year": "int64"})
    with made(store, spec) as collection:
        collection.upsert(rows(spec, list(map(str, range(500))), year=[1] * 500))
        driver = driver_of(collection)
        condition = field("year") == 1 if filtered else None

        def pages(after: Any, **more: Any) -> list[tuple[list[str], Any]]:
            request = PageRequest((), condition, 70, 30.0, after, **more)
            return [(page.batch.column("id").to_pylist(), page.after) for page in driver.pages(request)]

        whole = pages(None)
        assert all(0 < len(keys) <= 70 for keys, _ in whole)
        assert sorted(key for keys, _ in whole for key in keys) == sorted(map(str, range(500)))
        for (_, after), (keys, _) in pairwise(whole):
            assert keys == pages(after)[0][0]
        assert pages(whole[-1][1]) == []
        [*_, (last, _)] = pages(None, limit=100)
        assert last


def test_a_scan_that_wants_few_rows_asks_for_no_page_in_advance(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CollectionSpec.single(fresh("few"), dim=2)
    with made(store, spec) as collection:
        collection.upsert(rows(spec, list(map(str, range(100)))))
        driver = driver_of(collection)
        grpc = driver.table.connection.grpc
        asked: list[int] = []
        begin = grpc.begin

        def watched(rpc: str, request: Any, *more: Any) -> Any:
            asked.append(request.limit)
            return begin(rpc, request, *more)

        monkeypatch.setattr(grpc, "begin", watched)
        for limit, wanted, requests in (
            (20, 20, range(1, 2)),
            (30, 40, range(2, 3)),
            (None, 100, range(7, 10)),
        ):
            asked.clear()
            found = list(driver.pages(PageRequest((), None, 20, 30.0, limit=limit)))
            assert sum(page.batch.num_rows for page in found) == wanted
            assert set(asked) == {20}
            assert len(asked) in requests


@pytest.mark.parametrize(
    "key", ["", 7, True, {}, ["a"], [["a", "b", "c"]], [["no uuid", ""]], [[1, 2]], [[None, [""]]]]
)
def test_a_key_of_something_else_is_a_value_error(store: Store, key: Any) -> None:
    with made(store, CollectionSpec.single(fresh("damaged"), dim=2)) as collection:
        pages = driver_of(collection).pages(PageRequest((), None, 10, 30.0, key))
        with pytest.raises(ValueError, match=r"key|UUID|unpack"):
            next(pages)


def test_lookups_and_deletes_of_more_ids_than_a_request_takes(store: Store) -> None:
    spec = CollectionSpec.single(fresh("many"), dim=2, index=Flat())
    with made(store, spec) as collection:
        keys = [str(number) for number in range(12_000)]
        collection.upsert(rows(spec, keys))
        driver = driver_of(collection)
        ids = records.id_array(spec, [*keys, "absent"])
        found = driver.lookup(ids, ("vector",), Deadline.after(60))
        assert sorted(found.column("id").to_pylist()) == sorted(keys)
        assert driver.delete_keys(ids, Deadline.after(60)) == 12_000
        assert collection.count() == 0


# ---------------------------------------------------------------------------------------- vector lengths


@pytest.mark.parametrize("index", [Flat(), None], ids=["flat", "auto"])
@pytest.mark.parametrize("dim", [2, 100, 4_000])
def test_vectors_as_short_and_as_long_as_is_declared_have_the_right_scores(
    genuine_store: Store, index: IndexParams | None, dim: int
) -> None:
    shortest, longest = CAPABILITIES.vector_lengths or (0, 0)
    more = {} if index is None else {"index": index}
    spec = CollectionSpec.single(fresh("lengths"), dim=dim, **more)  # type: ignore[arg-type]
    directions = random_vectors(4, dim).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.array([shortest * 1.001, 1e-9, 1e9, longest * 0.999])
    expected = directions @ directions[0]
    with made(genuine_store, spec) as collection:
        vectors = (directions * lengths[:, None]).astype(np.float32)
        collection.upsert(rows(spec, list("abcd"), vector=vectors))
        [hits] = collection.search(Query(directions[0].astype(np.float32), k=4))
        scores = dict(zip(hits.ids, hits.scores.tolist(), strict=True))
        np.testing.assert_allclose([scores[key] for key in "abcd"], expected, atol=1e-4)


@pytest.mark.parametrize("length", [1e-30, 1e-19, 2e19, 1e30])
def test_other_vectors_are_refused_under_cosine_alone(store: Store, length: float) -> None:
    for metric in ("cosine", "dot"):
        spec = CollectionSpec.single(fresh("lengths"), dim=2, metric=metric)
        with made(store, spec) as collection:
            batch = rows(spec, ["a"], vector=np.array([[length, 0]], np.float32))
            if metric == "cosine":
                with pytest.raises(InvalidRecordError, match="length"):
                    collection.upsert(batch)
            else:
                assert collection.upsert(batch).written == 1


# ------------------------------------------------------------------------------------------------ sharing


def test_handles_of_a_collection_share_what_is_known_of_its_graph_until_it_is_replaced(store: Store) -> None:
    driver: WeaviateDriver = driver_of(store)
    spec = CollectionSpec.single(fresh("shared"), dim=2, namespaced=True)

    def graph(namespace: str) -> Any:
        return driver_of(store.open(spec.name, namespace=namespace)).graph

    with made(store, spec):
        eu = graph("eu")
        assert eu.fresh
        assert graph("eu") is eu
        assert graph("us") is not eu
        eu.mark_suspect()
        store.create(spec, if_exists="replace")
        assert graph("eu").term is None
        assert len(driver._mendings) == 1
        found: Described | None = driver.describe(class_name(spec.name), Deadline.after(60))
        assert found is not None
        assert found.name == spec.name
