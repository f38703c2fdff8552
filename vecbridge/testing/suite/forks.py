"""What becomes of a store in a forked child, and of the parent that it came from."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any

from vecbridge.registry import connect, driver_class
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import ids_of, put
from vecbridge.testing.elsewhere import run_elsewhere, unseen_elsewhere
from vecbridge.testing.maker import Maker, Undeclared
from vecbridge.urls import parse

SETUP = """
import multiprocessing, os, signal, time
import numpy as np

def rows(first, count):
    numbers = np.arange(first, first + count)
    vectors = np.stack([numbers, numbers ** 2, np.ones(count), np.ones(count)], axis=1).astype(np.float32)
    return vb.batch(spec, id=[f"r{number}" for number in numbers], vector=vectors)

def attempt(work):
    try:
        return work()
    except vb.VecbridgeError as error:
        return f"{type(error).__name__}: {error}"

def in_child(work):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(90)  # a child that hangs dies, and its answer is missing
        os.write(writer, json.dumps(attempt(work)).encode())
        os._exit(0)
    os.close(writer)
    answer = b"".join(iter(lambda: os.read(reader, 1 << 16), b""))
    os.close(reader)
    os.waitpid(child, 0)
    return json.loads(answer) if answer else "no answer"

def ids(collection):
    return sorted(key for page in collection.scan(include=[]) for key in page.batch.column("id").to_pylist())

def nearest(collection):
    [hits] = collection.search(vb.Query([3.0, 9.0, 1.0, 1.0], k=1))
    return list(hits.ids)

spec = vb.CollectionSpec.single(name, dim=4, metric="l2")
store = vb.connect(url, **options)
photos = store.create(spec)
photos.upsert(rows(0, 100))
photos.flush()
assert nearest(photos) == ["r3"]
told = {}
"""
LAST = "\nprint(json.dumps(told))\n"


class TestForks:
    """A handle knows the process that made it."""

    def run(self, code: str, case: StoreCase, url: str, make: Maker) -> tuple[dict[str, Any], str]:
        """What a script told, and the name of its collection."""
        name = make.spec().name
        done = run_elsewhere(SETUP + code + LAST, case, url=url, name=name)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return json.loads(done.stdout.splitlines()[-1]), name

    def test_a_child_reads_rightly_or_is_refused(
        self, store_case: StoreCase, store_url: str, make: Maker
    ) -> None:
        code = """
told["children"] = [
    in_child(lambda: [nearest(photos), photos.count(), len(ids(photos)), photos.fetch(["r7"]).num_rows])
    for _ in range(2)
]
told["parent"] = [nearest(photos), photos.count(), len(ids(photos))]
photos.upsert(rows(100, 10))
photos.flush()
told["newer"] = in_child(lambda: photos.count())
told["after"] = photos.count()
"""
        told, _ = self.run(code, store_case, store_url, make)
        assert told["parent"] == [["r3"], 100, 100]
        assert told["after"] == 110
        if driver_class(parse(store_url).scheme).on_fork == "refuse":
            answers = [*told["children"], told["newer"]]
            assert all(answer.startswith("StoreLockedError") for answer in answers), answers
        else:
            assert told["children"] == [[["r3"], 100, 100, 1]] * 2
            assert told["newer"] == 110

    def test_a_child_writes_safely_or_not_at_all(
        self, store_case: StoreCase, store_url: str, make: Maker
    ) -> None:
        code = """
told["children"] = [
    in_child(lambda first=first: photos.upsert(rows(first, 50)).written) for first in (1000, 2000)
]
told["deleted"] = in_child(lambda: photos.delete(["r0"]) is None or 1)
told["dropped"] = in_child(lambda: store.drop("no_such_collection"))
told["parent"] = photos.upsert(rows(100, 30)).written
photos.flush()
told["rows"] = photos.count()
store.close()
with vb.connect(url, **options) as again:
    told["reopened"] = len(ids(again.open(name))) if again.collections() else -1
"""
        told, _ = self.run(code, store_case, store_url, make)
        assert told["parent"] == 30
        on_fork = driver_class(parse(store_url).scheme).on_fork
        if on_fork == "reopen":
            assert told["children"] == [50, 50]
            assert told["deleted"] == 1
            assert told["dropped"].startswith("NotFoundError")
            assert told["rows"] == told["reopened"] == 229
        else:
            for answer in (*told["children"], told["deleted"]):
                assert answer.startswith("StoreLockedError"), answer
                assert "this process" in answer
            assert told["rows"] == 130
            assert told["reopened"] in (130, -1)  # -1: it lived in the memory of its connection
            assert (on_fork == "keep") >= (told["reopened"] == -1)

    def test_closing_in_a_child_leaves_the_parent_alone(
        self, store_case: StoreCase, store_url: str, make: Maker
    ) -> None:
        code = """
def close():
    photos.close()
    store.close()
    return [attempt(lambda: photos.count()), attempt(lambda: store.collections())]

told["closed"] = in_child(close)
told["written"] = photos.upsert(rows(100, 20)).written
photos.flush()
told["rows"] = [photos.count(), len(ids(photos))]
told["nearest"] = nearest(photos)
"""
        told, _ = self.run(code, store_case, store_url, make)
        assert all(answer.startswith("ConfigError") for answer in told["closed"]), told["closed"]
        assert (told["written"], told["rows"], told["nearest"]) == (20, [120, 120], ["r3"])

    def test_a_scan_goes_on_in_parent_and_child(
        self, store_case: StoreCase, store_url: str, make: Maker
    ) -> None:
        code = """
pages = photos.scan(include=[], batch_rows=10)
def keys(pages):
    return sorted(key for page in pages for key in page.batch.column("id").to_pylist())
first = keys([next(pages)])
told["child"] = in_child(lambda: first + keys(pages))
told["parent"] = first + keys(pages)
"""
        told, _ = self.run(code, store_case, store_url, make)
        every = sorted(f"r{number}" for number in range(100))
        assert sorted(told["parent"]) == every
        if driver_class(parse(store_url).scheme).on_fork == "refuse":
            assert told["child"].startswith("StoreLockedError")
        else:
            assert sorted(told["child"]) == every

    def test_an_idle_child_holds_nothing_after_its_parent_closed_or_died(
        self, store_case: StoreCase, store_url: str, make: Maker
    ) -> None:
        if driver_class(parse(store_url).scheme).on_fork == "keep":
            unseen_elsewhere(store_case, store_url, make)
        for ending in ("store.close()", "pass", "os.kill(os.getpid(), signal.SIGKILL)"):
            code = f"""
ready, told_ready = os.pipe()
child = os.fork()
if not child:
    os.close(1)
    os.close(2)
    os.write(told_ready, b"x")
    time.sleep(120)
    os._exit(0)
os.read(ready, 1)
told["child"] = child
print(json.dumps(told), flush=True)
{ending}
"""
            told, name = self.run(code, store_case, store_url, make)
            try:
                with connect(store_url, **store_case.options) as store:
                    collection = store.open(name)
                    put(collection, id=["after"])
                    assert len(ids_of(collection)) == 101, ending
            finally:
                with suppress(ProcessLookupError):
                    os.kill(told["child"], signal.SIGKILL)

    def test_workers_of_multiprocessing_read_what_the_parent_wrote(
        self, store_case: StoreCase, store_url: str, make: Maker, monkeypatch: Any
    ) -> None:
        on_fork = driver_class(parse(store_url).scheme).on_fork
        refusals = {  # what a worker does with the handle that it is sent
            "keep": ("attempt(lambda: len(pickle.dumps(photos)))", "ConfigError"),
            "refuse": ("in_child(lambda: pickle.loads(pickle.dumps(photos)).count())", "StoreLockedError"),
        }
        if on_fork in refusals:
            refused, error = refusals[on_fork]
            told, _ = self.run(f"import pickle\ntold['refused'] = {refused}", store_case, store_url, make)
            assert told["refused"].startswith(error), told
            raise Undeclared("reading in other processes")
        for variable, value in store_case.environment.items():
            monkeypatch.setenv(variable, value)
        code = """
import operator
for method in ("fork", "forkserver"):
    with multiprocessing.get_context(method).Pool(2) as pool:
        told[method] = pool.map(operator.methodcaller("count"), [photos] * 4)
told["parent"] = photos.count()
"""
        told, _ = self.run(code, store_case, store_url, make)
        assert told == {"fork": [100] * 4, "forkserver": [100] * 4, "parent": 100}
