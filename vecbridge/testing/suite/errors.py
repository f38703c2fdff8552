"""Records that no backend may take: the same error everywhere, with the rows, and nothing written."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vecbridge import records
from vecbridge.errors import (
    ConfigError,
    EmbedderMismatchError,
    InvalidRecordError,
    UnknownOptionError,
    VecbridgeError,
)
from vecbridge.registry import connect
from vecbridge.schema import EmbedderIdentity
from vecbridge.store import Store
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import ids_of, points, put, raw_batch
from vecbridge.testing.maker import Maker

FINE = points(3)


def _with(row: int, vector: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    changed = FINE.copy()
    changed[row] = vector
    return changed


# By what is wrong: the columns, and the rows at fault. The spec is four dimensions, cosine, all types.
BAD: dict[str, tuple[dict[str, Any], list[int]]] = {
    "dimension too long": ({"vector": points(3, 5)}, [0, 1, 2]),
    "dimension too short": ({"vector": points(3, 3)}, [0, 1, 2]),
    "NaN": ({"vector": _with(1, [0, np.nan, 0, 1])}, [1]),
    "infinity": ({"vector": _with(2, [0, -np.inf, 0, 1])}, [2]),
    "zero vector under cosine": ({"vector": _with(0, [0, -0.0, 0, 0])}, [0]),
    "doubles beyond float32": ({"vector": np.array([[1, 0, 0, 0], [1e300, 0, 0, 0], [0, 1, 0, 0]])}, [1]),
    "a vector of another length": ({"vector": pa.array([[1.0] * 4, [1.0], [1.0] * 4])}, [1]),
    "vectors of text": ({"vector": pa.array([["x"] * 4] * 3)}, [0, 1, 2]),
    "null vector": ({"vector": pa.array([[1, 0, 0, 0], None, [1, 0, 0, 0]], pa.list_(pa.float32(), 4))}, [1]),
    "null component": (
        {"vector": pa.array([[1, 0, 0, 0], [1, None, 0, 0], [1, 0, 0, 0]], pa.list_(pa.float32(), 4))},
        [1],
    ),
    "missing vector": ({"vector": None}, [0, 1, 2]),
    "missing id": ({"id": None}, [0, 1, 2]),
    "duplicate id": ({"id": ["a", "b", "a"]}, [2]),
    "null id": ({"id": ["a", None, "c"]}, [1]),
    "empty id": ({"id": ["a", "b", ""]}, [2]),
    "id of 513 bytes": ({"id": ["a", "é" * 256 + "x", "c"]}, [1]),
    "id with NUL": ({"id": ["a\0", "b", "c"]}, [0]),
    "ids of another type": ({"id": [1, 2, 3]}, [0, 1, 2]),
    "unknown column": ({"yaer": [1, 2, 3]}, [0, 1, 2]),
    "column of another case": ({"Year": [1, 2, 3]}, [0, 1, 2]),
    "text for int64": ({"year": ["1", "2", "3"]}, [0, 1, 2]),
    "double for int64": ({"year": [1.0, 2.0, 3.0]}, [0, 1, 2]),
    "bool for int64": ({"year": [True, False, None]}, [0, 1, 2]),
    "int64 for bool": ({"flag": [1, 0, None]}, [0, 1, 2]),
    "text for list": ({"tags": ["a", "b", "c"]}, [0, 1, 2]),
    "null element": ({"tags": [["a"], ["b", None], None]}, [1]),
    "NaN price": ({"price": [1.0, None, float("nan")]}, [2]),
    "infinite price": ({"price": [float("-inf"), None, 1.0]}, [0]),
    "broken JSON": ({"extra": ["{}", "{", "nul"]}, [1, 2]),
    "JSON with NaN": ({"extra": ["1", "[NaN]", None]}, [1]),
    "JSON with a key twice": ({"extra": ['{"a":1,"a":2}', None, None]}, [0]),
    "two faults": ({"id": ["a", "", "c"], "price": [1.0, 2.0, float("inf")]}, [1, 2]),
}


class TestErrors:
    """What is refused, and how."""

    @pytest.mark.parametrize("fault", BAD)
    def test_a_bad_row_is_named_and_nothing_is_written(self, store: Store, make: Maker, fault: str) -> None:
        fields = {
            "flag": "bool",
            "year": "int64",
            "price": "float64",
            "tags": "list<string>",
            "extra": "json",
        }
        changes, rows = BAD[fault]
        kept = {
            name: type
            for name, type in fields.items()
            if type in store.capabilities.field_types or name in changes
        }
        collection = make(fields=kept)
        put(collection, id=["already"])
        columns = {"id": ["a", "b", "c"], "vector": FINE} | changes
        bad = raw_batch(
            collection.spec, **{name: value for name, value in columns.items() if value is not None}
        )
        with pytest.raises(InvalidRecordError) as expected:
            records.check(bad, collection.spec)
        with pytest.raises(InvalidRecordError) as caught:
            collection.upsert(bad)
        assert [each.row for each in caught.value.rows] == rows
        assert (str(caught.value), caught.value.rows) == (str(expected.value), expected.value.rows)
        collection.flush()
        assert ids_of(collection) == {"already"}

    def test_a_bad_row_late_in_a_large_batch_stops_the_whole_batch(self, store: Store, make: Maker) -> None:
        rows = min(store.capabilities.request_rows, 1500) + 5
        vectors = points(rows)
        vectors[-1] = np.nan
        collection = make()
        bad = raw_batch(collection.spec, id=[str(row) for row in range(rows)], vector=vectors)
        with pytest.raises(InvalidRecordError) as caught:
            collection.upsert(bad)
        assert [(each.row, each.id) for each in caught.value.rows] == [(rows - 1, str(rows - 1))]
        collection.flush()
        assert collection.count() == 0

    def test_a_batch_of_another_model_is_refused(self, make: Maker) -> None:
        mine, other = EmbedderIdentity("clip", "1", 4, "p"), EmbedderIdentity("clip", "2", 4, "p")
        collection = make(embedder=mine)
        batch = records.batch(collection.spec, id=["a"], vector=points(1))
        with pytest.raises(EmbedderMismatchError):
            collection.upsert(records.stamp(batch, other))
        assert collection.count() == 0
        assert collection.upsert(records.stamp(batch, mine)).written == 1
        assert collection.upsert(batch).written == 1

    def test_an_unknown_option_is_refused(self, store_case: StoreCase, store_url: str) -> None:
        with pytest.raises(UnknownOptionError):
            connect(store_url, **{**store_case.options, "no_such_option": 1}).close()
        mark = "&" if "?" in store_url else "?"
        with pytest.raises(UnknownOptionError):
            connect(f"{store_url}{mark}no_such_option=1", **store_case.options).close()

    def test_a_handle_on_a_dropped_collection_writes_nowhere(self, store: Store, make: Maker) -> None:
        collection = make()
        rows = records.batch(collection.spec, id=["a"], vector=points(1))
        store.drop(collection.spec.name)
        with pytest.raises(VecbridgeError):
            collection.upsert(rows)
        assert collection.spec.name not in store.collections()

    def test_a_namespace_is_refused_before_anything_is_created(self, store: Store, make: Maker) -> None:
        spec = make.spec(namespaced=False)
        with pytest.raises(ConfigError):
            store.create(spec, namespace="eu")
        assert spec.name not in store.collections()
