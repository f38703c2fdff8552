"""Processes that tests start and kill: forked from one that has imported everything and started nothing."""

from __future__ import annotations

from vecbridge.testing.elsewhere import CHILDREN, PRELOADED

__all__ = ["CHILDREN"]

CHILDREN.set_forkserver_preload(
    [
        *PRELOADED,
        "tests.stores.faiss.workload",
        "tests.stores.faiss.growing",
        "tests.stores.snapshot.workload",
        "tests.bulk.test_killed",
        "tests.migration.test_killed",
        "tests.migration.test_sync_killed",
        "vecbridge.migration.copying",
        "vecbridge.migration.syncing",
    ]
)
