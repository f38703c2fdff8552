"""The suite finds the flaws that it is there for, and its plugin does what its documentation says."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

FLAWED = Path(__file__).with_name("flawed.py")
QUIET = ("-p", "no:cacheprovider", "-p", "no:asyncio")
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
    """Runs the suite on the case "mine"; in this process, since another would import everything anew."""
    pytester.makeconftest(CONFTEST.format(options=options))
    pytester.makepyfile(test_mine=SUITE)
    return pytester.runpytest_inprocess(*QUIET, "-rA", *arguments)


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


UNDECLARED = """
import pytest
from vecbridge.indexes import HNSW
from vecbridge.testing.maker import undeclared

def test_refused(make):
    make(index=HNSW())
    raise AssertionError("the test goes on")

def test_swapped(make, store, monkeypatch):
    monkeypatch.setattr(type(store), "create", lambda self, spec, **options: None)
    make(index=HNSW())

@pytest.fixture
def graph(make):
    return make(index=HNSW())

def test_refused_by_its_fixture(graph):
    raise AssertionError("the test goes on")

def test_refuses_another_way(make):
    collection = make()
    undeclared("split", lambda: collection.split(2), collection.compact)

def test_does_it_although_it_is_undeclared(make):
    collection = make()
    undeclared("count", collection.count)

def test_proves_nothing(store_case):
    undeclared("split")

def test_declared(make):
    make()
"""


def test_an_undeclared_feature_is_reported_as_such_only_if_it_was_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["vecbridge.testing.plugin"]')
    pytester.makepyfile(UNDECLARED)
    done = pytester.runpytest_inprocess(*QUIET, "-v", "--stores=memory", "--junitxml=results.xml")
    assert done.parseoutcomes() == {"passed": 1, "undeclared": 3, "failed": 3}
    done.stdout.fnmatch_lines_random([
        "*test_refused*UNDECLARED*", "*test_refused_by_its_fixture*UNDECLARED*",
        "*test_refuses_another_way*UNDECLARED*",
        "*DID NOT RAISE*UnsupportedError*", "FAILED*test_swapped*",
        "FAILED*test_does_it_although_it_is_undeclared*", "FAILED*test_proves_nothing*",
        "memory: 1 passed, 3 undeclared, 3 failed",
        "*2 undeclared: no hnsw; there are auto, flat", "*1 undeclared: split",
    ])  # fmt: skip
    assert 'skipped="3"' in (pytester.path / "results.xml").read_text("utf-8")


def test_a_known_gap_whose_feature_is_refused_fails_until_its_mark_goes(pytester: pytest.Pytester) -> None:
    known = 'Known("never", "?", AssertionError)'
    options = f'known={{"test_a_foreign_index_is_never_created": {known}, "test_known_scores": {known}}}'
    pytester.makeconftest(CONFTEST.format(options=options))
    pytester.makepyfile("""
import pytest
from vecbridge.indexes import HNSW

@pytest.fixture
def graph(make):
    return make(index=HNSW())

def test_known_scores(make):
    make(index=HNSW())

def test_a_foreign_index_is_never_created(graph):
    pass
""")
    pytester.runpytest_inprocess(*QUIET, "--stores=mine").assert_outcomes(failed=1, errors=1)


def test_an_emulated_store_is_called_so_and_chosen_by_its_short_name(pytester: pytest.Pytester) -> None:
    options = 'emulated=True, known={"test_k_is_a_limit_and_not_a_promise": Known("never", "?", OSError)}'
    chosen = ["-k", "test_known_scores", "-v"]
    for name in ("mine", "mine-emulated"):
        done = run(pytester, options, *chosen, f"--stores={name}")
        done.assert_outcomes(passed=3, deselected=done.parseoutcomes()["deselected"])
    done.stdout.fnmatch_lines([
        "emulated, so that a pass is none of the service: mine-emulated",
        "*test_known_scores?mine-emulated-cosine?*PASSED*",
        "mine-emulated: 3 passed",
    ])  # fmt: skip


def test_a_case_may_run_some_classes_of_the_suite_alone(pytester: pytest.Pytester) -> None:
    words = "test_known_scores or test_namespaces_are_listed_sorted"
    done = run(pytester, 'classes=frozenset({"TestNamespaces"})', "--stores=mine", "-k", words)
    assert done.parseoutcomes()["passed"] == 1


def test_no_test_of_ours_ends_by_a_silent_return(root: Path) -> None:
    """A test that does not apply says so: as undeclared, skipped or expected to fail."""
    silent = []
    for folder in (root / "tests", root / "vecbridge" / "testing" / "suite"):
        for file in folder.rglob("*.py"):
            for test in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                    silent += [f"{file}:{line} {test.name}" for line in _returns(test)]
    assert silent == []


def _returns(node: ast.AST) -> Iterator[int]:
    """Lines on which a function returns without a value, functions inside of it left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return) and child.value is None:
            yield child.lineno
        if not isinstance(child, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _returns(child)
