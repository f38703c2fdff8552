"""The driver that the documentation shows passes the whole conformance suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "examples" / "sqlite_driver.py"
PAGE = ROOT / "docs" / "writing-a-driver.md"

CONFTEST = """
import vecbridge as vb
from vecbridge.testing.cases import StoreCase

pytest_plugins = ["vecbridge.testing.plugin"]
vb.register("sqlite", "sqlite_driver:SQLiteDriver")

def pytest_vecbridge_cases():
    url = lambda directory: f"sqlite://{directory}/rows.db"
    return [StoreCase(id="sqlite", url=url, examples=5, exact=True)]
"""
# Other processes that the suite starts know a driver as they know an installed one: by its entry point.
ENTRY_POINT = "[vecbridge.stores]\nsqlite = sqlite_driver:SQLiteDriver\n"


@pytest.mark.timeout(900)
def test_the_documented_driver_passes_the_whole_conformance_suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(sqlite_driver=DRIVER.read_text("utf-8"))
    installed = pytester.mkdir("sqlite_driver-1.0.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite-driver\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), str(ROOT)]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # importing all takes seconds
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_sqlite="from vecbridge.testing.suite import *")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", "--stores=sqlite", "-W", "error")
    outcomes = done.parseoutcomes()
    assert done.ret == 0
    assert outcomes["passed"] > 250
    assert outcomes.keys() == {"passed", "undeclared"}


def test_the_page_shows_the_driver_whole_and_it_is_short() -> None:
    code = DRIVER.read_text("utf-8")
    assert len(code.splitlines()) < 310
    assert f"```python\n{code}```" in PAGE.read_text("utf-8")
