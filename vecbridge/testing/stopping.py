"""Serving until a signal says stop: for emulators that run as a command."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


@contextmanager
def told_to_stop() -> Iterator[Callable[[], object]]:
    """Catches SIGINT and SIGTERM from here on; what it gives waits for one of them.

    The signal may be delivered to any thread, also to one of a numeric library that does not block it. So
    it comes through a socket, which wakes the waiting thread in every case.
    """
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        before = {number: signal.signal(number, _noted) for number in (signal.SIGINT, signal.SIGTERM)}
        woken = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        try:
            yield partial(receiver.recv, 1)
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)


def _noted(number: int, frame: object) -> None:
    """Python's part of the handler: the byte in the socket says it all."""
