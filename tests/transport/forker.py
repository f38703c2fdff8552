"""Forks, in a process of its own: ``python -m tests.transport.forker ADDRESS CASE…``.

Prints what parent and child saw in each case, as a line of JSON. It is no test module: a fork that goes wrong
must end this process, never the one that runs the tests.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.transport.servers import channel
from vecbridge.driver import Deadline
from vecbridge.errors import VecbridgeError
from vecbridge.transport import forks, http

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else ""


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


def fresh_channel() -> str:
    return str(channel(ADDRESS).call("Echo", b"fresh", soon(), "echo").decode())


def fresh_client() -> str:
    with http.client(ADDRESS, timeout=10) as client:
        return client.get("/").text


def told(action: Callable[[], str]) -> str:
    try:
        return action()
    except VecbridgeError as exc:
        return f"{type(exc).__name__}: {exc}"


def forked(action: Callable[[], str]) -> str:
    """What an action says in a forked child; "hung" if it says nothing for 15 seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, told(action).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        if not select.select([pipe], [], [], 15)[0]:
            os.kill(child, signal.SIGKILL)
        said = pipe.read()
    os.waitpid(child, 0)
    return said or "hung"


def first_call() -> dict[str, Any]:
    """Forks while other threads open the first channel of the process."""
    opened = channel(ADDRESS)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(opened.call("Echo", b"x", soon(), "echo").decode()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    child = forked(fresh_channel)
    for thread in threads:
        thread.join()
    return {"child": child, "parent": answers}


def idle() -> dict[str, Any]:
    opened = channel(ADDRESS)
    opened.call("Echo", b"", soon(), "echo")
    child = forked(fresh_channel)
    return {"child": child, "parent": opened.call("Echo", b"on", soon(), "echo").decode()}


def descriptors() -> dict[str, Any]:
    """Whether a socket of the child can get the number of one by which the parent's gRPC talks."""

    def of_sockets() -> set[int]:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
        found = set()
        for number in numbers:
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    found.add(number)
        return found

    def taken() -> str:
        opened = [socket.socket() for _ in range(100)]
        return ",".join(str(each.fileno()) for each in opened if each.fileno() in of_grpc)

    before = of_sockets()
    opened = channel(ADDRESS)
    opened.call("Echo", b"", soon(), "echo")
    of_grpc = of_sockets() - before
    child = forked(lambda: taken() or "none")
    return {
        "child": child,
        "of_grpc": len(of_grpc),
        "parent": opened.call("Echo", b"on", soon(), "echo").decode(),
    }


def grandchild() -> dict[str, Any]:
    return {"child": forked(lambda: fresh_channel() + " " + forked(fresh_channel))}


def in_flight() -> dict[str, Any]:
    opened = channel(ADDRESS)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(opened.call("Slow", b"1", soon(), "wait").decode()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    begun = [opened.begin("Slow", b"1", soon(), "wait") for _ in range(2)]
    time.sleep(0.2)
    child = forked(fresh_channel)
    for thread in threads:
        thread.join()
    answers += [call.answer().decode() for call in begun]
    return {"child": child, "parent": answers}


def busy() -> dict[str, Any]:
    """Forks while other threads never stop calling."""
    opened = channel(ADDRESS)
    stop = threading.Event()
    answers: list[str] = []

    def call() -> None:
        while not stop.is_set():
            answers.append(told(lambda: opened.call("Echo", b"x", soon(), "echo").decode()))
            answers.extend(part.decode() for part in opened.call_each("Echo", [b"x"] * 6, soon(), "echo"))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = [forked(fresh_channel) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()
    return {"child": sorted(set(children)), "parent": sorted(set(answers))}


def endless() -> dict[str, Any]:
    """Forks with a call in flight that its deadline alone ends."""
    opened = channel(ADDRESS)
    opened.call("Echo", b"", soon(), "echo")
    call = opened.begin("Slow", b"60", soon(1), "wait")
    start = time.monotonic()
    child = forked(fresh_channel)
    seconds = time.monotonic() - start
    return {"child": child, "parent": told(lambda: call.answer().decode())[:13], "quick": seconds < 8}


def pool(method: str) -> dict[str, Any]:
    with multiprocessing.get_context(method).Pool(1) as workers:
        return {"child": workers.apply_async(fresh_channel).get(30)}


def http_in_flight() -> dict[str, Any]:
    with http.client(ADDRESS, timeout=10) as client:
        client.get("/")
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(client.get("/slow").text))
        thread.start()
        time.sleep(0.1)
        child = forked(fresh_client)
        thread.join()
        return {"child": child, "parent": [*answers, client.get("/").text]}


def abandoned() -> dict[str, Any]:
    """A child lets go of a client of its parent's whose destructor would be noticed."""

    class Client:
        def __del__(self) -> None:
            if os.getpid() != parent:
                os.write(write, b"freed")

    parent = os.getpid()
    read, write = os.pipe()
    clients = [Client()]
    if (child := os.fork()) == 0:
        forks.abandon(clients[0])
        clients.clear()
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    return {"child": os.read(read, 100).decode()}


def pinecone() -> dict[str, Any]:
    """Fresh clients of Pinecone in a child, and the end of a child that has its parent's."""
    from pinecone import Pinecone, ServerlessSpec
    from pinecone.grpc import GrpcIndex

    control = Pinecone(api_key="emulated", host=ADDRESS, ssl_verify=False, timeout=10)
    control.indexes.create(
        name="photos", dimension=2, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1")
    )
    host = control.indexes.describe("photos").host

    def over_rest() -> str:
        fresh = Pinecone(api_key="emulated", host=ADDRESS, ssl_verify=False, timeout=10)
        return ",".join(index.name for index in fresh.indexes.list())

    def over_grpc() -> str:
        fresh = GrpcIndex(host=host, api_key="emulated", secure=False, grpc_scheme="http", timeout=10)
        fresh.upsert(vectors=[("a", [1.0, 2.0])])
        return ",".join(fresh.fetch(ids=["a"]).vectors)

    inherited = GrpcIndex(host=host, api_key="emulated", secure=False, grpc_scheme="http", timeout=10)
    inherited.upsert(vectors=[("a", [1.0, 2.0])])
    said = {"rest": forked(over_rest), "grpc": forked(over_grpc)}
    if (child := os.fork()) == 0:
        forks.abandon(inherited)
        sys.exit(0)
    end = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.05)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            return said | {"exit": "hung"}
    return said | {"exit": "ended", "parent": ",".join(inherited.fetch(ids=["a"]).vectors)}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "first_call": first_call,
    "idle": idle,
    "descriptors": descriptors,
    "grandchild": grandchild,
    "in_flight": in_flight,
    "busy": busy,
    "endless": endless,
    "fork": lambda: pool("fork"),
    "forkserver": lambda: pool("forkserver"),
    "http_in_flight": http_in_flight,
    "abandoned": abandoned,
    "pinecone": pinecone,
    "not_forked": lambda: {"here": fresh_channel()},
}

if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(json.dumps({name: CASES[name]()}), flush=True)
    os._exit(0)
