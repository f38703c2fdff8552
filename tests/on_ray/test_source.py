"""Collections are read as Ray datasets: every row once, in parts, and nothing that was not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

import vecbridge as vb
from tests.on_ray.helpers import KEY, checksums, rows, spec, url_of
from vecbridge import field
from vecbridge.integrations.ray import VecbridgeDatasink, VecbridgeDatasource
from vecbridge.testing.pinecone import Emulator
from vecbridge.testing.pinecone import data as pinecone_data
from vecbridge.testing.weaviate import Emulator as Weaviate

ROWS = 2_000


@pytest.fixture
def faiss(tmp_path: Path) -> str:
    """The URL of a collection in files."""
    url = f"faiss://{tmp_path}/vectors"
    with vb.connect(url) as store:
        vb.write(store.create(spec()), rows(ROWS))
    return f"{url}#photos"


@pytest.fixture
def weaviate() -> Iterator[str]:
    """The URL of a collection in an emulated Weaviate."""
    with Weaviate() as server:
        url = server.url
        with vb.connect(url) as store:
            vb.write(store.create(spec()), rows(ROWS))
        yield f"{url}#photos"


@pytest.fixture
def pinecone(emulator: Emulator) -> str:
    """The URL of a collection in an emulated Pinecone."""
    with vb.connect(url_of(emulator), api_key=KEY) as store:
        vb.write(store.create(spec()), rows(ROWS))
    return f"{url_of(emulator)}#photos"


def read(source: VecbridgeDatasource, parts: int = 4) -> list[pa.Table]:
    """The blocks of a dataset."""
    dataset = ray.data.read_datasource(source, override_num_blocks=parts)
    return list(dataset.iter_batches(batch_format="pyarrow", batch_size=None))


@pytest.mark.parametrize(("url", "parts"), [("faiss", 4), ("weaviate", 4), ("pinecone", 1)])
def test_every_row_is_read_once_in_as_many_parts_as_the_store_can_split(
    url: str, parts: int, request: pytest.FixtureRequest
) -> None:
    source = VecbridgeDatasource(request.getfixturevalue(url), batch_rows=300)
    assert len(source.get_read_tasks(4)) == parts
    assert checksums(read(source)) == checksums([rows(ROWS)])


def test_a_filter_that_is_pushed_down_reads_only_its_rows(
    pinecone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    call = pinecone_data.Data.call

    def counted(self: Any, operation: str, body: Any) -> Any:
        answer = call(self, operation, body)
        sent.append(len(answer.body.get("vectors", ())))
        return answer

    monkeypatch.setattr(pinecone_data.Data, "call", counted)
    wanted = field("year") == 2007
    tables = read(VecbridgeDatasource(pinecone, filter=wanted))
    assert checksums(tables) == checksums([rows(ROWS).filter(pa.compute.equal(rows(ROWS)["year"], 2007))])
    assert sum(sent) == ROWS // 20


def test_columns_that_are_not_wanted_are_not_read(faiss: str) -> None:
    [*tables] = read(VecbridgeDatasource(faiss, include=["year"]))
    assert {tuple(table.column_names) for table in tables} == {("id", "year")}
    assert sum(table.num_rows for table in tables) == ROWS


def test_selecting_columns_behind_the_read_narrows_the_scan(faiss: str) -> None:
    source = VecbridgeDatasource(faiss)
    narrowed = source.apply_projection({"year": "year"})
    [task] = narrowed.get_read_tasks(1)
    assert {tuple(table.column_names) for table in task()} == {("year",)}
    dataset = ray.data.read_datasource(source).select_columns(["year"])
    assert dataset.sum("year") == sum(rows(ROWS).column("year").to_pylist())
    assert source.get_projection_map() is None, "the source itself stays as it is"


def test_no_rows_give_an_empty_dataset_with_its_schema(faiss: str) -> None:
    dataset = ray.data.read_datasource(VecbridgeDatasource(faiss, filter=field("year") > 3000))
    assert dataset.count() == 0
    assert dataset.schema().names == ["id", "vector", "year"]


def test_all_namespaces_are_read_with_a_column_that_says_which(emulator: Emulator) -> None:
    url = url_of(emulator)
    with vb.connect(url, api_key=KEY) as store:
        store.create(spec(namespaced=True))
        for name, count in (("eu", 30), ("us", 20)):
            store.open("photos", namespace=name).upsert(rows(count).to_batches()[0])
    tables = read(VecbridgeDatasource(f"{url}#photos", namespace_column="tenant"))
    table = pa.concat_tables(tables)
    assert table.group_by("tenant").aggregate([("id", "count")]).sort_by("tenant").to_pylist() == [
        {"tenant": "eu", "id_count": 30},
        {"tenant": "us", "id_count": 20},
    ]


def test_a_store_of_one_process_is_read_by_one_task(tmp_path: Path) -> None:
    url = f"milvus+lite://{tmp_path}/store.db"
    with vb.connect(url) as store:
        vb.write(store.create(spec()), rows(200))
    source = VecbridgeDatasource(f"{url}#photos")
    assert len(source.get_read_tasks(4)) == 1
    assert checksums(read(source)) == checksums([rows(200)])


def test_a_dataset_goes_from_one_store_to_another(faiss: str, emulator: Emulator) -> None:
    dataset = ray.data.read_datasource(VecbridgeDatasource(faiss), override_num_blocks=4)
    dataset.write_datasink(VecbridgeDatasink(url_of(emulator), spec(), on_report=lambda _: None))
    assert checksums(read(VecbridgeDatasource(f"{url_of(emulator)}#photos"))) == checksums([rows(ROWS)])


def test_what_does_not_fit_the_collection_is_refused_before_anything_is_read(faiss: str) -> None:
    with pytest.raises(vb.SchemaError, match="colour"):
        VecbridgeDatasource(faiss, include=["colour"]).get_read_tasks(2)
    with pytest.raises(vb.SchemaError, match="colour"):
        VecbridgeDatasource(faiss, filter=field("colour") == "red").get_read_tasks(2)
    with pytest.raises(vb.NotFoundError, match="foto"):
        VecbridgeDatasource(faiss.replace("#photos", "#fotos")).get_read_tasks(2)
    with pytest.raises(vb.UnsupportedError, match="other processes"):
        VecbridgeDatasource("memory://#photos")
    with pytest.raises(vb.ConfigError, match="namespace_column"):
        VecbridgeDatasource("weaviate://127.0.0.1:1?namespace=eu#photos", namespace_column="tenant")
