"""What every test shares."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import servers
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
    config.pluginmanager.register(servers)  # calls its pytest_configure
    if not config.getoption("numprocesses", None):
        return
    stores = config.getoption("--stores")
    wanted = [MILVUS.id, WEAVIATE.id] if stores is None else stores.split(",")
    for case, server in ((MILVUS, milvus), (WEAVIATE, weaviate)):
        if case.id in wanted and not server.missing():
            with suppress(Exception):  # remembered: the tests that need it fail, the others run
                os.environ[f"{case.id.upper()}_URL"] = server.shared_url()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist=loadfile the files that start a Milvus are one, since one of it runs at a time."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "milvus" if file.startswith("tests/stores/milvus/") else file

    return Files(config, log)


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
