"""Writers that are killed at any moment: what was acknowledged is there, and what is left over goes."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.children import CHILDREN
from tests.stores.snapshot import workload
from tests.stores.snapshot.helpers import files, names, parts, rows, snapshot_store, versions
from vecbridge.stores.snapshot import pending

PATIENCE = 60


def test_no_acknowledged_row_is_lost_whenever_the_writer_is_killed(place: Path) -> None:
    with snapshot_store(place) as store:
        store.create(workload.SPEC)
    state: dict[str, int] = {}
    step, moments = 0, random.Random(7)
    for _ in range(8):
        receiver, sender = CHILDREN.Pipe(duplex=False)
        process = CHILDREN.Process(target=workload.write, args=(place, step, sender), daemon=True)
        process.start()
        sender.close()
        for _ in range(moments.randint(3, 15)):
            assert receiver.poll(PATIENCE)
            step = receiver.recv()
            state = workload.apply(state, step)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join(PATIENCE)
        while True:
            try:
                step = receiver.recv()
            except EOFError:
                break
            state = workload.apply(state, step)
        step += 1
        with snapshot_store(place) as store:
            found = versions(store.open("photos"))
        assert found in (state, workload.apply(state, step)), f"step {step}"
        state = found
        step += 1
    assert step > 40
    with snapshot_store(place) as store:
        photos = store.open("photos")
        photos.upsert(rows(workload.SPEC, names(5), 99_999))
        state |= dict.fromkeys(names(5), 99_999)
    with snapshot_store(place) as store:
        assert versions(store.open("photos")) == state
    found = [f"photos/__default__/{path.name}" for path in parts(place)]
    assert files(place) == [*found, "photos/manifest.json"]


@pytest.mark.parametrize(
    "action", ["upsert", "large upsert", "delete", "flush", "close", "compact", "drop", "replace"]
)
def test_a_writer_killed_before_any_change_to_the_disk_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    template = tmp_path / "template"
    monkeypatch.setattr(pending, "PART_BYTES", 8_000)
    with snapshot_store(template) as store:
        photos = store.create(workload.SPEC)
        photos.upsert(rows(workload.SPEC, names(200)))
        photos.flush()
        photos.upsert(rows(workload.SPEC, names(200, 100), 1))
        photos.upsert(rows(workload.SPEC, names(20, 290), 1))
        photos.delete(names(40))
        shutil.copytree(template, tmp_path / "crashed")  # with requests that no writer has merged
    before = dict.fromkeys(names(60, 40), 0) | dict.fromkeys(names(210, 100), 1)
    after = {
        "upsert": before | dict.fromkeys(names(100, 150), 2),
        "large upsert": before | dict.fromkeys(names(400, 150), 2),
        "delete": {key: version for key, version in before.items() if key not in names(100, 150)},
    }.get(action, before)
    deaths = 0
    for step in range(1_000):
        place = tmp_path / f"{action}-{step}"
        shutil.copytree(tmp_path / "crashed", place)
        process = CHILDREN.Process(target=workload.die, args=(place, action, step), daemon=True)
        process.start()
        process.join(PATIENCE)
        with snapshot_store(place) as store:
            if not store.collections():
                assert action in ("drop", "replace")
                store.create(workload.SPEC)
            photos = store.open("photos")
            found = versions(photos)
            assert found in (before, after) or (action in ("drop", "replace") and not found)
            photos.upsert(rows(workload.SPEC, names(5), 9))
            assert versions(photos) == found | dict.fromkeys(names(5), 9)
        with snapshot_store(place) as store:
            assert versions(store.open("photos")) == found | dict.fromkeys(names(5), 9)
        remains = [each for each in files(place / "photos") if not each.startswith("__default__/part-")]
        assert remains == ["manifest.json"]
        shutil.rmtree(place)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
    assert deaths > 2, "it was never killed"
