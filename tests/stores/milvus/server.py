"""Starts a genuine Milvus 2.3.5 (`pip install milvus==2.3.5`) on loopback for the tests, and stops it.

Only one can run on a host, because its embedded etcd binds a fixed port. A lock file makes other test runs
wait. With MILVUS_URL set, the tests use that server and start none.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.servers import starting

#: Seconds to wait for a server. In a test it is less than the limit of pytest-timeout, so that the error
#: shows the server's log. Before the tests there is no such limit, and a busy machine may need minutes.
READY_SECONDS, READY_SECONDS_BEFORE_TESTS = 170, 600
#: Shorter periods than the defaults: a server does the same, and tests wait a tenth of the time.
BRISK = {
    "proxy.timeTickInterval": 20,
    "queryCoord.checkInterval": 100,
    "queryCoord.distPullInterval": 50,
    "queryCoord.checkHandoffInterval": 500,
    "queryCoord.UpdateNextTargetInterval": 1,
}
_shared: list[GenuineMilvus] = []
_LOCK = Path(tempfile.gettempdir()) / "vecbridge-milvus.lock"


class GenuineMilvus:
    """A standalone server with its own directory and port.

    Args:
        **config: Keys of its configuration template, such as ``authorization_enabled=True``.
    """

    def __init__(self, **config: Any) -> None:
        self._config = config
        self._directory = Path(tempfile.mkdtemp(prefix="vecbridge-milvus-"))
        self._lock = _LOCK.open("w")
        self._server: Any = None
        self._started = False
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"milvus://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server on the data in its directory, and waits until it answers.

        If such a server failed to start earlier in this run, this fails at once. After ``kill()`` it can be
        started again.
        """
        if self._started:
            self._start()
            return
        own = self._config.keys() - BRISK.keys()
        with starting("milvus", ", ".join(sorted(own))):
            self._take_turn()
            self._start()
        self._started = True

    def _take_turn(self) -> None:
        """Waits until no other test run has a Milvus server."""
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"Waiting for the Milvus of another test run, which holds {_LOCK}.", file=sys.stderr)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        except BaseException as exc:
            exc.add_note(f"Another test run has its Milvus running: it holds {_LOCK}.")
            raise

    def _start(self) -> None:
        from milvus import MilvusServer, MilvusServerConfig

        config = MilvusServerConfig(data_dir=str(self._directory), proxy_port=self.port)
        self._server = MilvusServer(config, wait_for_started=False)
        for key, value in self._config.items():
            section, _, name = key.partition(".")
            if name and f"  {name}:" not in config.template_text:
                head = f"\n{section}:\n"
                config.template_text = config.template_text.replace(head, f"{head}  {name}: {value}\n")
            config.set(key, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it does not close sockets that probe ports
            try:
                self._server.start()
                in_test = "PYTEST_CURRENT_TEST" in os.environ
                seconds = READY_SECONDS if in_test else READY_SECONDS_BEFORE_TESTS
                self._server.wait_started(seconds * 1000)
            except BaseException as exc:
                exc.add_note(self._last_words())
                raise

    def _last_words(self) -> str:
        """The end of the server's log."""
        logs = sorted(self._directory.glob("logs/milvus-std*.log"))
        return "\n".join(f"{log.name}: …{log.read_text('utf-8', 'replace')[-1000:]}" for log in logs)

    def kill(self) -> None:
        """Sends SIGKILL, so that the server writes nothing more."""
        self._server.server_proc.send_signal(signal.SIGKILL)
        self._server.server_proc.wait()
        self._server.stop()

    def stop(self) -> None:
        """Stops the server and removes its directory."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._lock.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> GenuineMilvus:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def missing() -> str | None:
    """What must be installed or started to test a genuine Milvus; None if nothing is missing."""
    if "MILVUS_URL" in os.environ or find_spec("milvus"):
        return None
    return "pip install milvus==2.3.5, or set MILVUS_URL to a server"


def shared() -> GenuineMilvus | None:
    """This run's server, which the first call starts; None if MILVUS_URL names a server."""
    if "MILVUS_URL" in os.environ:
        return None
    if not _shared:
        server = GenuineMilvus(**BRISK).__enter__()
        atexit.register(server.stop)
        _shared.append(server)
    return _shared[0]


def shared_url() -> str:
    """The URL of this run's server."""
    server = shared()
    return os.environ["MILVUS_URL"] if server is None else server.url


@contextmanager
def own(**config: Any) -> Iterator[GenuineMilvus]:
    """A server for the caller alone. It replaces the server of the run, which starts again when needed."""
    while _shared:
        server = _shared.pop()
        atexit.unregister(server.stop)
        server.stop()
    with GenuineMilvus(**config) as server:
        yield server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
