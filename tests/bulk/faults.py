"""A collection that fails as a test says, around the memory store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

import vecbridge as vb
from vecbridge import records
from vecbridge.errors import Failure

SPEC = vb.CollectionSpec.single(
    "photos", dim=4, metric="l2", fields={"year": "int64", "title": "string", "meta": "json"}
)
Fault = Callable[[int, pa.RecordBatch], None]


def rows(first: int, count: int, *, year: int = 2020) -> pa.RecordBatch:
    """Rows with the ids first, first + 1, …"""
    numbers = np.arange(first, first + count)
    return vb.batch(
        SPEC,
        id=[f"r{number}" for number in numbers],
        vector=np.stack([numbers, numbers * 0.1, numbers**0.5, np.ones(count)], axis=1),
        year=[year] * count,
        title=[None if number % 3 == 0 else f"picture {number}" for number in numbers],
    )


def ids(batch: pa.RecordBatch) -> list[Any]:
    return batch.column("id").to_pylist()


def sources(batches: int, count: int = 10) -> Iterator[pa.RecordBatch]:
    """Batches of ``count`` rows each, ids running on."""
    for number in range(batches):
        yield rows(number * count, count)


class Faulty:
    """The memory collection behind a fault: it may raise before a batch is stored, or after."""

    def __init__(self, before: Fault | None = None, after: Fault | None = None, **capabilities: Any) -> None:
        self.inner = vb.connect("memory://").create(SPEC)
        self.spec = SPEC
        self.namespace = ""
        self.identity = "the same"  # whichever process or test holds it
        self.capabilities = replace(self.inner.capabilities, **capabilities)
        self.sent: list[list[Any]] = []
        self._before = before
        self._after = after
        self._lock = threading.Lock()

    def upsert(self, checked: records.Checked, *, on_conflict: Any = "replace") -> vb.WriteReport:
        assert checked.fits(SPEC)  # whatever a bulk write sends was checked, and says so
        batch = checked.batch
        with self._lock:
            call = len(self.sent)
            self.sent.append(ids(batch))
        if self._before:
            self._before(call, batch)
        report = self.inner.upsert(checked, on_conflict=on_conflict)
        if self._after:
            self._after(call, batch)
        return report

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def heal(self) -> None:
        self._before = self._after = None

    def stored(self) -> set[Any]:
        return {key for page in self.inner.scan(include=[]) for key in ids(page.batch)}


def partial(
    collection: Faulty, batch: pa.RecordBatch, bad: dict[int, str], outcome: Any, cause: Exception | None
) -> vb.PartialWriteError:
    """Stores the other rows, and makes the error that says so."""
    good = [row for row in range(batch.num_rows) if row not in bad]
    collection.inner.upsert(batch.take(pa.array(good, pa.int64())))
    failures = tuple(Failure(row, ids(batch)[row], error, outcome) for row, error in bad.items())
    error = vb.PartialWriteError(vb.WriteReport(len(good), len(bad), failures=failures))
    error.__cause__ = cause
    return error
