"""Adding fields is cut off, or meets writers and readers: the old spec stands, or the new one."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.children import CHILDREN
from tests.stores.faiss.growing import (
    PLACE,
    YEAR,
    add,
    described,
    found_by,
    grow_until_killed,
    records,
    years,
)
from tests.stores.faiss.helpers import contents, digest, faiss_store, names, rows, small
from vecbridge import storage
from vecbridge.errors import SchemaError
from vecbridge.filters import field
from vecbridge.schema import Field


class Interrupted(BaseException):
    """The process ends here."""


def interrupt(module: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Ends the process before a function is called."""

    def ended(*_: object, **__: object) -> None:
        raise Interrupted

    return lambda monkeypatch: monkeypatch.setattr(module, name, ended)


STEPS = {
    "before the file is synced": interrupt(os, "fsync"),
    "before it is replaced": interrupt(Path, "replace"),
    "before its directory is synced": interrupt(storage, "sync_directory"),
}


class TestInterruption:
    """The old spec stands, or the new one; to do it again is all that is needed."""

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("killed", [False, True])
    def test_it_is_repeated(
        self, made: Path, step: str, killed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = faiss_store(made)
        photos = store.open("photos")
        photos.upsert(rows(small(), ["x"]))
        with monkeypatch.context() as patched:
            if killed:
                patched.setattr(Path, "unlink", lambda *_, **__: None)
            STEPS[step](patched)
            with pytest.raises(Interrupted):
                add(store, YEAR)
        if killed:
            store.close()
            store = faiss_store(made)
        else:
            photos.upsert(rows(small(), ["x"]))  # of which the new fields are null, if they are there
        done = len(described(store).spec.fields) == 3
        assert done == (step == "before its directory is synced")
        assert add(store, PLACE if done else YEAR) is not None
        photos = store.open("photos")
        photos.upsert(records(photos.spec, ["y"], year=1))
        assert years(photos) == dict.fromkeys([*names(3), "x"], (None, None)) | {"y": (1, None)}
        assert not list(made.rglob(f"{storage.TEMPORARY}*"))
        store.close()
        with faiss_store(made) as store:
            assert years(store.open("photos"))["y"] == (1, None)

    def test_no_room_changes_nothing(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with faiss_store(made) as store:
            before = digest(made)
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", full)
                with pytest.raises(OSError, match="No space"):
                    add(store, YEAR)
            assert digest(made) == before
            assert add(store, YEAR)


def test_a_process_that_is_killed_loses_no_field_and_no_row(made: Path) -> None:
    rng = random.Random(13)
    for _ in range(6):
        mine, its = CHILDREN.Pipe(duplex=False)
        process = CHILDREN.Process(target=grow_until_killed, args=(made, its), daemon=True)
        process.start()
        its.close()
        said = [mine.recv() for _ in range(rng.randrange(1, 6))]
        time.sleep(rng.random() * 0.02)  # a random point is wanted; nothing waits for anything here
        process.kill()
        process.join()
        with suppress(EOFError):
            while mine.poll():
                said.append(mine.recv())
        with faiss_store(made) as store:
            photos = store.open("photos")
            found = {row["id"]: row for row in contents(photos)}
            added = [each.name for each in photos.spec.fields[2:]]
            assert added == [f"f{number}" for number in range(len(added))]
            assert set(names(3)) <= found.keys()
            for kind, number in said:
                assert number < len(added)
                if kind == "row":
                    row = found[f"f{number}"]
                    assert {name: row[name] for name in added if row[name] is not None} == {
                        f"f{number}": number
                    }
    assert len(added) >= 6


def test_threads_write_read_and_add_fields_at_a_time(made: Path) -> None:
    done = threading.Event()

    def write(number: int) -> int:
        photos, rejected = store.open("photos"), 0
        for step in range(60):
            key = f"w{number}-{step}"
            while True:
                values = {each.name: step for each in photos.spec.fields[2:]}
                try:
                    photos.upsert(records(photos.spec, [key], **values))
                    break
                except SchemaError:
                    photos, rejected = store.open("photos"), rejected + 1
        return rejected

    def read(_: int) -> None:
        photos = store.open("photos")
        while not done.is_set():
            for page in photos.scan():
                assert page.batch.schema.names == ["id", "vector", "n", "s"]
            found_by(photos, field("s") == "text r000001")

    with faiss_store(made) as store, ThreadPoolExecutor(4) as pool:
        reading = pool.submit(read, 0)
        writing = [pool.submit(write, number) for number in range(2)]
        for number in range(8):
            assert add(store, Field(f"f{number}", "int64"))
            time.sleep(0.02)  # lets the others in; nothing waits for anything here
        rejected = sum(each.result() for each in writing)
        done.set()
        reading.result()
        for row in contents(store.open("photos")):
            values = [row[f"f{number}"] for number in range(8)]
            known = [value for value in values if value is not None]
            assert values == known + [None] * (8 - len(known))
            assert set(known) <= {int(row["id"].partition("-")[2] or -1)}
        assert rejected
