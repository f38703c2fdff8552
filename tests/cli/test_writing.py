"""``index`` and ``load``: every record is written, or counted and described in the dead-letter file."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vecbridge as vb
from vecbridge.cli import output
from vecbridge.cli.target import parse_index
from vecbridge.collection import Collection
from vecbridge.errors import BackendError, ConfigError
from vecbridge.indexes import HNSW, IVFPQ, Auto, Flat, IVFFlat

Run = Callable[..., Any]  # the fixture of conftest.py
STORE = "faiss:./store#photos"
DEFAULT_LETTERS = Path("vecbridge-dead-letters.jsonl")


def letters(path: Path = DEFAULT_LETTERS) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_folder_is_indexed_and_every_file_is_counted(run: Run, pictures: Path) -> None:
    ran = run("index", pictures, "--store", STORE)
    assert ran.code == 1  # one file is broken
    assert "demonstration model" in ran.err
    assert ran.out.split("\n")[:3] == [
        "indexed     10",
        "failed      1; the reasons are in vecbridge-dead-letters.jsonl",
        "skipped     1 (neither pictures nor texts)",
    ]
    [letter] = letters()
    assert letter["id"] == "broken.jpg"
    assert "not a JPEG" in letter["error"]
    with vb.open(STORE) as photos:
        assert photos.count() == 10
        found = photos.fetch(["0.png", "more/5.png", "notes.txt#2"]).to_pylist()
    assert [row["year"] for row in found] == [2015, None, None]
    assert found[0]["tags"] == ["sea", "summer"]
    assert found[2]["text"] == "un perro"
    assert photos.spec.vector.embedder is not None


def test_a_clean_folder_is_status_0_and_leaves_no_dead_letter_file(run: Run, pictures: Path) -> None:
    (pictures / "broken.jpg").unlink()
    ran = run("index", pictures, "--store", STORE, "--json")
    assert ran.code == 0
    result = ran.json
    speed = result.pop("speed")
    assert speed["bytes"] > 1000
    assert speed["seconds"] > 0
    assert list(speed["stages"]) == ["find", "read", "embed", "check", "store"]
    assert speed["bottleneck"] in speed["stages"]
    assert result == {
        "url": STORE,
        "model": "bundled",
        "created": True,
        "skipped": 1,
        "conflicts_skipped": 0,
        "read": 10,
        "written": 10,
        "failed": 0,
        "refused": 0,
        "duplicates": 0,
        "retried": 0,
        "recalled": 0,
        "dead_letters": None,
        "rows": 10,
        "index": "ready",
    }
    assert not DEFAULT_LETTERS.exists()


def test_an_empty_folder_makes_no_collection(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("index", "empty", "--store", STORE)
    assert ran.code == 2
    assert "no pictures or texts in empty" in ran.err
    assert run("list", "faiss:./store", "--json").json["collections"] == []


def test_an_invalid_collection_name_is_refused(run: Run, pictures: Path) -> None:
    ran = run("index", pictures, "--store", "faiss:./store#Bad-Name")
    assert (ran.code, ran.out) == (1, "")
    assert "Bad-Name" in ran.err


def test_an_interrupt_says_how_to_continue(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upsert, left = Collection.upsert, 0

    def interrupted(self: Collection, data: Any, **options: Any) -> vb.WriteReport:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return upsert(self, data, **options)

    monkeypatch.setattr("vecbridge.cli.index.BATCH_ROWS", 4)
    monkeypatch.setattr(Collection, "upsert", interrupted)
    command = ("index", pictures, "--store", STORE, "--journal", "run.journal")
    for calls, says in ((1, "Stopped: nothing was written."), (2, "continues from run.journal")):
        left = calls
        ran = run(*command)
        assert (ran.code, ran.out) == (130, "")
        assert says in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("Continue: ")]
    assert shlex.split(line)[-6:] == list(map(str, command))
    done = run(*command, "--json").json
    assert (done["read"], done["written"], done["failed"], done["rows"]) == (11, 10, 1, 10)
    assert len(letters()) == 1


@pytest.mark.parametrize("option", [("--store", "milvus://root:pw@localhost:1#photos"), ("--api-key", "x")])
def test_a_command_that_may_hold_a_secret_is_not_repeated(option: tuple[str, str]) -> None:
    output.set_command(["index", "photos", *option])
    assert output.command() == ""
    output.set_command(["index", "my photos", "--store", STORE])
    assert output.command().endswith(" index 'my photos' --store 'faiss:./store#photos'")
    output.set_command([])


def test_a_second_run_replaces_and_adds_what_is_new(run: Run, pictures: Path) -> None:
    run("index", pictures, "--store", STORE)
    (pictures / "7b.png").write_bytes((pictures / "0.png").read_bytes())
    ran = run("index", pictures, "--store", STORE, "--json")
    assert (ran.json["created"], ran.json["written"], ran.json["rows"]) == (False, 11, 11)
    assert len(letters()) == 1  # the same letter is not written twice


def test_without_texts_and_with_chosen_fields(run: Run, pictures: Path) -> None:
    run("index", pictures, "--store", STORE, "--no-texts", "--fields", "year,tags", "--fields", "path")
    with vb.open(STORE) as photos:
        assert photos.count() == 8
        assert [each.name for each in photos.spec.fields] == ["year", "tags", "path"]


def test_index_metric_and_namespace_of_a_new_collection(run: Run, pictures: Path) -> None:
    url = "faiss:./store?namespace=eu#photos"
    run("index", pictures, "--store", url, "--index", "hnsw(m=8, ef_construction=50)", "--metric", "dot")
    with vb.open(url) as photos:
        assert photos.namespace == "eu"
        assert photos.spec.vector.index == HNSW(m=8, ef_construction=50)
        assert photos.spec.vector.metric == "dot"
        assert photos.count() == 10
    info = run("info", url, "--json").json
    assert (info["namespace"], info["namespaces"], info["rows"]) == ("eu", ["eu"], 10)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--index", "hnsw", "auto, not hnsw(m=16"), ("--metric", "l2", "cosine, not l2")],
)
def test_differences_from_an_existing_collection_are_listed(
    run: Run, pictures: Path, option: str, value: str, says: str
) -> None:
    run("index", pictures, "--store", STORE)
    ran = run("index", pictures, "--store", STORE, option, value)
    assert (ran.code, ran.out) == (1, "")
    assert says in ran.err


def test_fields_that_the_source_lacks_are_null(run: Run, pictures: Path) -> None:
    run("index", pictures, "--store", STORE)
    (pictures / "metadata.jsonl").unlink()
    assert run("index", pictures, "--store", STORE, "--json").json["written"] == 10
    with vb.open(STORE) as photos:
        [record] = photos.fetch(["0.png"], include=["year", "width"]).to_pylist()
    assert record == {"id": "0.png", "year": None, "width": 128}


def test_a_field_that_the_collection_lacks_is_refused_with_the_way_out(run: Run, pictures: Path) -> None:
    run("index", pictures, "--store", STORE, "--fields", "year")
    ran = run("index", pictures, "--store", STORE)
    assert ran.code == 1
    assert "field 'tags' is not in the collection" in ran.err
    assert "--fields" in ran.err


def foreign(url: str, model: str = "somebody/else") -> None:
    """Makes a collection with another model's vectors."""
    identity = vb.EmbedderIdentity(model, "r1", 256, "p1")
    store_url, _, name = url.partition("#")
    with vb.connect(store_url) as store:
        store.create(vb.CollectionSpec.single(name, dim=256, embedder=identity)).close()


def test_another_models_collection_is_refused_before_anything_is_read(run: Run, pictures: Path) -> None:
    foreign(STORE)
    ran = run("index", pictures, "--store", STORE, "--model", "bundled")
    assert (ran.code, ran.out) == (1, "")
    assert "somebody/else" in ran.err
    assert "leave --model out" in ran.err
    with vb.open(STORE) as photos:
        assert photos.count() == 0


def test_another_revision_of_the_same_model_is_refused(run: Run, pictures: Path) -> None:
    foreign(STORE, "bundled")
    ran = run("index", pictures, "--store", STORE)
    assert ran.code == 1
    assert "bundled (r1)" in ran.err


def test_max_failures_ends_the_run(run: Run, pictures: Path) -> None:
    ran = run("index", pictures, "--store", STORE, "--max-failures", 0)
    assert (ran.code, ran.out) == (1, "")
    assert "1 failed, which is more than --max-failures 0; see vecbridge-dead-letters.jsonl" in ran.err
    assert len(letters()) == 1


def test_a_journal_continues_and_may_always_be_run_again(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "broken.jpg").unlink()
    (pictures / "notes.txt").unlink()
    command = ("index", pictures, "--store", STORE, "--journal", "run.journal")
    assert run(*command).code == 0
    journal = Path("run.journal")
    finished = journal.read_bytes()
    for cut in (0, 1):  # the second as after kill -9, when all was acknowledged
        journal.write_bytes(b"".join(finished.splitlines(keepends=True)[: 3 - cut]))
        with monkeypatch.context() as patch:
            patch.setattr(Collection, "upsert", None)
            patch.setattr("vecbridge.embed.encoder.Encoder.embed_prepared", None)
            patch.setattr("vecbridge.embed.items.decode", None)
            ran = run(*command)
        assert ran.code == 0
        assert "settled     8 by an earlier run, as the journal says: nothing was left to send" in ran.out
        assert journal.read_bytes() == finished
    shutil.copy(pictures / "0.png", pictures / "zz.png")
    ran = run(*command, "--json")
    assert (ran.json["written"], ran.json["recalled"], ran.json["rows"]) == (9, 8, 9)
    shutil.copy(pictures / "1.png", pictures / "0.png")
    ran = run(*command)
    assert ran.code == 1
    assert "run.journal: the source has changed since, from '0.png' to 'more/7.png' (items 0 to 7)" in ran.err
    assert "--sync" in ran.err


def test_a_journal_of_an_earlier_version_is_refused_with_the_way_out(run: Run, pictures: Path) -> None:
    Path("run.journal").write_text('{"vecbridge_journal":1,"source":"pictures"}\n')
    ran = run("index", pictures, "--store", STORE, "--journal", "run.journal")
    assert ran.code == 1
    assert "run.journal: it notes batches of records" in ran.err
    assert "name another journal" in ran.err


# ------------------------------------------------------------------------------------------------- load


def test_rows_of_several_numpy_files_get_consecutive_ids(run: Run, tmp_path: Path) -> None:
    for name, rows in (("a.npy", 5), ("b.npy", 3)):
        np.save(tmp_path / name, np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32))
    ran = run("load", "a.npy", "b.npy", "--store", STORE, "--metric", "l2", "--index", "flat", "--json")
    assert ran.code == 0
    assert (ran.json["written"], ran.json["rows"]) == (8, 8)
    with vb.open(STORE) as photos:
        assert sorted(page_ids(photos)) == list(range(8))
        assert photos.spec.vector.index == Flat()


def page_ids(collection: Any) -> list[Any]:
    return [key for page in collection.scan(include=[]) for key in page.batch.column("id").to_pylist()]


def test_parquet_with_columns_of_its_own_names(run: Run, tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2))
    table = pa.table({"sku": ["a", "b"], "clip": vectors, "price": [1.5, None], "blob": [b"x", b"y"]})
    pq.write_table(table, tmp_path / "t.parquet")
    ran = run("load", "t.parquet", "--store", STORE, "--id", "sku", "--vector", "clip")
    assert ran.code == 0
    assert "'blob' is left out" in ran.err
    with vb.open(STORE) as photos:
        assert photos.fetch(["a"], include=["price"]).to_pylist() == [{"id": "a", "price": 1.5}]


def test_dead_letters_can_be_corrected_and_loaded(run: Run, tmp_path: Path) -> None:
    lines = [{"id": "a", "vector": [1, 0], "year": 1}, {"id": "b", "vector": [0, 0], "year": 2}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert run("load", "rows.jsonl", "--store", STORE).code == 1
    [letter] = letters()
    assert (letter["id"], letter["record"]["year"]) == ("b", 2)
    letter["record"]["vector"] = [0, 1]
    DEFAULT_LETTERS.write_text(json.dumps(letter) + "\n")
    ran = run("load", DEFAULT_LETTERS, "--store", STORE, "--json")
    assert ran.code == 0
    assert ran.json["rows"] == 2


def test_max_failures_counts_the_rows_that_the_store_refuses(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"b", "d"}
    lines = [json.dumps({"id": key, "vector": [1.0, 2.0]}) for key in "abcde"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    upsert = Collection.upsert

    def refuses(self: Collection, data: Any, **options: Any) -> vb.WriteReport:
        if bad & set(data.batch.column("id").to_pylist()):
            raise BackendError("400: the store does not like them")
        return upsert(self, data, **options)

    monkeypatch.setattr(Collection, "upsert", refuses)
    command = ("load", "rows.jsonl", "--store", STORE, "--metric", "cosine", "--dead-letters", "bad.jsonl")
    ended = run(*command, "--max-failures", 1)
    assert (ended.code, ended.out) == (1, "")
    assert "2 failed, which is more than --max-failures 1; see bad.jsonl: 400: " in ended.err
    assert {json.loads(line)["id"] for line in Path("bad.jsonl").read_text().splitlines()} == bad
    Path("bad.jsonl").unlink()
    went_on = run(*command, "--max-failures", 2, "--json")
    assert (went_on.code, went_on.json["written"], went_on.json["failed"]) == (1, 3, 2)


def test_dead_letters_never_go_into_the_file_that_is_loaded(run: Run, tmp_path: Path) -> None:
    letter = {"id": "b", "source": "x", "error": "y", "record": {"id": "b", "vector": [0, 0]}}
    good = letter | {"record": {"id": "c", "vector": [0, 1]}}
    DEFAULT_LETTERS.write_text("\n".join(map(json.dumps, [letter, good])) + "\n")
    ran = run("load", DEFAULT_LETTERS, "--store", STORE, "--json")
    assert ran.json["dead_letters"] == "vecbridge-dead-letters-left.jsonl"
    assert len(letters()) == 2
    ran = run("load", DEFAULT_LETTERS, "--store", STORE, "--dead-letters", DEFAULT_LETTERS)
    assert ran.code == 2


def test_the_model_of_loaded_vectors_is_recorded_and_used_for_search(run: Run, tmp_path: Path) -> None:
    with vb.embedder("bundled") as clip:
        np.save(tmp_path / "texts.npy", clip.embed_texts(["a dog", "a car", "a tree"]))
    assert run("load", "texts.npy", "--store", STORE, "--model", "bundled").code == 0
    ran = run("search", "a car", "--store", STORE, "--json")
    assert ran.json["hits"][0]["id"] == 1
    assert ran.json["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert "does not record its model" not in ran.err


def test_vectors_of_an_unknown_model_are_searched_with_a_warning(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(256, dtype=np.float32)[:9])
    run("load", "v.npy", "--store", STORE)
    ran = run("search", "a car", "--store", STORE)
    assert ran.code == 0
    assert "does not record its model: bundled" in ran.err
    np.save(tmp_path / "w.npy", np.eye(8, dtype=np.float32))
    run("load", "w.npy", "--store", "faiss:./store#short")
    ran = run("search", "a car", "--store", "faiss:./store#short")
    assert ran.code == 1
    assert "256 dimensions" in ran.err


def test_rows_of_numpy_join_a_collection_with_string_ids(run: Run, tmp_path: Path) -> None:
    spec = vb.CollectionSpec.single("photos", dim=4, fields={"year": "int64"})
    spec = replace(spec, vectors=(replace(spec.vector, name="body"),))
    with vb.connect("faiss:./store") as store:
        store.create(spec).close()
    np.save(tmp_path / "a.npy", np.eye(4, dtype=np.float32))
    assert run("load", "a.npy", "--store", STORE).code == 0
    with vb.open(STORE) as photos:
        assert sorted(page_ids(photos)) == ["0", "1", "2", "3"]


# ----------------------------------------------------------------------------------- times, lists, new fields

NOON = datetime(2024, 5, 17, 12, tzinfo=UTC)


def jsonl(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("\n".join(json.dumps({"vector": [1, 0]} | row) for row in rows) + "\n")


def create(fields: dict[str, Any]) -> None:
    with vb.connect("faiss:./store") as store:
        store.create(vb.CollectionSpec.single("photos", dim=2, fields=fields)).close()


def types() -> dict[str, str]:
    with vb.open(STORE) as photos:
        return {field.name: field.type for field in photos.spec.fields}


def rows(*ids: str, include: tuple[str, ...]) -> list[list[Any]]:
    with vb.open(STORE) as photos:
        found = {row["id"]: row for row in photos.fetch(ids, include=list(include)).to_pylist()}
    return [[found[key][name] for name in include] for key in ids]


def test_times_of_parquet_are_timestamps_and_dead_letters_go_back_without_loss(
    run: Run, tmp_path: Path
) -> None:
    vectors = pa.array([[1.0, 0.0], [0.0, 0.0]], pa.list_(pa.float32(), 2))
    columns = {
        "taken": pa.array([NOON, NOON], pa.timestamp("s", "Europe/Madrid")),
        "sizes": [[1], [2**63 - 1]],
        "note": ["a", None],
    }
    pq.write_table(pa.table({"id": ["a", "b"], "vector": vectors} | columns), tmp_path / "t.parquet")
    assert run("load", "t.parquet", "--store", STORE, "--vector", "vector").code == 1
    assert types() == {"taken": "timestamp", "sizes": "list<int64>", "note": "string"}
    [letter] = letters()
    assert letter["record"]["taken"] == "2024-05-17T12:00:00.000000Z"
    letter["record"]["vector"] = [0, 1]
    DEFAULT_LETTERS.write_text(json.dumps(letter) + "\n")
    assert run("load", DEFAULT_LETTERS, "--store", STORE).code == 0
    assert rows("a", "b", include=tuple(columns)) == [[NOON, [1], "a"], [NOON, [2**63 - 1], None]]


def test_text_is_a_time_where_the_collection_says_so_and_a_dead_letter_otherwise(
    run: Run, tmp_path: Path
) -> None:
    create({"taken": "timestamp", "sizes": "list<float64>"})
    jsonl(
        tmp_path / "r.jsonl",
        {"id": "a", "taken": "2024-05-17T14:00:00+02:00", "sizes": [1, 2]},
        {"id": "b", "taken": "2024-05-17"},
        {"id": "c", "taken": "2024-05-17T12:00:00.0000009Z"},
    )
    ran = run("load", "r.jsonl", "--store", STORE, "--json")
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (1, 1, 2)
    assert rows("a", include=("taken", "sizes")) == [[NOON, [1.0, 2.0]]]
    assert {letter["source"] for letter in letters()} == {"r.jsonl:2", "r.jsonl:3"}
    ran = run("load", "r.jsonl", "--store", STORE, "--truncate-times", "--json")
    assert ran.json["failed"] == 1
    assert rows("c", include=("taken",)) == [[NOON]]


def test_nanoseconds_of_parquet_are_cut_when_asked(run: Run, tmp_path: Path) -> None:
    moment = int(NOON.timestamp()) * 10**9
    taken = pa.array([moment, moment + 999], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"id": ["a", "b"], "vector": [[1.0, 0.0]] * 2, "taken": taken}), "t.parquet")
    assert run("load", "t.parquet", "--store", STORE, "--json").json["failed"] == 1
    assert letters()[0]["source"] == "t.parquet:1"
    assert run("load", "t.parquet", "--store", STORE, "--truncate-times").code == 0
    assert rows("a", "b", include=("taken",)) == [[NOON], [NOON]]


def test_columns_that_the_collection_lacks_are_added_when_asked(run: Run, tmp_path: Path) -> None:
    create({"year": "float64"})
    jsonl(tmp_path / "r.jsonl", {"id": "a", "year": 2020, "tags": ["sea"], "sizes": [1, 2]})
    ran = run("load", "r.jsonl", "--store", STORE)
    assert (ran.code, ran.out) == (1, "")
    assert "field 'tags' is not in the collection" in ran.err
    assert "--grow" in ran.err
    assert run("load", "r.jsonl", "--store", STORE, "--grow").code == 0
    assert types() == {"year": "float64", "tags": "list<string>", "sizes": "list<int64>"}
    assert rows("a", include=("year", "tags", "sizes")) == [[2020.0, ["sea"], [1, 2]]]


def test_growing_makes_a_collection_that_does_not_exist_and_changes_no_type(run: Run, tmp_path: Path) -> None:
    jsonl(tmp_path / "r.jsonl", {"id": "a", "year": 2020})
    assert run("load", "r.jsonl", "--store", STORE, "--grow", "--json").json["created"] is True
    pq.write_table(pa.table({"id": ["b"], "vector": [[1.0, 0.0]], "year": ["x"], "new": [1]}), "t.parquet")
    ran = run("load", "t.parquet", "--store", STORE, "--grow")
    assert ran.code == 1
    assert "'year'" in ran.err
    assert types() == {"year": "int64"}


def test_a_collection_that_has_seconds_is_indexed_as_before(run: Run, pictures: Path) -> None:
    (pictures / "broken.jpg").unlink()
    run("index", pictures, "--store", STORE)
    assert types()["modified"] == "timestamp"
    seconds = int((pictures / "0.png").stat().st_mtime)
    assert rows("0.png", include=("modified",)) == [[datetime.fromtimestamp(seconds, UTC)]]
    with vb.connect("faiss:./store") as store:
        with store.open("photos") as photos:
            fields = tuple(
                replace(field, type="int64") if field.name == "modified" else field
                for field in photos.spec.fields
            )
            old = replace(photos.spec, fields=fields)
        store.create(old, if_exists="replace").close()
    assert run("index", pictures, "--store", STORE).code == 0
    assert rows("0.png", include=("modified",)) == [[seconds]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", Auto()),
        ("FLAT", Flat()),
        ("ivf_flat(nlist=4)", IVFFlat(nlist=4)),
        ("ivf_pq( nlist = 8 , m = 2, nbits=4 )", IVFPQ(nlist=8, m=2, nbits=4)),
        ("hnsw()", HNSW()),
        ("hnsw(m=8, quantizer='sq', ef=none)", HNSW(m=8, quantizer="sq")),
    ],
)
def test_an_index_option_is_parsed(text: str, expected: object) -> None:
    assert parse_index(text) == expected


@pytest.mark.parametrize(
    "text", ["", "hnsw(", "hnsw(m)", "hnsw(m=1, m=2)", "hnsw(m=x)", "hnsw(kind=1)", "other"]
)
def test_an_invalid_index_option_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--index"):
        parse_index(text)
