"""A Ray of this run's own. These tests are run by `make test-ray` alone, and fail where Ray is missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.on_ray.helpers import KEY
from vecbridge.testing.pinecone import Emulator


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors here too, but for those of which Ray is the author and the reader."""
    for category in ("DeprecationWarning", "FutureWarning"):
        config.addinivalue_line("filterwarnings", rf"ignore::{category}:ray(\..*)?$")
    # Ray leaves the processes that it has started to the garbage collector.
    config.addinivalue_line("filterwarnings", r"ignore:subprocess \d+ is still running:ResourceWarning")
    # That a task may be written again is no harm here: upserts are idempotent, as the tests show.
    config.addinivalue_line("filterwarnings", "ignore:Checkpointing with non-file datasink:UserWarning")


@pytest.fixture(scope="session", autouse=True)
def cluster() -> Iterator[None]:
    """Four processors' worth of workers, which inherit this process's environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PINECONE_API_KEY", KEY)
        patch.setenv("RAY_raylet_start_wait_time_s", "150")  # 30 are too few on a busy machine
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the default to come; else it warns
        ray.init(
            num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
            object_store_memory=512 << 20,
        )  # fmt: skip
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.use_datasource_v2 = False  # it would read all the small files of a test in one block
        yield
        ray.shutdown()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulated Pinecone of this test's own."""
    with Emulator(api_key=KEY) as running:
        yield running


@pytest.fixture
def attempts(tmp_path: Path) -> Path:
    """A directory in which each attempt at a task leaves a file."""
    folder = tmp_path / "attempts"
    folder.mkdir()
    return folder
