"""The pytest plugin behind the suite: ``--stores``, the fixtures, the marks for known gaps, honest outcomes.

A test whose feature the store does not declare, and refused, has the outcome "undeclared" (``u``), which
pytest counts apart from "passed"; in JUnit's XML it is a skipped test with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from vecbridge.registry import connect, driver_class
from vecbridge.store import Store
from vecbridge.testing.cases import CASES, Known, StoreCase
from vecbridge.testing.maker import Maker, Undeclared
from vecbridge.urls import parse

pytest.register_assert_rewrite("vecbridge.testing.checks", "vecbridge.testing.suite")

_CASES: Final = pytest.StashKey[dict[str, StoreCase]]()
_REFUSED: Final = pytest.StashKey[str]()  # of a test: the undeclared feature that was refused
#: Names of the properties of a test, which reports carry from the workers of pytest-xdist.
_STORE: Final = "store"
_UNDECLARED: Final = "undeclared"


class Hooks:
    """What a conftest can implement."""

    @staticmethod
    def pytest_vecbridge_cases() -> Iterable[StoreCase]:
        """Store cases to add to those that vecbridge brings along."""
        return ()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Lets conftest files add store cases."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--stores``."""
    group = parser.getgroup("vecbridge")
    group.addoption(
        "--stores", metavar="ID,…", help="store cases to run the conformance suite on (all of them)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collects the store cases and picks those that ``--stores`` names, by id or by label."""
    known = {each.id: each for each in CASES}
    for cases in config.hook.pytest_vecbridge_cases():
        known |= {each.id: each for each in cases}
    wanted = config.getoption("--stores")
    names = known if wanted is None else [name for name in wanted.split(",") if name]
    by_name = {each.label: each for each in known.values()} | known
    absent = [name for name in names if name not in by_name]
    if absent:
        raise pytest.UsageError(f"--stores: no case {', '.join(absent)}; there are: {', '.join(known)}")
    config.stash[_CASES] = {by_name[name].label: by_name[name] for name in names}


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Says which stores are emulated."""
    emulated = [label for label, case in config.stash[_CASES].items() if case.emulated]
    return [f"emulated, so that a pass is none of the service: {', '.join(emulated)}"] if emulated else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that takes ``store_case`` once a case, unless it is parametrised with its own."""
    if "store_case" in metafunc.fixturenames and not _chosen_by_the_test(metafunc):
        cases = metafunc.config.stash[_CASES]
        metafunc.parametrize("store_case", list(cases.values()), ids=list(cases))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests that a store is known to fail, and refuses marks for tests that do not exist."""
    if any(_case(item) for item in items):
        _require_existing_tests(config.stash[_CASES].values())
    left_out = {item for item in items if not _runs(item)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if case := _case(item):
            item.user_properties.append((_STORE, case.label))
            if known := _known(case, item):
                reason = f"{known.kind}: {known.reason}"
                item.add_marker(pytest.mark.xfail(reason=reason, raises=known.raises, strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Ends a test without an error whose feature was refused because it is not declared."""
    try:
        return (yield)
    except Undeclared as exc:
        pyfuncitem.stash[_REFUSED] = str(exc)
        return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Gives such a test the outcome "undeclared", also where one of its fixtures found the refusal."""
    report = yield
    reason = item.stash.get(_REFUSED, None) if call.when == "call" and report.passed else None
    if call.when == "setup" and call.excinfo and isinstance(call.excinfo.value, Undeclared):
        marked = item.get_closest_marker("xfail")  # a mark for a gap whose feature is refused must go
        reason = None if marked else str(call.excinfo.value)
    if reason is not None:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"undeclared: {reason}")
        report.user_properties.append((_UNDECLARED, reason))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> object:
    """The letter and the word of the outcome "undeclared"."""
    if isinstance(report, pytest.TestReport) and report.skipped and _property(report, _UNDECLARED):
        return "undeclared", "u", ("UNDECLARED", {"yellow": True})
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Counts the outcomes of each store, and the reasons of those that are undeclared."""
    outcomes: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for category in ("passed", "undeclared", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in terminalreporter.stats.get(category, ()):
            if store := _property(report, _STORE):
                outcomes.setdefault(store, Counter())[category] += 1
                if reason := _property(report, _UNDECLARED):
                    reasons.setdefault(store, Counter())[reason] += 1
    if outcomes:
        terminalreporter.section("outcomes by store")
    for store, counted in outcomes.items():
        terminalreporter.line(f"{store}: {', '.join(f'{count} {each}' for each, count in counted.items())}")
        for reason, count in reasons.get(store, Counter()).most_common():
            terminalreporter.line(f"    {count} undeclared: {reason}")


@pytest.fixture
def store_url(store_case: StoreCase, tmp_path: Path) -> str:
    """The URL of the store under test, of this test's own where the store lives in a directory."""
    absent = _missing(store_case)
    if absent:
        pytest.skip(f"{store_case.label} is not there: {absent}")
    return store_case.url(tmp_path)


@pytest.fixture
def store(store_case: StoreCase, store_url: str) -> Iterator[Store]:
    """The store under test; that of a server is connected: its capabilities are those of the server."""
    with connect(store_url, **store_case.options) as opened:
        if driver_class(parse(store_url).scheme).on_fork != "refuse":
            opened.collections()  # an embedded store is for one process, and a test may use it in another
        yield opened


@pytest.fixture
def make(store_case: StoreCase, store_url: str, store: Store) -> Iterator[Maker]:
    """Makes collections in the store under test; they are dropped afterwards."""
    maker = Maker(store)
    yield maker
    store.close()
    with connect(store_url, **store_case.options) as opened:
        for name in set(maker.names) & set(opened.collections()):
            opened.drop(name)


@cache
def _missing(case: StoreCase) -> str | None:
    return case.missing()


def _chosen_by_the_test(metafunc: pytest.Metafunc) -> bool:
    marks = metafunc.definition.iter_markers("parametrize")
    return any("store_case" in mark.args[0] for mark in marks)


def _case(item: pytest.Item) -> StoreCase | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("store_case") if callspec else None


def _runs(item: pytest.Item) -> bool:
    """Whether a test is one of those that its store runs; tests beside the suite always are."""
    from vecbridge.testing import suite

    case, parent = _case(item), getattr(item, "cls", None)
    if case is None or case.classes is None or parent is None or parent.__name__ not in suite.__all__:
        return True
    return parent.__name__ in case.classes


def _property(report: pytest.TestReport | pytest.CollectReport, name: str) -> str | None:
    """A property of the test that a report is about; None of a module that cannot be collected."""
    properties = getattr(report, "user_properties", ())
    return next((str(value) for key, value in properties if key == name), None)


def _known(case: StoreCase, item: pytest.Item) -> Known | None:
    """Why the store fails this test, as a whole or with these parameters."""
    name = getattr(item, "originalname", "")
    parameters = item.name.removeprefix(f"{name}[").removesuffix("]")
    parameters = parameters.replace(case.label, "", 1).strip("-")
    return case.known.get(name) or case.known.get(f"{name}[{parameters}]")


def _require_existing_tests(cases: Iterable[StoreCase]) -> None:
    from vecbridge.testing import suite

    names = {name for each in suite.__all__ for name in dir(getattr(suite, each))}
    for case in cases:
        for name in case.known:
            if name.partition("[")[0] not in names:
                raise pytest.UsageError(f"store case {case.id!r} marks {name!r}, which is no test")
