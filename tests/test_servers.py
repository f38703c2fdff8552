"""A server that did not start costs the run one wait, whichever tests and workers need it."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

CONFTEST = """
from contextlib import suppress
from pathlib import Path
from tests import servers

def start(settings=""):
    with servers.starting("vectordb", settings), Path(r"{attempts}").open("a") as file:
        file.write("x")
        raise RuntimeError("no port is free")

def pytest_configure(config):
    config.pluginmanager.register(servers)
    if {early} and config.getoption("numprocesses", None):
        with suppress(Exception):
            start()
"""
TESTS = """
import pytest
from conftest import start

@pytest.mark.parametrize("number", range(4))
def test_needs_it(number):
    start()

def test_needs_one_with_a_password():
    start("PASSWORD")

def test_needs_none():
    pass
"""


@pytest.fixture
def attempts(pytester: pytest.Pytester, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds a letter for each attempt to start the server."""
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # importing them all takes seconds
    file = Path(pytester.path) / "attempts"
    pytester.makepyfile(TESTS)
    return file


@pytest.mark.parametrize(
    ("early", "options"), [(False, []), (True, ["-p", "xdist.plugin", "-n", "2"])], ids=["one", "workers"]
)
def test_it_is_tried_once_and_the_reason_is_printed_once(
    pytester: pytest.Pytester, attempts: Path, early: bool, options: list[str]
) -> None:
    pytester.makeconftest(CONFTEST.format(attempts=attempts, early=early))
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    done.assert_outcomes(failed=5, passed=1)
    assert attempts.read_text() == "x"
    heading = next(i for i, line in enumerate(done.outlines) if "did not start ==" in line)
    section = list(takewhile(lambda line: not line.startswith("="), done.outlines[heading + 1 :]))
    assert section == ["vectordb: RuntimeError: no port is free"]
    done.stdout.fnmatch_lines("vectordb did not start earlier in this run; pytest says why at its end")


def test_one_with_settings_of_its_own_stands_for_no_other(pytester: pytest.Pytester, attempts: Path) -> None:
    pytester.makeconftest(CONFTEST.format(attempts=attempts, early=False))
    names = ["test_needs_one_with_a_password", "test_needs_one_with_a_password", "test_needs_it"]
    file = next(Path(pytester.path).glob("test_*.py")).name
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", *(f"{file}::{name}" for name in names))
    done.assert_outcomes(failed=5)
    assert attempts.read_text() == "xx"
    done.stdout.fnmatch_lines("vectordb with PASSWORD: RuntimeError: no port is free")
