"""The ledger: equal rows have equal entries, any difference makes another, and two sides are compared."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecbridge as vb
from vecbridge import records
from vecbridge.errors import StorageFullError
from vecbridge.migration import ledger
from vecbridge.migration.ledger import ENTRY, Difference, Ledger, compare, entries, keys, require_room

KEY = bytes(range(16))
FIELDS = {
    "flag": "bool", "year": "int64", "price": "float64", "title": "string", "taken": "timestamp",
    "tags": "list<string>", "counts": "list<int64>", "weights": "list<float64>", "notes": "json",
}  # fmt: skip
SPEC = vb.CollectionSpec.single("photos", dim=2, metric="l2", fields=FIELDS)

_floats = st.floats(allow_nan=False, allow_infinity=False)
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
_ints = st.integers(-(2**63), 2**63 - 1)
_values: dict[str, Any] = {
    "flag": st.booleans(), "year": _ints, "price": _floats, "title": _texts,
    "taken": st.datetimes().map(lambda time: time.isoformat() + "Z"),
    "tags": st.lists(_texts, max_size=3), "counts": st.lists(_ints, max_size=3),
    "weights": st.lists(_floats, max_size=3), "notes": st.dictionaries(_texts, _ints, max_size=2),
}  # fmt: skip
_float32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
ROWS = st.fixed_dictionaries(
    {"id": _texts.map(lambda text: f"{text}x"), "vector": st.lists(_float32, min_size=2, max_size=2)}
    | {name: st.none() | values for name, values in _values.items()}
)


def batch(*rows: dict[str, Any], spec: vb.CollectionSpec = SPEC) -> pa.RecordBatch:
    return records.rows_batch(list(rows), spec)


def row(**values: Any) -> dict[str, Any]:
    return {"id": "a", "vector": [1.0, 0.0], **dict.fromkeys(FIELDS)} | values


def digest(**values: Any) -> int:
    [entry] = entries(batch(row(**values)), "", key=KEY)
    return int(entry["digest"])


def same(left: Any, right: Any) -> bool:
    """Whether two rows hold the same, apart from the sign of zeros."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    return type(left) is type(right) and bool(left == right)


@settings(max_examples=30)
@given(st.lists(ROWS, min_size=1, max_size=4, unique_by=lambda row: row["id"]), st.data())
def test_entries_do_not_depend_on_slices_offsets_or_the_order_of_columns(
    rows: list[dict[str, Any]], data: Any
) -> None:
    whole = batch(*rows)
    expected = entries(whole, "eu", key=KEY)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    shuffled = whole.select(data.draw(st.permutations(whole.schema.names)))
    assert np.array_equal(entries(shuffled.slice(start, stop - start), "eu", key=KEY), expected[start:stop])
    one_by_one = [entries(batch(each), "eu", key=KEY) for each in rows]
    assert np.array_equal(np.concatenate(one_by_one), expected)
    large = whole.set_column(
        whole.schema.get_field_index("title"), "title", whole["title"].cast(pa.large_string())
    )
    assert np.array_equal(entries(large, "eu", key=KEY), expected)


@settings(max_examples=60)
@given(ROWS, st.data())
def test_any_other_value_of_any_column_makes_another_digest(values: dict[str, Any], data: Any) -> None:
    name = data.draw(st.sampled_from(["vector", *_values]))
    strategy = st.lists(_float32, min_size=2, max_size=2) if name == "vector" else st.none() | _values[name]
    changed = values | {name: data.draw(strategy)}
    [left], [right] = (entries(batch(each), "", key=KEY) for each in (values, changed))
    assert left["key"] == right["key"]
    assert (left["digest"] == right["digest"]) == same(values[name], changed[name])


def test_null_empty_and_almost_empty_values_all_differ() -> None:
    alternatives: dict[str, list[Any]] = {
        "title": [None, "", " ", "  ", "null", "0"],
        "tags": [None, [], [""], ["", ""], ["a", "b"], ["ab"], ["a", "", "b"], [" "]],
        "counts": [None, [], [0], [0, 0], [1], [256]],
        "weights": [None, [], [0.0], [5e-324]],
        "year": [None, 0, 1, -1, 2**63 - 1, -(2**63), 2**53, 2**53 + 1],
        "price": [None, 0.0, 5e-324, 1.0, np.nextafter(1.0, 2.0)],
        "flag": [None, False, True],
        "taken": [None, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000001Z"],
        "notes": [None, {}, [], '""', 0, {"a": None}, [None]],
    }
    digests = {
        digest(**{name: value})
        for name, values in alternatives.items()
        for value in values
        if value is not None
    }
    digests.add(digest())
    assert len(digests) == sum(map(len, alternatives.values())) - len(alternatives) + 1


def test_the_sign_of_zero_does_not_count_and_one_bit_of_a_vector_does() -> None:
    assert digest(vector=[-0.0, 1.0]) == digest(vector=[0.0, 1.0])
    assert digest(price=-0.0) == digest(price=0.0)
    assert digest(weights=[-0.0]) == digest(weights=[0.0])
    original = np.array([0.1, 3e30], np.float32)
    seen = {digest(vector=original.tolist())}
    for place, bit in itertools.product(range(2), range(30)):
        bits = original.view(np.uint32).copy()
        bits[place] ^= np.uint32(1 << bit)
        seen.add(digest(vector=bits.view(np.float32).tolist()))
    assert len(seen) == 61


def test_values_in_one_anothers_columns_and_other_names_of_columns_are_told_apart() -> None:
    spec = vb.CollectionSpec.single("photos", dim=1, fields={"first": "string", "second": "string"})
    other = vb.CollectionSpec.single("photos", dim=1, fields={"first": "string", "third": "string"})
    values = {"id": "a", "vector": [1.0], "first": "x", "second": "y"}
    renamed = {"id": "a", "vector": [1.0], "first": "x", "third": "y"}
    made = [
        entries(batch(values, spec=spec), "", key=KEY),
        entries(batch(values | {"first": "y", "second": "x"}, spec=spec), "", key=KEY),
        entries(batch(values | {"first": "xy", "second": ""}, spec=spec), "", key=KEY),
        entries(batch(renamed, spec=other), "", key=KEY),
    ]
    assert len({int(each["digest"][0]) for each in made}) == 4
    assert len({int(each["key"][0]) for each in made}) == 1


def test_elements_of_lists_that_are_null_differ_from_those_that_are_zero_or_empty() -> None:
    def made(values: list[Any], type: pa.DataType) -> int:
        table = pa.RecordBatch.from_pydict({"id": ["a"], "x": pa.array([values], pa.list_(type))})
        return int(entries(table, "", key=KEY)["digest"][0])

    assert made([None], pa.string()) != made([""], pa.string())
    assert made([None], pa.int64()) != made([0], pa.int64())
    assert made([None, 1], pa.int64()) != made([1, None], pa.int64())


def test_keys_tell_the_type_of_ids_and_where_a_namespace_ends() -> None:
    made = [
        keys(pa.array(["1"]), "", key=KEY),
        keys(pa.array([1]), "", key=KEY),
        keys(pa.array(["ba"]), "a", key=KEY),
        keys(pa.array(["a"]), "ab", key=KEY),
        keys(pa.array(["aba"]), "", key=KEY),
        keys(pa.array(["sx"]), "a", key=KEY),  # a letter between the two tells the type: s or i
        keys(pa.array(["x"]), "as", key=KEY),
        keys(pa.array(["1"]), "", key=bytes(16)),
        keys(pa.array([int.from_bytes(b"abcdefgh", "little")]), "", key=KEY),
        keys(pa.array(["abcdefgh"]), "", key=KEY),
    ]
    assert len({int(each[0]) for each in made}) == len(made)
    sliced = pa.array(["x", "1", "y"]).slice(1, 1)
    assert keys(sliced, "", key=KEY)[0] == made[0][0]
    assert len(keys(pa.array([], pa.string()), "", key=KEY)) == 0
    assert len(entries(batch().slice(0, 0), "", key=KEY)) == 0


def ledger_of(directory: Path, values: list[tuple[int, int]]) -> Ledger:
    made = Ledger(directory)
    made.add(np.array(values, ENTRY))
    made.close()
    return made


@given(left=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3)), max_size=12),
       right=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3)), max_size=12))  # fmt: skip
def test_two_ledgers_differ_as_two_dicts_of_lists_do(
    left: list[tuple[int, int]], right: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spread = [(key << 60, digest) for key, digest in left], [(key << 60, digest) for key, digest in right]
    directory = tmp_path_factory.mktemp("ledgers")
    ledgers = ledger_of(directory / "left", spread[0]), ledger_of(directory / "right", spread[1])
    expected = []
    for key in sorted({key for side in spread for key, _ in side}):
        mine, theirs = (tuple(sorted(digest for each, digest in side if each == key)) for side in spread)
        if mine == theirs and len(mine) == 1:
            continue
        kind = "left" if not theirs else "right" if not mine else "digest"
        if kind == "digest" and (len(mine), len(theirs)) != (1, 1):
            kind = "repeated"
        expected.append(Difference(kind, key, mine, theirs))
    assert list(compare(*ledgers)) == expected
    assert [each.covered for each in expected] == [
        bool(each.right) and set(each.right) <= set(each.left) for each in expected
    ]


def test_entries_that_several_threads_add_are_all_there_and_in_their_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_BUFFERED", 500)
    made = Ledger(tmp_path / "ledger")
    parts = np.random.default_rng(1).integers(0, 2**63, (8, 10, 100, 2)).astype(np.uint64) * np.uint64(2)

    def add(share: Any) -> None:
        for part in share:
            made.add(np.ascontiguousarray(part).view(ENTRY).reshape(-1))

    threads = [threading.Thread(target=add, args=[share]) for share in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.rows == 8_000
    assert any((tmp_path / "ledger").iterdir())
    buckets = [made.bucket(number) for number in range(256)]
    assert all((bucket["key"] >> np.uint64(56) == number).all() for number, bucket in enumerate(buckets))
    assert np.array_equal(
        np.concatenate(buckets), np.sort(parts.reshape(-1, 2).copy().view(ENTRY).reshape(-1))
    )


def test_of_several_entries_with_one_key_the_last_one_added_is_the_latest(tmp_path: Path) -> None:
    made = ledger_of(tmp_path / "ledger", [(7, 3), (5, 9), (7, 1)])
    made.add(np.array([(7, 2)], ENTRY))
    assert made.latest_bucket(0).tolist() == [(5, 9), (7, 2)]
    assert made.bucket(0).tolist() == [(5, 9), (7, 1), (7, 2), (7, 3)]


def test_more_rows_than_the_disk_has_room_for_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "there", 1_000)
    with pytest.raises(StorageFullError, match=r"GB are free, and the ledger of 1,000,000,000,000,000 rows"):
        require_room(tmp_path / "not" / "there", 10**15)
    assert not list(tmp_path.iterdir())
