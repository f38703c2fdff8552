"""100,000 rows into a genuine Milvus: a worker is killed, a run is cut off, and every row is there once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.data.checkpoint import CheckpointConfig

import vecbridge as vb
from tests.on_ray.helpers import (
    Failing,
    Killer,
    Watched,
    attempts_by_task,
    checksums,
    parquet,
    rows,
    spec,
    stored,
)
from tests.stores.milvus import server
from vecbridge.integrations.ray import VecbridgeDatasink

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROWS, FILES = 100_000, 10
EACH = ROWS // FILES


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a server, in which the collection is made anew."""
    address = server.shared_url()
    yield address
    with vb.connect(address) as store:
        for name in store.collections():
            store.drop(name)


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """The checksums of the source."""
    return checksums([rows(EACH, number * EACH) for number in range(FILES)])


def count(url: str) -> int:
    """Rows that the server counts now."""
    with vb.connect(url) as store:
        return store.open("photos").count()


def test_two_workers_of_which_one_is_killed_store_every_row_once(
    url: str, tmp_path: Path, attempts: Path, expected: dict[str, str]
) -> None:
    paths = parquet(tmp_path / "rows", ROWS, FILES)
    sink = Watched(attempts, url, spec(), rows_per_write=EACH, on_report=lambda _: None)
    with vb.connect(url) as store:
        photos = store.create(spec())
        dataset = ray.data.read_parquet(paths, override_num_blocks=FILES)
        with Killer(attempts, lambda: ROWS // 3 < photos.count() < ROWS * 9 // 10) as killer:
            dataset.write_datasink(sink, concurrency=2)
    assert killer.killed is not None
    assert sum(attempts_by_task(attempts).values()) > FILES, "the killed task was begun again"
    assert sink.report == vb.WriteReport(written=ROWS)
    assert count(url) == ROWS
    assert stored(url) == expected


def test_a_run_that_was_cut_off_goes_on_from_rays_checkpoint(
    url: str, tmp_path: Path, attempts: Path, expected: dict[str, str]
) -> None:
    paths = parquet(tmp_path / "rows", ROWS, FILES)
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        "id", str(tmp_path / "done"), delete_checkpoint_on_success=False
    )
    try:
        failing = Failing(attempts, url, spec(), rows_per_write=EACH)
        failing.good = FILES // 2
        with pytest.raises(Exception, match="told to fail"):
            ray.data.read_parquet(paths, override_num_blocks=FILES).write_datasink(failing, concurrency=2)
        again = VecbridgeDatasink(url, spec(), rows_per_write=EACH, on_report=lambda _: None)
        ray.data.read_parquet(paths, override_num_blocks=FILES).write_datasink(again, concurrency=2)
    finally:
        context.checkpoint_config = None
    assert again.report is not None
    assert 0 < again.report.written < ROWS, "what the checkpoint knows was not sent again"
    assert count(url) == ROWS
    assert stored(url) == expected
