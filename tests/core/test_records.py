"""Batches: building, checking, viewing, splitting."""

from __future__ import annotations

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbridge import records
from vecbridge.capabilities import Capabilities
from vecbridge.errors import ConfigError, EmbedderMismatchError, InvalidRecordError, SchemaError
from vecbridge.indexes import HNSW
from vecbridge.records import checking, recognition
from vecbridge.schema import CollectionSpec, EmbedderIdentity, VectorField
from vecbridge.testing import strategies
from vecbridge.testing.checks import FIELDS, points, raw_batch

SPEC = CollectionSpec.single("photos", dim=3, metric="l2", fields=FIELDS)
COSINE = CollectionSpec.single("photos", dim=3, fields=FIELDS)
NUMBERS = CollectionSpec.single("photos", dim=3, metric="l2", id_type="int64")
ALL = Capabilities(backend="all", indexes=frozenset({"auto"}))
columns = strategies.columns(SPEC, ALL)
json_values = strategies.json_values(ALL)


def rows(count: int, **columns: Any) -> pa.RecordBatch:
    keys = [f"r{number:03}" for number in range(count)]
    return records.batch(SPEC, id=keys, vector=points(count, 3), **columns)


def one(**columns: Any) -> dict[str, Any]:
    """One row with these fields, as it stands in the batch."""
    values = {name: [value] for name, value in columns.items()}
    return records.batch(SPEC, id=["a"], vector=[[1, 2, 3]], **values).to_pylist()[0]


@settings(max_examples=60)
@given(columns)
def test_a_batch_holds_what_was_put_in(columns: dict[str, Any]) -> None:
    batch = records.batch(SPEC, **columns)
    assert batch.schema.equals(records.arrow_schema(SPEC))
    assert batch.column("id").to_pylist() == columns["id"]
    assert records.vectors(batch).tobytes() == np.array(columns["vector"], np.float32).tobytes()
    for name, type in FIELDS.items():
        given = columns.get(name, [None] * batch.num_rows)
        if type == "json":
            given = [text if text is None else records.canonical_json(text) for text in given]
        assert batch.column(name).to_pylist() == given


@settings(max_examples=60)
@given(columns, st.data())
def test_a_slice_views_and_checks_like_the_rows_that_it_holds(columns: dict[str, Any], data: Any) -> None:
    batch = records.batch(SPEC, **columns)
    start = data.draw(st.integers(0, batch.num_rows))
    part = batch.slice(start, data.draw(st.integers(0, batch.num_rows)))
    wanted = batch.to_pylist()[start : start + part.num_rows]
    assert records.check(part, SPEC).to_pylist() == wanted
    assert records.vectors(part).tolist() == [row["vector"] for row in wanted]
    assert records.check(part, SPEC).to_pylist() == records.batch(SPEC, **part.to_pydict()).to_pylist()


def test_checking_neither_copies_nor_changes_vectors() -> None:
    batch = rows(10).slice(3, 5)
    view, checked = records.vectors(batch), records.vectors(records.check(batch, SPEC))
    assert np.shares_memory(view, checked)
    assert np.shares_memory(view, records.vectors(rows(10))) is False
    assert not view.flags.writeable


def test_checking_twice_changes_nothing() -> None:
    once = records.check(
        rows(4, price=[-0.0, 1.0, None, 2.0], extra=['{"b":1, "a":2}', None, "1", "[]"]), SPEC
    )
    assert records.check(once, SPEC).equals(once)
    assert str(once.column("price")[0].as_py()) == "0.0"


def test_columns_in_any_order_and_missing_ones_become_canonical() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"year": pa.array([1], pa.int8()), "vector": rows(1).column("vector"), "id": ["a"]}
    )
    checked = records.check(batch, SPEC)
    assert checked.schema.equals(records.arrow_schema(SPEC))
    assert checked.to_pylist()[0] | {"vector": 0} == dict.fromkeys(FIELDS) | {
        "id": "a",
        "vector": 0,
        "year": 1,
    }


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("title", pa.array(["é", None], pa.large_string())),
        ("title", pa.array(["é", None], pa.string_view())),
        ("title", pa.array(["é", None]).dictionary_encode()),
        ("tags", pa.array([["é"], None], pa.large_list(pa.large_string()))),
        ("tags", pa.array([["é"], None], pa.list_view(pa.string_view()))),
        ("year", pa.array([200, None], pa.uint8())),
        ("price", pa.array([0.5, None], pa.float32())),
        ("flag", pa.nulls(2)),
        ("tags", pa.array([[], None], pa.list_(pa.null()))),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_another_layout_of_the_same_values_is_taken(name: str, array: pa.Array) -> None:
    batch = rows(2, **{name: array})
    assert batch.schema.equals(records.arrow_schema(SPEC))
    assert batch.column(name).to_pylist() == array.to_pylist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("year", 1.0),
        ("year", True),
        ("year", "1"),
        ("year", 2**63),
        ("year", np.float32(1.5)),
        ("year", np.bool_(True)),
        ("price", True),
        ("price", 2**53 + 1),
        ("price", 10**400),
        ("price", "1"),
        ("price", float("nan")),
        ("price", float("-inf")),
        ("price", 1j),
        ("flag", 1),
        ("flag", "true"),
        ("title", 1),
        ("title", b"x"),
        ("title", "\ud800"),
        ("tags", "abc"),
        ("tags", ["a", None]),
        ("tags", ["a", 1]),
        ("tags", [b"x"]),
        ("tags", [["a"]]),
        ("tags", 5),
        ("extra", "{"),
        ("extra", "NaN"),
        ("extra", "[1e999]"),
        ("extra", '{"a":1,"a":1}'),
        ("extra", '"\\ud800"'),
        ("extra", "[" * 100_000),
        ("extra", "1" * 5000),
        ("extra", float("nan")),
        ("extra", {1}),
        ("extra", Any),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_value_of_another_type_is_refused_with_its_row(name: str, value: Any) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        rows(3, **{name: [None, value, None]})
    assert [(each.row, each.id) for each in caught.value.rows] == [(1, "r001")]
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "ids",
    [[7, 8, 9], np.array([7, 8, 9]), pa.array([7, 8, 9]), pa.chunked_array([[7], [8, 9]]), range(7, 10)],
)
def test_a_wrong_value_is_named_by_its_id_however_the_ids_are_given(ids: Any) -> None:
    spec = CollectionSpec.single("photos", dim=3, id_type="int64", fields={"year": "int64"})
    with pytest.raises(InvalidRecordError, match=r"row 1 \(id 8\)") as caught:
        records.batch(spec, id=ids, vector=points(3, 3), year=[1, "x", 3, "beyond the ids"])
    assert [(each.row, each.id) for each in caught.value.rows] == [(1, 8), (3, None)]


def test_a_wrong_id_has_no_id() -> None:
    with pytest.raises(InvalidRecordError) as caught:
        records.batch(SPEC, id=["a", 5], vector=points(2, 3))
    assert [(each.row, each.id) for each in caught.value.rows] == [(1, None)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year", np.array([1.5])),
        ("year", np.array([2**64 - 1], np.uint64)),
        ("year", np.array(["2020"], "M8[Y]")),
        ("price", np.array([1j])),
        ("price", np.array([[1.0]])),
        ("price", pa.array([1])),
        ("title", pa.array([b"x"])),
        ("flag", pa.array([1])),
        ("tags", pa.array([[1]])),
        ("vector", [[1, 2]]),
        ("vector", [1, 2, 3]),
        ("vector", [["x", "y", "z"]]),
        ("vector", pa.array([["x", "y", "z"]], pa.list_(pa.string()))),
        ("vector", pa.array([1.0])),
        ("year", [1, 2]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_column_that_does_not_fit_refuses_every_row(name: str, values: Any) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        records.batch(SPEC, **({"id": ["a"], "vector": [[1, 2, 3]]} | {name: values}))
    assert [each.row for each in caught.value.rows] == [0]


@pytest.mark.parametrize("column", ["text", b"bytes", 5, None])
def test_a_column_that_is_no_column_is_refused(column: Any) -> None:
    for name in ("id", "title"):
        with pytest.raises(InvalidRecordError, match=name):
            records.batch(SPEC, **({"id": ["a"], "vector": [[1, 2, 3]]} | {name: column}))


def test_a_generator_is_a_column() -> None:
    assert records.batch(NUMBERS, id=iter(range(2)), vector=points(2, 3)).num_rows == 2


def test_numpy_columns_are_taken_as_they_are() -> None:
    batch = rows(
        2,
        year=np.array([1, 2], np.int32),
        price=np.array([1.5, 2.5], np.float32),
        flag=np.array([True, False]),
        title=np.array(["a", "b"]),
    )
    assert batch.select(["flag", "year", "price", "title"]).to_pydict() == {
        "flag": [True, False],
        "year": [1, 2],
        "price": [1.5, 2.5],
        "title": ["a", "b"],
    }


def test_json_values_that_are_no_text_are_encoded() -> None:
    assert one(extra={"b": [1.5, None], "a": 2**70})["extra"] == f'{{"a":{2**70},"b":[1.5,null]}}'
    assert one(extra="null")["extra"] == "null"
    assert one(extra=None)["extra"] is None


def test_bytes_that_are_no_utf8_are_refused_before_anybody_reads_them() -> None:
    offsets = pa.py_buffer(np.array([0, 1], np.int32).tobytes())
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    for name in ("id", "title", "extra"):
        batch = raw_batch(SPEC, **({"id": ["a"], "vector": points(1, 3)} | {name: broken}))
        with pytest.raises(InvalidRecordError, match=name):
            records.check(batch, SPEC)


def test_every_fault_of_every_row_is_found_at_once_and_three_are_shown() -> None:
    vectors = points(6, 3)
    vectors[1] = np.nan
    vectors[4] = 0
    keys = ["a", "b", "a", "d", "e", "f"]
    prices = [1.0, 1.0, 1.0, float("inf"), float("nan"), 1.0]
    with pytest.raises(InvalidRecordError) as caught:
        records.batch(COSINE, id=keys, vector=vectors, price=prices)
    assert [(each.row, each.id) for each in caught.value.rows] == [(1, "b"), (2, "a"), (3, "d"), (4, "e")]
    assert {each.outcome for each in caught.value.rows} == {"rejected"}
    assert caught.value.rows[1].error == "the id stands in row 0 of the same batch too"
    assert "4 bad rows" in str(caught.value)
    assert "and 1 more" in str(caught.value)


def test_rows_that_a_batch_cannot_hold_are_named_with_their_reasons() -> None:
    reasons = {key: f"reason {key}" for key in "abcd"}
    error = records.unfit_rows(reasons)
    assert [(each.row, each.id, each.error) for each in error.rows] == [
        (0, "a", "reason a"),
        (1, "b", "reason b"),
        (2, "c", "reason c"),
        (3, "d", "reason d"),
    ]
    assert "4 rows that a batch cannot hold: 'a': reason a; 'b': reason b; 'c': reason c; and 1 more" in str(
        error
    )
    three = records.unfit_rows({key: reasons[key] for key in "abc"})
    assert "more" not in str(three)


def test_huge_and_tiny_vectors_are_vectors() -> None:
    vectors = np.array([[3e38, 3e38, 3e38], [1e-45, 0, 0], [0, -0.0, 0]], np.float32)
    assert [row for row, _ in records.bad_vectors(vectors, COSINE.vector.metric)] == [2]
    assert records.bad_vectors(vectors, SPEC.vector.metric) == []
    assert records.batch(COSINE, id=["a", "b"], vector=vectors[:2]).num_rows == 2


def test_a_double_beyond_float32_is_refused_by_row() -> None:
    with pytest.raises(InvalidRecordError) as caught:
        records.batch(SPEC, id=["a", "b"], vector=[[1, 2, 3], [1e39, 0, 0]])
    assert [each.row for each in caught.value.rows] == [1]


@pytest.mark.parametrize("seed", range(8))
def test_splitting_keeps_every_row_in_order_and_both_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    batch = rows(
        count,
        title=[None if rng.random() < 0.2 else "x" * int(rng.integers(0, 300)) for _ in range(count)],
        tags=[None if rng.random() < 0.2 else ["é" * int(rng.integers(0, 30))] * 3 for _ in range(count)],
    )
    batch = batch.slice(int(rng.integers(0, count)))
    for max_rows in (1, 7, 1000):
        for max_bytes in (None, 1, 200, 2000, 10**6):
            parts = list(records.split(batch, max_rows=max_rows, max_bytes=max_bytes))
            assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([batch]))
            for part in parts:
                assert 1 <= part.num_rows <= max_rows
                size = int(records.row_bytes(part).sum())
                assert (
                    max_bytes is None or size <= max_bytes or part.num_rows == 1 or batch.nbytes <= max_bytes
                )


def test_splitting_wastes_no_requests() -> None:
    batch = rows(100, title=["x" * 100] * 100)
    size = int(records.row_bytes(batch)[0])
    parts = [part.num_rows for part in records.split(batch, max_rows=1000, max_bytes=size * 30)]
    assert parts == [30, 30, 30, 10]
    assert list(records.split(batch.slice(0, 0), max_rows=10, max_bytes=10)) == []


@settings(max_examples=60)
@given(columns)
def test_row_bytes_of_a_slice_are_those_of_its_rows(columns: dict[str, Any]) -> None:
    batch = records.batch(SPEC, **columns)
    whole = records.row_bytes(batch)
    for start in range(batch.num_rows):
        assert records.row_bytes(batch.slice(start)).tolist() == whole[start:].tolist()


@given(json_values)
def test_canonical_json_keeps_the_value_and_nothing_of_the_writing(value: Any) -> None:
    canonical = records.canonical_json(json.dumps(value))
    assert json.loads(canonical) == value
    assert records.canonical_json(json.dumps(value, indent=3, ensure_ascii=False)) == canonical
    assert records.canonical_json(canonical) == canonical
    if isinstance(value, dict):
        backwards = dict(reversed(value.items()))
        assert records.canonical_json(json.dumps(backwards)) == canonical


@given(st.text())
def test_any_text_is_json_or_a_value_error(text: str) -> None:
    try:
        canonical = records.canonical_json(text)
    except ValueError:
        pass
    else:
        assert json.loads(canonical) == json.loads(text)


def test_typed_ids_keep_their_order_and_lose_their_repeats() -> None:
    assert records.id_array(SPEC, ["b", "a", "b"]).to_pylist() == ["b", "a"]
    numbers = records.id_array(NUMBERS, np.array([2, 1, 2]))
    assert (numbers.to_pylist(), numbers.type) == ([2, 1], pa.int64())
    assert records.id_array(NUMBERS, pa.array([2**63 - 1])).to_pylist() == [2**63 - 1]
    for spec, wrong in (
        (SPEC, [1]),
        (SPEC, "ab"),
        (SPEC, [None]),
        (SPEC, ["\ud800"]),
        (NUMBERS, ["1"]),
        (NUMBERS, [True]),
        (NUMBERS, [2**63]),
        (NUMBERS, [1.0]),
    ):
        with pytest.raises(SchemaError):
            records.id_array(spec, wrong)


def test_ids_come_as_hits_carry_them() -> None:
    assert records.python_ids(pa.array(["a"])) == ["a"]
    numbers = records.python_ids(pa.array([1, 2]))
    assert isinstance(numbers, np.ndarray)
    assert (numbers.dtype, numbers.tolist()) == (np.int64, [1, 2])


def test_include_picks_columns_in_canonical_order() -> None:
    assert records.arrow_schema(SPEC, ["year", "vector"]).names == ["id", "vector", "year"]
    assert records.arrow_schema(SPEC, []).names == ["id"]
    with pytest.raises(SchemaError, match="did you mean 'year'"):
        records.arrow_schema(SPEC, ["yaer"])


def test_a_stamp_is_read_back_and_survives_checking_and_slicing() -> None:
    clip = EmbedderIdentity("clip", "abc", 3, "p")
    batch = records.stamp(rows(3).replace_schema_metadata({"mine": "kept"}), clip)
    checked = records.check(batch.slice(1), SPEC)
    assert records.stamped(checked) == clip
    assert checked.schema.metadata[b"mine"] == b"kept"
    assert records.stamped(rows(1)) is None


def test_each_vector_field_that_knows_its_model_insists_on_it() -> None:
    clip, other = EmbedderIdentity("clip", "1", 3, "p"), EmbedderIdentity("clip", "2", 3, "p")
    spec = CollectionSpec("two", (VectorField("a", 3), VectorField("b", 3, embedder=clip)))
    batch = records.batch(spec, id=["x"], a=[[1, 2, 3]], b=[[1, 2, 3]])
    assert records.check(records.stamp(batch, clip), spec).num_rows == 1
    with pytest.raises(EmbedderMismatchError, match=r"'b'.*clip"):
        records.check(records.stamp(batch, other), spec)


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"model":1}', b"\xff"])
def test_a_stamp_that_cannot_be_read_is_a_schema_error(text: bytes) -> None:
    batch = rows(1).replace_schema_metadata({b"vecbridge.embedder": text})
    with pytest.raises(SchemaError):
        records.check(batch, SPEC)


def test_vector_array_and_vectors_are_inverse_without_a_copy() -> None:
    matrix = points(5, 3)
    column = records.vector_array(matrix)
    batch = pa.RecordBatch.from_arrays([column], names=["v"])
    assert np.shares_memory(records.vectors(batch, "v"), matrix)
    assert records.vector_array(matrix[:, ::2]).to_pylist() == matrix[:, ::2].tolist()
    assert len(records.vector_array(np.zeros((0, 3), np.float32))) == 0


CHECKED_COLUMNS: dict[str, Any] = {
    "price": [1.0, None, 2.0],
    "title": ["x", None, ""],
    "tags": [["a"], [], None],
    "extra": [{"b": [1.5, None], "a": 2**70}, None, "null"],
}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The JSON texts that are parsed in a test."""
    texts: list[str] = []

    def spy(text: str) -> str:
        texts.append(text)
        return records.canonical_json(text)

    monkeypatch.setattr(checking, "canonical_json", spy)
    return texts


def test_json_is_parsed_once_however_often_a_built_batch_is_checked(parsed: list[str]) -> None:
    batch = rows(3, **CHECKED_COLUMNS)
    assert len(parsed) == 2
    checked = records.checked(batch, SPEC)
    assert checked.batch is batch
    assert records.checked(checked, SPEC) is checked
    assert records.check(checked, SPEC) is batch
    assert records.checked(checked.slice(1, 2), SPEC).batch.equals(batch.slice(1, 2))
    assert len(checked.slice(1)) == 2
    clip = EmbedderIdentity("clip", "abc", 3, "p")
    assert records.stamped(records.checked(records.stamp(batch, clip), SPEC).batch) == clip
    renamed = replace(SPEC, name="others", vectors=(replace(SPEC.vector, index=HNSW()),))
    assert records.checked(batch, renamed).batch is batch
    assert len(parsed) == 2


def test_a_batch_that_nobody_checked_is_checked_whole(parsed: list[str]) -> None:
    batch = rows(3, **CHECKED_COLUMNS)
    copy = pa.RecordBatch.from_arrays(batch.columns, schema=batch.schema)
    assert records.checked(copy, SPEC).batch is not copy
    assert records.checked(batch.slice(0, 1), SPEC).batch.num_rows == 1
    assert len(parsed) == 2 + 2 + 1


def test_a_checked_batch_is_checked_whole_against_another_spec(parsed: list[str]) -> None:
    checked = records.checked(rows(3, **CHECKED_COLUMNS), SPEC)
    assert records.checked(checked, COSINE).fits(COSINE)
    assert not checked.fits(COSINE)
    assert len(parsed) == 2 + 2
    text = CollectionSpec.single("photos", dim=3, metric="l2", fields=FIELDS | {"extra": "string"})
    with pytest.raises(InvalidRecordError, match="3 dimensions, not 4"):
        records.checked(checked, CollectionSpec.single("photos", dim=4, fields=FIELDS))
    assert records.checked(checked, text).batch.column("extra").equals(checked.batch.column("extra"))
    assert records.checked(checked.slice(0, 0), COSINE).batch.num_rows == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_vectors_that_the_caller_spoiled_after_the_check_are_refused_by_id(value: float) -> None:
    matrix = points(3, 3)
    batch = records.batch(COSINE, id=["a", "b", "c"], vector=matrix)
    checked = records.checked(batch, COSINE)
    matrix[1] = value
    for spoiled, row in ((batch, 1), (checked, 1), (checked.slice(1, 2), 0), (checked.take([2, 1]), 1)):
        with pytest.raises(InvalidRecordError) as caught:
            records.checked(spoiled, COSINE)
        assert [(each.row, each.id) for each in caught.value.rows] == [(row, "b")]
    assert records.checked(checked.slice(2, 1), COSINE).batch.column("id").to_pylist() == ["c"]


def test_numbers_that_the_caller_changes_after_the_check_are_those_of_the_check() -> None:
    spec = CollectionSpec.single("photos", dim=3, id_type="int64", fields={"price": "float64"})
    ids, prices = np.arange(3), np.array([-0.0, 1.0, 2.0])
    checked = records.checked(records.batch(spec, id=ids, vector=points(3, 3), price=prices), spec)
    ids[:], prices[:] = 7, np.nan
    rows = records.checked(checked, spec).batch
    assert rows.column("id").to_pylist() == [0, 1, 2]
    assert str(rows.column("price").to_pylist()) == "[0.0, 1.0, 2.0]"


def test_taking_a_record_twice_from_a_checked_batch_is_refused() -> None:
    checked = records.checked(rows(3), SPEC)
    assert checked.take(np.array([2, 0])).batch.column("id").to_pylist() == ["r002", "r000"]
    assert len(checked.take([])) == 0
    with pytest.raises(ValueError, match="twice"):
        checked.take([1, 1])


def test_a_checked_batch_of_another_model_is_refused() -> None:
    clip, other = EmbedderIdentity("clip", "1", 3, "p"), EmbedderIdentity("clip", "2", 3, "p")
    checked = records.checked(records.stamp(rows(1), clip), SPEC)
    spec = replace(SPEC, vectors=(replace(SPEC.vector, embedder=other),))
    assert checked.fits(spec)
    with pytest.raises(EmbedderMismatchError):
        records.checked(checked, spec)


def test_checked_batches_are_forgotten_with_their_last_holder() -> None:
    gc.collect()
    before, memory = len(recognition._KNOWN), pa.total_allocated_bytes()
    batches = [rows(50, title=["x" * 1000] * 50) for _ in range(20)]
    parts = [records.checked(batch, SPEC).slice(0, 10) for batch in batches]
    assert len(recognition._KNOWN) == before + 20
    del batches
    gc.collect()
    assert len(recognition._KNOWN) == before
    assert [len(part) for part in parts] == [10] * 20
    del parts
    gc.collect()
    assert pa.total_allocated_bytes() <= memory


def test_threads_check_and_drop_batches_at_the_same_time() -> None:
    def work(seed: int) -> int:
        for number in range(200):
            batch = rows(1 + (seed + number) % 3)
            assert records.checked(batch, SPEC).batch is batch
        return seed

    before = len(recognition._KNOWN)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))
    gc.collect()
    assert len(recognition._KNOWN) == before


@pytest.mark.parametrize("batch", [[{"id": "a"}], {"id": ["a"]}, None, "a", pa.table({"id": ["a"]})])
def test_what_is_no_batch_is_a_config_error_that_says_what_is(batch: Any) -> None:
    with pytest.raises(ConfigError, match=r"RecordBatch is wanted, not .*vecbridge\.(batch|write)\(\)"):
        records.checked(batch, SPEC)


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"a":{"b":1,"b":1}}', '[{"a":1},{"a":1,"a":2}]', '{"a":1,"\\u0061":1}', '{"":1,"":1}'],
)
def test_a_key_that_comes_twice_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(ValueError, match="a key comes twice"):
        records.canonical_json(text)


@pytest.mark.parametrize("text", ['"\ud800"', '"\\ud800"', '{"\ud800":1}'])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        records.canonical_json(text)


def test_json_values_with_keys_of_several_types_are_encoded_or_refused() -> None:
    assert one(extra={2: "b", 10: "a"})["extra"] == '{"10":"a","2":"b"}'
    assert one(extra={"a": 1, 2: 2, None: 3})["extra"] == '{"2":2,"a":1,"null":3}'
    with pytest.raises(InvalidRecordError, match="a key comes twice"):
        one(extra={1: "a", "1": "b"})


@given(st.recursive(json_values, lambda children: st.dictionaries(st.text(), children)))
def test_canonical_json_is_what_the_plain_functions_of_json_write(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        plain = json.dumps(
            json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        assert records.canonical_json(text) == plain
