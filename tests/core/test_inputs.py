"""The forms in which records are taken, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from vecbridge import records

SPEC = vb.CollectionSpec.single(
    "photos",
    dim=2,
    fields={"year": "int64", "sizes": "list<int64>", "ratios": "list<float64>", "extra": "json"},
)


class Exported:
    """What a data frame is to Arrow: an object that exports a stream, and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


TABLE = pa.table({
    "id": pa.array(["a", "b"], pa.large_string()),
    "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.large_list(pa.float64())),
    "year": pa.array([1, None], pa.int32()),
    "extra": [{"x": [1]}, None],
})  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        Exported(TABLE),
        pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
        TABLE.to_batches()[0],
        [
            {"id": "a", "vector": [1, 2], "year": 1, "extra": {"x": [1]}},
            {"id": "b", "vector": np.array([3.0, 4.0])},
        ],
    ],
    ids=["table", "stream", "chunks", "batch", "dicts"],
)
def test_every_form_gives_the_same_batch(data: Any) -> None:
    batch = records.check(records.as_batch(data, SPEC), SPEC)
    assert batch.select(["id", "year", "extra"]).to_pylist() == [
        {"id": "a", "year": 1, "extra": '{"x":[1]}'},
        {"id": "b", "year": None, "extra": None},
    ]
    assert vb.vectors(batch).tolist() == [[1, 2], [3, 4]]


ANY_LENGTH = [pa.list_(pa.float32()), pa.large_list(pa.float16())]


@pytest.mark.parametrize("type", [*ANY_LENGTH, pa.list_(pa.float64(), 2)])
def test_vectors_of_another_layout_are_taken(type: pa.DataType) -> None:
    column = pa.array([[1.0, 2.0]] * 3, type)
    assert vb.vectors(vb.batch(SPEC, id=list("ab"), vector=column.slice(1))).tolist() == [[1, 2]] * 2


@pytest.mark.parametrize("type", ANY_LENGTH)
def test_vectors_of_another_length_are_named(type: pa.DataType) -> None:
    with pytest.raises(vb.InvalidRecordError) as caught:
        vb.batch(SPEC, id=list("abc"), vector=pa.array([[1.0, 2.0], [1.0], None], type))
    assert [(failure.row, failure.error[:12]) for failure in caught.value.rows] == [
        (1, "vector 'vect"), (2, "vector 'vect"),
    ]  # fmt: skip


def test_lists_of_numbers_are_exact_and_have_no_null_and_no_nan() -> None:
    def batch(**columns: Any) -> pa.RecordBatch:
        return vb.batch(SPEC, id=["a", "b", "c"], vector=[[1, 2]] * 3, **columns)

    sizes = pa.array([[0], [2**63 - 1, -(2**63)], None, []], pa.list_(pa.int64()))
    kept = batch(sizes=sizes.slice(1), ratios=[[-0.0, 5e-324], [], None])
    assert kept.column("sizes").to_pylist() == [[2**63 - 1, -(2**63)], None, []]
    assert repr(kept.column("ratios").to_pylist()) == "[[0.0, 5e-324], [], None]"
    assert batch(sizes=pa.array([[1], [], None], pa.list_(pa.int8()))).column("sizes").to_pylist() == [
        [1],
        [],
        None,
    ]
    for columns, wrong in (
        ({"sizes": [[1], [None], [2]]}, [1]),
        ({"sizes": [[1.0], [True], ["1"]]}, [0, 1, 2]),
        ({"sizes": [[2**63], [1], [1]]}, [0]),
        ({"ratios": [[1.0], [float("nan")], [0.0, float("inf")]]}, [1, 2]),
        ({"ratios": [[2**53 + 1], [1], "x"]}, [0, 2]),
    ):
        with pytest.raises(vb.InvalidRecordError) as caught:
            batch(**columns)
        assert [failure.row for failure in caught.value.rows] == wrong, columns


def test_dicts_that_do_not_fit_are_named() -> None:
    rows = [{"id": "a", "vector": [1, 2]}, {"id": "b", "vector": [1, 2], "yaer": 1}, {"id": "c"}]
    with pytest.raises(vb.InvalidRecordError, match=r"1 bad rows: row 1 \(id 'b'\).*did you mean 'year'"):
        records.as_batch(rows, SPEC)
    with pytest.raises(vb.InvalidRecordError, match=r"1 bad rows: row 1 \(id 'c'\).*placeholder"):
        records.as_batch([rows[0], rows[2]], SPEC)
    assert records.as_batch([], SPEC).num_rows == 0


@pytest.mark.parametrize("data", [None, 5, "rows", {"id": ["a"]}, [1, 2], np.zeros((2, 2))])
def test_what_holds_no_records_is_refused(data: Any) -> None:
    assert not records.is_records(data)
    with vb.connect("memory://") as store, pytest.raises(vb.ConfigError, match="list of dicts"):
        store.create(SPEC).upsert(data)


def test_changes_are_the_id_and_the_columns_that_are_given_checked_like_whole_records() -> None:
    changed = records.changes([{"year": 7, "id": "a"}, {"id": "b", "year": None}], SPEC)
    assert changed.schema.names == ["id", "year"]
    assert changed.to_pylist() == [{"id": "a", "year": 7}, {"id": "b", "year": None}]
    table = pa.table({"id": ["a"], "vector": [[1.0, 2.0]]})
    assert records.changes(table, SPEC).schema.names == ["id", "vector"]
    assert records.changes([], SPEC).num_rows == 0


@pytest.mark.parametrize(
    ("data", "rows", "said"),
    [
        ([{"id": "a", "year": 1}, {"id": "b"}], [1], "has the columns id, and row 0 id, year"),
        ([{"id": "a", "yaer": 1}, {"id": "b", "yaer": 2}], [0, 1], "has no column 'yaer'.*'year'"),
        (pa.table({"id": ["a"], "yaer": [1]}), [0], "has no column 'yaer'.*'year'"),
        ([{"id": "a", "year": "soon"}], [0], "year"),
        ([{"id": "a", "vector": [1.0]}], [0], "vector"),
    ],
    ids=["other keys", "unknown", "unknown in a table", "a wrong value", "a wrong length"],
)
def test_changes_that_do_not_fit_are_named(data: Any, rows: list[int], said: str) -> None:
    with pytest.raises(vb.InvalidRecordError, match=said) as caught:
        records.changes(data, SPEC)
    assert [failure.row for failure in caught.value.rows] == rows


@pytest.mark.parametrize("type", [pa.list_view(pa.float32()), pa.large_list_view(pa.float64())], ids=str)
def test_vectors_as_views_of_lists_are_taken(type: pa.DataType) -> None:
    column = pa.array([[1.0, 2.0], [3.0, 4.0]], type)
    batch = pa.RecordBatch.from_pydict({"id": ["a", "b"], "vector": column})
    assert records.check(batch, SPEC).column("vector").to_pylist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_column_that_the_spec_lacks_refuses_every_row() -> None:
    batch = pa.RecordBatch.from_pydict({"id": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]], "yaer": [1, 2]})
    with pytest.raises(vb.InvalidRecordError, match="yaer") as caught:
        records.check(batch, SPEC)
    assert [failure.row for failure in caught.value.rows] == [0, 1]


def test_vectors_and_their_numbers_are_never_null() -> None:
    vector = records.arrow_schema(SPEC).field("vector")
    assert not vector.nullable
    assert not vector.type.value_field.nullable
