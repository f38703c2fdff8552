"""Starts a Weaviate server on loopback for the tests, and stops it.

A genuine server is `weaviate-server` or `weaviate` from PATH: a single node without modules, with its own
folder and ports. With WEAVIATE_URL set (`weaviate://host:port?grpc_port=…`), the tests use that server and
start none. Without either, they use an emulated one.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.servers import starting

READY_SECONDS = 60
_shared: list[GenuineWeaviate] = []


class GenuineWeaviate:
    """A server with its own folder and ports.

    Args:
        **environment: Further settings, such as ``AUTHENTICATION_APIKEY_ENABLED="true"``.
    """

    def __init__(self, **environment: str) -> None:
        self._environment = environment
        self._directory = Path(tempfile.mkdtemp(prefix="vecbridge-weaviate-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._started = False
        self.port, self.grpc_port, *self._others = _free_ports(6)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"weaviate://127.0.0.1:{self.port}?grpc_port={self.grpc_port}"

    def start(self) -> None:
        """Starts the server on the data in its folder, and waits until it answers.

        If such a server failed to start earlier in this run, this fails at once. After ``kill()`` it can be
        started again.
        """
        if self._started:
            self._start()
            return
        with starting("weaviate", ", ".join(sorted(self._environment))):
            self._start()
        self._started = True

    def _start(self) -> None:
        command = _executable()
        assert command is not None, missing()
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [command, "--host", "127.0.0.1", "--port", str(self.port), "--scheme", "http"],
                env={**os.environ, **self._settings(), **self._environment},
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"weaviate did not start:\n{self._last_words()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Sends SIGKILL, so that the server writes nothing more."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stops the server and removes its folder."""
        self.kill()  # no clean shutdown is needed, because the folder is removed
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> GenuineWeaviate:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _settings(self) -> dict[str, str]:
        gossip, data, raft, raft_rpc = map(str, self._others)
        return {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_BIND_ADDR": "127.0.0.1",
            "CLUSTER_DATA_BIND_PORT": data,
            "CLUSTER_GOSSIP_BIND_PORT": gossip,
            "CLUSTER_HOSTNAME": "node1",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "DISABLE_TELEMETRY": "true",
            "DISK_USE_READONLY_PERCENTAGE": "99",
            "DISK_USE_WARNING_PERCENTAGE": "99",
            "ENABLE_MODULES": "",
            "GO_PROFILING_DISABLE": "true",
            "GRPC_PORT": str(self.grpc_port),
            "LOG_LEVEL": "warning",
            "PERSISTENCE_DATA_PATH": str(self._directory / "data"),
            "QUERY_DEFAULTS_LIMIT": "10",
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "RAFT_INTERNAL_RPC_PORT": raft_rpc,
            "RAFT_JOIN": "node1",
            "RAFT_PORT": raft,
            "RAFT_TIMEOUTS_MULTIPLIER": "1",  # a short election timeout: there is only one node
        }

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/.well-known/ready", timeout=2):
                pass
            with socket.create_connection(("127.0.0.1", self.grpc_port), timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _last_words(self) -> str:
        return (self._directory / "log").read_text("utf-8", "replace")[-2000:]


def client_missing() -> str | None:
    """What must be installed to test Weaviate at all; None if nothing is missing."""
    return None if find_spec("weaviate") else "pip install '.[weaviate]'"


def missing() -> str | None:
    """What must be installed or started to test a genuine Weaviate; None if nothing is missing."""
    if "WEAVIATE_URL" in os.environ or _executable():
        return None
    return f"{missing_executable()}, or set WEAVIATE_URL=weaviate://host:port?grpc_port=…"


def missing_executable() -> str | None:
    """What must be installed so that a test can start and kill its own server; None if nothing is missing."""
    return None if _executable() else "put weaviate-server (or weaviate) into PATH"


def url() -> str:
    """The URL of this run's server: a genuine one if possible, else an emulated one."""
    return emulated_url() if missing() else shared_url()


@cache
def emulated_url() -> str:
    """The URL of this process's emulator, which the first call starts."""
    from vecbridge.testing.weaviate import Emulator

    emulator = Emulator()
    atexit.register(emulator.close)
    return emulator.url


def shared_url() -> str:
    """The URL of this run's genuine server, which the first call starts."""
    if "WEAVIATE_URL" in os.environ:
        return os.environ["WEAVIATE_URL"]
    if not _shared:
        server = GenuineWeaviate().__enter__()
        atexit.register(server.stop)
        _shared.append(server)
    return _shared[0].url


def version(url: str) -> str:
    """The version of the server at a URL."""
    host = url.partition("//")[2].partition("?")[0]
    with urllib.request.urlopen(f"http://{host}/v1/meta", timeout=5) as answer:
        return str(json.load(answer)["version"])


@contextmanager
def own(**environment: str) -> Iterator[GenuineWeaviate]:
    """A server for the caller alone."""
    with GenuineWeaviate(**environment) as server:
        yield server


def _executable() -> str | None:
    return shutil.which("weaviate-server") or shutil.which("weaviate")


def _free_ports(count: int) -> list[int]:
    """Free ports. All are bound before any is released, so that they differ."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
