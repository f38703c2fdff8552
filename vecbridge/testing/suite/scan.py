"""Scanning: every row once, while others write."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

import json
from collections import Counter
from itertools import chain

import pytest

from vecbridge.errors import ConfigError, CursorExpiredError, SchemaError
from vecbridge.filters import field
from vecbridge.store import Store
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import ids_of, points, put, read
from vecbridge.testing.elsewhere import run_elsewhere
from vecbridge.testing.maker import Maker, undeclared

KEYS = [f"k{number:03}" for number in range(100)]


class TestScan:
    """scan(), its cursors, and the optional split() and compact()."""

    def test_pages_hold_at_most_batch_rows_and_together_everything(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=KEYS, year=list(range(100)))
        pages = [page.batch for page in collection.scan(batch_rows=7)]
        assert max(page.num_rows for page in pages) <= 7
        rows = {record["id"]: record["year"] for page in pages for record in page.to_pylist()}
        assert rows == {key: number for number, key in enumerate(KEYS)}
        assert sum(page.num_rows for page in pages) == 100

    def test_include_picks_columns(self, make: Maker) -> None:
        collection = make(fields={"year": "int64", "title": "string"})
        put(collection, id=["a"], year=[1], title=["A"])
        for include, names in (
            ([], ["id"]),
            (["title"], ["id", "title"]),
            (["title", "vector", "id"], ["id", "vector", "title"]),
            ("all", ["id", "vector", "year", "title"]),
        ):
            [page] = collection.scan(include=include)
            assert page.batch.schema.names == names
            assert collection.fetch(["a"], include=include).schema.names == names

    def test_a_filter_keeps_only_matches(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=KEYS, year=list(range(100)))
        kept = [
            key
            for page in collection.scan(filter=field("year") >= 90, batch_rows=3, include=[])
            for key in page.batch.column("id").to_pylist()
        ]
        assert sorted(kept) == KEYS[90:]

    def test_an_empty_collection_has_no_rows(self, make: Maker) -> None:
        assert read(make()) == {}

    def test_bad_arguments_are_refused(self, make: Maker) -> None:
        collection = make()
        put(collection, id=["a"])
        with pytest.raises(SchemaError):
            list(collection.scan(include=["nope"]))
        with pytest.raises(ConfigError):
            list(collection.scan(batch_rows=0))
        with pytest.raises((ConfigError, CursorExpiredError)):
            list(collection.scan(cursor="no cursor of anybody's"))

    def test_each_cursor_goes_on_where_its_page_ended(self, make: Maker) -> None:
        collection = make()
        put(collection, id=KEYS)
        pages = list(collection.scan(include=[], batch_rows=13))
        order = [key for page in pages for key in page.batch.column("id").to_pylist()]
        seen = 0
        for page in pages:
            seen += page.batch.num_rows
            rest = [
                key
                for later in collection.scan(include=[], batch_rows=29, cursor=page.cursor)
                for key in later.batch.column("id").to_pylist()
            ]
            assert sorted(rest) == sorted(order[seen:])

    @pytest.mark.parametrize("batch_rows", [1, 7, 30])
    def test_a_scan_meets_each_row_once_while_others_come_go_and_change(
        self, make: Maker, batch_rows: int
    ) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=KEYS, year=[0] * 100)
        steady, deleted, changed = KEYS[::3], KEYS[1::3], KEYS[::6]
        met: Counter[str] = Counter()
        for number, page in enumerate(collection.scan(include=["year"], batch_rows=batch_rows)):
            met.update(page.batch.column("id").to_pylist())
            if number < len(deleted):
                collection.delete([deleted[number]])
                put(collection, id=[f"new{number}"], year=[2])
                again = changed[number % len(changed)]
                put(collection, id=[again], vector=points(1, seed=number), year=[number])
            assert number < 1000  # a scan that chases its own writes would not end
        assert {key: met[key] for key in steady} == dict.fromkeys(steady, 1)
        assert max(met.values()) == 1

    def test_a_row_deleted_and_written_again_during_a_scan_comes_at_most_once(self, make: Maker) -> None:
        collection = make()
        put(collection, id=KEYS[:30])
        met: Counter[str] = Counter()
        for page in collection.scan(include=[], batch_rows=5):
            met.update(page.batch.column("id").to_pylist())
            collection.delete(KEYS[:10])
            put(collection, id=KEYS[:10])
        assert {key: met[key] for key in KEYS[10:30]} == dict.fromkeys(KEYS[10:30], 1)
        assert max(met.values()) == 1

    def test_replacing_the_collection_expires_its_cursors(self, store: Store, make: Maker) -> None:
        collection = make()
        put(collection, id=KEYS)
        page = next(iter(collection.scan(batch_rows=10)))
        replaced = store.create(collection.spec, if_exists="replace")
        put(replaced, id=KEYS)
        with pytest.raises(CursorExpiredError):
            list(replaced.scan(cursor=page.cursor))

    def test_a_cursor_goes_on_in_another_process(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker
    ) -> None:
        collection = make()
        put(collection, id=KEYS)
        page = next(iter(collection.scan(include=[], batch_rows=40)))
        collection.close()
        store.close()
        code = """
with vb.open(url, **options) as collection:
    pages = collection.scan(include=[], cursor=cursor)
    print(json.dumps([key for page in pages for key in page.batch.column("id").to_pylist()]))
"""
        done = run_elsewhere(code, store_case, url=f"{store_url}#{collection.spec.name}", cursor=page.cursor)
        assert done.returncode == 0, done.stderr
        first, rest = page.batch.column("id").to_pylist(), json.loads(done.stdout)
        assert sorted([*first, *rest]) == KEYS

    def test_the_parts_of_a_split_are_disjoint_and_complete(self, make: Maker) -> None:
        collection = make()
        put(collection, id=KEYS)
        collection.delete(KEYS[10:40])
        collection.flush()
        if not collection.capabilities.splits:
            undeclared("split", lambda: collection.split(2))
        for parts in (1, 2, 3, 200):
            starts = collection.split(parts)
            assert min(parts, 2) <= len(starts) <= parts
            found = [
                [key for page in pages for key in page.batch.column("id").to_pylist()]
                for pages in (collection.scan(include=[], batch_rows=7, cursor=start) for start in starts)
            ]
            assert sum(bool(keys) for keys in found) >= min(parts, 2), "70 rows suffice for two parts"
            assert sorted(chain(*found)) == KEYS[:10] + KEYS[40:]

    def test_compaction_keeps_the_rows_and_expires_cursors(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=KEYS, year=list(range(100)))
        put(collection, id=KEYS[:20], year=[-1] * 20)
        collection.delete(KEYS[50:])
        collection.flush()
        before = read(collection)
        page = next(iter(collection.scan(include=[], batch_rows=10)))
        if not collection.capabilities.compacts:
            undeclared("compact", collection.compact)
        collection.compact()
        assert read(collection) == before
        assert ids_of(collection, field("year") == -1) == set(KEYS[:20])
        with pytest.raises(CursorExpiredError):
            list(collection.scan(cursor=page.cursor))

    def test_repair_finds_nothing_missing_and_keeps_the_rows(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=KEYS[:20], year=list(range(20)))
        if not collection.capabilities.repairs:
            undeclared("repair", collection.repair)
        before = read(collection)
        assert collection.repair() == 0
        assert read(collection) == before
