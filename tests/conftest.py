"""What every test shares."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.stores.milvus import server as milvus
from tests.stores.weaviate import server as weaviate
from vecbridge.testing.cases import MILVUS_GAPS, WEAVIATE_GAPS, StoreCase

pytest_plugins = ["pytester", "vecbridge.testing.plugin"]

# The same examples on every machine, however slow it is; --hypothesis-profile=default draws new ones.
settings.register_profile("vecbridge", deadline=None, derandomize=True)
settings.load_profile("vecbridge")

# What runs in the background is started with interrupts ignored, and passes that on; some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


MILVUS = StoreCase(
    id="milvus",
    url=lambda _: milvus.shared_url(),
    missing=milvus.missing,
    known=MILVUS_GAPS,
    examples=3,
)
WEAVIATE = StoreCase(
    id="weaviate",
    url=lambda _: weaviate.url(),
    missing=weaviate.client_missing,
    known=WEAVIATE_GAPS,
    examples=5,
)
WEAVIATE_EMULATED = StoreCase(
    id="weaviate-emulated",
    url=lambda _: weaviate.emulated_url(),
    missing=weaviate.client_missing,
    known=WEAVIATE_GAPS,
    examples=5,
)


def pytest_vecbridge_cases() -> list[StoreCase]:
    """Stores whose servers the tests start."""
    return [MILVUS, WEAVIATE, WEAVIATE_EMULATED]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Says which store is not the genuine one."""
    stores = config.getoption("--stores")
    if stores is not None and WEAVIATE.id not in stores.split(","):
        return []
    if weaviate.client_missing() or not weaviate.missing():
        return []
    return ["weaviate: emulated; put weaviate-server on PATH or set WEAVIATE_URL to test a genuine one"]


def pytest_configure(config: pytest.Config) -> None:
    """Workers that run at once share a server, which is started before them."""
    if not config.getoption("numprocesses", None):
        return
    stores = config.getoption("--stores")
    wanted = [MILVUS.id, WEAVIATE.id] if stores is None else stores.split(",")
    for case, server in ((MILVUS, milvus), (WEAVIATE, weaviate)):
        if case.id in wanted and not server.missing():
            os.environ[f"{case.id.upper()}_URL"] = server.shared_url()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With --dist=loadgroup a file's tests run on one worker, and all that start a Milvus on the same one."""
    for item in items:
        one_at_a_time = ROOT / "tests/stores/milvus" in item.path.parents
        item.add_marker(pytest.mark.xdist_group("milvus" if one_at_a_time else str(item.path)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Takes back what a command set as the level of vecbridge's log lines and the place they go to."""
    yield
    logger = logging.getLogger("vecbridge")
    logger.setLevel(logging.NOTSET)
    logger.handlers.clear()
