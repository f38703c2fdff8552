"""NumPy files, several files together, and the choice of the reader."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.inference import SourceSchema, merged
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.npy import NpySource
from vecbridge.sources.parquet import ParquetSource
from vecbridge.sources.tables import table_source


def npy(tmp_path, array, name="a.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_rows_of_an_array_have_their_number_as_id(tmp_path, read, dtype):
    values = np.arange(1, 7).reshape(3, 2).astype(dtype)
    reading = read(NpySource(npy(tmp_path, values), first_id=10), batch_rows=2)
    assert reading.ids == [10, 11, 12]
    assert [row["vector"] for row in reading.rows] == values.tolist()


def test_numbers_become_text_where_the_collection_s_ids_are(tmp_path, read):
    spec = CollectionSpec.single("c", dim=2)
    assert read(NpySource(npy(tmp_path, np.ones((2, 2)))), spec).ids == ["0", "1"]


def test_bad_rows_of_an_array_are_dead_letters(tmp_path, read):
    reading = read(NpySource(npy(tmp_path, np.array([[1, 2], [np.nan, 1], [0, 0], [1e300, 1], [3, 4]]))))
    assert reading.ids == [0, 4]
    assert sorted(reading.errors) == ["1", "2", "3"]


NO_VECTORS = [np.ones(3), np.ones((2, 2, 2)), np.ones((2, 0)), np.array([["a"]]), np.array([[1j]])]


@pytest.mark.parametrize("array", NO_VECTORS)
def test_arrays_that_are_no_vectors_are_refused(tmp_path, array):
    with pytest.raises(ConfigError, match="array of numbers"):
        NpySource(npy(tmp_path, array))


def test_pickles_are_never_loaded(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="Python objects"):
        NpySource(path)


WHOLE = {
    "a.npy": lambda path: np.save(path, np.ones((2, 2))),
    "a.parquet": lambda path: pq.write_table(pa.table({"vector": [[1.0, 0.0]]}), path),
}
DAMAGES = {
    "it is empty": lambda data: b"",
    "another kind of file": lambda data: b"GIF89a" + data,
    "it ends too early": lambda data: data[:-5],
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("reason", DAMAGES)
def test_a_table_that_cannot_be_read_says_why(tmp_path, name, reason):
    WHOLE[name](tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(DAMAGES[reason](data))
    with pytest.raises(ConfigError, match=rf"{name}: not a .* that can be read: .*{reason}"):
        table_source(tmp_path / name)


def test_an_array_that_python_2_wrote_is_read_without_a_warning(tmp_path, read):
    path = npy(tmp_path, np.ones((2, 2)))
    path.write_bytes(path.read_bytes().replace(b"(2, 2), ", b"(2L, 2),"))  # warnings are errors in tests
    assert read(NpySource(path)).ids == [0, 1]


def test_an_archive_of_arrays_is_refused_by_its_name(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((2, 2)))
    path = (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(ConfigError, match="npz"):
        NpySource(path)


def test_the_reader_is_chosen_by_the_file_s_name(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "vector": [1]}))
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "a.parquet")
    npy(tmp_path, np.ones((1, 1)))
    kinds = [type(table_source(tmp_path / name)) for name in ("a.jsonl", "a.parquet", "a.npy")]
    assert kinds == [JsonlSource, ParquetSource, NpySource]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    for name in ("a.csv", "b.parquet"):
        with pytest.raises(ConfigError, match=r"is none of|no such file"):
            table_source(tmp_path / name)


def test_schemas_of_several_files_are_united():
    one = SourceSchema("string", {"vector": 2}, {"n": "int64", "s": "string", "x": "bool"})
    two = SourceSchema("string", {"vector": 2}, {"n": "float64", "s": "string", "x": "string", "y": "json"})
    assert merged([one, two]).fields == {"n": "float64", "s": "string", "x": "json", "y": "json"}
    for other in (SourceSchema("int64", {"vector": 2}, {}), SourceSchema("string", {"vector": 3}, {})):
        with pytest.raises(SchemaError, match="differ"):
            merged([one, other])
