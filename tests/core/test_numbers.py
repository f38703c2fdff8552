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


def test_a_collection_is_opened_and_searched_without_pandas(tmp_path: Path) -> None:
    spec = vb.CollectionSpec.single("c", dim=2, fields={"n": "int64"})
    with vb.connect(f"faiss://{tmp_path}/s") as store:
        store.create(spec).upsert(vb.batch(spec, id=["a", "b"], vector=np.eye(2, dtype=np.float32), n=[1, 2]))
    (tmp_path / "pandas.py").write_text("raise AssertionError('pandas was imported')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, vecbridge as vb\n"
        "with vb.open(f'faiss://{sys.argv[1]}/s#c') as c:\n"
        "    assert c.search(vb.Query(np.array([1.0, 0.1]), k=1))[0].ids == ['a']\n"
        "assert 'pandas' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
