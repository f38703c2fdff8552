"""Writes a plan to a file, whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from vecbridge.errors import ConfigError
from vecbridge.migration.plans import Plan


def write_plan(path: str | os.PathLike[str], plan: Plan) -> None:
    """Replaces a file by a plan, durably; :meth:`Plan.load` reads it.

    Raises:
        ConfigError: The file cannot be written, or is none.
    """
    file = Path(path)
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    if file.exists() and not file.is_file():
        raise ConfigError(f"{file} is no file")
    try:
        with aside.open("x", encoding="utf-8") as opened:
            opened.write(plan.to_json())
            opened.flush()
            os.fsync(opened.fileno())
        aside.replace(file)
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        raise ConfigError(f"{file}: {exc.strerror or exc}") from exc
    finally:
        aside.unlink(missing_ok=True)
