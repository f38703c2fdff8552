"""A writer that is killed and a reader that must not notice: what both write and read follows from numbers.

Everything here runs in processes of its own, started by test_crash.py.
"""

from __future__ import annotations

import os
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import pyarrow as pa

from tests.stores.faiss.helpers import faiss_store
from vecbridge.collection import Collection
from vecbridge.errors import CursorExpiredError
from vecbridge.indexes import HNSW
from vecbridge.query import FloatArray, Query
from vecbridge.records import batch, vectors
from vecbridge.schema import CollectionSpec
from vecbridge.stores.faiss import segments, writer

DIM = 16
KEYS = 3000
_PRIMES = np.array([each for each in range(10_007, 11_000, 2) if all(each % p for p in range(3, 110, 2))])[
    :DIM
]
SPEC = CollectionSpec.single(
    "photos",
    dim=DIM,
    metric="l2",
    index=HNSW(m=8, ef_construction=40),
    fields={"version": "int64", "text": "string", "tags": "list<string>"},
)


def vectors_for(keys: np.ndarray[Any, Any], versions: np.ndarray[Any, Any]) -> FloatArray:
    """Vectors that look random and that anybody can compute again; shape (n, DIM)."""
    seeds = (keys.astype(np.uint64) * np.uint64(1_000_003) + versions.astype(np.uint64) * np.uint64(7919))[
        :, None
    ]
    mixed = (seeds + np.uint64(1)) * _PRIMES.astype(np.uint64) * np.uint64(2_654_435_761)
    mixed ^= mixed >> np.uint64(15)
    mixed *= np.uint64(2_246_822_519)
    return ((mixed >> np.uint64(16)) % np.uint64(1 << 20)).astype(np.float32) / (1 << 20) - 0.5


def records_for(keys: np.ndarray[Any, Any], versions: np.ndarray[Any, Any]) -> pa.RecordBatch:
    """The records of some keys at some versions."""
    pairs = list(zip(keys.tolist(), versions.tolist(), strict=True))
    return batch(
        SPEC,
        id=[f"k{key}" for key, _ in pairs],
        vector=vectors_for(keys, versions),
        version=versions,
        text=[f"{key} at {version}" for key, version in pairs],
        tags=[[f"t{key % 5}", f"v{version % 7}"][: version % 3] for key, version in pairs],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """What the writer does at one step; steps are numbered, and the number is the version of its rows."""

    kind: Literal["upsert", "delete", "wait_ready", "flush", "compact"]
    keys: np.ndarray[Any, Any]


def operation(step: int) -> Operation:
    """The same in every process."""
    rng = np.random.default_rng(step)
    draw = rng.random()
    if draw < 0.70:
        return Operation("upsert", rng.choice(KEYS, rng.integers(1, 250), replace=False))
    if draw < 0.86:
        return Operation("delete", rng.choice(KEYS, rng.integers(1, 60), replace=False))
    kind: Literal["wait_ready", "flush", "compact"] = "wait_ready"
    if draw > 0.93:
        kind = "compact" if draw > 0.96 else "flush"
    return Operation(kind, np.empty(0, np.int64))


def perform(photos: Collection, step: int) -> None:
    """Does one step; returns when it is acknowledged."""
    what = operation(step)
    if what.kind == "upsert":
        photos.upsert(records_for(what.keys, np.full(len(what.keys), step)))
    elif what.kind == "delete":
        photos.delete([f"k{key}" for key in what.keys.tolist()])
    else:
        getattr(photos, what.kind)()


def apply(state: dict[int, int], step: int) -> dict[int, int]:
    """Version by key after a step."""
    what = operation(step)
    if what.kind == "upsert":
        return state | dict.fromkeys(what.keys.tolist(), step)
    gone = set(what.keys.tolist()) if what.kind == "delete" else set()
    return {key: version for key, version in state.items() if key not in gone}


def write(root: Path, first: int, reports: Connection) -> None:
    """Runs steps until it is killed, and sends the number of each when the store has acknowledged it."""
    faiss.omp_set_num_threads(1)
    segments.SEGMENT_BYTES, segments.SEGMENT_ROWS = 0, 2000
    writer._REWRITE_FRAMES = 25
    with faiss_store(root) as store:
        photos = store.open("photos")
        step = first
        while True:
            perform(photos, step)
            reports.send(step)
            step += 1


def require_true(found: pa.RecordBatch, newest: dict[str, int]) -> None:
    """Every record is what was written under its version, and no version is older than one seen before."""
    ids, versions = found["id"].to_pylist(), found["version"].to_numpy()
    assert len(set(ids)) == len(ids), "an id came twice"
    keys = np.array([int(each[1:]) for each in ids], np.int64)
    expected = records_for(keys, versions)
    for name in found.schema.names:
        assert found[name].equals(expected[name]), f"column {name} of another record"
    for key, version in zip(ids, versions.tolist(), strict=True):
        assert newest.get(key, -1) <= version, f"{key} went back to version {version}"
        newest[key] = version


def read(root: Path, control: Connection) -> None:
    """Reads until told to stop; sends what it counted, or what went wrong."""
    counted = {"search": 0, "fetch": 0, "scan": 0, "expired": 0}
    faiss.omp_set_num_threads(1)
    try:
        with faiss_store(root) as store:
            photos = store.open("photos")
            newest: dict[str, int] = {}
            rng = np.random.default_rng(0)
            while not control.poll():
                _read_once(photos, rng, newest, counted)
        control.recv()
        control.send(counted)
    except BaseException:
        control.send(traceback.format_exc())
        raise


def _read_once(
    photos: Collection, rng: np.random.Generator, newest: dict[str, int], counted: dict[str, int]
) -> None:
    everything = [*SPEC.column_names]
    for hits in photos.search(Query(rng.random((3, DIM)) - 0.5, 10, include=everything)):
        assert hits.records is not None
        require_true(hits.records, newest)
        queries = vectors(hits.records)
        assert (np.diff(hits.scores) >= 0).all()
        assert len(queries) == len(hits)
    counted["search"] += 1
    require_true(photos.fetch([f"k{key}" for key in rng.choice(KEYS, 30, replace=False).tolist()]), newest)
    counted["fetch"] += 1
    if rng.random() < 0.1:
        seen: list[str] = []
        try:
            for page in photos.scan(batch_rows=500):
                require_true(page.batch, newest)
                seen += page.batch["id"].to_pylist()
            assert len(set(seen)) == len(seen), "a scan showed an id twice"
            counted["scan"] += 1
        except CursorExpiredError:
            counted["expired"] += 1


STEPS = (
    "pwrite",
    "fsync",
    "fdatasync",
    "unlink",
    "rename",
    "replace",
    "mkdir",
    "rmdir",
    "ftruncate",
    "truncate",
)


def die(root: Path, action: str, step: int) -> None:
    """Does something to a store, and is killed before the n-th time that it would change the disk."""
    faiss.omp_set_num_threads(1)
    left = iter(range(step, -1, -1))

    def deadly(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if next(left, 0) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    with faiss_store(root) as store:
        photos = store.open("photos")
        if action == "rewrite":
            writer._REWRITE_FRAMES = 1
        for name in STEPS:
            setattr(os, name, deadly(getattr(os, name)))
        if action in ("upsert", "rewrite"):
            photos.upsert(records_for(np.arange(150, 250), np.full(100, 2)))
        elif action == "drop":
            store.drop("photos")
        elif action == "replace":
            store.create(SPEC, if_exists="replace")
        else:
            getattr(photos, action)()
    os._exit(0)
