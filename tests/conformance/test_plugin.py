"""The suite finds the flaws that it is there for, and its plugin does what its documentation says."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

FLAWED = Path(__file__).with_name("flawed.py")
SUITE = "from vecbridge.testing.suite import *"
CONFTEST = """
from vecbridge.testing.cases import Known, StoreCase

pytest_plugins = ["vecbridge.testing.plugin"]

def pytest_vecbridge_cases():
    return [StoreCase(id="mine", url=lambda directory: f"memory://{{directory}}", {options})]
"""


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing all that are installed takes seconds in each run."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, options: str, *arguments: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST.format(options=options))
    pytester.makepyfile(test_mine=SUITE)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *arguments)


def test_each_flaw_fails_the_test_that_is_there_for_it(pytester: pytest.Pytester) -> None:
    spec = importlib.util.spec_from_file_location("flawed", FLAWED)
    assert spec is not None
    assert spec.loader is not None
    flawed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flawed)
    shutil.copy(FLAWED, pytester.path)
    pytester.makeconftest("""
import flawed
from hypothesis import Phase, settings
from vecbridge import registry

settings.register_profile("unshrunk", phases=[Phase.generate])
settings.load_profile("unshrunk")

pytest_plugins = ["vecbridge.testing.plugin"]
registry.BUILT_IN["flawed"] = registry.Entry("flawed:FlawedDriver")

def pytest_vecbridge_cases():
    return flawed.CASES
""")
    pytester.makepyfile(test_flawed=SUITE)
    wanted = " or ".join(f"{name} and {test}" for name, (test, _) in flawed.FLAWS.items())
    chosen = ",".join(flawed.FLAWS)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", f"--stores={chosen}", "-k", wanted)
    lines = [line for line in done.outlines if line.startswith("FAILED")]
    failed = {
        name for name, (test, _) in flawed.FLAWS.items() if any(f"{test}[{name}" in line for line in lines)
    }
    assert failed == set(flawed.FLAWS)


def test_a_third_party_case_runs_beside_ours_and_alone(pytester: pytest.Pytester) -> None:
    arguments = ["-k", "test_known_scores"]
    run(pytester, "", *arguments, "--stores=memory,mine").assert_outcomes(passed=6)
    run(pytester, "", *arguments, "--stores=mine").assert_outcomes(passed=3)


def test_an_unknown_case_is_bad_usage(pytester: pytest.Pytester) -> None:
    done = run(pytester, "", "--stores=mine,milvsu")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        "*no case milvsu; there are: memory, faiss, snapshot, milvus-lite, pinecone, *, mine*"
    )


def test_what_is_missing_skips_and_says_how_to_start_it(pytester: pytest.Pytester) -> None:
    done = run(
        pytester, 'missing=lambda: "docker compose up mine"', "--stores=mine", "-k", "test_known_scores"
    )
    done.assert_outcomes(skipped=3)
    done.stdout.fnmatch_lines("*mine is not there: docker compose up mine*")


def test_a_known_gap_is_an_expected_failure_with_its_reason(pytester: pytest.Pytester) -> None:
    known = 'Known("notyet", "upstream #1", AssertionError)'
    options = f'known={{"test_a_cursor_goes_on_in_another_process": {known}}}'
    done = run(pytester, options, "--stores=mine", "-k", "test_a_cursor_goes_on")
    done.assert_outcomes(xfailed=1)
    done.stdout.fnmatch_lines("*notyet: upstream #1*")


def test_a_known_gap_that_raises_something_else_fails(pytester: pytest.Pytester) -> None:
    known = 'Known("notyet", "upstream #1", (OSError, TimeoutError))'
    options = f'known={{"test_a_cursor_goes_on_in_another_process": {known}}}'
    done = run(pytester, options, "--stores=mine", "-k", "test_a_cursor_goes_on")
    done.assert_outcomes(failed=1)


def test_a_known_gap_that_was_closed_fails_until_its_mark_goes(pytester: pytest.Pytester) -> None:
    options = 'known={"test_known_scores": Known("notimpl", "long done", AssertionError)}'
    run(pytester, options, "--stores=mine", "-k", "test_known_scores").assert_outcomes(failed=3)


def test_a_mark_for_a_test_that_does_not_exist_is_bad_usage(pytester: pytest.Pytester) -> None:
    options = 'known={"test_knwon_scores": Known("never", "?", AssertionError)}'
    done = run(pytester, options, "--stores=mine")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines("*'mine' marks 'test_knwon_scores', which is no test*")


def test_an_undeclared_feature_passes_only_by_being_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["vecbridge.testing.plugin"]')
    pytester.makepyfile("""
from vecbridge.indexes import HNSW

def test_refused(make):
    make(index=HNSW())
    raise AssertionError("the test goes on")

def test_swapped(make, store, monkeypatch):
    monkeypatch.setattr(type(store), "create", lambda self, spec, **options: None)
    make(index=HNSW())
""")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--stores=memory")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*DID NOT RAISE*UnsupportedError*", "FAILED*test_swapped*"])
