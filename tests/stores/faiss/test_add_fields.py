"""Fields are added to a collection that has rows: none is lost, and old handles read on and do not write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.stores.faiss.growing import PLACE, SOON, YEAR, add, described, found_by, records, years
from tests.stores.faiss.helpers import (
    contents,
    digest,
    faiss_store,
    names,
    one,
    rows,
    scanned,
    small,
)
from vecbridge.errors import (
    CorruptStoreError,
    NotFoundError,
    SchemaError,
    StoreLockedError,
    VecbridgeError,
)
from vecbridge.filters import Filter, field
from vecbridge.indexes import HNSW
from vecbridge.schema import CollectionSpec, Field
from vecbridge.stores.faiss import writer
from vecbridge.testing import driver_of

NOON = datetime(2020, 5, 17, 12, 0, 0, 1, tzinfo=UTC)
#: A value of each type, and a filter that finds it.
VALUES: dict[str, tuple[Any, Filter]] = {
    "bool": (True, field("new") == True),  # noqa: E712 - builds a filter
    "int64": (2**62 + 1, field("new") >= 2**62),
    "float64": (0.5, field("new") < 1),
    "string": ("", field("new") == ""),
    "timestamp": (NOON, field("new") == NOON),
    "list<string>": (["a", ""], field("new").contains("")),
    "list<int64>": ([], field("new").is_empty()),
    "list<float64>": ([0.5], field("new").contains(0.5)),
    "json": ('{"a":1}', ~field("new").is_null()),
}


@pytest.fixture
def grown(made: Path) -> Path:
    """The same with a year in one more row, and then a place in yet another."""
    with faiss_store(made) as store:
        for number, added in enumerate([YEAR, PLACE]):
            assert add(store, added)
            photos = store.open("photos")
            values = {"year": 2000 + number} | ({"place": "Ulm"} if number else {})
            photos.upsert(records(photos.spec, names(1, 3 + number), **values))
    return made


GROWN = dict.fromkeys(names(3), (None, None)) | {"r000003": (2000, None), "r000004": (2001, "Ulm")}


class TestRows:
    """What was there is null, what comes is kept."""

    @pytest.mark.parametrize("type", VALUES)
    def test_a_field_of_each_type(self, made: Path, type: Any) -> None:
        value, condition = VALUES[type]
        with faiss_store(made) as store:
            before = contents(store.open("photos"))
            after = add(store, Field("new", type))
            assert after is not None
            assert after.spec == described(store).spec == store.open("photos").spec
            assert after.identity.schema == 3
            photos = store.open("photos")
            assert contents(photos) == [row | {"new": None} for row in before]
            photos.upsert(records(photos.spec, ["x"], new=value))
        for _ in range(2):  # the second time from a new generation
            with faiss_store(made) as store:
                photos = store.open("photos")
                assert found_by(photos, field("new").is_null()) == names(3)
                assert found_by(photos, condition) == found_by(photos, ~field("new").is_null()) == ["x"]
                assert found_by(photos, field("n") < 2) == [*names(2), "x"]
                assert [row["new"] for row in contents(photos)] == [None, None, None, value]
                photos.compact()

    def test_frames_of_several_widths_stand_in_one_log(self, grown: Path) -> None:
        with faiss_store(grown) as store:
            photos = store.open("photos")
            assert years(photos) == GROWN
            assert photos.fetch(["r000004", "r000000"], include=["place", "n"]).to_pylist() == [
                {"id": "r000004", "n": 0, "place": "Ulm"},
                {"id": "r000000", "n": 0, "place": None},
            ]
            photos.delete(["r000001"])
            photos.upsert(records(photos.spec, ["r000002"], year=1999))
        with faiss_store(grown) as store:
            expected = {key: value for key, value in GROWN.items() if key != "r000001"}
            assert years(store.open("photos")) == expected | {"r000002": (1999, None)}

    def test_a_log_that_is_written_anew_keeps_them(
        self, grown: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_REWRITE_FRAMES", 1)
        with faiss_store(grown) as store, faiss_store(grown) as other:
            reader = other.open("photos")
            assert years(reader) == GROWN
            photos = store.open("photos")
            photos.upsert(records(photos.spec, ["x"], year=1))
            assert one(grown, "rows-*.log").name == "rows-1.log"
            assert years(photos) == years(reader) == GROWN | {"x": (1, None)}

    def test_every_namespace_has_them_written_to_or_not(self, place: Path) -> None:
        spec = small(namespaced=True)
        with faiss_store(place) as store:
            store.create(spec, namespace="a").upsert(rows(spec, names(2)))
            idle = store.open("photos", namespace="b")
            assert add(store, YEAR)
            for namespace in ("a", "b"):
                photos = store.open("photos", namespace=namespace)
                photos.upsert(records(photos.spec, ["x"], year=7))
            assert scanned(idle) == ["x"]
        with faiss_store(place) as store:
            assert years(store.open("photos", namespace="a")) == {
                "r000000": (None, None), "r000001": (None, None), "x": (7, None),
            }  # fmt: skip
            assert years(store.open("photos", namespace="b")) == {"x": (7, None)}

    def test_indexes_stay_and_grow(self, place: Path) -> None:
        spec = small(index=HNSW(m=8))
        with faiss_store(place) as store:
            photos = store.create(spec)
            photos.upsert(rows(spec, names(200)))
            photos.wait_ready()
            assert add(store, YEAR)
            photos = store.open("photos")
            assert photos.status().index == "ready"
            photos.upsert(records(photos.spec, names(90, 200), year=1))
            photos.wait_ready()
            assert photos.status().index == "ready"
            assert len(found_by(photos, field("year") == 1)) == 90


class TestOlderHandles:
    """A handle from before reads on with the spec that it has, and is refused when it writes."""

    @pytest.mark.parametrize("wrote_before", [False, True])
    def test_one_of_the_same_store(self, made: Path, wrote_before: bool) -> None:
        with faiss_store(made) as store:
            old = store.open("photos")
            if wrote_before:
                old.upsert(rows(small(), names(3)))
            pages = old.scan(batch_rows=1)
            next(pages)
            assert add(store, YEAR)
            new = store.open("photos")
            new.upsert(records(new.spec, ["x"], year=1))
            assert sum(page.batch.num_rows for page in pages) == 2
            assert [set(row) for row in contents(old)] == [{"id", "vector", "n", "s"}] * 4
            assert found_by(old, field("n") == 0) == ["r000000", "x"]
            with pytest.raises(SchemaError, match="fields were added"):
                old.upsert(rows(small(), ["y"]))
            assert old.count() == new.count() == 4
            assert old.delete(["x"]) == 1  # which nulls nothing
            old.compact()
            assert years(new) == dict.fromkeys(names(3), (None, None))

    def test_one_of_another_store_meets_rows_with_more_fields(self, made: Path) -> None:
        with faiss_store(made) as store, faiss_store(made) as other:
            old = other.open("photos")
            assert len(contents(old)) == 3
            assert add(store, YEAR, PLACE)
            new = store.open("photos")
            new.upsert(records(new.spec, ["x"], year=1))
            assert [set(row) for row in contents(old)] == [{"id", "vector", "n", "s"}] * 4
            assert years(other.open("photos"))["x"] == (1, None)
            store.close()
            with pytest.raises(SchemaError, match="fields were added"):
                old.upsert(rows(small(), ["y"]))
            late = other.open("photos")
            late.upsert(records(late.spec, ["y"], place="Ulm"))
            assert years(late) == dict.fromkeys(names(3), (None, None)) | {"x": (1, None), "y": (None, "Ulm")}

    def test_who_is_refused_leaves_the_lock_to_others(self, made: Path) -> None:
        with faiss_store(made) as other:
            old = other.open("photos")
            with faiss_store(made) as store:
                assert add(store, YEAR)
            for _ in range(2):
                with pytest.raises(SchemaError, match="fields were added"):
                    old.upsert(rows(small(), ["y"]))
            with faiss_store(made) as store:
                photos = store.open("photos")
                photos.upsert(records(photos.spec, ["x"], year=1))
            assert old.delete(["x"]) == 1

    def test_only_new_ids_are_refused_too(self, made: Path) -> None:
        with faiss_store(made) as store:
            old = driver_of(store.open("photos"))
            [part] = old.prepare(rows(small(), names(1)), None)
            assert add(store, YEAR)
            with pytest.raises(SchemaError, match="fields were added"):
                old.write_absent(part, SOON, whole=True)

    def test_a_handle_says_which_fields_are_stored_now(self, made: Path) -> None:
        with faiss_store(made) as store, faiss_store(made) as other:
            old = driver_of(other.open("photos"))
            identity = old.identity(SOON)
            assert identity.schema == 2
            assert add(store, YEAR)
            assert old.identity(SOON) == identity
            assert old.identity(SOON).schema == described(other).identity.schema == 3

    def test_another_process_adds_them(self, made: Path) -> None:
        code = (
            "import sys; from pathlib import Path\n"
            "from tests.stores.faiss.helpers import faiss_store\n"
            "from tests.stores.faiss.growing import YEAR, add, records\n"
            "with faiss_store(Path(sys.argv[1])) as store:\n"
            "    assert add(store, YEAR)\n"
            "    photos = store.open('photos')\n"
            "    photos.upsert(records(photos.spec, ['x'], year=1))\n"
        )
        with faiss_store(made) as store:
            old = store.open("photos")
            assert old.count() == 3
            subprocess.run([sys.executable, "-c", code, str(made)], check=True, timeout=120)
            assert scanned(old) == [*names(3)[1:], "r000000", "x"]
            with pytest.raises(SchemaError, match="fields were added"):
                old.upsert(rows(small(), ["y"]))
            assert years(store.open("photos"))["x"] == (1, None)


class TestRefusals:
    """What is no longer as it was found is left alone."""

    def test_fields_that_were_added_meanwhile(self, made: Path) -> None:
        with faiss_store(made) as store, faiss_store(made) as other:
            found = described(store)
            assert add(store, YEAR)
            before = digest(made)
            assert add(store, YEAR, found=found) is None
            assert add(other, PLACE, found=found) is None  # and is not in need of the lock to say so
            assert digest(made) == before

    @pytest.mark.parametrize("replaced", [False, True])
    def test_a_collection_that_is_gone(self, made: Path, replaced: bool) -> None:
        with faiss_store(made) as store:
            found = described(store)
            store.drop("photos")
            if replaced:
                store.create(small())
            with pytest.raises(NotFoundError, match="dropped or replaced"):
                add(store, YEAR, found=found)

    def test_another_writer(self, made: Path) -> None:
        with faiss_store(made) as store, faiss_store(made) as other:
            photos = store.open("photos")
            photos.upsert(rows(small(), ["x"]))
            before = digest(made)
            with pytest.raises(StoreLockedError, match=f"process {os.getpid()}"):
                add(other, YEAR)
            assert digest(made) == before
            photos.upsert(rows(small(), ["y"]))


class TestFormat:
    """Versions that do not know added fields read what has none, and refuse the rest by name."""

    def test_a_collection_without_them_is_written_as_ever(self, made: Path) -> None:
        stored = json.loads(one(made, "spec.json").read_bytes())
        assert stored["spec"] == small().to_dict()
        assert one(made, "rows-*.log").read_bytes()[:8] == b"VBROWS01"

    def test_one_with_them_has_a_spec_and_frames_that_are_new(self, grown: Path) -> None:
        stored = json.loads(one(grown, "spec.json").read_bytes())
        with pytest.raises(SchemaError, match="added"):
            CollectionSpec.from_dict(stored["spec"])
        assert one(grown, "rows-*.log").read_bytes().count(b"VBROWS02") == 2

    def test_a_flipped_byte_in_a_header_is_found(self, grown: Path) -> None:
        log = one(grown, "rows-*.log")
        good = log.read_bytes()
        start = good.rindex(b"VBROWS02")
        for position in range(start, start + 64):
            log.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            with faiss_store(grown) as store, pytest.raises(CorruptStoreError, match="nothing was changed"):
                store.open("photos").count()

    def test_frames_with_fields_that_no_spec_has_are_damage(self, grown: Path) -> None:
        path = one(grown, "spec.json")
        stored = json.loads(path.read_bytes())
        del stored["spec"]["fields"][-1]
        path.write_text(json.dumps(stored))
        before = digest(grown)
        with faiss_store(grown) as store:
            photos = store.open("photos")
            refused: list[Callable[[], Any]] = [
                photos.count,
                lambda: photos.upsert(records(photos.spec, ["y"])),
            ]
            for call in refused:
                with pytest.raises(VecbridgeError, match="does not have; nothing was changed"):
                    call()
        assert digest(grown) == before
