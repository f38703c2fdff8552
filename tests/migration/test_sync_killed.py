"""A sync that is killed at any point is completed by the same call."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.children import CHILDREN
from tests.migration.sides import PLACES, fresh_name
from vecbridge.migration import reading
from vecbridge.migration.statefile import State

ROWS = 600


def row(number: int, turn: int) -> dict[str, Any]:
    return {"id": str(number), "vector": [number, turn], "turn": turn}


def rows(url: str) -> dict[str, dict[str, Any]]:
    with vb.open(url) as collection:
        return {each["id"]: each for page in collection.scan() for each in page.batch.to_pylist()}


def change(url: str, turn: int, draw: random.Random) -> None:
    """Updates, inserts and deletes some rows, some of them back to what they were before."""
    with vb.open(url) as collection:
        chosen = draw.sample(range(ROWS * 3 // 2), ROWS // 3)
        collection.upsert([row(number, draw.choice([turn, 0])) for number in chosen])
        collection.delete([str(number) for number in draw.sample(range(ROWS * 3 // 2), ROWS // 4)])


def killing(call: Any, steps: Any, last: int) -> Any:
    """The same call, which is the end of the process at its n-th step towards the disk."""

    def counted(*arguments: Any, **options: Any) -> Any:
        steps.value += 1
        if steps.value == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return counted


def synced(source: str, target: str, state: Path, steps: Any, last: int) -> None:
    """What a child does."""
    for name in ("fsync", "replace", "pwrite", "write", "truncate", "ftruncate"):
        setattr(os, name, killing(getattr(os, name), steps, last))
    reading.MAX_PAGE_ROWS = 150
    vb.sync(source, target, state=state, workers=1)


def run(source: str, target: str, state: Path, last: int) -> int | None:
    """Starts a sync that kills itself at a step; how many steps it took, or None if it was killed."""
    steps = CHILDREN.Value("i", 0)
    child = CHILDREN.Process(target=synced, args=(source, target, state, steps, last))
    child.start()
    child.join()
    if child.exitcode == -signal.SIGKILL:
        return None
    assert child.exitcode == 0
    return steps.value


@pytest.mark.parametrize("kind", ["faiss", "weaviate"])
def test_a_sync_that_is_killed_at_random_points_ends_as_one_that_was_not(
    kind: str, tmp_path: Path, kills: int
) -> None:
    source = f"{PLACES[kind].url(tmp_path / 'from')}#{fresh_name()}"
    target = f"faiss:{tmp_path / 'to'}#photos"
    state, draw = tmp_path / "photos.state", random.Random(14)
    spec = vb.CollectionSpec.single("photos", dim=2, metric="l2", fields={"turn": "int64"})
    for url in (source, target):
        with vb.connect(url.partition("#")[0]) as store:
            store.create(spec.renamed(url.partition("#")[2]))
    with vb.open(source) as collection:
        collection.upsert([row(number, 0) for number in range(ROWS)])
    vb.sync(source, target, state=state)
    change(source, 1, draw)
    steps = run(source, target, state, last=0)
    assert steps is not None
    before_the_end = 0
    for turn in range(2, 2 + kills):
        change(source, turn, draw)
        before_the_end += run(source, target, state, draw.randint(1, steps)) is None
        change(source, turn, draw)
        if turn % 5 == 0:
            vb.sync(source, target, state=state)
            assert rows(target) == rows(source)
    assert before_the_end >= kills * 3 // 4
    vb.sync(source, target, state=state)
    assert rows(target) == rows(source)
    assert vb.sync(source, target, state=state).changes == 0
    compared = tmp_path / "compared.state"
    assert vb.sync(source, target, state=compared).changes == 0
    assert [np.sort(State.read(each).entries).shape for each in (state, compared)] == [
        (len(rows(source)),)
    ] * 2
    assert {each.name for each in tmp_path.iterdir()} == {
        "from", "to", "photos.state", "photos.state.journal", "compared.state", "compared.state.journal"
    }  # fmt: skip
    with vb.connect(source.partition("#")[0]) as store:
        store.drop(source.partition("#")[2])
