"""What lies on the disk: files that other tools read, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.stores.snapshot.helpers import files, names, parts, rows, small, snapshot_store, versions
from vecbridge.indexes import HNSW
from vecbridge.records import batch
from vecbridge.schema import CollectionSpec, EmbedderIdentity, VectorField
from vecbridge.store import Store
from vecbridge.stores.snapshot import layout, merge, pending

TYPES = {
    "flag": "bool", "year": "int64", "price": "float64", "title": "string", "taken": "timestamp",
    "tags": "list<string>", "sizes": "list<int64>", "ratios": "list<float64>", "extra": "json",
}  # fmt: skip
TAKEN = datetime(2020, 5, 17, 12, 30, 0, 123456, tzinfo=UTC)
RECORDS = [
    {
        "id": "a", "vector": [1.0, 2.0, 3.0, 4.0], "flag": True, "year": 2**63 - 1, "price": 0.1, "title": "",
        "taken": TAKEN, "tags": ["sea", ""], "sizes": [-(2**63)], "ratios": [0.5], "extra": '{"a":[1]}',
    },
    {"id": "ü\n", "vector": [0.0, -0.0, 1e-45, 3e38], **dict.fromkeys(TYPES)},
    {"id": "z", "vector": [5.0] * 4, **dict.fromkeys(TYPES), "tags": [], "extra": "null"},
]  # fmt: skip


def by_pandas(pattern: Path) -> list[dict[str, Any]]:
    import pandas as pd

    tables = [pd.read_parquet(path, dtype_backend="pyarrow") for path in pattern.parent.glob(pattern.name)]
    return pa.Table.from_pandas(pd.concat(tables), preserve_index=False).to_pylist()


def by_polars(pattern: Path) -> list[dict[str, Any]]:
    import polars as pl

    return pl.read_parquet(str(pattern)).to_dicts()


def by_duckdb(pattern: Path) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect() as connection:
        return connection.read_parquet(str(pattern)).to_arrow_table().to_pylist()


def by_arrow(pattern: Path) -> list[dict[str, Any]]:
    return ds.dataset(pattern.parent, format="parquet").to_table().to_pylist()


@pytest.mark.parametrize("read", [by_pandas, by_polars, by_duckdb, by_arrow])
def test_a_plain_glob_reads_every_row_and_value(place: Path, read: Callable[[Path], list[Any]]) -> None:
    spec = CollectionSpec.single("photos", dim=4, metric="l2", fields=TYPES)
    with snapshot_store(place) as store:
        photos = store.create(spec)
        photos.upsert([*RECORDS, {"id": "gone", "vector": [1.0] * 4}])
        photos.flush()
        photos.upsert([RECORDS[0]])
        photos.delete(["gone"])
        expected = photos.fetch(["a", "ü\n", "z"]).to_pylist()
    found = sorted(read(place / "photos" / "__default__" / "*.parquet"), key=lambda row: row["id"])
    assert [row["id"] for row in found] == ["a", "z", "ü\n"]
    by_id = {row["id"]: row for row in found}
    for row in expected:
        other = by_id[row["id"]]
        assert other.keys() == row.keys()
        assert {name: _plain(value) for name, value in other.items()} == row


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "tolist") else value


@pytest.mark.parametrize("read", [by_polars, by_duckdb])
def test_a_glob_over_all_directories_reads_all_namespaces(
    place: Path, read: Callable[[Path], list[Any]]
) -> None:
    with snapshot_store(place) as store:
        spec = store.create(small(namespaced=True)).spec
        for number, namespace in enumerate(("", "eu", "us")):
            store.open("photos", namespace=namespace).upsert(rows(spec, names(3, number)))
    found = read(place / "photos" / "**" / "*.parquet")
    assert sorted(row["id"] for row in found) == sorted([*names(3), *names(3, 1), *names(3, 2)])


def test_vectors_are_plain_lists_and_no_schema_of_arrow_is_kept(store: Store, place: Path) -> None:
    photos = store.create(CollectionSpec.single("photos", dim=4, fields=TYPES))
    photos.upsert([{"id": "a", "vector": [1.0] * 4}])
    photos.flush()
    [path] = parts(place)
    metadata = pq.read_metadata(path)
    assert b"ARROW:schema" not in (metadata.metadata or {})
    text = str(metadata.schema)
    assert "required group field_id=-1 vector (List)" in text
    assert "required float field_id=-1 element" in text
    schema = pq.read_schema(path)
    assert schema.field("vector").type == pa.list_(pa.field("element", pa.float32(), nullable=False))
    assert schema.field("taken").type == pa.timestamp("us", tz="UTC")
    assert schema.field("extra").type == pa.string()
    compressions = {metadata.row_group(0).column(place).compression for place in (1, 2)}
    assert compressions == {"UNCOMPRESSED", "ZSTD"}


def test_row_groups_have_about_32_mb_and_files_up_to_their_limit(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(merge, "FILE_BYTES", 3 << 20)
    monkeypatch.setattr(pending, "PART_BYTES", 1 << 40)
    spec = small(dim=256)
    with snapshot_store(place) as store:
        photos = store.create(spec)
        for start in range(0, 10_000, 1_000):
            ids = names(1_000, start)
            photos.upsert(batch(spec, id=ids, vector=[[1.0] * 256] * 1_000, n=[1] * 1_000, s=ids))
    sizes = [path.stat().st_size for path in parts(place)]
    assert len(sizes) == 3
    assert max(sizes) < 5 << 20  # one batch more
    for path in parts(place):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(each).total_byte_size for each in range(metadata.num_row_groups)]
        assert all(0.7 * (1 << 20) < each < 2.1 * (1 << 20) for each in groups[:-1])
    with snapshot_store(place) as store:
        assert store.open("photos").count() == 10_000
        assert sum(page.batch.num_rows for page in store.open("photos").scan(batch_rows=333)) == 10_000


def test_a_large_request_becomes_a_file_without_being_written_twice(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "PART_BYTES", 1)
    spec = small()
    with snapshot_store(place) as store:
        photos = store.create(spec)
        for start in range(0, 300, 100):
            photos.upsert(rows(spec, names(100, start)))
        inodes = {path.stat().st_ino for path in place.rglob("*.part")}
        assert len(inodes) == 3
        assert not parts(place)
        with snapshot_store(place) as others:
            assert versions(others.open("photos")) == dict.fromkeys(names(300), 0)
        photos.upsert(rows(spec, names(10, 295), 1))  # 5 rows of the last request go
        expected = dict.fromkeys(names(295), 0) | dict.fromkeys(names(10, 295), 1)
        assert versions(photos) == expected
    assert len(inodes & {path.stat().st_ino for path in parts(place)}) == 2  # of the third, five rows went
    with snapshot_store(place) as store:
        assert versions(store.open("photos")) == expected


def test_the_manifest_names_every_file_with_its_rows_size_and_hash(place: Path) -> None:
    identity = EmbedderIdentity("clip", "1", 4, "p")
    vector = VectorField("vector", 4, "dot", HNSW(m=32, quantizer="pq", ef=77), identity)
    spec = CollectionSpec("photos", (vector,), small().fields, namespaced=True)
    with snapshot_store(place) as store:
        store.create(spec).upsert(rows(spec, names(5)))
        store.open("photos", namespace="eu").upsert(rows(spec, names(7)))
    manifest = json.loads((place / "photos" / "manifest.json").read_bytes())
    assert (manifest["format"], manifest["rows"]) == (1, 12)
    assert CollectionSpec.from_dict(manifest["spec"]) == spec
    for namespace, count in zip(manifest["namespaces"], (5, 7), strict=True):
        assert namespace["rows"] == count
        [file] = namespace["files"]
        path = place / "photos" / namespace["directory"] / file["name"]
        data = path.read_bytes()
        assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert file["rows"] == pq.read_metadata(path).num_rows == count


def test_only_files_with_replaced_or_deleted_rows_are_written_anew(place: Path) -> None:
    spec = small()
    with snapshot_store(place) as store:
        photos = store.create(spec)
        for start in (0, 100, 200):
            photos.upsert(rows(spec, names(100, start)))
            photos.flush()
        before = parts(place)
        photos.upsert(rows(spec, ["r000150"], 1))
        photos.delete(["r000250", "r000251"])
        photos.flush()
        after = parts(place)
        assert before[0] in after
        assert not {before[1], before[2]} & set(after)
        assert len(after) == 4
        expected = dict.fromkeys(names(300), 0) | {"r000150": 1}
        del expected["r000250"], expected["r000251"]
        assert versions(photos) == expected
        photos.delete(names(300))
        photos.flush()
        assert not parts(place)


def test_nothing_is_left_over_once_the_last_writer_has_closed(place: Path) -> None:
    spec = small(namespaced=True)
    with snapshot_store(place) as store:
        for namespace in ("", "eu"):
            photos = store.create(spec, if_exists="open", namespace=namespace)
            for version in range(3):
                photos.upsert(rows(spec, names(50), version))
                photos.flush()
            photos.delete(names(10))
        store.drop("photos", namespace="eu")
    [name] = [each.name for each in parts(place)]
    assert files(place) == [f"photos/__default__/{name}", "photos/manifest.json"]
    assert {path.name for path in (place / "photos").iterdir()} == {
        "__default__", "_pending", "lock", "manifest.json"
    }  # fmt: skip


def test_namespaces_that_differ_by_case_or_are_called_like_our_files_have_directories_of_their_own(
    place: Path,
) -> None:
    wanted = ["", "Eu", "eu", "EU", "__default__", "__DEFAULT__", "_pending", "lock"]
    spec = small(namespaced=True)
    with snapshot_store(place) as store:
        store.create(spec)
        for number, namespace in enumerate(wanted):
            store.open("photos", namespace=namespace).upsert(rows(spec, names(number + 1)))
    with snapshot_store(place) as store:
        assert store.namespaces("photos") == sorted(wanted)
        for number, namespace in enumerate(wanted):
            assert store.open("photos", namespace=namespace).count() == number + 1
    directories = [path.parent.name for path in parts(place)]
    assert len({each.lower() for each in directories}) == len(wanted)
    assert {"__default__", "Eu", "eu~2", "EU~3", "__default__~2", "lock~2", "_pending~2"} <= set(directories)


def test_files_from_before_a_field_was_added_are_not_touched_and_read_null(place: Path) -> None:
    with snapshot_store(place) as store:
        photos = store.create(small(fields={"n": "int64"}))
        photos.upsert([{"id": "a", "vector": [1.0] * 4, "n": 1}])
        photos.flush()
        [old] = parts(place)
        stamp = old.stat().st_mtime_ns
        photos.upsert([{"id": "b", "vector": [1.0] * 4, "n": 2}])
        photos.add_fields({"s": "string"})
        photos.upsert([{"id": "c", "vector": [1.0] * 4, "n": 3, "s": "C"}])
        expected = [{"id": "a", "s": None}, {"id": "b", "s": None}, {"id": "c", "s": "C"}]
        assert photos.fetch(["a", "b", "c"], include=["s"]).to_pylist() == expected
    assert old.stat().st_mtime_ns == stamp
    with snapshot_store(place) as store:
        photos = store.open("photos")
        assert photos.fetch(["a", "b", "c"], include=["s"]).to_pylist() == expected
        photos.compact()
        [path] = parts(place)
        assert pq.read_table(path)["s"].to_pylist() == [None, None, "C"]


def test_a_renamed_directory_is_a_collection_of_that_name(place: Path) -> None:
    spec = small()
    with snapshot_store(place) as store:
        store.create(spec).upsert(rows(spec, names(3)))
    (place / "photos").rename(place / "others")
    with snapshot_store(place) as store:
        assert store.collections() == ["others"]
        assert store.open("others").spec == spec.renamed("others")
        assert store.open("others").count() == 3
