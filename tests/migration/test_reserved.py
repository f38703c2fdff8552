"""The reserved fields of a collection go with its rows, and stand in nobody's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.migration.copies import memory, options
from tests.migration.sides import PLACES, fresh_name
from vecbridge import reserved
from vecbridge.names import DIGEST, RESERVED, SOURCE

ROWS = [
    {"id": "a", "vector": [1.0, 0.0], "year": 2020, SOURCE: "/photos//a.jpg", DIGEST: "5 1 x"},
    {"id": "b", "vector": [0.0, 1.0], "year": None, SOURCE: "/photos//é'\\.jpg", DIGEST: "5 2 x"},
    {"id": "c", "vector": [1.0, 1.0], "year": 2022, SOURCE: None, DIGEST: None},
]


def made(url: str, *, tracking: bool = True) -> str:
    """A collection of three rows."""
    store_url, _, name = url.partition("#")
    spec = vb.CollectionSpec.single(name, dim=2, metric="l2", fields={"year": "int64"})
    rows = ROWS if tracking else [{k: v for k, v in row.items() if k not in RESERVED} for row in ROWS]
    with vb.connect(store_url, **options(url)) as store:
        photos = store.create(reserved.tracking(spec) if tracking else spec)
        photos.upsert(rows)
        photos.flush()
    return url


def sources(url: str) -> dict[Any, Any]:
    """What rows say of their sources; {} of a collection that has no such fields."""
    with vb.open(url, **options(url)) as photos:
        if not reserved.is_tracking(photos.stored_spec):
            return {}
        rows = [row for page in photos.scan(include=RESERVED) for row in page.batch.to_pylist()]
    return {row["id"]: (row[SOURCE], row[DIGEST]) for row in rows}


EXPECTED = {row["id"]: (row[SOURCE], row[DIGEST]) for row in ROWS}


@pytest.mark.parametrize("name", ["faiss", "milvus-lite", "pinecone", "snapshot"])
def test_they_go_to_each_store_and_back(name: str, tmp_path: Path) -> None:
    start, end = made(memory()), memory()
    there = f"{PLACES[name].url(tmp_path / name)}#{fresh_name()}"
    keys = {"source_options": options(there)} if options(there) else {}
    into = {"target_options": options(there)} if options(there) else {}
    vb.migrate(start, there, allow=["index"], journal=tmp_path / "there.journal", **into)
    assert sources(there) == EXPECTED
    assert vb.verify(start, there, level="content", **into).passed
    vb.migrate(there, end, allow=["index"], journal=tmp_path / "back.journal", **keys)
    assert sources(end) == EXPECTED
    with vb.open(end) as photos:
        assert photos.spec.column_names == ("id", "vector", "year")


def test_a_plan_has_them_and_says_nothing_of_them_in_its_tables() -> None:
    start, end = made(memory()), memory()
    plan = vb.plan(start, end)
    assert [column.name for column in plan.columns] == ["vector", "year", *RESERVED]
    assert plan.losses == ()
    assert vb.Plan.from_json(plan.to_json()) == plan


def test_verification_finds_another_source(tmp_path: Path) -> None:
    start, end = made(memory()), memory()
    vb.migrate(start, end, journal=tmp_path / "a.journal")
    with vb.open(end) as photos:
        photos.update([{"id": "b", DIGEST: "6 2 x"}])
    proof = vb.verify(start, end, level="content")
    assert not proof.passed
    assert DIGEST in str([finding.column for finding in proof.findings])


def test_where_one_side_alone_has_them_the_rest_is_compared() -> None:
    tracked, plain = made(memory()), made(memory(), tracking=False)
    assert vb.verify(tracked, plain, level="content").passed
    assert vb.verify(plain, tracked, level="content").passed


def test_a_target_that_exists_without_them_gets_the_rows_without_them(tmp_path: Path) -> None:
    tracked, plain = made(memory()), made(memory(), tracking=False)
    with vb.open(plain) as photos:
        photos.delete(["a", "b", "c"])
    vb.migrate(tracked, plain, journal=tmp_path / "a.journal")
    assert sources(plain) == {}
    with vb.open(plain) as photos:
        assert photos.count() == 3


def test_a_target_that_exists_with_them_takes_rows_without_them(tmp_path: Path) -> None:
    plain, tracked = made(memory(), tracking=False), made(memory())
    with vb.open(tracked) as photos:
        photos.delete(["a", "b", "c"])
    vb.migrate(plain, tracked, journal=tmp_path / "a.journal")
    assert sources(tracked) == dict.fromkeys("abc", (None, None))


def test_sync_carries_a_change_of_them_alone(tmp_path: Path) -> None:
    start, end = made(memory()), memory()
    vb.migrate(start, end, journal=tmp_path / "a.journal")
    vb.sync(start, end, state=tmp_path / "a.state")
    with vb.open(start) as photos:
        photos.update([{"id": "a", DIGEST: "7 7 x"}])
    report = vb.sync(start, end, state=tmp_path / "a.state")
    assert (report.updated, report.inserted, report.deleted) == (1, 0, 0)
    assert sources(end)["a"] == ("/photos//a.jpg", "7 7 x")


def test_they_can_be_dropped(tmp_path: Path) -> None:
    start, end = made(memory()), memory()
    vb.migrate(start, end, drop=list(RESERVED), journal=tmp_path / "a.journal")
    assert sources(end) == {}
