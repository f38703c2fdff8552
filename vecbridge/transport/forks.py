"""Makes a fork wait for the gRPC calls in flight, and refuses gRPC where a forked child would hang.

With its defaults, grpcio 1.78 kills the *parent* that forks while a call is in flight: it ends with
SIGSEGV, each time. A fork between calls harms neither the parent nor a fresh channel of the child, in 1.60,
1.78 and 1.85, with GRPC_ENABLE_FORK_SUPPORT unset or 1; with 0 the child's calls hang. So a fork takes
place between the calls of the channels here: new calls wait for it, and it waits for those in flight, at
most until their deadlines.

Since 1.74 the child's copy of gRPC closes the sockets that it inherited, and may still write a frame to their
numbers: the next socket that the child opens got an HTTP/2 PING before its first request, in 3 of 81 children
(https://github.com/grpc/grpc/issues/40136). So in the child these numbers are kept in use by ``/dev/null``::

    before the fork      in the child, by gRPC    then here              later
    6: socket of gRPC    close(6)                 6: /dev/null           a new socket gets another number
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from vecbridge.errors import ConfigError

_OFF: Final = frozenset({"0", "f", "false", "n", "no"})
_GRACE_SECONDS: Final = 1.0  # gRPC ends a call a moment after its deadline


class CallsInFlight:
    """Counts the calls of a process; a fork waits until there are none, and calls wait for the fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._calls = 0
        self._forks = 0
        self._last_end = 0.0

    def enter(self, end: float) -> None:
        """Counts a call; waits while the process forks.

        Args:
            end: When the call ends at the latest, on the monotonic clock.
        """
        with self._lock:
            while self._forks:
                self._changed.wait()
            self._calls += 1
            self._last_end = max(self._last_end, end)

    def leave(self) -> None:
        """The call has ended."""
        with self._lock:
            self._calls -= 1
            if self._forks and not self._calls:
                self._changed.notify_all()

    def begin_fork(self) -> None:
        """Lets no call begin, and waits for those in flight, at most until their deadlines."""
        with self._changed:
            self._forks += 1
            seconds = self._last_end + _GRACE_SECONDS - time.monotonic()
            self._changed.wait_for(lambda: not self._calls, max(seconds, 0.0))

    def end_fork(self) -> None:
        """Lets calls begin again, in the parent."""
        with self._changed:
            self._forks = max(self._forks - 1, 0)  # a hook that came amid a fork sees its end alone
            self._changed.notify_all()


class _Process:
    """What a forked child has anew."""

    calls = CallsInFlight()
    forked = False
    watches = False
    lock = threading.Lock()
    descriptors: frozenset[int] = frozenset()  # open when the fork began, once gRPC is initialized


def calls_in_flight() -> CallsInFlight:
    """Those of this process."""
    return _Process.calls


def require_fork_support() -> None:
    """Refuses gRPC where no deadline would end a call.

    Raises:
        ConfigError: This process was forked from one that had loaded gRPC, whose fork support is turned off.
    """
    value = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "")
    if _Process.forked and value.lower() in _OFF:
        raise ConfigError(
            f"gRPC hangs in a forked process where GRPC_ENABLE_FORK_SUPPORT={value}: unset it, or start the "
            "process by 'spawn'"
        )


def abandon(client: object) -> None:
    """Keeps a client that a forked child inherited from being freed, even when the child exits.

    The destructor of Pinecone's gRPC client waits for threads that a child does not have, for ever.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def watch_forks() -> None:
    """Registers the hooks once more, after gRPC's own; to be called when gRPC is initialized.

    The last hook registered runs first before a fork. With GRPC_ENABLE_FORK_SUPPORT=1 gRPC registers one that
    stops the threads by which calls end. The hooks of the import stay, for forks amid the first call.
    """
    with _Process.lock:
        if not _Process.watches and hasattr(os, "register_at_fork"):
            _Process.watches = True
            _register()


def _register() -> None:
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _Process.calls.end_fork(),
        after_in_child=_in_child,
    )


def _before() -> None:
    _Process.calls.begin_fork()
    if _Process.watches:
        _Process.descriptors = frozenset(filter(_is_open, _listed_descriptors()))


def _in_child() -> None:
    closed, _Process.descriptors = _Process.descriptors, frozenset()
    for number in closed:
        if not _is_open(number):
            _occupy(number)
    _Process.forked = True
    _Process.calls = CallsInFlight()  # the parent's may be locked by a thread that is not here
    _Process.lock = threading.Lock()


def _listed_descriptors() -> list[int]:
    """The numbers of this process's open descriptors, and of the one that listed them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return [int(each.name) for each in Path(folder).iterdir()]
    return []


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _occupy(number: int) -> None:
    """Keeps a number in use, so that no socket or file gets it."""
    with suppress(OSError):
        descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if descriptor != number:
            os.dup2(descriptor, number, inheritable=False)
            os.close(descriptor)


if hasattr(os, "register_at_fork"):
    _register()
