"""Workers begin with what takes longest, and keep together what must run one after the other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("xdist", reason="pip install pytest-xdist")

from tests.scheduling import CONFORMANCE, SECONDS, LongestFirst

LONG = "tests/examples/test_sqlite_driver.py"


class Worker:
    """What a scheduler sees of a worker."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.sent: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def assigned(tests: list[str], pytester: pytest.Pytester) -> list[list[str]]:
    """The tests of two workers that report each test as done, in the order in which they get them."""
    scheduler = LongestFirst(pytester.parseconfig("--tx=2*popen"), None)
    workers = [Worker("first"), Worker("second")]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    done = [0, 0]
    while any(done[number] < len(worker.sent) for number, worker in enumerate(workers)):
        for number, worker in enumerate(workers):
            if done[number] < len(worker.sent):
                scheduler.mark_test_complete(worker, worker.sent[done[number]])
                done[number] += 1
    assert all(worker.shutting_down for worker in workers)
    return [[tests[index] for index in worker.sent] for worker in workers]


def test_every_test_runs_once_and_the_longest_file_begins(pytester: pytest.Pytester) -> None:
    many = [f"tests/core/test_records.py::test_{number}" for number in range(30)]
    few = [f"tests/core/test_urls.py::test_{number}" for number in range(5)]
    first, second = assigned([*few, *many, f"{LONG}::test_suite"], pytester)
    assert first[0] == f"{LONG}::test_suite"
    assert second[0] == many[0]
    assert sorted(first + second) == sorted([*few, *many, f"{LONG}::test_suite"])


def test_one_worker_gets_all_files_that_start_a_milvus(pytester: pytest.Pytester) -> None:
    milvus = [
        *(f"tests/stores/milvus/test_rows.py::test_{number}" for number in range(4)),
        *(f"tests/migration/test_matrix.py::test_{number}" for number in range(4)),
    ]
    others = [f"tests/core/test_urls.py::test_{number}" for number in range(9)]
    first, second = assigned([*milvus[:6], *others, *milvus[6:]], pytester)
    assert first[: len(milvus)] == milvus
    assert not set(second) & set(milvus)


def test_each_class_of_the_conformance_suite_is_a_unit_on_each_store(pytester: pytest.Pytester) -> None:
    units = [
        [f"{CONFORMANCE}::Test{name}::test_{number}[{store}-flat]" for number in range(4)]
        for name in "AB"
        for store in ("memory", "faiss")
    ]
    mixed = [test for tests in zip(*units, strict=True) for test in tests]
    given = assigned(mixed, pytester)
    assert given == [[*units[0], *units[2]], [*units[1], *units[3]]]


def test_one_worker_gets_all_tests_of_milvus_lite(pytester: pytest.Pytester) -> None:
    workers = "tests/conformance/test_workers.py"
    lite = [
        *(f"{CONFORMANCE}::TestA::test_{number}[milvus-lite-flat]" for number in range(4)),
        *(f"{CONFORMANCE}::TestB::test_{number}[milvus-lite]" for number in range(4)),
        *(f"{workers}::test_{number}[milvus-lite]" for number in range(2)),
    ]
    others = [test.replace("milvus-lite", "memory") for test in lite]
    first, second = assigned([test for pair in zip(others, lite, strict=True) for test in pair], pytester)
    assert first[: len(lite)] == lite
    assert not set(second) & set(lite)


def test_what_is_said_to_take_long_exists(root: Path) -> None:
    missing = [name for name in SECONDS if name.endswith(".py") and not (root / name).exists()]
    assert not missing
