"""The GPU check: the tests that are marked ``gpu``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from support.gpu import GpuBench
from support.harness import Line, Target

_ROOT: Final = Path(__file__).parents[2]
_FILES: Final = ("tests/embed/test_gpu.py", "tests/stores/faiss/test_gpu.py")
_PACKAGES: Final = (
    "pytest",
    "pytest_timeout",
    "hypothesis",
)  # what tests/conftest.py and pyproject.toml need
_LEAST_SECONDS: Final = 120


def marked(bench: GpuBench) -> list[Line]:
    """Runs them in a process of their own: how many passed, failed, and were skipped for what is missing."""
    if bench.device == "cpu":
        bench.details["tests"] = "not run: on a CPU they are skipped"
        return []
    lacking = [name for name in _PACKAGES if find_spec(name) is None]
    if lacking:
        bench.details["tests"] = f"not run: not installed: {', '.join(lacking)}"
        return as_lines(Counter())
    report = bench.work / "tests.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", *_FILES, "-m", "gpu", "--stores=", "-pno:cacheprovider",
         f"--junitxml={report}"],
        cwd=_ROOT, env=os.environ | {"PYTHONPATH": str(_ROOT)}, check=False,
        timeout=max(_LEAST_SECONDS, bench.seconds_left),
    )  # fmt: skip
    return as_lines(counted(report) if report.exists() else Counter())


def counted(report: Path) -> Counter[str]:
    """The outcomes in a report of pytest."""
    outcomes: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes["failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"] += 1
    return outcomes


def as_lines(outcomes: Counter[str]) -> list[Line]:
    """At least one must have passed, and none failed."""
    targets = {"passed": Target("figure", ">=", 1), "failed": Target("figure", "<=", 0), "skipped": None}
    return [
        Line("tests", f"tests marked gpu that {'were ' if name == 'skipped' else ''}{name}", "tests",
             outcomes[name], target=target)
        for name, target in targets.items()
    ]  # fmt: skip
