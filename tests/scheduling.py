"""Which tests a worker of pytest-xdist gets, and in which order."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parent.parent
CONFORMANCE = "tests/conformance/test_conformance.py"
MILVUS, MILVUS_LITE = "milvus", "milvus-lite"

#: Seconds of what takes long for its number of tests. Rough figures do.
SECONDS = {
    MILVUS: 600.0,
    MILVUS_LITE: 300.0,
    "tests/conformance/test_plugin.py": 50.0,
    "tests/conformance/test_workers.py": 50.0,
    "tests/examples/test_sqlite_driver.py": 50.0,
    "tests/stores/weaviate/test_crash.py": 40.0,
    "tests/examples/test_examples.py": 45.0,
    "tests/embed/test_export.py": 45.0,
    "tests/embed/test_int8.py": 30.0,
    "tests/embed/test_gpu_check.py": 30.0,
    "tests/examples/test_faces.py": 30.0,
    "tests/examples/test_side_by_side.py": 30.0,
    "tests/stores/faiss/test_indexes.py": 30.0,
    "tests/testing/pinecone/test_openapi.py": 25.0,
    "tests/migration/test_verifying.py": 20.0,
    "tests/core/test_filter_size.py": 20.0,
}
#: Seconds of any other test.
USUAL = 0.1


class LongestFirst(LoadFileScheduling):
    """Gives a free worker the unit that takes longest, so that none is alone with a long one at the end.

    A unit is a set of tests that run in one worker, one after the other: those of a file; those of all files
    that start a Milvus, because only one can run at a time; those of the suite on milvus-lite, which builds
    indexes in the background. The rest of the suite is one long file: a unit is a class on one store there.
    """

    def _assign_work_unit(self, node: Any) -> None:
        longest = max(self.workqueue, key=lambda unit: SECONDS.get(unit, USUAL * len(self.workqueue[unit])))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        file, *names = nodeid.split("::")
        parameters = nodeid.partition("[")[2]
        if file.startswith("tests/conformance/") and parameters.startswith(MILVUS_LITE):
            return MILVUS_LITE
        if file == CONFORMANCE:
            return f"{file}::{names[0]}[{parameters.partition('-')[0]}"
        return MILVUS if starts_milvus(file) else file


@cache
def starts_milvus(file: str) -> bool:
    """Whether tests of a file start a Milvus: those of its room, and migrations between all stores."""
    if file.startswith("tests/stores/milvus/"):
        return True
    return "tests.migration.sides" in (ROOT / file).read_text("utf-8")
