"""``load`` and files as people have them: second files, odd vectors, empty and bad files, other forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vecbridge as vb
from vecbridge.bulk.pacing import Pace

Run = Callable[..., Any]  # the fixture of conftest.py
STORE = "faiss:./store#photos"
LETTERS = Path("vecbridge-dead-letters.jsonl")
NOON = datetime(2024, 5, 17, 12, tzinfo=UTC)


def jsonl(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("\n".join(json.dumps({"vector": [1, 0]} | row) for row in rows) + "\n")
    return name


def parquet(name: str, **columns: Any) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def letters() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LETTERS.read_text("utf-8").splitlines()]


def stored() -> dict[Any, dict[str, Any]]:
    with vb.open(STORE) as photos:
        pages = [page.batch.to_pylist() for page in photos.scan()]
    return {row["id"]: row for page in pages for row in page}


def types() -> dict[str, str]:
    with vb.open(STORE) as photos:
        return {field.name: field.type for field in photos.spec.fields}


SECOND = {
    "only nulls": {"n": None, "x": None, "at": None},
    "a whole number": {"x": 2},
    "a whole number with a point": {"n": 2.0},
    "a new column of nulls": {"extra": None},
}


@pytest.mark.parametrize("kind", SECOND)
def test_a_second_file_goes_into_the_collection_of_the_first(run: Run, kind: str) -> None:
    first = parquet(
        "a.parquet",
        id=["a"],
        vector=[[1.0, 0.0]],
        n=[1],
        x=[0.5],
        at=pa.array([NOON], pa.timestamp("us", "UTC")),
    )
    assert run("load", first, "--store", STORE).code == 0
    expected = types()
    ran = run("load", jsonl("b.jsonl", {"id": "b"} | SECOND[kind]), "--store", STORE, "--json")
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (0, 1, 0), ran.err
    assert types() == expected
    known = {key: value for key, value in SECOND[kind].items() if key in expected}
    assert {key: stored()["b"][key] for key in known} == known


def test_files_of_which_one_has_only_nulls_agree_about_the_types(run: Run) -> None:
    files = [
        jsonl("a.jsonl", {"id": "a", "year": None}),
        jsonl("b.jsonl", {"id": "b", "year": 2020}),
        parquet("c.parquet", id=["c"], vector=[[1.0, 0.0]], year=pa.nulls(1)),
    ]
    assert run("load", *files, "--store", STORE).code == 0
    assert types() == {"year": "int64"}


def test_mended_dead_letters_make_the_collection_that_their_file_would_have(run: Run) -> None:
    taken = pa.array([NOON], pa.timestamp("ms", "UTC"))
    parquet("a.parquet", sku=["a"], clip=[[0.0, 0.0]], taken=taken)
    command = ("--store", STORE, "--id", "sku", "--vector", "clip")
    assert run("load", "a.parquet", *command).code == 1
    [letter] = letters()
    letter["record"]["vector"] = [0, 1]
    LETTERS.write_text(json.dumps(letter))
    run("load", LETTERS, *command)
    assert types() == {"taken": "timestamp"}
    assert stored()["a"]["taken"] == NOON


def test_rows_without_the_vector_that_was_named_are_dead_letters(run: Run) -> None:
    rows = [{"id": f"r{n}", "vector": None, "clip": [n, 1] if n % 3 == 0 else None} for n in range(9)]
    ran = run("load", jsonl("a.jsonl", *rows), "--store", STORE, "--vector", "clip", "--json")
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (1, 3, 6)
    assert set(stored()) == {"r0", "r3", "r6"}


def test_a_vector_that_is_none_is_refused_with_what_is_there_and_leaves_nothing(run: Run) -> None:
    file = jsonl("a.jsonl", {"id": "a", "clip": "[1, 0]"})
    ran = run("load", file, "--store", STORE, "--vector", "clip")
    assert ran.code == 1
    assert "a.jsonl:1 has text ('[1, 0]')" in " ".join(ran.err.split())
    assert run("list", "faiss:./store", "--json").json["collections"] == []


def test_empty_and_bad_files_among_others(run: Run) -> None:
    Path("empty.jsonl").touch()
    Path("bad.parquet").write_text("no Parquet")
    parquet("none.parquet", id=pa.array([], pa.string()))
    files = ["empty.jsonl", jsonl("a.jsonl", {"id": "a"}), "bad.parquet", "none.parquet"]
    ran = run("load", *files, jsonl("b.jsonl", {"id": "b"}), "--store", STORE, "--json")
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (1, 2, 1)
    for name in ("empty.jsonl: skipped", "none.parquet: skipped", "bad.parquet: not a Parquet file"):
        assert name in ran.err
    assert [letter["source"] for letter in letters()] == ["bad.parquet"]
    assert set(stored()) == {"a", "b"}


@pytest.mark.parametrize("content", ["", "no Parquet"])
def test_files_of_which_none_can_be_read_make_no_collection(run: Run, content: str) -> None:
    for name in ("a.parquet", "b.parquet"):
        Path(name).write_text(content)
    ran = run("load", "a.parquet", "b.parquet", "--store", STORE)
    assert (ran.code, ran.out) == (1, "")
    assert "a.parquet" in ran.err
    assert "b.parquet" in ran.err
    assert run("list", "faiss:./store", "--json").json["collections"] == []


def test_columns_are_chosen_and_several_vectors_are_named(run: Run) -> None:
    row = {"id": "a", "embedding": [1.0, 0.0], "caption_emb": [1.0, 0.0, 0.5], "n": 1, "s": "x", "b": True}
    Path("a.jsonl").write_text(json.dumps(row))
    ran = run("load", "a.jsonl", "--store", STORE, "--fields", "n,s", "--drop", "s")
    assert ran.code == 0
    assert "'caption_emb' is left out" in ran.err
    assert types() == {"n": "int64"}
    both = "faiss:./store#both"
    command = ("load", "a.jsonl", "--store", both, "--vector", "embedding", "--vector", "caption_emb")
    assert run(*command, "--drop", "b", "--drop", "s").code == 0
    with vb.open(both) as collection:
        assert {vector.name: vector.dim for vector in collection.spec.vectors} == {
            "embedding": 2,
            "caption_emb": 3,
        }
        assert [field.name for field in collection.spec.fields] == ["n"]
    ran = run("load", "a.jsonl", "--store", STORE, "--fields", "m")
    assert ran.code == 2
    assert "no file has a column 'm'" in ran.err


def test_an_array_a_frame_and_bytes_are_loaded_as_they_are(run: Run) -> None:
    Path("a.jsonl").write_text(
        json.dumps([{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}], indent=1)
    )
    frame = pd.DataFrame(
        {"vector": [[1.0, 0.5]], "deep": [{"raw": b"\x00"}]}, index=pd.Index(["c"], name="sku")
    )
    frame.to_parquet("f.parquet")
    ran = run("load", "a.jsonl", "f.parquet", "--store", STORE)
    assert ran.code == 0
    assert "ids are pandas' index 'sku'" in ran.err
    assert set(stored()) == {"a", "b", "c"}
    assert stored()["c"]["deep"] == '{"raw":{"$binary":"AA=="}}'


def test_rows_without_ids_are_numbered_over_all_files(run: Run) -> None:
    np.save("a.npy", np.eye(2, dtype=np.float32))
    parquet("b.parquet", vector=[[1.0, 0.5]])
    ran = run("load", "a.npy", "b.parquet", "--store", STORE)
    assert ran.code == 0
    assert "ids are row numbers, 2 to 2" in ran.err
    assert set(stored()) == {0, 1, 2}


def test_a_rate_limits_the_records_a_second(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(Pace, "wait", lambda self, rows: sent.append(rows))
    file = jsonl("a.jsonl", *({"id": str(number)} for number in range(7)))
    assert run("load", file, "--store", STORE, "--max-rate", "3").code == 0
    assert sent == [3, 3, 1]


def test_a_rate_that_cannot_be_is_bad_usage_and_leaves_nothing(run: Run) -> None:
    ran = run("load", jsonl("a.jsonl", {"id": "a"}), "--store", STORE, "--max-rate", "0")
    assert ran.code == 2
    assert "--max-rate 0" in ran.err
    assert not Path("store/photos").exists()
