"""``python -m vecbridge.testing.pinecone``: for other processes, and other languages."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.testing.pinecone.conftest import Servers


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_and_ends_cleanly_when_told_to(
    servers: Servers, signum: signal.Signals
) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "vecbridge.testing.pinecone",
        "--port",
        "0",
        "--api-key",
        "k",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        host = process.stdout.readline().strip()
        assert servers.api(host, "k").get("/indexes").json() == {"indexes": []}
        assert servers.api(host, "wrong").get("/indexes").status_code == 401
        process.send_signal(signum)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_indexes_are_served_on_the_ports_after_the_control_planes(servers: Servers) -> None:
    taken = servers.emulator()
    base = int(taken.host.rpartition(":")[2])
    taken.close()
    emulator = servers.emulator(port=base)
    hosts = [str(servers.index(emulator, name=name).host) for name in ("one", "two")]
    ports = [int(host.rpartition(":")[2]) for host in hosts]
    assert base < ports[0] < ports[1] < base + 100
