"""What every test shares."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "vecbridge.testing.plugin"]

# The same examples on every machine, however slow it is; --hypothesis-profile=default draws new ones.
settings.register_profile("vecbridge", deadline=None, derandomize=True)
settings.load_profile("vecbridge")

# What runs in the background is started with interrupts ignored, and passes that on; some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Takes back what a command set as the level of vecbridge's log lines."""
    yield
    logging.getLogger("vecbridge").setLevel(logging.NOTSET)
