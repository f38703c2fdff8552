"""Damaged files: what can be derived is derived again, what cannot is refused and left untouched."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.stores.faiss.helpers import (
    best,
    contents,
    digest,
    faiss_store,
    found,
    names,
    one,
    random_vectors,
    rows,
    small,
)
from vecbridge.errors import CorruptStoreError
from vecbridge.indexes import HNSW, IVFSQ8, IndexParams
from vecbridge.stores.faiss.log import Frame, read
from vecbridge.stores.faiss.place import Place, StoredSpec

ROWS = 1500
COMMITS = 4


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def noise(path: Path) -> None:
    path.write_bytes(b"\xff\x00 not what stood here")


def missing(path: Path) -> None:
    path.unlink()


def without_rows(path: Path) -> None:
    """JSON of another shape than the manifest's."""
    path.write_text(json.dumps([{"vector": 99, "first": "0"}, 7]))


def without_files(path: Path) -> None:
    """A manifest whose entries fit their type and nothing else."""
    listed = json.loads(path.read_text())
    path.write_text(json.dumps([each | {"vector": 99} for each in listed]))


@pytest.fixture(params=[HNSW(m=8, ef_construction=40), IVFSQ8(nlist=8)], ids=["hnsw", "ivf_sq8"])
def index(request: pytest.FixtureRequest) -> IndexParams:
    return request.param


class TestIndexFiles:
    """Damage to what is derived costs time and nothing else."""

    @pytest.mark.parametrize("metric", ["l2", "cosine"])
    @pytest.mark.parametrize(
        ("pattern", "damage"),
        [
            ("index-*.faiss", cut),
            ("index-*.faiss", emptied),
            ("index-*.faiss", flipped),
            ("index-*.faiss", noise),
            ("index-*.faiss", missing),
            ("indexes.json", noise),
            ("indexes.json", emptied),
            ("indexes.json", cut),
            ("indexes.json", without_rows),
            ("indexes.json", without_files),
        ],
    )
    def test_damage_is_logged_searched_around_and_built_again(
        self,
        place: Path,
        caplog: pytest.LogCaptureFixture,
        index: IndexParams,
        metric: str,
        pattern: str,
        damage: Callable[[Path], None],
    ) -> None:
        spec = small(index=index, metric=metric)
        stored, ids = random_vectors(ROWS), names(ROWS)
        with faiss_store(place) as store:
            photos = store.create(spec)
            photos.upsert(rows(spec, ids, stored))
            photos.wait_ready()
            assert photos.status().index == "ready"
        damage(one(place, pattern))
        queries = random_vectors(20, seed=1)
        truth = best(metric, queries, stored, ids, 10)
        with faiss_store(place) as store, caplog.at_level(logging.WARNING, "vecbridge"):
            photos = store.open("photos")
            assert photos.status().index == "building"
            assert "searching exactly until the index is built again" in caplog.text
            assert found(photos, queries, 10) == truth
            photos.wait_ready()
            assert photos.status().index == "ready"
            caplog.clear()
        with faiss_store(place) as store, caplog.at_level(logging.WARNING, "vecbridge"):
            photos = store.open("photos")
            assert photos.status().index == "ready"
            assert not caplog.records
            assert len(contents(photos)) == ROWS

    @pytest.mark.parametrize("damage", [cut, missing])
    def test_a_lost_file_of_unit_vectors_is_made_again(
        self, place: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
    ) -> None:
        spec = small(index=HNSW(m=8, ef_construction=40), metric="cosine")
        stored, ids = random_vectors(ROWS), names(ROWS)
        with faiss_store(place) as store:
            photos = store.create(spec)
            photos.upsert(rows(spec, ids, stored))
            photos.wait_ready()
        damage(one(place, "unit-0.f32"))
        queries = random_vectors(20, seed=1)
        with faiss_store(place) as store, caplog.at_level(logging.WARNING, "vecbridge"):
            photos = store.open("photos")
            assert found(photos, queries, 10) == best("cosine", queries, stored, ids, 10)
            assert "searching exactly until the index is built again" in caplog.text
            photos.wait_ready()
            assert photos.status().index == "ready"
            assert found(photos, stored[:20], 1, ef=200) == [[each] for each in ids[:20]]

    @pytest.mark.parametrize("damage", [cut, emptied, noise, missing])
    def test_a_lost_training_is_repeated(self, place: Path, damage: Callable[[Path], None]) -> None:
        spec = small(index=IVFSQ8(nlist=8))
        stored, ids = random_vectors(ROWS), names(ROWS)
        with faiss_store(place) as store:
            photos = store.create(spec)
            photos.upsert(rows(spec, ids, stored))
            photos.wait_ready()
        damage(one(place, "trained-*.faiss"))
        missing(one(place, "index-*.faiss"))
        with faiss_store(place) as store:
            photos = store.open("photos")
            photos.wait_ready()
            assert photos.status().index == "ready"
            assert found(photos, stored[:20], 1, nprobe=8) == [[each] for each in ids[:20]]

    def test_an_index_built_with_other_parameters_is_not_used(
        self, place: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        spec = small(index=HNSW(m=8, ef_construction=40))
        with faiss_store(place) as store:
            photos = store.create(spec)
            photos.upsert(rows(spec, names(200)))
            photos.wait_ready()
        manifest = one(place, "indexes.json")
        manifest.write_text(manifest.read_text().replace('\\"m\\": 8', '\\"m\\": 9'))
        with faiss_store(place) as store, caplog.at_level(logging.WARNING, "vecbridge"):
            assert store.open("photos").status().index == "building"
        assert "other parameters" in caplog.text


def refuse_everything(place: Path) -> None:
    """Reading and writing raise, in a store opened before and after; no byte changes."""
    before = digest(place)
    spec = small()
    for attempt in (
        lambda photos: photos.count(),
        lambda photos: photos.upsert(rows(spec, ["new"])),
        lambda photos: photos.delete(["r000000"]),
        lambda photos: photos.compact(),
        lambda photos: photos.wait_ready(),
    ):
        with faiss_store(place) as store, pytest.raises(CorruptStoreError):
            attempt(store.open("photos"))
    assert digest(place) == before


@pytest.fixture
def written(place: Path) -> list[dict[str, Any]]:
    """A closed store of a few commits; what it held before the last of them."""
    spec = small()
    before: list[dict[str, Any]] = []
    with faiss_store(place) as store:
        photos = store.create(spec)
        for commit in range(COMMITS):
            before = contents(photos)
            photos.upsert(rows(spec, names(40, 30 * commit), random_vectors(40, seed=commit)))
    return before


def frames(place: Path) -> list[tuple[int, int]]:
    """Start and end of each frame of the log."""
    path = one(place, "rows-*.log")
    decoded, end = read(path, Place.at(path, StoredSpec("", small(), len(small().fields)), "cpu"))
    edges = [0]
    for frame in decoded:
        edges.append(edges[-1] + len(Frame(frame.batch, frame.dead, frame.successors).encode()))
    assert edges[-1] == end == path.stat().st_size
    return list(pairwise(edges))


@pytest.mark.usefixtures("written")
class TestCatalogue:
    """The row log cannot be derived from anything."""

    @pytest.mark.parametrize("frame", [0, 1, COMMITS - 1])
    def test_a_flipped_byte_anywhere_in_a_frame_is_found(self, place: Path, frame: int) -> None:
        start, end = frames(place)[frame]
        path = one(place, "rows-*.log")
        good = path.read_bytes()
        marks = [*range(start, start + 64, 5), *range(start + 64, end - 64, 97), *range(end - 64, end, 5)]
        for position in marks:
            flip(path, position)
            before = digest(place)
            with faiss_store(place) as store, pytest.raises(CorruptStoreError, match="nothing was changed"):
                store.open("photos").count()
            assert digest(place) == before
            path.write_bytes(good)

    @pytest.mark.parametrize("frame", [1, COMMITS - 1])
    def test_a_damaged_log_is_refused_for_reading_and_writing_and_left_alone(
        self, place: Path, frame: int
    ) -> None:
        start, end = frames(place)[frame]
        flip(one(place, "rows-*.log"), (start + end) // 2)
        refuse_everything(place)

    def test_damage_that_comes_while_a_writer_is_open_is_found_by_others(self, place: Path) -> None:
        with faiss_store(place) as reader, faiss_store(place) as writer:
            photos, mine = reader.open("photos"), writer.open("photos")
            count = photos.count()
            path = one(place, "rows-*.log")
            size = path.stat().st_size
            mine.upsert(rows(small(), ["later"]))
            flip(path, size + 100)
            with pytest.raises(CorruptStoreError):
                photos.count()
            assert count == mine.count() - 1

    def test_foreign_bytes_behind_the_last_frame_are_refused(self, place: Path) -> None:
        with one(place, "rows-*.log").open("ab") as file:
            file.write(b"something else that is longer than the header of a frame is " * 2)
        refuse_everything(place)

    def test_a_log_that_is_gone_is_not_taken_for_an_empty_one(self, place: Path) -> None:
        one(place, "rows-*.log").unlink()
        refuse_everything(place)

    @pytest.mark.parametrize("damage", [cut, emptied, missing])
    def test_vectors_shorter_than_the_log_says_are_refused(
        self, place: Path, damage: Callable[[Path], None]
    ) -> None:
        damage(one(place, "vectors-0.f32"))
        refuse_everything(place)

    @pytest.mark.parametrize("damage", [cut, emptied, noise])
    @pytest.mark.parametrize("name", ["CURRENT", "spec.json"])
    def test_a_damaged_pointer_or_spec_is_refused(
        self, place: Path, name: str, damage: Callable[[Path], None]
    ) -> None:
        damage(one(place, name))
        refuse_everything(place)

    @pytest.mark.parametrize(
        "change",
        [{"generation": None}, {"log": ["0"]}, {"generation": "77"}, {"log": "77"}, {"generation": "x"}],
        ids=str,
    )
    def test_a_pointer_to_nothing_is_refused(self, place: Path, change: dict[str, Any]) -> None:
        path = one(place, "CURRENT")
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        refuse_everything(place)

    @pytest.mark.parametrize(
        "content", ["[]", "null", '"text"', '{"token": "t", "spec": []}', '{"token": "t"}']
    )
    def test_json_that_is_no_spec_is_refused(self, place: Path, content: str) -> None:
        one(place, "spec.json").write_text(content)
        refuse_everything(place)

    def test_rows_without_a_pointer_are_not_taken_for_an_empty_namespace(self, place: Path) -> None:
        one(place, "CURRENT").unlink()
        refuse_everything(place)


class TestTornTails:
    """What was never acknowledged may be cut; only the next writer cuts it."""

    def offsets(self, place: Path) -> list[int]:
        start, end = frames(place)[-1]
        middle = range(start + 65, end - 65, max(1, (end - start) // 20))
        edges = [0, 1, 8, 12, 16, 39, 40, 41, 63, 64]
        return sorted(
            {start + each for each in edges}
            | set(middle)
            | {end - each for each in (1, 8, 56, 57, 63, 64, 65)}
        )

    def test_a_log_cut_anywhere_in_its_last_frame_opens_with_the_state_before(
        self, place: Path, written: list[dict[str, Any]]
    ) -> None:
        path = one(place, "rows-*.log")
        whole = path.read_bytes()
        offsets = self.offsets(place)
        assert len(offsets) >= 30
        for offset in offsets:
            path.write_bytes(whole[:offset])
            before = digest(place)
            with faiss_store(place) as store:
                assert contents(store.open("photos")) == written
            assert digest(place) == before

    @pytest.mark.parametrize("extra", [1, 63, 64, 65, 4096, 5 << 20])
    def test_zeros_behind_the_last_frame_are_room_that_was_never_used(
        self, place: Path, written: Any, extra: int
    ) -> None:
        path = one(place, "rows-*.log")
        with path.open("ab") as file:
            file.truncate(path.stat().st_size + extra)
        with faiss_store(place) as store:
            photos = store.open("photos")
            count = len(contents(photos))
            photos.upsert(rows(small(), ["later"]))
            assert len(contents(photos)) == count + 1
        with faiss_store(place) as store:
            assert len(contents(store.open("photos"))) == count + 1

    def test_the_next_writer_cuts_the_torn_tail_and_readers_follow(
        self, place: Path, written: list[dict[str, Any]]
    ) -> None:
        path = one(place, "rows-*.log")
        start, end = frames(place)[-1]
        path.write_bytes(path.read_bytes()[: (start + end) // 2])
        with faiss_store(place) as reader, faiss_store(place) as writer:
            photos = reader.open("photos")
            assert contents(photos) == written
            mine = writer.open("photos")
            mine.upsert(rows(small(), ["later"]))
            assert contents(photos) == contents(mine)
            assert len(contents(photos)) == len(written) + 1

    def test_vectors_that_were_never_acknowledged_are_written_over(
        self, place: Path, written: list[dict[str, Any]]
    ) -> None:
        path = one(place, "vectors-0.f32")
        with path.open("ab") as file:
            file.write(b"\x42" * 1000)
        with faiss_store(place) as store:
            photos = store.open("photos")
            before = contents(photos)
            batch = rows(small(), ["later"], random_vectors(1, seed=9))
            photos.upsert(batch)
            assert [each for each in contents(photos) if each["id"] != "later"] == before
            assert photos.fetch(["later"])["vector"].equals(batch["vector"])
