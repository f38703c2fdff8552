"""Files that somebody else may have made: refused by name, before a row of them is given."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.stores.snapshot.helpers import names, parts, rows, small, snapshot_store, versions
from vecbridge.errors import ConfigError, CorruptStoreError
from vecbridge.filters import field
from vecbridge.query import Query
from vecbridge.stores.snapshot import pending

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def made(place: Path) -> Path:
    """A closed store with one file of five rows."""
    with snapshot_store(place) as store:
        spec = store.create(small()).spec
        store.open("photos").upsert(rows(spec, names(5)))
    return place


def entry(manifest: dict[str, Any]) -> dict[str, Any]:
    [namespace] = manifest["namespaces"]
    [file] = namespace["files"]
    return file


def change_manifest(place: Path, change: Change) -> None:
    path = place / "photos" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))


def change_rows(place: Path, table: pa.Table, **options: Any) -> None:
    """Puts another Parquet file in the place of the one that there is, with a manifest that fits."""
    [path] = parts(place)
    pq.write_table(table, path, **({"store_schema": False, "use_dictionary": False} | options))
    data = path.read_bytes()

    def change(manifest: dict[str, Any]) -> None:
        entry(manifest).update(
            size=len(data), sha256=hashlib.sha256(data).hexdigest(), rows=table.num_rows, span=table.num_rows
        )
        [namespace] = manifest["namespaces"]
        namespace.update(rows=table.num_rows, next=table.num_rows)
        manifest["rows"] = table.num_rows

    change_manifest(place, change)


def refused(place: Path, kind: type[Exception], match: str) -> None:
    """No way of reading gives a row, and nothing is changed."""
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for read in (
        lambda photos: list(photos.scan()),
        lambda photos: photos.fetch(names(5)),
        lambda photos: photos.search(Query([1.0, 2.0, 3.0, 4.0], k=3)),
    ):
        with snapshot_store(place) as store, pytest.raises(kind, match=match):
            read(store.open("photos"))
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert after == before


def set_in(key: str, value: Any) -> Change:
    return lambda manifest: manifest.update({key: value})


def in_namespace(**values: Any) -> Change:
    return lambda manifest: manifest["namespaces"][0].update(values)


def in_file(**values: Any) -> Change:
    return lambda manifest: entry(manifest).update(values)


def twice(manifest: dict[str, Any]) -> None:
    manifest["namespaces"] *= 2


def with_a_second_file(manifest: dict[str, Any]) -> None:
    """Another file of as many rows, whose numbers are those of the first."""
    [namespace] = manifest["namespaces"]
    [file] = namespace["files"]
    namespace["files"].append(file | {"name": "part-00000001-000001.parquet"})
    namespace.update(rows=2 * file["rows"], next=2 * file["rows"])
    manifest["rows"] = 2 * file["rows"]


def without(key: str) -> Change:
    return lambda manifest: manifest.pop(key)


MANIFESTS: dict[str, Change] = {
    "a path upwards": in_file(name="../../../etc/passwd"),
    "an absolute path": in_file(name="/etc/passwd"),
    "a path upwards to a file of ours": in_file(name="../eu/part-00000001-000000.parquet"),
    "an absolute path to a file of ours": in_file(name="/tmp/part-00000001-000000.parquet"),
    "two files with the same numbers": with_a_second_file,
    "a name of another form": in_file(name="part-00000001-000000.parquet\0"),
    "a directory upwards": in_namespace(directory=".."),
    "an absolute directory": in_namespace(directory="/tmp"),
    "the directory of pending requests": in_namespace(directory="_pending"),
    "no hash": in_file(sha256=""),
    "fewer rows than none": in_file(rows=-1),
    "rows that are no number": in_file(rows="5"),
    "rows that are true": in_file(rows=True),
    "more rows than numbers": in_file(rows=6),
    "more fields than the spec": in_file(fields=3),
    "numbers beyond the next one": in_file(first=1),
    "a file of a later version": in_file(since=99),
    "another sum of rows": set_in("rows", 6),
    "two namespaces of one name": twice,
    "a namespace where there can be none": in_namespace(name="eu"),
    "a namespace with a slash": in_namespace(name="a/b"),
    "no spec": without("spec"),
    "no token": set_in("token", ""),
    "no files": lambda manifest: manifest["namespaces"][0].pop("files"),
    "no format": without("format"),
    "namespaces that are none": set_in("namespaces", [1]),
}


@pytest.mark.parametrize("fault", MANIFESTS)
def test_a_manifest_that_contradicts_itself_or_leads_elsewhere_is_refused(made: Path, fault: str) -> None:
    change_manifest(made, MANIFESTS[fault])
    refused(made, CorruptStoreError, "manifest.json is damaged")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1e999}'])
def test_a_manifest_that_is_no_json_is_refused(made: Path, text: str) -> None:
    (made / "photos" / "manifest.json").write_text(text)
    refused(made, CorruptStoreError, "manifest.json is damaged")


def test_a_manifest_larger_than_16_mb_is_refused_unread(made: Path) -> None:
    path = made / "photos" / "manifest.json"
    path.write_bytes(path.read_bytes() + b" " * (16 << 20))
    refused(made, CorruptStoreError, "manifest.json is larger than 16 MB")


def test_a_newer_format_says_what_to_do_and_which_it_is(made: Path) -> None:
    change_manifest(made, set_in("format", 2))
    refused(made, ConfigError, "has format 2, .* reads up to 1: install a newer one")


@pytest.mark.parametrize("linked", ["file", "namespace", "collection", "manifest"])
def test_no_link_is_followed(made: Path, tmp_path: Path, linked: str) -> None:
    [part] = parts(made)
    path = {
        "file": part, "namespace": part.parent, "collection": made / "photos",
        "manifest": made / "photos" / "manifest.json",
    }[linked]  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    os.symlink(elsewhere, path)
    refused(made, CorruptStoreError, "links are not followed")


def test_a_device_is_not_read(made: Path) -> None:
    [part] = parts(made)
    part.unlink()
    os.mkfifo(part)
    refused(made, CorruptStoreError, "not a plain file")


def test_one_changed_bit_is_found_before_a_row_is_given(made: Path) -> None:
    [part] = parts(made)
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    refused(made, CorruptStoreError, f"{part.name} was changed: its SHA-256 is not the manifest's")


def test_a_file_that_is_changed_while_a_store_is_open_is_hashed_again(made: Path) -> None:
    [part] = parts(made)
    with snapshot_store(made) as store:
        photos = store.open("photos")
        assert photos.fetch(["r000001"]).num_rows == 1
        data = bytearray(part.read_bytes())
        data[100] ^= 1
        part.write_bytes(data)
        with pytest.raises(CorruptStoreError, match="SHA-256"):
            photos.fetch(["r000001"])


def test_a_file_of_another_length_is_refused_unread(made: Path) -> None:
    [part] = parts(made)
    part.write_bytes(part.read_bytes()[:-1])
    refused(made, CorruptStoreError, "bytes, not")


def test_a_missing_file_is_named(made: Path) -> None:
    [part] = parts(made)
    part.unlink()
    refused(made, CorruptStoreError, f"{part.name} is missing, and the manifest names it")


def test_rows_and_columns_must_be_what_the_manifest_says(made: Path) -> None:
    [part] = parts(made)
    table = pq.read_table(part)
    copy = made.with_name("copy")
    shutil.copytree(made, copy)

    def check(table: pa.Table, match: str, **options: Any) -> None:
        shutil.rmtree(made)
        shutil.copytree(copy, made)
        change_rows(made, table, **options)
        refused(made, CorruptStoreError, match)

    check(table.drop_columns(["s"]), "has other columns")
    check(table.rename_columns(["id", "vector", "n", "t"]), "has other columns")
    check(table.set_column(2, "n", table["n"].cast(pa.int32())), "has other columns")
    nullable = pa.schema([field.with_nullable(True) for field in table.schema])
    check(table.cast(nullable), "has other columns")
    fixed = pa.FixedSizeListArray.from_arrays(table["vector"].combine_chunks().flatten(), 4)
    check(table.set_column(1, "vector", fixed), "a schema of Arrow's own", store_schema=True)
    check(table, "is encoded as .*DICTIONARY", use_dictionary=["s"])
    short = pa.array([[1.0, 2.0]] * 5, table.schema.field("vector").type)
    check(
        table.set_column(1, table.schema.field("vector"), short), "a vector of 'vector' has not 4 dimensions"
    )


def test_text_that_is_no_utf8_is_refused(made: Path) -> None:
    [part] = parts(made)
    table = pq.read_table(part)
    broken = pa.array([b"\xff\xfe"] * 5, pa.binary()).view(pa.string())
    change_rows(made, table.set_column(3, table.schema.field("s"), broken))
    with snapshot_store(made) as store:
        photos = store.open("photos")
        for read in (
            lambda: list(photos.scan()),
            lambda: photos.fetch(names(1)),
            lambda: photos.count(field("s") == ""),
        ):
            with pytest.raises(CorruptStoreError, match=f"{part.name} is damaged: .*UTF8"):
                read()


def test_a_row_count_other_than_the_manifests_is_refused(made: Path) -> None:
    [part] = parts(made)
    change_rows(made, pq.read_table(part).slice(1))
    change_manifest(made, in_file(rows=3, span=4))
    change_manifest(made, in_namespace(rows=3))
    change_manifest(made, set_in("rows", 3))
    refused(made, CorruptStoreError, "has 4 rows, not 3")


class Uuid(pa.ExtensionType):
    """An extension type that is registered while the file is read."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "vecbridge.test")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Uuid:
        return cls()


def test_an_extension_type_is_refused(made: Path) -> None:
    [part] = parts(made)
    table = pq.read_table(part)
    pa.register_extension_type(Uuid())
    try:
        strange = pa.ExtensionArray.from_storage(Uuid(), table["s"].combine_chunks())
        change_rows(made, table.set_column(3, "s", strange), store_schema=True)
        refused(made, CorruptStoreError, "a schema of Arrow's own")
    finally:
        pa.unregister_extension_type("vecbridge.test")


def test_a_row_group_that_is_too_large_to_decode_is_refused_from_its_footer(made: Path) -> None:
    [part] = parts(made)
    schema = pq.read_schema(part)
    text = "x" * (3 << 20)
    count = 100  # 300 MB of text, which compression makes small
    columns = [
        pa.array(names(count)), pa.array([[1.0] * 4] * count, schema.field("vector").type),
        pa.array(np.zeros(count, np.int64)), pa.array([text] * count),
    ]  # fmt: skip
    change_rows(made, pa.table(columns, schema=schema), compression="zstd", write_statistics=False)
    refused(made, CorruptStoreError, "row group 0 takes 300 MB decoded, over 256")


@pytest.mark.parametrize("part", [False, True])
def test_a_damaged_pending_request_is_refused_by_name(
    place: Path, monkeypatch: pytest.MonkeyPatch, part: bool
) -> None:
    monkeypatch.setattr(pending, "PART_BYTES", 1 if part else 1 << 30)
    copy = place.with_name("copy")
    with snapshot_store(place) as store:
        spec = store.create(small()).spec
        store.open("photos").upsert(rows(spec, names(5)))
        shutil.copytree(place, copy)
    [request] = (copy / "photos" / "_pending").iterdir()
    whole = request.read_bytes()
    with snapshot_store(copy) as store:
        assert versions(store.open("photos")) == dict.fromkeys(names(5), 0)
    for broken in (b"", whole[: len(whole) // 2], b"x" * len(whole)):
        shutil.rmtree(copy)
        copy.joinpath("photos", "_pending").mkdir(parents=True)
        request.write_bytes(broken)
        shutil.copy(place / "photos" / "manifest.json", copy / "photos")
        change_manifest(copy, in_namespace(files=[], merged=0, rows=0, next=0))
        change_manifest(copy, set_in("rows", 0))
        refused(copy, CorruptStoreError, request.name)
