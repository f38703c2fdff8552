"""``index`` and ``load``: checks before side effects, counts that add up, dead letters as they happen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vecbridge as vb
from vecbridge.collection import Collection

Run = Callable[..., Any]  # the fixture of conftest.py
STORE = "faiss:./store#photos"
LETTERS = Path("vecbridge-dead-letters.jsonl")


def jsonl(path: str, *rows: dict[str, Any] | str) -> None:
    lines = (row if isinstance(row, str) else json.dumps({"vector": [1, 0]} | row) for row in rows)
    Path(path).write_text("".join(f"{line}\n" for line in lines))


def parquet(path: str, ids: pa.Array, **columns: Any) -> None:
    vectors = pa.array([[1.0, 0.0]] * len(ids), pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"id": ids, "vector": vectors} | columns), path)


def letters() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LETTERS.read_text("utf-8").splitlines()]


def collections(run: Run) -> list[str]:
    return [each["name"] for each in run("list", "faiss:./store", "--json").json["collections"]]


# ------------------------------------------------------------------------- checks before side effects


@pytest.mark.parametrize(
    "ids",
    [pa.array([1.0, float("nan")]), pa.array([True, False]), pa.array([b"a", b"b"])],
    ids=["double", "bool", "binary"],
)
def test_ids_of_a_wrong_type_make_no_collection_and_the_corrected_file_is_loaded(run: Run, ids: Any) -> None:
    parquet("t.parquet", ids)
    ran = run("load", "t.parquet", "--store", STORE, "--journal", "run.journal")
    assert (ran.code, ran.out) == (1, "")
    assert "t.parquet: column 'id'" in ran.err
    assert "row 0" in ran.err
    assert collections(run) == []
    assert not Path("run.journal").exists()
    parquet("t.parquet", pa.array([1, 2]))
    assert run("load", "t.parquet", "--store", STORE, "--journal", "run.journal").code == 0
    with vb.open(STORE) as photos:
        assert (photos.spec.id_type, photos.count()) == ("int64", 2)


def test_rows_that_are_all_bad_make_no_collection_and_are_listed(run: Run) -> None:
    jsonl("r.jsonl", {"id": "a", "vector": [0, 0]}, {"id": "b", "vector": [0, 0]})
    ran = run("load", "r.jsonl", "--store", STORE, "--json")
    assert ran.code == 1
    assert {name: value for name, value in ran.json.items() if name != "speed"} == {
        "url": STORE, "created": False, "read": 2, "written": 0, "failed": 2, "refused": 0, "duplicates": 0,
        "retried": 0, "recalled": 0, "dead_letters": str(LETTERS), "rows": 0, "index": None,
    }  # fmt: skip
    assert collections(run) == []
    assert [letter["source"] for letter in letters()] == ["r.jsonl:1", "r.jsonl:2"]
    ran = run("load", "r.jsonl", "--store", STORE)
    assert "none was made, since no record was written" in ran.out


def test_pictures_that_are_all_broken_make_no_collection(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "pictures" / name).write_text("no picture")
    ran = run("index", "pictures", "--store", STORE, "--json")
    assert (ran.code, ran.json["failed"], ran.json["created"]) == (1, 2, False)
    assert collections(run) == []


def test_a_store_that_takes_no_row_is_left_as_it_was(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise vb.StorageFullError("the disk is full")

    jsonl("r.jsonl", {"id": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", full)
        ran = run("load", "r.jsonl", "--store", STORE, "--journal", "run.journal")
    assert (ran.code, ran.out) == (1, "")
    assert collections(run) == []
    assert run("load", "r.jsonl", "--store", STORE, "--journal", "run.journal").code == 0


@pytest.mark.parametrize("options", [("--index", "scann"), ("--index", "diskann")])
def test_an_index_that_the_store_cannot_build_ends_the_run_before_a_row_is_read(
    run: Run, options: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the file was read")

    np.save("a.npy", np.eye(2, dtype=np.float32))
    monkeypatch.setattr("vecbridge.sources.npy.NpySource.batches", read)
    ran = run("load", "a.npy", "--store", STORE, *options)
    assert (ran.code, ran.out) == (1, "")
    assert "does not support" in ran.err
    assert collections(run) == []


@pytest.mark.parametrize("option", ["--journal", "--dead-letters"])
def test_a_file_that_cannot_be_written_leaves_no_collection(run: Run, option: str) -> None:
    jsonl("r.jsonl", {"id": "a"})
    ran = run("load", "r.jsonl", "--store", STORE, option, "nowhere/file")
    assert ran.code != 0
    assert "nowhere/file: No such file" in ran.err
    assert collections(run) == []


def test_a_field_is_added_only_with_a_row_for_it(run: Run) -> None:
    jsonl("first.jsonl", {"id": "a"})
    run("load", "first.jsonl", "--store", STORE)
    jsonl("bad.jsonl", {"id": "b", "vector": [0, 0], "title": "B"})
    assert run("load", "bad.jsonl", "--store", STORE, "--grow").code == 1
    with vb.open(STORE) as photos:
        assert photos.spec.fields == ()
    jsonl("good.jsonl", {"id": "b", "title": "B"})
    assert run("load", "good.jsonl", "--store", STORE, "--grow").code == 0
    with vb.open(STORE) as photos:
        assert photos.fetch(["b"], include=["title"]).to_pylist() == [{"id": "b", "title": "B"}]


def test_a_migration_that_fails_at_once_leaves_no_target_and_no_journal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise vb.AuthError("the key was withdrawn")

    jsonl("r.jsonl", {"id": "a", "year": 1}, {"id": "b", "year": 2})
    run("load", "r.jsonl", "--store", STORE)
    command = ("migrate", STORE, "faiss:./copy#photos", "--journal", "run.journal")
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", refuses)
        ran = run(*command)
    assert (ran.code, ran.out) == (1, "")
    assert run("list", "faiss:./copy", "--json").json["collections"] == []
    assert not Path("run.journal").exists()
    assert run(*command, "--rename", "year=taken").code == 0  # another plan, which the empty one would refuse
    with vb.open("faiss:./copy#photos") as copy:
        assert [field.name for field in copy.spec.fields] == ["taken"]
        assert copy.count() == 2


@pytest.mark.parametrize("wrong", ["no_id.jsonl", "id.parquet", "vector.parquet"])
def test_what_is_wrong_with_one_file_of_several_is_said_with_its_name(run: Run, wrong: str) -> None:
    parquet("good.parquet", pa.array(["a", "b"]))
    Path("no_id.jsonl").write_text('{"name": "a", "vector": [1, 0]}\n')
    parquet("id.parquet", pa.array([1.5, 2.5]))
    pq.write_table(pa.table({"id": ["a", "b"], "vector": [["x"], ["y"]]}), "vector.parquet")
    ran = run("load", wrong, "good.parquet", "--store", STORE)
    assert (ran.code, ran.out) == (1, "")
    assert f"error: {wrong}: " in ran.err
    assert wrong.partition(".")[0].removeprefix("no_") in ran.err.partition(f"error: {wrong}: ")[2]
    assert collections(run) == []


# ----------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("files", "read", "written", "duplicates"),
    [
        ([["a", "a", "b"]], 3, 2, 1),  # within a batch
        ([["a", "b"], ["b", "c"], ["a"]], 5, 3, 2),  # across files
        ([["a", *map(str, range(1500)), "a"]], 1502, 1501, 1),  # across requests
    ],
    ids=["batch", "files", "requests"],
)
def test_each_row_of_an_id_beyond_the_first_is_a_duplicate(
    run: Run, files: list[list[str]], read: int, written: int, duplicates: int
) -> None:
    names = [f"{number}.jsonl" for number in range(len(files))]
    for name, ids in zip(names, files, strict=True):
        jsonl(name, *({"id": key} for key in ids))
    result = run("load", *names, "--store", STORE, "--json").json
    assert (result["read"], result["written"], result["duplicates"]) == (read, written, duplicates)
    assert result["rows"] == written
    ran = run("load", *names, "--store", STORE)
    assert f"replaced    {duplicates} by a later record with the same id" in ran.out


def test_bad_rows_and_duplicates_and_the_rest_are_all_that_was_read(run: Run) -> None:
    jsonl(
        "r.jsonl", {"id": "a"}, "no json", {"id": "a"}, {"id": "b", "vector": [0, 0]}, {"id": 5}, {"id": "c"}
    )
    result = run("load", "r.jsonl", "--store", STORE, "--json").json
    assert (result["read"], result["written"], result["failed"], result["duplicates"]) == (6, 2, 3, 1)
    assert len(letters()) == 3


def test_lines_of_pictures_count_alike(run: Run, pictures: Path) -> None:
    result = run("index", pictures, pictures / "0.png", "--store", STORE, "--json").json
    assert result["read"] == result["written"] + result["failed"] + result["duplicates"]
    assert result["rows"] == result["written"]


def test_a_continued_run_counts_what_was_there(run: Run) -> None:
    jsonl("r.jsonl", *({"id": key} for key in "abacb"), "no json")
    command = ("load", "r.jsonl", "--store", STORE, "--journal", "run.journal", "--json")
    first = run(*command).json
    journal = Path("run.journal")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    again = run(*command).json
    for result in (first, again):
        parts = [result[name] for name in ("read", "written", "failed", "duplicates")]
        assert parts == [6, 3, 1, 2]
    assert len(letters()) == 1


# ------------------------------------------------------------------------------------- dead letters


def test_dead_letters_are_in_the_file_before_the_next_batch_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl("r.jsonl", "no json", *({"id": str(number)} for number in range(1000)), {"id": 5}, {"id": "last"})
    upsert, seen = Collection.upsert, []

    def watched(self: Collection, data: Any, **options: Any) -> Any:
        seen.append([letter["source"] for letter in letters()])
        return upsert(self, data, **options)

    monkeypatch.setattr(Collection, "upsert", watched)
    assert run("load", "r.jsonl", "--store", STORE, "--json").json["failed"] == 2
    assert seen[0][:1] == ["r.jsonl:1"]  # and the other where the reader is ahead of the writer
    assert seen[1:] == [["r.jsonl:1", "r.jsonl:1002"]]


def test_a_row_that_the_store_refuses_is_named_by_its_place_in_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = Collection.upsert

    def refuses(self: Collection, data: Any, **options: Any) -> Any:
        if "c" in data.batch.column("id").to_pylist():
            raise vb.BackendError("400: not this one")
        return upsert(self, data, **options)

    monkeypatch.setattr(Collection, "upsert", refuses)
    jsonl("first.jsonl", {"id": "a"})
    jsonl("second.jsonl", "no json", {"id": "b"}, {"id": "c"})
    parquet("third.parquet", pa.array(["d", "c"]))
    np.save("four.npy", np.eye(2, dtype=np.float32))
    files = ("first.jsonl", "second.jsonl", "third.parquet")
    assert run("load", *files, "--store", STORE, "--json").json["failed"] == 3
    assert {(letter["source"], letter["id"]) for letter in letters()} == {
        ("second.jsonl:1", None), ("second.jsonl:3", "c"), ("third.parquet:1", "c")
    }  # fmt: skip


KILLED = """
import os, signal, sys
from vecbridge.cli.main import main
from vecbridge.collection import Collection

upsert, calls = Collection.upsert, 0

def killed(self, data, **options):
    global calls
    calls += 1
    report = upsert(self, data, **options)
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return report

Collection.upsert = killed
main(sys.argv[2:])
"""


def test_kill_9_leaves_the_dead_letters_and_the_continued_run_writes_none_twice(
    run: Run, tmp_path: Path, root: Path
) -> None:
    jsonl("r.jsonl", *({"id": str(number)} if number % 500 else "no json" for number in range(3500)))
    command = ["load", "r.jsonl", "--store", STORE, "--journal", "run.journal"]
    bad = [f"r.jsonl:{number + 1}" for number in range(0, 3500, 500)]
    for moment, at_least in ((2, 5), (1, 5)):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), *command], cwd=tmp_path, timeout=120, check=False,
            env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL
        there = [letter["source"] for letter in letters()]
        assert there == bad[: len(there)]
        assert len(there) >= at_least
    result = run(*command, "--json").json
    assert [letter["source"] for letter in letters()] == bad
    assert (result["read"], result["written"], result["failed"], result["rows"]) == (3500, 3493, 7, 3493)
