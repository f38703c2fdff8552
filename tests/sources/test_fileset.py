"""Several files together: empty ones are skipped, bad ones cost themselves alone, row numbers go on."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.choosing import Selection
from vecbridge.sources.fileset import FileSet

TABLE = {"id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32()))}


def good(folder, name, *ids):
    path = folder / name
    path.write_text("\n".join(json.dumps({"id": key, "vector": [1, 2], "n": 1}) for key in ids))
    return path


def jsonl(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def parquet(folder, name, columns):
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def npy(folder, name, array):
    np.save(folder / name, array)
    return folder / name


EMPTY = {
    "no bytes": lambda folder: jsonl(folder, "e.jsonl", ""),
    "blank lines": lambda folder: jsonl(folder, "e.jsonl", "\n \n"),
    "no elements": lambda folder: jsonl(folder, "e.json", "[]"),
    "no rows": lambda folder: parquet(folder, "e.parquet", TABLE),
    "no columns": lambda folder: parquet(folder, "e.parquet", {}),
    "(0, d)": lambda folder: npy(folder, "e.npy", np.zeros((0, 7), np.float32)),
    "(0,)": lambda folder: npy(folder, "e.npy", np.array([])),
}
BAD = {
    "no Parquet": lambda folder: jsonl(folder, "b.parquet", "id,vector"),
    "0 bytes of Parquet": lambda folder: jsonl(folder, "b.parquet", ""),
    "no array": lambda folder: jsonl(folder, "b.npy", "nothing"),
    "no JSON": lambda folder: jsonl(folder, "b.jsonl", "id,vector\na,1\n"),
    "torn array": lambda folder: jsonl(folder, "b.json", '[{"id": "a", "vec'),
}
UNFIT = {
    "no ids": lambda folder: jsonl(folder, "b.jsonl", '{"vector": [1, 2]}'),
    "no vectors": lambda folder: parquet(folder, "b.parquet", {"id": ["a"], "n": [1]}),
    "ids that are none": lambda folder: parquet(folder, "b.parquet", {"id": [0.5], "vector": [[1.0, 2.0]]}),
}


@pytest.fixture
def load():
    def load(*paths, spec=None, **options):
        files = FileSet(paths, **options)
        schema = files.schema(spec)
        letters = []
        batches = list(files.batches(spec or schema.spec("c"), on_dead_letter=letters.append))
        return files, schema, [row for batch in batches for row in batch.to_pylist()], letters

    return load


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_file_among_others_is_skipped_with_a_note(tmp_path, load, kind, place):
    paths = [good(tmp_path, "a.jsonl", "a"), good(tmp_path, "z.jsonl", "z")]
    empty = EMPTY[kind](tmp_path)
    paths.insert(place, empty)
    files, schema, rows, letters = load(*paths)
    assert files.notes == [f"{empty}: skipped, because it has no rows"]
    assert ([row["id"] for row in rows], letters) == (["a", "z"], [])
    assert schema.fields == {"n": "int64"}


@pytest.mark.parametrize("kind", EMPTY)
def test_empty_files_alone_are_an_error(tmp_path, kind):
    empty = EMPTY[kind](tmp_path)
    with pytest.raises(
        ConfigError, match=rf"nothing to load: .*{empty.name}: skipped, because it has no rows"
    ):
        FileSet([empty, good(tmp_path, "z.jsonl")]).schema()


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_among_others_is_one_dead_letter_that_names_it(tmp_path, load, kind, place):
    paths = [good(tmp_path, "a.jsonl", "a"), good(tmp_path, "z.jsonl", "z")]
    bad = BAD[kind](tmp_path)
    paths.insert(place, bad)
    files, _, rows, letters = load(*paths)
    assert [row["id"] for row in rows] == ["a", "z"]
    [letter] = letters
    assert (letter.source, letter.record) == (str(bad), None)
    assert "load it with the same options" in letter.error
    assert list(files.failures) == [str(bad)]


@pytest.mark.parametrize("kind", BAD)
def test_where_no_file_can_be_read_the_error_says_why(tmp_path, kind):
    bad = BAD[kind](tmp_path)
    with pytest.raises((ConfigError, SchemaError), match=bad.name):
        FileSet([bad]).schema()
    other = jsonl(tmp_path, "c.npy", "x")
    with pytest.raises(SchemaError, match=rf"none of the files can be loaded: .*{other.name}") as refused:
        FileSet([bad, other, good(tmp_path, "z.jsonl")]).schema()
    assert bad.name in str(refused.value)


@pytest.mark.parametrize("kind", UNFIT)
def test_a_file_without_ids_or_vectors_is_named_before_any_row_is_read(tmp_path, load, kind):
    unfit = UNFIT[kind](tmp_path)
    with pytest.raises(SchemaError, match=unfit.name):
        load(good(tmp_path, "a.jsonl", "a"), unfit)
    with pytest.raises(SchemaError, match=r"[ab]\..*: no id column 'sku'"):
        load(good(tmp_path, "a.jsonl", "a"), unfit, id_column="sku")


@pytest.mark.parametrize("name", ["absent.jsonl", "a.csv", "folder.npy"])
def test_what_is_no_file_of_vectors_is_refused_before_any_is_read(tmp_path, name):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ConfigError, match=name):
        FileSet([good(tmp_path, "a.jsonl", "a"), tmp_path / name])


def test_files_that_differ_are_named(tmp_path, load):
    good(tmp_path, "a.jsonl", "a"), good(tmp_path, "b.jsonl", 1)
    with pytest.raises(SchemaError, match=r"a\.jsonl: string ids, .*b\.jsonl: int64 ids, "):
        load(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    parquet(tmp_path, "c.parquet", {"id": ["c"], "vector": [[1.0, 2.0, 3.0]]})
    with pytest.raises(SchemaError, match=r"vector \[2\], but .*c\.parquet: .*vector \[3\]"):
        load(tmp_path / "a.jsonl", tmp_path / "c.parquet")
    parquet(tmp_path, "d.parquet", {"vector": [[1.0, 2.0]]})
    with pytest.raises(SchemaError, match=r"d\.parquet: no id column, .*a\.jsonl: string ids"):
        load(tmp_path / "d.parquet", tmp_path / "a.jsonl")


@pytest.mark.parametrize("kind", ["string", "bool", "struct"])
def test_a_column_of_which_no_value_could_fit_is_refused_with_the_way_out(tmp_path, load, kind):
    column = {"string": ["x"], "bool": [True], "struct": [{"a": 1}]}[kind]
    path = parquet(tmp_path, "a.parquet", {"id": ["a"], "vector": [[1.0, 2.0]], "n": column})
    spec = CollectionSpec.single("c", dim=2, fields={"n": "int64"})
    with pytest.raises(SchemaError, match=r"a\.parquet: column 'n' is .* field int64.*--drop n"):
        load(path, spec=spec)
    assert load(path, spec=spec, selection=Selection(drop=["n"]))[2][0]["n"] is None


def test_row_numbers_go_on_over_files_of_both_kinds(tmp_path, load):
    vectors = [[1.0, 2.0], [3.0, 4.0]]
    paths = [
        parquet(tmp_path, "a.parquet", {"vector": vectors, "n": [1, 2]}),
        npy(tmp_path, "e.npy", np.zeros((0, 2))),
        npy(tmp_path, "b.npy", np.array(vectors)),
        parquet(tmp_path, "c.parquet", {"emb": vectors, "n": [3, 4]}),
    ]
    files, schema, rows, letters = load(*paths)
    assert ([row["id"] for row in rows], letters) == ([0, 1, 2, 3, 4, 5], [])
    assert [row["n"] for row in rows] == [1, 2, None, None, 3, 4]
    assert files.rows == 6
    assert any("c.parquet: ids are row numbers, 4 to 5" in note for note in schema.notes)
    text = CollectionSpec.single("c", dim=2, fields={"n": "int64"})
    assert [row["id"] for row in load(*paths, spec=text)[2]] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_are_kept_and_dropped_by_name(tmp_path, load, kind):
    record = {"id": "a", "vector": [1.0, 2.0], "n": 1, "s": "x", "a b": True, "second_emb": [0.5, 1.5]}
    if kind == "jsonl":
        path = jsonl(tmp_path, "a.jsonl", json.dumps(record))
    else:
        path = parquet(tmp_path, "a.parquet", {key: [value] for key, value in record.items()})

    def fields(**names):
        _, schema, rows, letters = load(path, selection=Selection(**names))
        assert letters == []
        assert set(rows[0]) == {"id", "vector", *schema.fields}
        return set(schema.fields), set(schema.dropped)

    assert fields() == ({"n", "s", "a_b"}, {"second_emb"})
    assert fields(fields=["n"]) == ({"n"}, {"second_emb"})
    assert fields(fields=["a b"]) == ({"a_b"}, {"second_emb"})
    assert fields(fields=["a_b", "s"], drop=["s"]) == ({"a_b"}, {"second_emb"})
    assert fields(drop=["a_b", "second_emb"]) == ({"n", "s"}, set())
    assert fields(fields=[]) == (set(), {"second_emb"})
    spec = CollectionSpec.single("c", dim=2, fields={"n": "int64"})
    _, _, rows, letters = load(path, spec=spec, selection=Selection(fields=["n"]))
    assert (rows, letters) == ([{"id": "a", "vector": [1.0, 2.0], "n": 1}], [])


def test_a_name_that_no_file_has_is_refused_with_the_near_one(tmp_path):
    path = good(tmp_path, "a.jsonl", "a")
    for names in ({"fields": ["nn"]}, {"drop": ["vectors"]}):
        with pytest.raises(ConfigError, match=r"no file has a column .*did you mean"):
            FileSet([path], selection=Selection(**names))
