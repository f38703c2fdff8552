"""What a verification needs before it begins: its queries, its plan, a place for ledgers, versions."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from vecbridge.errors import ConfigError, JournalError
from vecbridge.migration.plans import Plan
from vecbridge.migration.sides import Side
from vecbridge.query import FloatArray
from vecbridge.registry import BUILT_IN


def query_vectors(queries: ArrayLike | None) -> FloatArray | None:
    """The user's queries as float32 of shape (n, dim).

    Raises:
        ConfigError: No vectors, or none that can be compared.
    """
    if queries is None:
        return None
    try:
        given: FloatArray = np.atleast_2d(np.ascontiguousarray(queries, np.float32))
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"queries: vectors of shape (n, dim) are wanted ({exc})") from exc
    if given.ndim != 2 or not given.size or not np.isfinite(given).all():
        raise ConfigError(f"queries of shape {given.shape}: at least one of (n, dim), finite")
    return given


def require_pause(name: str, seconds: float) -> None:
    """Refuses what is no time to wait; 0 is not to wait at all.

    Raises:
        ConfigError: Names the argument.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ConfigError(f"{name}={seconds!r}: seconds, from 0")


def plan_of_journal(path: Path) -> Plan:
    """The plan that a copy has pinned in its journal, which is not locked and not altered.

    Raises:
        JournalError: No such journal.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
        values = header["plan"]
    except OSError as exc:
        raise JournalError(f"{path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise JournalError(f"{path}: no journal of a migration ({exc!r})") from exc
    return Plan.from_dict(values)


@contextmanager
def scratch(directory: str | os.PathLike[str] | None) -> Iterator[Path]:
    """A directory of this run alone, removed at the end."""
    if directory is not None:
        Path(directory).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vecbridge-verify-", dir=directory) as made:
        yield Path(made)


def versions(source: Side, target: Side) -> dict[str, str]:
    """Versions of vecbridge, and of what the extras of both stores have installed."""
    from vecbridge import __version__

    found = {"vecbridge": __version__, "Python": platform.python_version()}
    extras = {
        BUILT_IN[scheme].extra for side in (source, target) if (scheme := side.store.url.scheme) in BUILT_IN
    }
    try:
        requirements = metadata.requires("vecbridge") or []
    except metadata.PackageNotFoundError:
        requirements = []
    wanted = ["numpy", "pyarrow"]
    for line in requirements:
        package, _, condition = line.partition(";")
        if any(f'extra == "{extra}"' in condition or f"extra == '{extra}'" in condition for extra in extras):
            wanted.append(package.strip().split(">")[0].split("=")[0].split("<")[0].split("[")[0].strip())
    for name in dict.fromkeys(wanted):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
