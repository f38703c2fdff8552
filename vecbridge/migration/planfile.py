"""Writes a plan to a file, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from vecbridge.errors import ConfigError
from vecbridge.migration.plans import Plan
from vecbridge.storage import replace_file


def write_plan(path: str | os.PathLike[str], plan: Plan) -> None:
    """Replaces a file by a plan, durably; :meth:`Plan.load` reads it.

    Raises:
        ConfigError: The file cannot be written, or is none.
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        raise ConfigError(f"{file} is no file")
    try:
        replace_file(file, plan.to_json().encode())
    except OSError as exc:
        raise ConfigError(f"{file}: {exc.strerror or exc}") from exc
