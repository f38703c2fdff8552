"""Ids that a call of this process has looked up and is about to write."""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager


class HeldKeys:
    """Lets calls whose keys overlap wait for each other."""

    def __init__(self) -> None:
        self._keys: set[Hashable] = set()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, keys: Collection[Hashable]) -> Iterator[None]:
        """Waits until nobody holds one of the keys, and holds them for the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._keys.isdisjoint(keys))
            self._keys.update(keys)
        try:
            yield
        finally:
            with self._changed:
                self._keys.difference_update(keys)
                self._changed.notify_all()
