"""Every file that an acknowledged call leaves is on the disk, and no old one goes before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vecbridge as vb
from tests.disk import Disk
from tests.stores.snapshot.helpers import names, rows, small, snapshot_store, versions
from vecbridge.collection import Collection
from vecbridge.stores.snapshot import pending


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


CALLS: dict[str, Callable[[Collection], object]] = {
    "upsert": lambda photos: photos.upsert(rows(photos.spec, names(50, 60), 2)),
    "delete": lambda photos: photos.delete(names(10)),
    "delete by filter": lambda photos: photos.delete(filter=vb.field("n") == 1),
    "add_fields": lambda photos: photos.add_fields({"year": "int64"}),
    "flush": lambda photos: photos.flush(),
    "compact": lambda photos: photos.compact(),
}


@pytest.mark.parametrize("part_bytes", [None, 1], ids=["small requests", "requests as Parquet"])
def test_what_a_call_has_acknowledged_would_survive_a_power_cut(
    place: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, part_bytes: int | None
) -> None:
    if part_bytes is not None:
        monkeypatch.setattr(pending, "PART_BYTES", part_bytes)
    root = place / "photos"
    with snapshot_store(place) as store:
        photos = store.create(small())
        assert disk.loses(root) == []
        assert disk.keeps(root / "manifest.json")
        for version in range(2):
            photos.upsert(rows(photos.spec, names(100), version))
        for name, call in CALLS.items():
            call(photos)
            assert disk.loses(root) == [], name
        assert set(versions(photos).values()) <= {1, 2}
        store.drop("photos")
        assert not root.exists()
    assert disk.hasty == []
