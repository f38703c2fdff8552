"""Arrow's numbers and booleans as NumPy, whatever slice they are, and without pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from vecbridge import records


@pytest.mark.parametrize("start", [0, 1, 7, 8, 9, 63, 64, 100])
@pytest.mark.parametrize("length", [0, 1, 8, 36])
def test_a_slice_of_booleans_is_that_slice(start: int, length: int) -> None:
    values = np.random.default_rng(start).random(136) < 0.5
    found = records.booleans(pa.array(values).slice(start, length))
    assert found.dtype == np.bool_
    assert found.tolist() == values[start : start + length].tolist()


@pytest.mark.parametrize("type", [pa.int32(), pa.int64(), pa.float32(), pa.float64()])
def test_a_slice_of_numbers_is_a_view_of_that_slice(type: pa.DataType) -> None:
    array = pa.array(range(20), type).slice(3, 5)
    found = records.numbers(array)
    assert found.tolist() == [3, 4, 5, 6, 7]
    assert not found.flags.writeable
    assert records.numbers(array.slice(0, 0)).tolist() == []


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_an_array_of_numbers_is_a_view_of_them(dtype: type) -> None:
    values = np.arange(20, dtype=dtype)
    array = records.number_array(values[3:8])
    assert array.equals(pa.array(values[3:8]))
    assert array.null_count == 0
    assert np.shares_memory(records.numbers(array), values)
    assert records.number_array(values[::2]).to_pylist() == values[::2].tolist()
    assert records.number_array(values[:0]).equals(pa.array(values[:0]))


def test_a_collection_is_opened_and_searched_without_pandas(tmp_path: Path) -> None:
    spec = vb.CollectionSpec.single("c", dim=2, fields={"n": "int64", "taken": "timestamp"})
    with vb.connect(f"faiss://{tmp_path}/s") as store:
        c = store.create(spec)
        c.upsert(vb.batch(spec, id=["a", "b"], vector=np.eye(2, dtype=np.float32), n=[1, 2]))
        many = {"id": [f"c{row}" for row in range(500)], "vector": -np.ones((500, 2), np.float32)}
        c.upsert(vb.batch(spec, **many))
    (tmp_path / "pandas.py").write_text("raise AssertionError('pandas was imported')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, vecbridge as vb\n"
        "with vb.open(f'faiss://{sys.argv[1]}/s#c') as c:\n"
        "    assert c.search(vb.Query(np.array([1.0, 0.1]), k=1))[0].ids == ['a']\n"
        "    [hits] = c.search(vb.Query(np.array([1.0, 0.1]), k=400, include=['n', 'taken', 'vector']))\n"
        "    assert (hits[0].id, len([hit.record for hit in hits])) == ('a', 400)\n"
        "assert 'pandas' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
