"""A way past the front, for tests and benchmarks of a driver."""

from __future__ import annotations

from typing import Any

from vecbridge.collection import Collection
from vecbridge.store import Store


def forget_last_look(collection: Collection) -> None:
    """Has the next call look at the database again, whether the collection was dropped or replaced."""
    collection._looked_at = float("-inf")


def driver_of(handle: Store | Collection) -> Any:
    """The driver behind a store or a collection: what it does may change between versions.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory://") as store:
        ...     type(driver_of(store)).__name__
        'MemoryDriver'
    """
    return handle._connection.driver if isinstance(handle, Store) else handle._attached.driver
