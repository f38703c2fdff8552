"""A hundred thousand rows: each is there once, however a scan is cut, and counted and fetched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from tests.stores.milvus.helpers import (
    DIM,
    fresh,
    lite_url,
    made,
    milvus_store,
    random_vectors,
    rows,
    scanned,
    small,
)
from vecbridge.errors import CursorExpiredError, NotFoundError
from vecbridge.filters import field
from vecbridge.query import Query
from vecbridge.records import vectors
from vecbridge.store import Collection, Store

ROWS = 100_000
VECTORS = random_vectors(ROWS)
NAMES = [f"row/{number:06d}" for number in range(ROWS)]

ELSEWHERE = """
import json, sys
import vecbridge as vb
url, name, cursor, batch_rows = sys.argv[1:]
with vb.connect(url) as store:
    pages = store.open(name).scan(include=[], cursor=cursor, batch_rows=int(batch_rows))
    json.dump([key for page in pages for key in page.batch.column("id").to_pylist()], sys.stdout)
"""


@pytest.fixture(scope="module")
def many(server_url: str) -> Iterator[Collection]:
    """A hundred thousand rows on the genuine server, written by one upsert, in no order."""
    order = np.random.default_rng(1).permutation(ROWS)
    spec = small(fresh("many"), fields={"n": "int64", "half": "bool"})
    with milvus_store(server_url, timeout=60) as store:
        photos = store.create(spec)
        try:
            batch = rows(
                spec,
                [NAMES[place] for place in order],
                vector=VECTORS[order],
                n=order.tolist(),
                half=(order % 2 == 0).tolist(),
            )
            assert photos.upsert(batch).written == ROWS
            yield photos
        finally:
            with suppress(NotFoundError):
                store.drop(spec.name)


def test_a_scan_shows_each_of_a_hundred_thousand_rows_once_with_its_content(many: Collection) -> None:
    seen = 0
    for page in many.scan():
        ids = page.batch.column("id").to_pylist()
        assert ids == NAMES[seen : seen + len(ids)]
        assert page.batch.column("n").to_pylist() == list(range(seen, seen + len(ids)))
        assert np.array_equal(vectors(page.batch), VECTORS[seen : seen + len(ids)])
        seen += len(ids)
    assert seen == ROWS


def test_counts_are_exact(many: Collection) -> None:
    assert many.count() == many.status().rows == ROWS
    assert many.count(field("half") == True) == ROWS // 2  # noqa: E712
    assert many.count((field("n") >= 16_000) & (field("n") < 17_000)) == 1_000
    assert many.count(field("n").is_null()) == 0


def test_small_pages_go_on_past_the_window_of_a_query(many: Collection) -> None:
    found = scanned(many, filter=field("n") < 20_000, batch_rows=900)
    assert found == NAMES[:20_000]


def test_a_filtered_scan_shows_every_match_once(many: Collection) -> None:
    assert scanned(many, filter=field("half") == False, batch_rows=16_384) == NAMES[1::2]  # noqa: E712
    few = list(range(0, ROWS, 9_973))
    assert scanned(many, filter=field("n").isin(few)) == [NAMES[place] for place in few]


def test_a_page_larger_than_the_window_of_a_query_is_cut(many: Collection) -> None:
    pages = list(many.scan(include=[], batch_rows=50_000))
    assert max(page.batch.num_rows for page in pages) <= 16_384
    assert sum(page.batch.num_rows for page in pages) == ROWS


def test_a_cursor_goes_on_in_another_process_past_the_window_of_a_query(
    many: Collection, server_url: str
) -> None:
    here: list[str] = []
    for page in many.scan(include=[], batch_rows=7_001):
        here += page.batch.column("id").to_pylist()
        if len(here) > 20_000:
            break
    command = [sys.executable, "-c", ELSEWHERE, server_url, many.spec.name, page.cursor, "9000"]
    there = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert here + there == NAMES


def test_any_number_of_ids_is_fetched_in_the_order_asked(many: Collection) -> None:
    order = np.random.default_rng(2).permutation(ROWS)[:5_000].tolist()
    wanted = [NAMES[place] for place in order]
    found = many.fetch([*wanted, "absent", *wanted[:3]])
    assert found.column("id").to_pylist() == wanted
    assert np.array_equal(vectors(found), VECTORS[order])


def test_the_nearest_of_a_hundred_thousand_are_found(many: Collection) -> None:
    many.flush()
    queries = random_vectors(20, DIM, seed=9)
    squares = ((queries[:, None].astype(np.float64) - VECTORS[None]) ** 2).sum(axis=2)
    best = np.argsort(squares, axis=1)[:, :50]
    for hits, places, line in zip(many.search(Query(queries, k=50)), best, squares, strict=True):
        assert hits.ids == [NAMES[place] for place in places]
        assert np.allclose(hits.scores, line[places], rtol=1e-4, atol=1e-4)
    [hits] = many.search(Query(queries[0], k=16_384))
    assert len(set(hits.ids)) == 16_384


def test_rows_written_again_are_not_there_twice(many: Collection) -> None:
    again = many.fetch(NAMES[:10_000])
    many.upsert(again)
    assert many.count() == ROWS
    assert scanned(many, filter=field("n") < 12_000) == NAMES[:12_000]


def test_a_cursor_of_a_replaced_collection_has_expired(store: Store) -> None:
    spec = small(fresh("replaced"))
    with made(store, spec) as photos:
        photos.upsert(rows(spec, ["a", "b", "c"]))
        page = next(photos.scan(batch_rows=1))
        fresh_one = store.create(spec, if_exists="replace")
        with pytest.raises(CursorExpiredError):
            list(fresh_one.scan(cursor=page.cursor))


def test_on_milvus_lite_a_scan_of_many_rows_shows_each_once_and_goes_on_in_another_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    url = lite_url(tmp_path_factory.mktemp("lite"))
    count = 20_000
    spec = small("many", fields={"n": "int64"})
    with milvus_store(url) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, NAMES[:count], vector=VECTORS[:count], n=list(range(count))))
        assert scanned(photos) == NAMES[:count]
        assert scanned(photos, filter=field("n") >= 2_000, batch_rows=999) == NAMES[2_000:count]
        assert photos.count() == count
        page = next(photos.scan(include=[], batch_rows=17_000))
    command = [sys.executable, "-c", ELSEWHERE, url, spec.name, page.cursor, "9000"]
    there = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert page.batch.column("id").to_pylist() + there == NAMES[:count]
