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
    url=lambda _: weaviate.shared_url(),
    missing=weaviate.missing,
    known=WEAVIATE_GAPS,
    examples=5,
)


def pytest_vecbridge_cases() -> list[StoreCase]:
    """Stores whose servers the tests start."""
    return [MILVUS, WEAVIATE]


def pytest_configure(config: pytest.Config) -> None:
    """Workers that run at once share a server, which is started before them."""
    if not config.getoption("numprocesses", None):
        return
    stores = config.getoption("--stores")
    wanted = [MILVUS.id, WEAVIATE.id] if stores is None else stores.split(",")
    for case, server in ((MILVUS, milvus), (WEAVIATE, weaviate)):
        if case.id in wanted and not server.missing():
            os.environ[f"{case.id.upper()}_URL"] = server.shared_url()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Takes back what a command set as the level of vecbridge's log lines."""
    yield
    logging.getLogger("vecbridge").setLevel(logging.NOTSET)
