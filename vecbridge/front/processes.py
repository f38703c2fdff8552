"""Which stores this process has open, what a fork makes of them, and which collections it has dropped."""

from __future__ import annotations

import _thread
import os
import weakref
from collections import OrderedDict
from typing import Any, Final, Protocol

from vecbridge.driver import StoreDriver

#: Drivers and their scans that a forked child inherited. Nothing of them may run in the child, destructors
#: included: they would wait for threads that are not there, or say goodbye on the parent's socket.
_INHERITED: Final[list[object]] = []

_MOST_DROPPED: Final = 10_000
_CLOSING_SECONDS: Final = 5.0


class Forkable(Protocol):
    """Something that a forked child must mend before it is used there."""

    def after_fork(self) -> None:
        """Called once, in the child."""
        ...


_OPEN: Final[dict[int, weakref.ref[Forkable]]] = {}
_DROPPED: Final[OrderedDict[tuple[str, str, str], None]] = OrderedDict()


def watch(store: Forkable) -> None:
    """Has ``store.after_fork()`` called in every forked child, for as long as the store lives."""
    number = id(store)
    _OPEN[number] = weakref.ref(store, lambda _: _OPEN.pop(number, None))


def _after_fork_in_child() -> None:
    for reference in list(_OPEN.values()):
        if (store := reference()) is not None:
            store.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def keep_forever(inherited: object) -> None:
    """Keeps a driver, or a scan of one, from being destroyed in a forked child."""
    _INHERITED.append(inherited)


def close_when_collected(store: Forkable, driver: StoreDriver) -> weakref.finalize[Any, Any]:
    """Closes the driver when its store is garbage-collected without ``close()``, which frees its locks.

    A store lives as long as one of its collections or scans does.
    """
    finalizer = weakref.finalize(store, _close, driver, os.getpid())
    finalizer.atexit = False
    return finalizer


def _close(driver: StoreDriver, process: int) -> None:
    """Closes a driver in a thread of its own, and waits for it.

    The garbage collector may run in the middle of any line, while this very thread holds a lock that the
    driver, or what is below it, wants in order to close. Then waiting ends after a while, and the driver is
    closed when the lock is free. ``threading`` itself takes locks to start a thread; ``_thread`` takes none.
    """
    if os.getpid() != process:
        return
    closed = _thread.allocate_lock()
    closed.acquire()

    def close() -> None:
        try:
            driver.close()
        finally:
            closed.release()

    _thread.start_new_thread(close, ())
    closed.acquire(timeout=_CLOSING_SECONDS)


def note_dropped(url: str, name: str, identity: str) -> None:
    """Tells every handle of this process at once that a collection is gone."""
    _DROPPED[url, name, identity] = None
    while len(_DROPPED) > _MOST_DROPPED:
        _DROPPED.popitem(last=False)


def was_dropped(key: tuple[str, str, str]) -> bool:
    """Whether this process dropped the collection of that (store URL, name, identity)."""
    return key in _DROPPED
