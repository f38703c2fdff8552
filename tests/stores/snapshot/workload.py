"""A writer that is killed: what it writes follows from numbers; it runs in processes of its own."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tests.stores.snapshot.helpers import names, rows, small, snapshot_store
from vecbridge.collection import Collection
from vecbridge.stores.snapshot import pending, table

SPEC = small()
KEYS = 400
STEPS = ("fsync", "unlink", "rename", "replace", "mkdir", "rmdir", "link", "open")


def perform(photos: Collection, step: int) -> None:
    """Does one step; returns when it is acknowledged."""
    kind, keys = operation(step)
    if kind == "upsert":
        photos.upsert(rows(SPEC, keys, step))
    elif kind == "delete":
        photos.delete(keys)
    else:
        getattr(photos, kind)()


def operation(step: int) -> tuple[str, list[str]]:
    """What a step does, the same in every process."""
    rng = np.random.default_rng(step)
    draw = rng.random()
    if draw < 0.85:
        count = int(rng.integers(1, 120 if draw < 0.68 else 30))
        keys = [f"r{key:06d}" for key in rng.choice(KEYS, count, replace=False)]
        return ("upsert" if draw < 0.68 else "delete"), keys
    return ("flush" if draw < 0.95 else "compact"), []


def apply(state: dict[str, int], step: int) -> dict[str, int]:
    """Version by id after a step."""
    kind, keys = operation(step)
    if kind == "upsert":
        return state | dict.fromkeys(keys, step)
    gone = set(keys) if kind == "delete" else set()
    return {key: version for key, version in state.items() if key not in gone}


def write(root: Path, first: int, reports: Connection) -> None:
    """Runs steps until it is killed, and sends the number of each when the store has acknowledged it."""
    pending.PART_BYTES = 4_000  # some requests are files of their own
    table.MOST_PENDING_REQUESTS = 20
    with snapshot_store(root) as store:
        photos = store.open("photos")
        step = first
        while True:
            perform(photos, step)
            reports.send(step)
            step += 1


def die(root: Path, action: str, step: int) -> None:
    """Does something to a store, and is killed before the n-th time that it would change the disk."""
    left = iter(range(step, -1, -1))

    def deadly(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if next(left, 0) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    pending.PART_BYTES = 8_000
    store = snapshot_store(root)
    photos = store.open("photos")
    if action in ("flush", "close"):
        photos.delete(["no such id"])  # which makes it the writer
    for name in STEPS:
        setattr(os, name, deadly(getattr(os, name)))
    if action == "upsert":
        photos.upsert(rows(SPEC, names(100, 150), 2))
    elif action == "large upsert":
        photos.upsert(rows(SPEC, names(400, 150), 2))
    elif action == "delete":
        photos.delete(names(100, 150))
    elif action == "close":
        store.close()
    elif action == "drop":
        store.drop("photos")
    elif action == "replace":
        store.create(SPEC, if_exists="replace")
    else:
        getattr(photos, action)()
    os._exit(0)
