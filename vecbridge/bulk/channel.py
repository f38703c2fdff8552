"""A bounded queue between two threads that either of them can close."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class ClosedChannelError(Exception):
    """The channel was closed: nothing more goes through it."""


class Channel(Generic[T]):
    """A queue that holds a few items: who puts one waits for room, who gets one waits for an item.

    Args:
        capacity: Items that it holds, at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T) -> None:
        """Adds an item, once there is room.

        Raises:
            ClosedChannelError: The channel is closed, or was closed meanwhile.
        """
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ClosedChannelError
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T:
        """Takes the first item, once there is one.

        Raises:
            TimeoutError: There was none for that many seconds.
            ClosedChannelError: The channel is closed, or was closed meanwhile.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items and not self._closed:
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            if self._closed:
                raise ClosedChannelError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Drops what it holds, and wakes whoever waits."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
