"""Processes that tests start and kill: forked from one that has imported everything and started nothing.

One such process serves all tests of a run. It imports pandas, too: Arrow does so at the first array that it
makes from Python values, which would take each child two seconds.
"""

from __future__ import annotations

import multiprocessing
from typing import Final

#: Has ``Process``, ``Pipe`` and ``Value`` as the module has them.
CHILDREN: Final = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(
    [
        "pandas",
        "pyarrow.pandas_compat",
        "pyarrow.parquet",
        "tests.stores.faiss.workload",
        "tests.stores.faiss.growing",
        "tests.stores.snapshot.workload",
        "tests.migration.test_killed",
        "tests.migration.test_sync_killed",
        "vecbridge.migration.copying",
        "vecbridge.migration.syncing",
        "vecbridge.stores.faiss.collection",
        "vecbridge.stores.milvus.collection",
        "vecbridge.stores.snapshot.collection",
        "vecbridge.stores.weaviate.collection",
    ]
)
