"""Locks on files, for one writer at a time, that a fork neither doubles nor breaks.

The kernel keeps a ``flock`` with the *open file*, not with the process, and a forked child shares the open
files of its parent. Two things follow. The lock outlives the parent (and the parent's ``close``) for as long
as an idle child holds its copy of the descriptor; and a child that unlocks takes the lock from its parent:

    parent   open ── flock ── fork ── close        still locked: the child has the file open
    child                       └──── LOCK_UN      unlocked, while the parent believes that it holds the lock

So the owner unlocks before it closes, and a child closes what it inherited, at once, without unlocking.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from contextlib import suppress
from typing import Final


class FileLock:
    """An exclusive ``flock`` on a file; the kernel releases it when its process dies.

    It belongs to the process that acquired it. A forked child does not hold it and cannot release it. A lock
    that is collected is released.

    Args:
        path: The file; :meth:`acquire` creates it where there is none.

    Attributes:
        path: The file.
        pid: The process that acquired it last; None if none has.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/lock"
        >>> lock, other = FileLock(path), FileLock(path)
        >>> lock.acquire()
        >>> other.acquire()
        Traceback (most recent call last):
        BlockingIOError: [Errno 11] Resource temporarily unavailable
        >>> lock.release()
        >>> other.acquire()
        >>> other.held, lock.held
        (True, False)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = path
        self.pid: int | None = None
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it by this object."""
        return self._descriptor is not None and self.pid == os.getpid()

    @property
    def descriptor(self) -> int:
        """The locked file, open for reading and writing.

        Raises:
            ValueError: The lock is not held.
        """
        if self._descriptor is None or not self.held:
            raise ValueError(f"{self.path}: the lock is not held")
        return self._descriptor

    def acquire(self) -> None:
        """Takes the lock, without waiting; holding it already is fine.

        Raises:
            BlockingIOError: Another process, or another object of this one, holds it.
            OSError: The file cannot be opened or locked.
        """
        if self.held:
            return
        self.abandon()
        with _no_fork:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor, self.pid = descriptor, os.getpid()
            _held[id(self)] = weakref.ref(self)

    def release(self) -> None:
        """Unlocks and closes the file; not holding the lock is fine.

        In a process that did not acquire it, the same as :meth:`abandon`.
        """
        with _no_fork:
            if self._descriptor is not None and self.held:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # close() alone leaves it to an idle child
            self.abandon()

    def abandon(self) -> None:
        """Closes the file without unlocking it: what a forked child does with its parent's lock."""
        with _no_fork:
            descriptor, self._descriptor = self._descriptor, None
            _held.pop(id(self), None)
            if descriptor is not None:
                os.close(descriptor)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone
            self.release()


# Locks that this process holds, by id(). Not a WeakSet: a fork could find that in the middle of a change.
_held: Final[dict[int, weakref.ref[FileLock]]] = {}
# Held while a lock is taken or given back and during a fork, so that no child inherits an open file that is
# not listed yet. Reentrant, because the garbage collector may run __del__ inside.
_no_fork = threading.RLock()


def _before_fork() -> None:
    _no_fork.acquire()


def _after_fork_in_parent() -> None:
    _no_fork.release()


def _after_fork_in_child() -> None:
    global _no_fork
    _no_fork = threading.RLock()
    for reference in list(_held.values()):
        lock = reference()
        if lock is not None:
            lock.abandon()
    _held.clear()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
