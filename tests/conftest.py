"""Fixtures and options of all tests."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import servers
from tests.stores.milvus import server as milvus
from tests.stores.weaviate import server as weaviate
from vecbridge.testing.cases import MILVUS_GAPS, StoreCase

pytest_plugins = ["pytester", "vecbridge.testing.plugin"]

# Hypothesis draws the same examples in every run, and no time limit fails one on a slow machine.
# --hypothesis-profile=default draws new ones.
settings.register_profile("vecbridge", deadline=None, derandomize=True)
settings.load_profile("vecbridge")

# A shell starts background jobs with SIGINT ignored, and child processes inherit that. Some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
#: Parameters of tests that are names of stores.
_STORE_NAMES = frozenset({"client", "first", "kind", "second", "server", "source", "store", "target"})


MILVUS = StoreCase(
    id="milvus",
    url=lambda _: milvus.shared_url(),
    missing=milvus.missing,
    known=MILVUS_GAPS,
    examples=3,
    recall_rows=5_000,
)
WEAVIATE = StoreCase(
    id="weaviate",
    url=lambda _: weaviate.url(),
    missing=weaviate.client_missing,
    emulated=weaviate.missing() is not None,
    examples=5,
    exact=weaviate.missing() is not None,  # then it is emulated, too
    recall_rows=4_000,
)
WEAVIATE_EMULATED = StoreCase(
    id="weaviate-emulated",
    url=lambda _: weaviate.emulated_url(),
    missing=weaviate.client_missing,
    emulated=True,
    examples=5,
    exact=True,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--long``."""
    parser.addoption(
        "--long",
        action="store_true",
        help="run the tests marked long, too, and twenty kills of a process where there are four without it",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the tests marked long, unless ``--long`` is given."""
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


@cache
def _no_gpu() -> str | None:
    """Why no test can run on a GPU; None where it can. Without a driver, torch need not be imported."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no GPU: there is no NVIDIA driver"
    if util.find_spec("torch") is None:
        return "no GPU: PyTorch is not installed"
    import torch

    return None if torch.cuda.is_available() else f"no GPU: PyTorch {torch.__version__} sees none"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips the tests marked gpu where there is none, before their fixtures are made."""
    if item.get_closest_marker("gpu") and (reason := _no_gpu()):
        pytest.skip(reason)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names the emulated service as such in the ids of tests that take the names of stores."""
    if argname in _STORE_NAMES and isinstance(val, str) and val == "pinecone":
        return "pinecone-emulated"
    return None


def pytest_vecbridge_cases() -> list[StoreCase]:
    """Cases of stores whose servers the tests start."""
    return [MILVUS, WEAVIATE, WEAVIATE_EMULATED]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Says in pytest's header why Weaviate is emulated."""
    stores = config.getoption("--stores")
    if not WEAVIATE.emulated or weaviate.client_missing():
        return []
    if stores is not None and WEAVIATE.id not in stores.split(","):
        return []
    return ["weaviate: put weaviate-server on PATH or set WEAVIATE_URL to test a genuine one"]


def pytest_configure(config: pytest.Config) -> None:
    """Starts the servers that all workers share, before the workers start."""
    config.pluginmanager.register(servers)  # calls its pytest_configure
    if not config.getoption("numprocesses", None):
        return
    stores = config.getoption("--stores")
    wanted = [MILVUS.id, WEAVIATE.id] if stores is None else stores.split(",")
    for case, server in ((MILVUS, milvus), (WEAVIATE, weaviate)):
        if case.id in wanted and _covers_tests_of(case.id, config) and not server.missing():
            with suppress(Exception):  # servers.py remembers it: only the tests that need the server fail
                os.environ[f"{case.id.upper()}_URL"] = server.shared_url()


def _covers_tests_of(store: str, config: pytest.Config) -> bool:
    """Whether the paths that pytest was given contain tests that need the store's server."""
    folders = [ROOT / "tests" / "conformance", ROOT / "tests" / "stores" / store]
    given = [(config.invocation_params.dir / path.partition("::")[0]).resolve() for path in config.args]
    return any(
        folder.is_relative_to(path) or path.is_relative_to(folder) for folder in folders for path in given
    )


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist=loadfile, the longest files come first, and some files stay together."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import LongestFirst  # needs pytest-xdist

    return LongestFirst(config, log)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root directory of the checkout."""
    return ROOT


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often a test kills a process at a random point."""
    return 20 if request.config.getoption("--long") else 4


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Resets the level and the handlers of vecbridge's logger, which commands set."""
    yield
    logger = logging.getLogger("vecbridge")
    logger.setLevel(logging.NOTSET)
    logger.handlers.clear()
