"""Remembers which servers did not start, so that no other test of the run waits for them again.

A plugin of pytest, which `tests/conftest.py` registers. The reasons are files in a directory of the run,
which its workers (pytest-xdist) know from the environment; pytest prints them once, at its end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

#: Names the directory of this run, for its workers.
VARIABLE = "VECBRIDGE_TEST_RUN"


def pytest_configure(config: pytest.Config) -> None:
    """Makes the directory of the run."""
    if not hasattr(config, "workerinput"):
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="vecbridge-tests-")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says once why a server did not start."""
    if failed := failures():
        terminalreporter.section("servers that did not start")
        for name, reason in failed.items():
            terminalreporter.line(f"{name}: {reason}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the directory of the run."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(VARIABLE, ""), ignore_errors=True)


@contextmanager
def starting(kind: str, settings: str = "") -> Iterator[None]:
    """Starts a server, unless the same one did not start earlier in this run.

    Args:
        kind: What is started, such as "weaviate".
        settings: What this server has of its own. A server that fails with settings of its own says
            nothing of others; one that fails without any stands for all of its kind.
    """
    name = f"{kind} with {settings}" if settings else kind
    failed = failures()
    for known in (kind, name):
        if known in failed:
            pytest.fail(
                f"{known} did not start earlier in this run; pytest says why at its end", pytrace=False
            )
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # pytest-timeout's is no Exception
        _remember(name, exc)
        raise


def failures() -> dict[str, str]:
    """Why servers did not start, by their names."""
    folder = _folder()
    if folder is None:
        return {}
    return {unquote(file.stem): file.read_text("utf-8") for file in sorted(folder.glob("*.failure"))}


def _remember(name: str, exc: BaseException) -> None:
    folder = _folder()
    if folder is not None:
        reason = "".join(traceback.format_exception_only(exc)).strip()
        (folder / f"{quote(name, safe='')}.failure").write_text(reason, "utf-8")


def _folder() -> Path | None:
    """The directory of the run; None outside of pytest."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
