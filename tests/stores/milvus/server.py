"""A genuine Milvus 2.3.5 (`pip install milvus==2.3.5`), started on loopback and stopped by the tests.

One runs per host at a time, since its embedded etcd binds a fixed port: a lock file makes others wait. With
MILVUS_URL set, that server is tested instead, and nothing is started.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.servers import starting

READY_SECONDS = 150  # below the limit of pytest-timeout, so that the server's log is shown
#: Shorter periods than a server has by default; every wait is the same, and takes a tenth of the time.
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
    """A standalone server with a directory and a port of its own.

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
        """Starts it on what its directory holds, and waits until it answers.

        Where it did not start before, this fails at once; a server that ran and was killed is started anew.
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
        """Waits until no other test run has a Milvus."""
        try:
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
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves the sockets of ports in use open
            try:
                self._server.start()
                self._server.wait_started(READY_SECONDS * 1000)
            except BaseException as exc:
                exc.add_note(self._last_words())
                raise

    def _last_words(self) -> str:
        """The end of what it wrote to its log."""
        logs = sorted(self._directory.glob("logs/milvus-std*.log"))
        return "\n".join(f"{log.name}: …{log.read_text('utf-8', 'replace')[-1000:]}" for log in logs)

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self._server.server_proc.send_signal(signal.SIGKILL)
        self._server.server_proc.wait()
        self._server.stop()

    def stop(self) -> None:
        """Stops it and removes its directory."""
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
    """What has to be installed or started before a genuine Milvus can be tested."""
    if "MILVUS_URL" in os.environ or find_spec("milvus"):
        return None
    return "pip install milvus==2.3.5, or set MILVUS_URL to a server"


def shared() -> GenuineMilvus | None:
    """The server of this run, started when it is first asked for; None if MILVUS_URL names one."""
    if "MILVUS_URL" in os.environ:
        return None
    if not _shared:
        server = GenuineMilvus(**BRISK).__enter__()
        atexit.register(server.stop)
        _shared.append(server)
    return _shared[0]


def shared_url() -> str:
    """The URL of the server of this run."""
    server = shared()
    return os.environ["MILVUS_URL"] if server is None else server.url


@contextmanager
def own(**config: Any) -> Iterator[GenuineMilvus]:
    """A server of the caller's own; that of the run makes room, and is started anew when it is asked for."""
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
