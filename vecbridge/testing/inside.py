"""A way past the front, for tests and benchmarks of a driver."""

from __future__ import annotations

from typing import Any

from vecbridge.collection import Collection
from vecbridge.store import Store


def driver_of(handle: Store | Collection) -> Any:
    """The driver behind a store or a collection: what it does may change between versions.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory://") as store:
        ...     type(driver_of(store)).__name__
        'MemoryDriver'
    """
    return handle._connection.driver if isinstance(handle, Store) else handle._driver
