"""The targets for contributors run what they say and nothing else. make only prints: nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vecbridge.testing.cases import CASES

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make: install it")


def outside_of_make() -> dict[str, str]:
    """The environment without what the make that runs these tests has put into it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def commands(root: Path, *words: str) -> list[str]:
    """The commands of a target, without those that make an environment."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "VENVS=.venvs", *words],
        cwd=root,
        env=outside_of_make() | {"T": "tests/from_the_environment.py"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^\.venvs/\w+/bin/(.*?) *$", done.stdout, re.MULTILINE)
    return [command for command in found if not command.startswith(("python -m pip", "python -m uv"))]


def test_t_runs_one_file_and_nothing_else(root: Path) -> None:
    file = "tests/core/test_filters.py"
    assert commands(root, "test", f"T={file}") == [f"python -m pytest {file}"]
    assert commands(root, "test", f"T={file}", "PYTEST_ARGS=-x -k json") == [
        f"python -m pytest {file} -x -k json"
    ]


def test_the_tests_keep_bytecode_where_the_environment_forbids_it(root: Path, tmp_path: Path) -> None:
    python = tmp_path / "test" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PYTHONDONTWRITEBYTECODE:$PYTHONPYCACHEPREFIX"\n')
    python.chmod(0o755)
    (tmp_path / "test" / ".installed").touch()
    done = subprocess.run(
        ["make", "--silent", f"VENVS={tmp_path}", "test", "T=tests/core"],
        cwd=root,
        env=outside_of_make() | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/elsewhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f":{tmp_path / 'bytecode'}\n"), done.stderr


def test_test_without_a_file_runs_everything_and_passes_the_arguments_on(root: Path) -> None:
    passes = commands(root, "test", "PYTEST_ARGS=-k json")
    assert len(passes) == 2
    assert all("-k json" in command for command in passes)
    assert sum("tests/conformance" not in command for command in passes) == 1, "one runs all folders"


def test_both_passes_together_run_the_suite_on_every_store(root: Path) -> None:
    passes = [re.search(r"--stores=(\S+)", command) for command in commands(root, "test")]
    stores = [store for options in passes if options for store in options[1].split(",")]
    assert sorted(stores) == sorted([*(case.id for case in CASES), "milvus", "weaviate"])


def test_gpu_check_runs_with_the_packages_that_are_there(root: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "gpu-check", "PYTHON=/gpu/python"],
        cwd=root, env=outside_of_make(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "PYTHONPATH=. /gpu/python benchmarks/gpu_check.py\n"


def test_check_runs_every_linter_and_the_core_tests(root: Path) -> None:
    *linters, tests = commands(root, "check")
    assert linters == ["ruff check .", "ruff format --check .", "mypy", "lint-imports"]
    assert "pytest tests/core" in tests
