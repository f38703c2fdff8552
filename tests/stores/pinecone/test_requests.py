"""How large requests are: as full as the service allows, and never fuller."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.stores.pinecone.helpers import random_vectors, rows, small
from vecbridge.driver import RequestLimits
from vecbridge.store import Store
from vecbridge.stores.pinecone.limits import REQUEST_BYTES, REQUEST_ROWS
from vecbridge.stores.pinecone.planes import Encoded, packed
from vecbridge.testing import driver_of
from vecbridge.testing.pinecone import Emulator

WIDE, COUNT = 768, 3_000


def unit(count: int, dim: int) -> np.ndarray:
    vectors = random_vectors(count, dim)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def wide_rows(spec: vb.CollectionSpec) -> pa.RecordBatch:
    titles = [f"picture {number} of a sunset by the sea" for number in range(COUNT)]
    ids = [f"photo-{number:08}" for number in range(COUNT)]
    return rows(spec, ids, vector=unit(COUNT, WIDE), title=titles, year=range(COUNT))


def fill(emulator: Emulator) -> float:
    sizes = [each.bytes for each in emulator.log.requests("upsert")]
    assert max(sizes) <= REQUEST_BYTES
    assert sum(each.rows for each in emulator.log.requests("upsert")) == COUNT
    assert not emulator.log.requests("upsert", 413)
    return float(np.mean(sizes)) / REQUEST_BYTES


@pytest.mark.parametrize("through", ["upsert", "write"])
def test_requests_of_768_dimensions_fill_two_megabytes(
    emulator: Emulator, store: Store, through: str
) -> None:
    photos = store.create(small(dim=WIDE, fields={"title": "string", "year": "int64"}, metric="cosine"))
    batch = wide_rows(photos.spec)
    report = photos.upsert(batch) if through == "upsert" else vb.write(photos, [batch])
    assert report.written == COUNT
    assert fill(emulator) >= 0.85


def test_sizes_are_known_to_the_byte_before_anything_is_sent(emulator: Emulator, store: Store) -> None:
    fields = {"flag": "bool", "year": "int64", "title": "string", "tags": "list<string>"}
    photos = store.create(small(dim=37, fields=fields, namespaced=True), namespace="eu")
    texts = ["", 'é\n"\\', "x" * 200, None, "\U0001f600" * 5_000]
    batch = rows(
        photos.spec, ["a", "é", "c" * 512, "d", "e"], flag=[True, None, False, None, None],
        year=[1, 2**63 - 1, None, -5, 0], title=texts, tags=[[], ["a", ""], None, ["y" * 300] * 9, [""]],
    )  # fmt: skip
    driver = driver_of(photos)
    plane, namespace = driver._plane, driver._wire_namespace
    sizes: list[int] = []

    def noted(encoded: Iterator[Encoded]) -> Iterator[Encoded]:
        for each in encoded:
            sizes.append(each.size)
            yield each

    encode, plane.encode = plane.encode, lambda *given: noted(encode(*given))  # type: ignore[method-assign]
    photos.upsert(batch)
    [request] = emulator.log.requests("upsert")
    commas = 1 if request.protocol == "rest" else 0  # one fewer than records
    assert request.bytes == plane.envelope(namespace) + sum(sizes) - commas


@pytest.mark.parametrize(("size", "most"), [(1, REQUEST_ROWS), (3_000, 699), (REQUEST_BYTES, 1)])
def test_a_request_ends_before_what_would_not_fit(size: int, most: int) -> None:
    limits = RequestLimits(REQUEST_ROWS, REQUEST_BYTES)
    parts = list(packed((Encoded(number, size) for number in range(2_500)), 100, limits))
    assert {len(part.rows) for part in parts[:-1]} == {most}
    assert [row for part in parts for row in part.rows] == list(range(2_500))
    assert [row.content for part in parts for row in part.payload] == list(range(2_500))


def test_every_request_is_cut_by_its_own_rows_the_later_ones_like_the_first() -> None:
    sizes = [60, 40, 60, 40, 60, 41, 40, 19, 1, 99, 200, 1]
    encoded = [Encoded(number, size) for number, size in enumerate(sizes)]
    parts = list(packed(iter(encoded), 100, RequestLimits(REQUEST_ROWS, 200)))
    found = [[row.size for row in part.payload] for part in parts]
    assert found == [
        [60, 40],
        [60, 40],
        [60],
        [41, 40, 19],
        [1, 99],
        [200],
        [1],
    ]  # one too large stands alone
    assert [part.rows for part in parts] == [
        range(2), range(2, 4), range(4, 5), range(5, 8), range(8, 10), range(10, 11), range(11, 12)
    ]  # fmt: skip
    pairs = list(packed(iter(encoded), 100, RequestLimits(2, 200)))
    assert [len(part.rows) for part in pairs] == [2, 2, 1, 2, 2, 1, 1, 1]


def test_requests_of_uneven_rows_are_as_large_as_was_said_and_none_could_hold_one_row_more(
    emulator: Emulator, store: Store
) -> None:
    photos = store.create(small(fields={"title": "string"}, namespaced=True), namespace="eu")
    lengths = np.random.default_rng(4).integers(0, 39_000, 400)
    texts = ["x" * int(length) for length in lengths]
    batch = rows(photos.spec, [f"r{number:03}" for number in range(400)], title=texts)
    driver = driver_of(photos)
    parts = list(driver.prepare(batch, RequestLimits(REQUEST_ROWS, REQUEST_BYTES)))
    envelope = driver._plane.envelope(driver._wire_namespace)
    said = [envelope + sum(row.size for row in part.payload) for part in parts]
    assert len(parts) > 3
    for place, part in enumerate(parts[1:]):
        assert said[place] <= REQUEST_BYTES < said[place] + part.payload[0].size
    photos.upsert(batch)
    requests = emulator.log.requests("upsert")
    rest = requests[0].protocol == "rest"  # the last record of JSON has no comma behind it
    assert sorted(each.bytes + rest for each in requests) == sorted(said)


def test_metadata_beyond_what_is_kept_are_made_again_and_are_the_same(rest: Store) -> None:
    photos = rest.create(small(fields={"title": "string"}))
    texts = [
        f"{number:05}" + "x" * 8_000 for number in range(9_500)
    ]  # 76 MB; 64 are kept, 5,000 rows a slice
    batch = rows(photos.spec, [f"r{number:05}" for number in range(9_500)], title=texts)
    driver = driver_of(photos)
    whole = list(driver.prepare(batch, RequestLimits(REQUEST_ROWS, REQUEST_BYTES)))
    alone = list(driver.prepare(batch.slice(9_400), RequestLimits(REQUEST_ROWS, REQUEST_BYTES)))
    assert [row for part in whole for row in part.rows] == list(range(9_500))
    sent = [row for part in whole for row in part.payload]
    assert [each.content for each in sent[9_400:]] == [row.content for part in alone for row in part.payload]
    assert len({bytes(str(each.content), "utf-8") for each in sent}) == 9_500


def test_a_batch_of_nothing_sends_nothing(emulator: Emulator, store: Store) -> None:
    photos = store.create(small())
    emulator.log.clear()
    assert photos.upsert(rows(photos.spec, [])).written == 0
    assert photos.search(vb.Query(random_vectors(0))) == []
    assert photos.fetch([]).num_rows == 0
    photos.delete([])
    assert emulator.log.requests() == []
