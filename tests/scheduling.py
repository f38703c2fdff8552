"""Which tests a worker of pytest-xdist gets, and in which order."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent
CONFORMANCE = "tests/conformance/test_conformance.py"
MILVUS, MILVUS_LITE = "milvus", "milvus-lite"

#: Seconds of what takes long for its number of tests, on two cores. Rough figures do.
SECONDS = {
    MILVUS: 600.0,
    "tests/examples/test_sqlite_driver.py": 100.0,
    "tests/conformance/test_plugin.py": 60.0,
    "tests/conformance/test_workers.py": 40.0,
    "tests/examples/test_examples.py": 40.0,
    "tests/testing/pinecone/test_openapi.py": 40.0,
    "tests/stores/weaviate/test_crash.py": 40.0,
    "tests/migration/test_killed.py": 30.0,
    "tests/migration/test_sync_killed.py": 30.0,
    "tests/examples/test_side_by_side.py": 30.0,
    "tests/front/test_collected.py": 30.0,
}
#: Seconds of any other test.
USUAL = 0.1


class LongestFirst(LoadScopeScheduling):
    """Gives a free worker the unit that takes longest, so that none is alone with a long one at the end.

    A unit is a set of tests that run in one worker, one after the other.
    """

    def _assign_work_unit(self, node: Any) -> None:
        longest = max(self.workqueue, key=lambda unit: SECONDS.get(unit, USUAL * len(self.workqueue[unit])))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


class Files(LongestFirst):
    """A unit is a file; all files that start a Milvus are one unit: only one Milvus can run at a time.

    The conformance suite is one long file, so each of its classes is a unit.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, *names = nodeid.split("::")
        if file == CONFORMANCE:
            return f"{file}::{names[0]}"
        return MILVUS if starts_milvus(file) else file


class Servers(LongestFirst):
    """A unit is a test; all tests of milvus-lite are one unit: it builds indexes in the background."""

    def _split_scope(self, nodeid: str) -> str:
        return MILVUS_LITE if MILVUS_LITE in nodeid.partition("[")[2] else nodeid


def scheduler(config: pytest.Config, log: Any) -> LongestFirst | None:
    """The scheduler for an option ``--dist``; None for one of xdist's own."""
    kinds = {"loadfile": Files, "loadgroup": Servers}
    kind = kinds.get(config.getoption("dist"))
    return kind(config, log) if kind else None


@cache
def starts_milvus(file: str) -> bool:
    """Whether tests of a file start a Milvus: those of its room, and migrations between all stores."""
    if file.startswith("tests/stores/milvus/"):
        return True
    return "tests.migration.sides" in (ROOT / file).read_text("utf-8")
