"""Bulk writes that add fields to their collection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from vecbridge.bulk.growth import arrow_types, value_types

VECTOR = [1.0, 0.0]
NOON = datetime(2020, 5, 17, 12, tzinfo=UTC)


@pytest.fixture
def photos() -> Iterator[vb.Collection]:
    with vb.connect("memory://") as store:
        yield store.create(vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"}))


def types(photos: vb.Collection) -> dict[str, str]:
    return {field.name: field.type for field in photos.spec.fields}


def row(key: str, **values: Any) -> dict[str, Any]:
    return {"id": key, "vector": VECTOR, **values}


def test_new_columns_of_dicts_become_fields_of_their_first_batch(photos: vb.Collection) -> None:
    first = [
        row("a", title="A", taken=NOON, sizes=[1, 2], ratios=[1, 0.5], tags=["x"], flag=True, price=1.5),
        row("b", mixed=1, facts={"x": 1}, nothing=None),
        row("c", mixed=[2]),
    ]
    report = vb.write(photos, [first, [row("d", year=3, nothing="now", price=2.5)]], grow=True)
    assert (report.written, report.failed) == (4, 0)
    assert types(photos) == {
        "year": "int64", "title": "string", "taken": "timestamp", "sizes": "list<int64>", "flag": "bool",
        "ratios": "list<float64>", "tags": "list<string>", "price": "float64", "mixed": "json",
        "facts": "json", "nothing": "string",
    }  # fmt: skip
    found = {each["id"]: each for each in photos.fetch(["a", "b", "c", "d"]).to_pylist()}
    assert (found["a"]["taken"], found["a"]["sizes"], found["a"]["ratios"]) == (NOON, [1, 2], [1.0, 0.5])
    assert (found["b"]["mixed"], found["c"]["mixed"], found["b"]["facts"]) == ("1", "[2]", '{"x":1}')
    assert (found["d"]["nothing"], found["a"]["nothing"], found["a"]["year"]) == ("now", None, None)


def test_new_columns_of_tables_keep_their_types(photos: vb.Collection) -> None:
    table = pa.table({
        "id": ["a", "b"], "vector": [VECTOR, VECTOR],
        "taken": pa.array([NOON, None], pa.timestamp("ms", "Europe/Paris")), "sizes": [[1], []],
        "small": pa.array([1, 2], pa.int8()), "label": pa.array(["x", "x"]).dictionary_encode(),
        "facts": [{"x": 1}, None], "none": pa.nulls(2),
    })  # fmt: skip
    assert vb.write(photos, table, grow=True).written == 2
    assert types(photos) == {
        "year": "int64", "taken": "timestamp", "sizes": "list<int64>", "small": "int64", "label": "string",
        "facts": "json",
    }  # fmt: skip
    assert photos.fetch(["a"]).column("facts").to_pylist() == ['{"x":1}']


def test_a_type_never_changes_and_what_does_not_fit_is_a_dead_letter(
    photos: vb.Collection, tmp_path: Path
) -> None:
    batches = [[row("a", size=1)], [row("b", size="large"), row("c", size=3)]]
    report = vb.write(photos, batches, grow=True, dead_letters=tmp_path / "bad.jsonl")
    assert (report.written, report.failed) == (2, 1)
    assert [failure.id for failure in report.failures] == ["b"]
    assert types(photos)["size"] == "int64"


def test_a_run_adds_32_fields_at_most_and_no_impossible_names(photos: vb.Collection) -> None:
    many = {f"f{number}": number for number in range(40)}
    first = [row("a", **many), row("d", f1=1)]
    report = vb.write(photos, [first, [row("b", **{"no name": 1})], [row("c", f0=1)]], grow=True)
    assert (report.written, report.failed) == (2, 2)
    assert len(photos.spec.fields) == 1 + 32
    assert "no column 'f32'" in report.failures[0].error
    assert "no column 'no name'" in report.failures[1].error


def test_a_batch_without_a_good_row_adds_no_field(photos: vb.Collection) -> None:
    report = vb.write(photos, [[row("", title="A"), row("b", title="B", vector=[0, 0])]], grow=True)
    assert (report.written, report.failed) == (0, 2)
    assert [field.name for field in photos.spec.fields] == ["year"]


def test_without_it_a_new_column_is_a_dead_letter_as_before(photos: vb.Collection) -> None:
    report = vb.write(photos, [[row("a", title="A")], [row("b")]])
    assert (report.written, report.failed) == (1, 1)
    assert list(types(photos)) == ["year"]


def test_growing_does_not_end_a_run_with_a_journal(photos: vb.Collection, tmp_path: Path) -> None:
    path = tmp_path / "run.journal"

    def source(count: int) -> Iterator[list[dict[str, Any]]]:
        for number in range(count):
            yield [row(f"r{number}", **{f"f{number}": number})]
        if count < 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vb.write(photos, source(2), grow=True, journal=path)
    assert vb.write(photos, source(4), grow=True, journal=path).written == 4
    assert list(types(photos)) == ["year", "f0", "f1", "f2", "f3"]
    assert photos.count() == 4


def test_two_runs_that_add_fields_to_one_collection_go_on_beside_each_other() -> None:
    with vb.connect("memory://") as store:
        spec = vb.CollectionSpec.single("photos", dim=2)
        mine, theirs = store.create(spec), store.open("photos")

        def source() -> Iterator[list[dict[str, Any]]]:
            yield [row("a", mine=1)]
            assert vb.write(theirs, [[row("b", theirs=1)]], grow=True).written == 1
            yield [row("c", mine=2)]

        assert vb.write(mine, source(), grow=True).written == 2
        assert list(types(mine)) == ["mine", "theirs"]
        found = {each["id"]: each["theirs"] for each in mine.fetch(["a", "b", "c"]).to_pylist()}
        assert found == {"a": None, "b": 1, "c": None}

        def clash() -> Iterator[list[dict[str, Any]]]:
            theirs.add_fields({"size": "string"})
            yield [row("d", size=1)]

        with pytest.raises(vb.SchemaError, match="'size' of type string, not int64"):
            vb.write(mine, clash(), grow=True)


def test_a_column_of_a_type_that_no_field_has_becomes_json() -> None:
    spans = pa.array([1, None], pa.duration("s"))
    batch = pa.RecordBatch.from_pydict({"place": [{"x": 1}, None], "span": spans, "nothing": pa.nulls(2)})
    assert arrow_types(batch, ["place", "span", "nothing"]) == {"place": "json", "span": "json"}


def test_numbers_of_numpy_have_the_types_of_pythons() -> None:
    rows = [{"n": np.int32(1), "x": np.float32(0.5), "yes": np.bool_(True)}, {"n": None, "x": 1.5}]
    assert value_types(rows, ["n", "x", "yes"]) == {"n": "int64", "x": "float64", "yes": "bool"}
