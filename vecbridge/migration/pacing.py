"""A limit that all parts of a copy share: bytes in memory."""

from __future__ import annotations

import threading
from typing import Final

from vecbridge.bulk.delivery import StoppedError

_POLL_SECONDS: Final = 0.2  # between two looks at whether the copy has ended


class Room:
    """Bytes of pages that may be in memory at a time, over all parts.

    One page fits always, however large it is. A part that holds pages must give them back before it waits:
    then whoever has room goes on, and nobody waits for ever.

    Args:
        size: Bytes.
        stop: Ends a wait.
    """

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._size, self._stop = size, stop
        self._used = 0
        self._changed = threading.Condition()

    def try_take(self, size: int) -> bool:
        """Takes room if there is some now."""
        with self._changed:
            return self._take(size)

    def take(self, size: int) -> None:
        """Waits for room, and takes it.

        Raises:
            StoppedError: The copy ended meanwhile.
        """
        with self._changed:
            while not self._take(size):
                if self._stop.is_set():
                    raise StoppedError
                self._changed.wait(_POLL_SECONDS)

    def resize(self, before: int, now: int) -> None:
        """Corrects what was taken for a page before its size was known; gives it back where ``now`` is 0."""
        with self._changed:
            self._used += now - before
            self._changed.notify_all()

    def _take(self, size: int) -> bool:
        if self._used and self._used + size > self._size:
            return False
        self._used += size
        return True
