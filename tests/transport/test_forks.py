"""Forks beside and amid calls; each in a process of its own, so that nothing can hang or end the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.transport.servers import Methods, http_server
from vecbridge.transport.forks import CallsInFlight

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

ROOT = Path(__file__).parents[2]


def run(address: str, *cases: str, support: str | None = None) -> dict[str, Any]:
    """What the script says of each case; it is killed with its children after 100 seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    if support is not None:
        environment["GRPC_ENABLE_FORK_SUPPORT"] = support
    command = [sys.executable, "-m", "tests.transport.forker", address, *cases]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"status {process.returncode} after {out}: {err[-2_000:]}"
    return {name: said for line in out.splitlines() for name, said in json.loads(line).items()}


@pytest.mark.parametrize("support", [None, "1"], ids=["default", "on"])
def test_forks_amid_calls_harm_neither_parent_nor_child(
    server: tuple[str, Methods], support: str | None
) -> None:
    cases = {
        "first_call": {"child": "fresh", "parent": ["x"] * 3},
        "idle": {"child": "fresh", "parent": "on"},
        "grandchild": {"child": "fresh fresh"},
        "in_flight": {"child": "fresh", "parent": ["1"] * 4},
        "busy": {"child": ["fresh"], "parent": ["x"]},
        "endless": {"child": "fresh", "parent": "DeadlineError", "quick": True},
        "fork": {"child": "fresh"},
        "forkserver": {"child": "fresh"},
    }
    assert run(server[0], *cases, support=support) == cases


@pytest.mark.parametrize("support", [None, "1"], ids=["default", "on"])
def test_no_socket_of_a_child_gets_the_number_of_one_to_which_its_copy_of_grpc_may_write(
    server: tuple[str, Methods], support: str | None
) -> None:
    said = run(server[0], "descriptors", support=support)["descriptors"]
    assert said == {"child": "none", "of_grpc": 1, "parent": "on"}


@pytest.mark.parametrize("support", ["0", "False"])
def test_a_child_is_refused_where_grpc_would_hang(server: tuple[str, Methods], support: str) -> None:
    said = run(server[0], "not_forked", "idle", support=support)
    assert said["not_forked"] == {"here": "fresh"}
    assert said["idle"]["child"].startswith("ConfigError: gRPC hangs in a forked process where ")
    assert f"GRPC_ENABLE_FORK_SUPPORT={support}: unset it" in said["idle"]["child"]
    assert said["idle"]["parent"] == "on"


def test_a_child_opens_an_http_client_amid_a_request_of_the_parent() -> None:
    with http_server(b"answer", slow=0.5) as (url, _):
        assert run(url, "http_in_flight") == {"http_in_flight": {"child": "answer", "parent": ["answer"] * 2}}


def test_a_child_frees_nothing_that_it_abandons() -> None:
    assert run("", "abandoned") == {"abandoned": {"child": ""}}


def test_clients_of_pinecone_work_in_a_child_which_ends_if_it_abandons_its_parents() -> None:
    """Without that, the child would never end: its runtime waits for threads that are not there."""
    pytest.importorskip("pinecone")
    emulators = pytest.importorskip("vecbridge.testing.pinecone")
    with emulators.Emulator(api_key="emulated") as emulator:
        said = run(emulator.host, "pinecone")
    assert said["pinecone"] == {"rest": "photos", "grpc": "a", "exit": "ended", "parent": "a"}


def test_a_fork_waits_for_calls_and_calls_wait_for_the_fork() -> None:
    calls = CallsInFlight()
    events: list[str] = []
    calls.enter(time.monotonic() + 10)

    def fork() -> None:
        calls.begin_fork()
        events.append("fork")
        time.sleep(0.1)
        calls.end_fork()

    def call() -> None:
        calls.enter(time.monotonic() + 10)
        events.append("call")
        calls.leave()

    threads = [threading.Thread(target=action) for action in (fork, call, call)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    assert events == []
    events.append("end")
    calls.leave()
    for thread in threads:
        thread.join()
    assert events == ["end", "fork", "call", "call"]


def test_the_end_of_a_fork_whose_beginning_was_not_seen_stops_no_call() -> None:
    calls = CallsInFlight()
    calls.end_fork()
    calls.enter(time.monotonic() + 1)
    calls.leave()
