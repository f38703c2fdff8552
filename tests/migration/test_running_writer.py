"""A collection that is written to while it is copied: syncs close the gap, and the proof holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration.sides import PLACES, fresh_name

ROWS = 1_000
NEVER_DELETED = {str(number) for number in range(200, ROWS)}


def row(id: str, year: int) -> dict[str, Any]:
    return {"id": id, "vector": np.random.default_rng(int(id)).normal(size=4) + year, "year": year}


class Writer:
    """Updates, inserts and deletes rows without a pause, in a thread of its own.

    Attributes:
        turns: Rounds that it has made.
    """

    def __init__(self, collection: vb.Collection) -> None:
        self._collection, self._stop = collection, threading.Event()
        self.turns = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _write(self) -> None:
        random = np.random.default_rng(1)
        while not self._stop.is_set():
            self.turns += 1
            ids = [str(number) for number in random.integers(0, ROWS * 5 // 4, 20)]
            self._collection.upsert([row(id, self.turns) for id in dict.fromkeys(ids)])
            self._collection.delete(list({str(number) for number in random.integers(0, 200, 3)}))


def ids(url: str) -> set[str]:
    with vb.open(url) as collection:
        return {id for page in collection.scan(include=()) for id in page.batch.column("id").to_pylist()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("first", "second"), [("faiss", "snapshot"), ("weaviate", "faiss"), ("milvus", "faiss")]
)
def test_a_copy_of_a_running_source_is_equal_after_syncs_and_nothing_was_deleted_that_it_has(
    first: str, second: str, tmp_path: Path
) -> None:
    base, name, state = PLACES[first].url(tmp_path / "from"), fresh_name(), tmp_path / "photos.state"
    source, target = f"{base}#{name}", f"{PLACES[second].url(tmp_path / 'to')}#photos"
    with vb.connect(base) as store:
        collection = store.create(vb.CollectionSpec.single(name, dim=4, fields={"year": "int64"}))
        collection.upsert([row(str(number), 0) for number in range(ROWS)])
        writer = Writer(collection)
        with writer.running():
            report = vb.migrate(source, target, state=state)
            deleted = 0
            for _ in range(3):
                deleted += vb.sync(source, target, state=state).deleted
                assert ids(target) >= NEVER_DELETED
            turns = writer.turns
        assert report.written >= len(NEVER_DELETED)
        assert turns > 3
        assert deleted
        changes = [vb.sync(source, target, state=state).changes for _ in range(2)]
        assert changes[-1] == 0, changes
        assert ids(target) == ids(source)
        proof = vb.verify(source, target)
        assert proof.passed, proof.findings
        store.drop(name)
