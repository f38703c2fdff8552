"""A forked child never harms its parent: the embedded server goes on, its lock goes with the parent alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores.milvus.helpers import fresh, lite_url, milvus_store

SETUP = """
import os, signal, sys, time
import numpy as np
import vecbridge as vb
from vecbridge.indexes import Flat

url, name = sys.argv[1:]
store = vb.connect(url)
spec = vb.CollectionSpec.single(name, dim=4, index=Flat())
photos = store.create(spec, if_exists="replace")

def put(*ids):
    photos.upsert(vb.batch(spec, id=ids, vector=np.eye(4)[: len(ids)]))

put("a", "b")
"""

#: A child that uses the store and ends as a process ends, with everything that runs at exit.
ENDS = """
child = os.fork()
if not child:
    for call in (store.collections, photos.count, lambda: put("x"), lambda: store.open(name)):
        try:
            call()
        except vb.StoreLockedError as exc:
            assert "process" in str(exc), exc
        else:
            raise AssertionError("not refused")
    photos.close()
    store.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
put("a", "c")
print(photos.count(), sorted(photos.search(vb.Query([1, 0, 0, 0], k=9))[0].ids))
photos.wait_ready()
store.close()
"""

#: An idle child that outlives its parent, which closes its store or is killed.
OUTLIVES = """
if not os.fork():
    os.close(1)
    time.sleep(60)
    os._exit(0)
{end}
"""

#: Parent and children write to a server at the same time, each over a connection of its own.
TOGETHER = """
children = []
for number in range(3):
    if not (child := os.fork()):
        put(*(f"child{number}-{row}" for row in range(4)))
        assert photos.count() >= 6
        sys.exit(0)
    children.append(child)
put("c", "d")
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
photos.flush()
print(codes, photos.count(), len(photos.search(vb.Query([1, 0, 0, 0], k=50))[0].ids))
store.drop(name)
"""


def run(code: str, url: str, name: str) -> str:
    """What a process of its own prints."""
    ended = subprocess.run(
        [sys.executable, "-c", SETUP + code, url, name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_child_of_milvus_lite_refuses_every_call_and_its_end_stops_nothing_of_the_parent(
    tmp_path: Path,
) -> None:
    url = lite_url(tmp_path)
    assert run(ENDS, url, "photos") == "3 ['a', 'b', 'c']"
    with milvus_store(url) as store:
        assert store.open("photos").count() == 3


@pytest.mark.parametrize("end", ["store.close()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_directory_is_free_once_the_parent_is_gone_although_an_idle_child_lives(
    tmp_path: Path, end: str
) -> None:
    url = lite_url(tmp_path)
    code = SETUP + OUTLIVES.format(end=end)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, url, "photos"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert parent.wait(timeout=60) in (0, -signal.SIGKILL)
        with milvus_store(url) as store:
            assert store.open("photos").count() == 2
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def test_children_of_a_client_of_a_server_connect_anew_and_the_parent_goes_on(server_url: str) -> None:
    assert run(TOGETHER, server_url, fresh("forked")) == "[0, 0, 0] 16 16"
