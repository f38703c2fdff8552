"""An emulator that serves until a signal comes, to whichever thread."""

from __future__ import annotations

import signal
import threading

import pytest

from vecbridge.testing.stopping import told_to_stop


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_another_thread_gets_ends_the_wait(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    with told_to_stop() as wait:
        other.start()
        threading.Timer(0.2, signal.pthread_kill, [other.ident, signum]).start()
        wait()
    ended.set()
    other.join()
    assert signal.getsignal(signum) is before
