"""The pytest plugin behind the suite: ``--stores``, the fixtures, and the marks for known gaps."""

from __future__ import annotations

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
    """Collects the store cases and picks those that ``--stores`` names."""
    known = {each.id: each for each in CASES}
    for cases in config.hook.pytest_vecbridge_cases():
        known |= {each.id: each for each in cases}
    wanted = config.getoption("--stores")
    names = known if wanted is None else [name for name in wanted.split(",") if name]
    absent = [name for name in names if name not in known]
    if absent:
        raise pytest.UsageError(f"--stores: no case {', '.join(absent)}; there are: {', '.join(known)}")
    config.stash[_CASES] = {name: known[name] for name in names}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that takes ``store_case`` once a case, unless it is parametrised with its own."""
    if "store_case" in metafunc.fixturenames and not _chosen_by_the_test(metafunc):
        cases = list(metafunc.config.stash[_CASES].values())
        metafunc.parametrize("store_case", cases, ids=[each.id for each in cases])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests that a store is known to fail, and refuses marks for tests that do not exist."""
    if any(_case(item) for item in items):
        _require_existing_tests(config.stash[_CASES].values())
    for item in items:
        case = _case(item)
        known = _known(case, item) if case else None
        if known:
            reason = f"{known.kind}: {known.reason}"
            item.add_marker(pytest.mark.xfail(reason=reason, raises=known.raises, strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Lets a test pass whose feature was refused because it is not declared."""
    try:
        return (yield)
    except Undeclared:
        return True


@pytest.fixture
def store_url(store_case: StoreCase, tmp_path: Path) -> str:
    """The URL of the store under test, of this test's own where the store lives in a directory."""
    absent = _missing(store_case)
    if absent:
        pytest.skip(f"{store_case.id} is not there: {absent}")
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


def _known(case: StoreCase, item: pytest.Item) -> Known | None:
    """Why the store fails this test, as a whole or with these parameters."""
    name = getattr(item, "originalname", "")
    parameters = item.name.removeprefix(f"{name}[").removesuffix("]")
    parameters = parameters.replace(case.id, "", 1).strip("-")
    return case.known.get(name) or case.known.get(f"{name}[{parameters}]")


def _require_existing_tests(cases: Iterable[StoreCase]) -> None:
    from vecbridge.testing import suite

    names = {name for each in suite.__all__ for name in dir(getattr(suite, each))}
    for case in cases:
        for name in case.known:
            if name.partition("[")[0] not in names:
                raise pytest.UsageError(f"store case {case.id!r} marks {name!r}, which is no test")
