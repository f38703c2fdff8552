"""Processes that other libraries fork with an open collection in them: a DataLoader's, and gunicorn's.

Both preload: the parent opens the collection, searches it once, and its workers are forks that use the same
object. On a store that a fork cannot use, every worker must say so, in time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import vecbridge as vb
from vecbridge.registry import driver_class
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.elsewhere import run_elsewhere
from vecbridge.testing.maker import Maker
from vecbridge.urls import parse

ROWS, WORKERS = 64, 2
START_SECONDS = 120.0  # the application makes its collection first, on a server that is busy

OPENING = """
import os
import numpy as np

spec = vb.CollectionSpec.single(name, dim=4, metric="l2")
store = vb.connect(url, **options)
photos = store.create(spec)
numbers = np.arange(64)
vectors = np.stack([numbers, numbers ** 2, np.ones(64), np.ones(64)], axis=1).astype(np.float32)
photos.upsert(vb.batch(spec, id=[f"r{number}" for number in numbers], vector=vectors))
photos.flush()

def nearest(number):
    [hits] = photos.search(vb.Query([number, number ** 2, 1.0, 1.0], k=1))
    return hits.ids[0]

assert nearest(7) == "r7"
"""

LOADING = """
import torch

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, place):
        try:
            batch = photos.fetch([f"r{place}"], include=["vector"])
            return nearest(place), float(batch.column("vector").flatten()[0].as_py()), os.getpid()
        except vb.VecbridgeError as error:
            return type(error).__name__, -1.0, os.getpid()

loader = torch.utils.data.DataLoader(
    Rows(), batch_size=8, num_workers=2, multiprocessing_context="fork", timeout=60
)
told = {"names": [], "firsts": [], "processes": []}
for epoch in range(2):
    for names, firsts, processes in loader:
        told["names"] += names
        told["firsts"] += firsts.tolist()
        told["processes"] += processes.tolist()
told["parent"] = [os.getpid(), nearest(9), photos.count()]
print(json.dumps(told))
"""

APPLICATION = """
import json
import vecbridge as vb
globals().update(json.loads({values!r}))
{opening}
from urllib.parse import parse_qs

def application(environ, start_response):
    number = int(parse_qs(environ["QUERY_STRING"])["number"][0])
    try:
        answer = nearest(number)
    except vb.VecbridgeError as error:
        answer = type(error).__name__
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([answer, os.getpid()]).encode()]
"""


def usable_in_a_fork(url: str) -> bool:
    return driver_class(parse(url).scheme).on_fork != "refuse"


def test_workers_of_a_data_loader_read_the_collection_that_the_parent_opened(
    store_case: StoreCase, store_url: str, make: Maker
) -> None:
    done = run_elsewhere(OPENING + LOADING, store_case, url=store_url, name=make.spec().name)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    process, nearest, count = told["parent"]
    assert (nearest, count) == ("r9", ROWS)
    assert len(set(told["processes"]) - {process}) == 2 * WORKERS, "two workers an epoch"
    if usable_in_a_fork(store_url):
        assert told["names"] == [f"r{number}" for number in range(ROWS)] * 2
        assert told["firsts"] == [float(number) for number in range(ROWS)] * 2
    else:
        assert set(told["names"]) == {"StoreLockedError"}


def test_preloaded_workers_of_gunicorn_answer_and_a_killed_one_is_replaced(
    store_case: StoreCase, store_url: str, make: Maker, tmp_path: Path
) -> None:
    values = json.dumps({"url": store_url, "name": make.spec().name, "options": dict(store_case.options)})
    (tmp_path / "preloaded.py").write_text(APPLICATION.format(values=values, opening=OPENING))
    with gunicorn(tmp_path) as (process, ask):
        answers = [ask(number) for number in range(ROWS)]
        workers = {worker for _, worker in answers}
        assert process.pid not in workers
        os.kill(min(workers), signal.SIGKILL)
        again = [ask(number) for number in range(ROWS)]
        while not {worker for _, worker in again} - workers:
            again += [ask(number) for number in range(ROWS)]
    assert process.returncode == 0
    expected = [f"r{number}" for number in range(ROWS)]
    for part in (answers, *(again[start : start + ROWS] for start in range(0, len(again), ROWS))):
        names = [name for name, _ in part]
        assert names == (expected if usable_in_a_fork(store_url) else ["StoreLockedError"] * ROWS)
    if driver_class(parse(store_url).scheme).on_fork != "keep":
        with vb.connect(store_url, **store_case.options) as store:
            [name] = [name for name in store.collections() if name in values]
            assert store.open(name).count() == ROWS


@contextmanager
def gunicorn(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """A running gunicorn with a preloaded application, and a function that asks it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        sys.executable, "-m", "gunicorn", "--preload", f"--workers={WORKERS}", "--timeout=60",
        f"--bind=127.0.0.1:{port}", f"--chdir={folder}", "preloaded:application",
    ]  # fmt: skip
    log = folder / "gunicorn.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:

        def ask(number: int) -> list[Any]:
            """The answer; a worker that was killed with the request in its hands is asked for again."""
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    with urlopen(f"http://127.0.0.1:{port}/?number={number}", timeout=60) as answer:
                        return json.load(answer)
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        pytest.fail(log.read_text()[-2_000:] or "gunicorn did not start")
                    time.sleep(0.2)

        try:
            yield process, ask
            process.terminate()
            process.wait(30)
        finally:
            process.kill()
