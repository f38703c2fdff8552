"""What every test shares."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["vecbridge.testing.plugin"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
