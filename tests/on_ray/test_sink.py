"""Ray datasets are written into collections: every row once, whatever dies on the way."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
from ray.data.checkpoint import CheckpointConfig

import vecbridge as vb
from tests.on_ray.helpers import (
    DIM,
    KEY,
    Failing,
    Killer,
    Watched,
    attempts_by_task,
    checksums,
    parquet,
    rows,
    spec,
    stored,
    upserted,
    url_of,
)
from vecbridge.integrations.ray import VecbridgeDatasink
from vecbridge.testing.pinecone import Emulator, Fault

ROWS, FILES = 5_000, 10
EACH = ROWS // FILES


@pytest.fixture
def checkpoint(tmp_path: Path) -> Iterator[Path]:
    """A Ray checkpoint for the datasets of this test."""
    context = ray.data.DataContext.get_current()
    path = tmp_path / "checkpoint"
    context.checkpoint_config = CheckpointConfig("id", str(path), delete_checkpoint_on_success=False)
    yield path
    context.checkpoint_config = None


def cause_of(error: BaseException) -> BaseException:
    """The error that a task raised, without what Ray has wrapped it in."""
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        error = inner
    return error


# --------------------------------------------------------------------------------------- every row once


def test_every_row_is_stored_once_and_one_report_is_printed(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = parquet(tmp_path / "rows", ROWS, FILES)
    sink = VecbridgeDatasink(url_of(emulator), spec(), rows_per_write=EACH)
    ray.data.read_parquet(paths, override_num_blocks=FILES).write_datasink(sink)
    assert stored(url_of(emulator), api_key=KEY) == checksums([rows(EACH, n * EACH) for n in range(FILES)])
    assert sink.report == vb.WriteReport(written=ROWS)
    printed = capsys.readouterr().out
    assert printed.count("rows written") == 1
    assert f"#photos: {ROWS:,} rows written, 0 failed, in {FILES} tasks" in printed


def test_a_worker_that_is_killed_in_the_middle_loses_no_row_and_doubles_none(
    tmp_path: Path, attempts: Path
) -> None:
    paths = parquet(tmp_path / "rows", ROWS, 2)
    with Emulator(api_key=KEY, latency=0.2) as emulator:
        sink = Watched(
            attempts, url_of(emulator), spec(), rows_per_write=ROWS // 2, workers=1, on_report=lambda _: None
        )
        dataset = ray.data.read_parquet(paths, override_num_blocks=2)
        # More than one task's rows are there, so that the later worker has written some, and not yet all.
        with Killer(attempts, lambda: ROWS // 2 < upserted(emulator) < ROWS) as killer:
            dataset.write_datasink(sink, concurrency=2)
        assert killer.killed is not None
        assert sorted(attempts_by_task(attempts).values()) == [1, 2], "the killed task was begun again"
        assert upserted(emulator) > ROWS, "what the killed worker had written came again"
        assert stored(url_of(emulator), api_key=KEY) == checksums(
            [rows(ROWS // 2), rows(ROWS // 2, ROWS // 2)]
        )
        assert sink.report == vb.WriteReport(written=ROWS)


def test_a_run_that_failed_goes_on_from_rays_checkpoint_and_stores_every_row_once(
    emulator: Emulator, tmp_path: Path, attempts: Path, checkpoint: Path
) -> None:
    paths = parquet(tmp_path / "rows", ROWS, FILES)
    failing = Failing(attempts, url_of(emulator), spec(), rows_per_write=EACH)
    with pytest.raises(Exception, match="told to fail"):
        ray.data.read_parquet(paths, override_num_blocks=FILES).write_datasink(failing, concurrency=1)
    first = upserted(emulator)
    assert 0 < first < ROWS
    assert list(checkpoint.glob("*.parquet"))
    again = VecbridgeDatasink(url_of(emulator), spec(), rows_per_write=EACH, on_report=lambda _: None)
    ray.data.read_parquet(paths, override_num_blocks=FILES).write_datasink(again)
    assert upserted(emulator) < first + ROWS, "what the checkpoint knows was not sent again"
    assert upserted(emulator) >= ROWS
    assert stored(url_of(emulator), api_key=KEY) == checksums([rows(EACH, n * EACH) for n in range(FILES)])
    assert again.report is not None
    assert again.report.written == upserted(emulator) - first


def test_a_checkpoint_of_rows_that_would_be_missing_in_a_new_collection_is_refused(
    emulator: Emulator, tmp_path: Path, checkpoint: Path
) -> None:
    paths = parquet(tmp_path / "rows", 100, 2)
    ray.data.read_parquet(paths).write_datasink(
        VecbridgeDatasink(url_of(emulator), spec(), on_report=lambda _: None)
    )
    for sink in (
        VecbridgeDatasink(url_of(emulator), spec(), if_exists="replace"),
        VecbridgeDatasink(url_of(emulator), spec("others")),
    ):
        with pytest.raises(Exception, match="would be made anew, without them") as caught:
            ray.data.read_parquet(paths).write_datasink(sink)
        assert isinstance(cause_of(caught.value), vb.ConfigError)
    assert stored(url_of(emulator), api_key=KEY) == checksums([rows(50), rows(50, 50)])
    with vb.connect(url_of(emulator), api_key=KEY) as store:
        assert store.collections() == ["photos"]


def test_the_same_write_twice_stores_every_row_once(emulator: Emulator) -> None:
    for _ in range(2):
        sink = VecbridgeDatasink(url_of(emulator), spec(), on_report=lambda _: None)
        ray.data.from_arrow(rows(1_000)).write_datasink(sink)
    assert upserted(emulator) == 2_000
    assert stored(url_of(emulator), api_key=KEY) == checksums([rows(1_000)])


def test_rows_whose_ids_are_there_are_skipped_on_request(emulator: Emulator) -> None:
    url = url_of(emulator)
    ray.data.from_arrow(rows(10)).write_datasink(VecbridgeDatasink(url, spec(), on_report=lambda _: None))
    sink = VecbridgeDatasink(url, spec(), on_conflict="skip", on_report=lambda _: None)
    changed = rows(20).set_column(2, "year", pa.array([1900] * 20))
    ray.data.from_arrow(changed).write_datasink(sink)
    assert sink.report == vb.WriteReport(written=10, skipped=10)
    with vb.connect(url, api_key=KEY) as store:
        years = store.open("photos").fetch(["row-0000003", "row-0000013"]).column("year").to_pylist()
    assert years == [2003, 1900]


# ----------------------------------------------------------------------------------------- dead letters


def letters(folder: Path) -> list[dict[str, Any]]:
    """The dead letters of all tasks."""
    paths = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def test_null_ids_and_refused_rows_are_dead_letters(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.add(Fault(operations=["upsert"], poison="row-0000007"))
    table = rows(300)
    ids = table.column("id").to_pylist()
    ids[3] = None
    vectors = table.column("vector").combine_chunks().flatten().to_numpy().reshape(-1, DIM).copy()
    vectors[5, 0] = np.nan
    table = pa.table(
        {"id": pa.array(ids, pa.string()), "vector": pa.array(list(vectors), pa.list_(pa.float32())),
         "year": table.column("year")}
    )  # fmt: skip
    reports: list[str] = []
    folder = tmp_path / "letters"
    sink = VecbridgeDatasink(url_of(emulator), spec(), dead_letters=str(folder), on_report=reports.append)
    ray.data.from_arrow(table).write_datasink(sink)
    assert sink.report is not None
    assert (sink.report.written, sink.report.failed) == (297, 3)
    assert [letter["id"] for letter in letters(folder)] == [None, "row-0000005", "row-0000007"]
    assert "the id is null" in letters(folder)[0]["error"]
    assert letters(folder)[0]["record"]["year"] == 2003
    assert "NaN" in letters(folder)[1]["error"]
    assert f"3 failed (dead letters in {folder})" in reports[0]
    assert not list(folder.glob(".*"))


def test_a_killed_attempt_leaves_no_dead_letter_twice(tmp_path: Path, attempts: Path) -> None:
    tables = [rows(500, n * 500) for n in range(4)]
    bad = pa.concat_tables(
        [table.set_column(0, "id", pa.array([None, *table.column("id").to_pylist()[1:]])) for table in tables]
    )
    folder = tmp_path / "letters"
    with Emulator(api_key=KEY, latency=0.2) as emulator:
        sink = Watched(
            attempts, url_of(emulator), spec(), dead_letters=str(folder), workers=1, on_report=lambda _: None
        )
        with Killer(attempts, lambda: upserted(emulator) > 0) as killer:
            ray.data.from_arrow(bad).write_datasink(sink)
        assert killer.killed is not None
    assert attempts_by_task(attempts) == {0: 2}
    assert sorted(letter["record"]["year"] for letter in letters(folder)) == [2000] * len(letters(folder))
    assert sink.report is not None
    assert sink.report.failed == len(letters(folder)) == 4


def test_more_failed_rows_than_allowed_end_the_run_after_its_report(emulator: Emulator) -> None:
    reports: list[str] = []
    table = pa.concat_tables([rows(10), rows(10, 10).set_column(0, "id", pa.nulls(10, pa.string()))])
    sink = VecbridgeDatasink(url_of(emulator), spec(), max_failures=9, on_report=reports.append)
    with pytest.raises(Exception, match=r"10 failed|10 rows|10 of") as caught:
        ray.data.from_arrow(table).write_datasink(sink)
    assert isinstance(cause_of(caught.value), vb.PartialWriteError)


# ------------------------------------------------------------------------------------------- namespaces


def test_a_column_says_which_namespace_a_row_goes_to(emulator: Emulator, tmp_path: Path) -> None:
    names = ["eu", "us", None, "no blanks", ""] * 20
    table = rows(100).append_column("tenant", pa.array(names))
    folder = tmp_path / "letters"
    sink = VecbridgeDatasink(
        url_of(emulator), spec(namespaced=True), namespace_column="tenant", dead_letters=str(folder),
        on_report=lambda _: None,
    )  # fmt: skip
    ray.data.from_arrow(table).write_datasink(sink)
    assert sink.report is not None
    assert (sink.report.written, sink.report.failed) == (60, 40)
    with vb.connect(url_of(emulator), api_key=KEY) as store:
        for namespace, first in (("eu", 0), ("us", 1), ("", 4)):
            opened = store.open("photos", namespace=namespace)
            ids = {key for page in opened.scan(include=()) for key in page.batch["id"].to_pylist()}
            assert ids == {f"row-{number:07}" for number in range(first, 100, 5)}
    errors = {letter["error"] for letter in letters(folder)}
    assert errors == {"the namespace is null", "namespace 'no blanks': 1 to 64 of A-Z a-z 0-9 _ -"}
    assert len(letters(folder)) == 40


# ------------------------------------------------------------------------------ what comes out of Ray


def tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """As a model in NumPy returns its vectors."""
    return {"id": batch["id"], "vector": np.stack(list(batch["vector"])), "year": batch["year"]}


def frames(batch: pd.DataFrame) -> pd.DataFrame:
    """A block of pandas."""
    return batch.assign(vector=[list(map(float, vector)) for vector in batch["vector"]])


@pytest.mark.parametrize(
    ("convert", "form"), [(tensors, "numpy"), (frames, "pandas")], ids=["numpy", "pandas"]
)
def test_tensors_and_frames_are_stored_as_arrow_is(
    convert: Callable[[Any], Any], form: str, emulator: Emulator
) -> None:
    dataset = ray.data.from_arrow(rows(200)).map_batches(convert, batch_format=form)
    dataset.write_datasink(VecbridgeDatasink(url_of(emulator), spec(), on_report=lambda _: None))
    assert stored(url_of(emulator), api_key=KEY) == checksums([rows(200)])


@pytest.mark.parametrize("change", ["an unknown column", "a missing column"])
def test_a_column_that_does_not_fit_ends_the_job_and_writes_nothing(change: str, emulator: Emulator) -> None:
    table = rows(10)
    table = table.append_column("bytes", pa.nulls(10)) if "unknown" in change else table.drop_columns(["id"])
    with pytest.raises(Exception, match=r"'bytes'|'id'") as caught:
        ray.data.from_arrow(table).write_datasink(VecbridgeDatasink(url_of(emulator), spec()))
    assert isinstance(cause_of(caught.value), vb.SchemaError)
    assert upserted(emulator) == 0


# ------------------------------------------------------------------------------------- embedded stores


@pytest.mark.parametrize("scheme", ["faiss", "milvus+lite", "snapshot"])
def test_an_embedded_store_takes_the_rows_of_one_task(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://{tmp_path}/store.db"
    dataset = ray.data.from_arrow([rows(50, n * 50) for n in range(4)])
    dataset.repartition(1).write_datasink(VecbridgeDatasink(url, spec(), on_report=lambda _: None))
    assert stored(url) == checksums([rows(50, n * 50) for n in range(4)])


def test_a_path_is_relative_to_where_the_driver_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ray.data.from_arrow(rows(10)).write_datasink(
        VecbridgeDatasink("faiss:./here", spec(), dead_letters="letters", on_report=lambda _: None)
    )
    assert stored(f"faiss://{tmp_path}/here") == checksums([rows(10)])


@pytest.mark.parametrize("scheme", ["faiss", "milvus+lite", "snapshot"])
def test_an_embedded_store_refuses_a_second_task(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://{tmp_path}/store.db"
    sink = VecbridgeDatasink(url, spec(), rows_per_write=50, on_report=lambda _: None)
    dataset = ray.data.from_arrow([rows(50, n * 50) for n in range(4)])
    with pytest.raises(Exception, match=r"more than one Ray task.*repartition\(1\)") as caught:
        dataset.write_datasink(sink)
    assert isinstance(cause_of(caught.value), vb.UnsupportedError)


def test_a_store_in_memory_is_refused_at_once() -> None:
    with pytest.raises(vb.UnsupportedError, match=r"other processes.*vecbridge load"):
        VecbridgeDatasink("memory://", spec())


# --------------------------------------------------------------------------------------------- arguments


def test_neither_a_client_nor_a_secret_is_pickled(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    sink = VecbridgeDatasink(url_of(emulator), spec())
    sink.on_write_start()
    assert KEY.encode() not in pickle.dumps(sink)
    copied = pickle.loads(pickle.dumps(sink))
    report = copied.write([rows(10)], SimpleNamespace(task_idx=0, kwargs={}))
    assert report.written == 10


@pytest.mark.parametrize(
    ("url", "options"),
    [("pinecone://127.0.0.1:1", {"api_key": KEY}), ("milvus://me:hunter2@127.0.0.1:1", {})],
    ids=["key", "password"],
)
def test_a_secret_that_would_not_reach_the_workers_is_refused(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(vb.ConfigError, match="environment variable") as caught:
        VecbridgeDatasink(url, spec(), **options)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": None}, "which collection"),
        ({"url": "pinecone://127.0.0.1:1#others"}, "names 'others'"),
        ({"namespace": "eu", "namespace_column": "tenant"}, "not both"),
        ({"on_conflict": "error"}, "a task that Ray repeats"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"rows_per_write": 0}, "rows_per_write"),
        ({"if_exists": "perhaps"}, "if_exists"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused(arguments: dict[str, Any], message: str) -> None:
    given = {"url": "pinecone://127.0.0.1:1", "spec": spec()} | arguments
    with pytest.raises(vb.ConfigError, match=message):
        VecbridgeDatasink(**given)


def test_a_task_has_what_fills_the_requests_of_the_store_in_rows_or_in_bytes() -> None:
    small = VecbridgeDatasink("milvus://127.0.0.1:1", spec(dim=16))
    assert (small.min_rows_per_write, small.min_bytes_per_write) == (10_000, None)
    large = VecbridgeDatasink("milvus://127.0.0.1:1", spec(dim=2_048))
    assert (large.min_rows_per_write, large.min_bytes_per_write) == (None, 32 << 20)
    chosen = VecbridgeDatasink("milvus://127.0.0.1:1", spec(dim=2_048), rows_per_write=7)
    assert (chosen.min_rows_per_write, chosen.min_bytes_per_write) == (7, None)
