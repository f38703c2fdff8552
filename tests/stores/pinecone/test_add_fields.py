"""Fields that are added to a collection with records: tags are changed, and others may change them too."""

from __future__ import annotations

from typing import Any

import pytest

import vecbridge as vb
from tests.stores.pinecone.helpers import KEY, contents, pinecone_store, rows, scanned, small
from vecbridge.driver import Deadline, Described
from vecbridge.errors import DeadlineError, NotFoundError, SchemaError, UnavailableError, UnsupportedError
from vecbridge.schema import CollectionSpec, Field
from vecbridge.store import Store
from vecbridge.stores.pinecone import driver as driver_module
from vecbridge.stores.pinecone.control import Control
from vecbridge.testing import driver_of
from vecbridge.testing.inside import forget_last_look
from vecbridge.testing.pinecone import Emulator

NEW: dict[str, Any] = {
    "flag": "bool", "size": "int64", "price": "float64", "title": "string", "taken": "timestamp",
    "tags": "list<string>", "sizes": "list<int64>", "ratios": "list<float64>", "facts": "json",
}  # fmt: skip
VALUES: dict[str, Any] = {
    "flag": False, "size": 2**63 - 1, "price": 0.1, "title": "", "taken": "9999-12-31T23:59:59.999999Z",
    "tags": [], "sizes": [2**53 + 1], "ratios": [], "facts": "null",
}  # fmt: skip


@pytest.fixture(autouse=True)
def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else adds fields, but where a test says so."""
    monkeypatch.setattr(driver_module, "_SETTLING", 0.01)


def filled(store: Store, **changes: Any) -> vb.Collection:
    """Two rows of one field."""
    photos = store.create(small(fields={"year": "int64"}, **changes))
    photos.upsert(rows(photos.spec, ["a", "b"], year=[2020, None]))
    return photos


def described(store: Store) -> Described:
    found = driver_of(store).describe("photos", Deadline.after(9))
    assert isinstance(found, Described)
    return found


def grown(spec: CollectionSpec, **fields: Any) -> CollectionSpec:
    return spec.grown([Field(name, type) for name, type in fields.items()])


def add(store: Store, found: Described, **fields: Any) -> Described | None:
    result: Described | None = driver_of(store).add_fields(
        found, grown(found.spec, **fields), Deadline.after(9)
    )
    return result


def tags_of(emulator: Emulator) -> dict[str, str]:
    import pinecone

    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client:
        return dict(client.indexes.describe("photos").tags)


def test_old_rows_are_null_in_fields_of_every_type_and_new_rows_are_kept(
    emulator: Emulator, store: Store
) -> None:
    photos = filled(store)
    old = contents(photos)
    photos.add_fields(NEW)
    photos.upsert([{"id": "c", "vector": [1, 0, 0, 0], "year": 7, **VALUES}])
    with pinecone_store(emulator) as other:
        for collection in (photos, other.open("photos")):
            assert collection.spec.fields == photos.spec.fields
            found = contents(collection)
            assert {key: found[key] for key in "ab"} == {
                key: {**row, **dict.fromkeys(NEW)} for key, row in old.items()
            }
            for name in NEW:
                assert scanned(collection, filter=vb.field(name).is_null()) == ["a", "b"], name
                assert scanned(collection, filter=~vb.field(name).is_null()) == ["c"], name
            for condition, keeps in (
                (vb.field("year") == 2020, "a"),
                (vb.field("size") > 5, "c"),
                (vb.field("taken") > "9999-12-31T23:59:59.999998Z", "c"),
                (vb.field("size").differs(5) & (vb.field("id") != "b"), "ac"),
                (vb.field("tags").is_empty() & vb.field("sizes").contains(2**53 + 1), "c"),
                (~vb.field("ratios").is_empty(), ""),
            ):
                assert scanned(collection, filter=condition) == list(keeps), condition


def test_no_record_is_touched_and_a_users_tags_stay(emulator: Emulator) -> None:
    with pinecone_store(emulator, tags={"team": "search"}) as store:
        photos = filled(store)
        before = tags_of(emulator)
        emulator.log.clear()
        photos.add_fields(NEW)
        assert emulator.log.requests() == []
        after = tags_of(emulator)
        assert after["team"] == "search"
        assert [tag["vecbridge"].split("-", 2)[2] for tag in (before, after)] == [
            described(store).identity.value
        ] * 2
        assert described(store).identity.schema == 1 + len(NEW)


def test_tags_that_the_new_spec_does_not_need_are_removed(emulator: Emulator, rest: Store) -> None:
    import pinecone

    photos = filled(rest)
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client:
        client.indexes.configure("photos", tags={"vecbridge-spec-17": "left behind"})
    photos.add_fields({"title": "string"})
    assert "vecbridge-spec-17" not in tags_of(emulator)
    assert rest.open("photos").spec == photos.spec


def test_a_call_that_was_cut_off_may_be_repeated(rest: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = filled(rest)
    found = described(rest)
    tag = Control.tag

    def lost_before(self: Control, index: str, tags: dict[str, str]) -> None:
        raise UnavailableError("no connection", unsent=True)

    def lost_after(self: Control, index: str, tags: dict[str, str]) -> None:
        tag(self, index, tags)
        raise UnavailableError("the connection was reset")

    for fault, size in ((lost_before, 1), (lost_after, 2)):
        monkeypatch.setattr(Control, "tag", fault)
        with pytest.raises(UnavailableError):
            photos.add_fields({"title": "string"})
        monkeypatch.setattr(Control, "tag", tag)
        assert described(rest).identity.schema == size
    again = add(rest, found, title="string")  # as if the first call had never ended
    assert again is not None
    assert again.spec == grown(found.spec, title="string")
    photos.add_fields({"title": "string"})
    assert photos.spec == again.spec
    assert contents(photos).keys() == {"a", "b"}


def test_a_call_whose_time_is_up_before_it_has_looked_again_may_be_repeated(
    rest: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(rest)
    found = described(rest)
    monkeypatch.setattr(driver_module, "_SETTLING", 60.0)
    with pytest.raises(DeadlineError, match="new fields"):
        add(rest, found, title="string")
    again = add(rest, found, title="string")
    assert again is not None
    assert again.identity.schema == 2


def test_what_is_no_longer_as_it_was_described_is_left_alone(emulator: Emulator, rest: Store) -> None:
    filled(rest)
    stale = described(rest)
    assert add(rest, stale, title="string") is not None
    before = tags_of(emulator)
    assert add(rest, stale, price="float64") is None
    assert tags_of(emulator) == before
    rest.create(small(fields={"year": "int64"}), if_exists="replace")
    before = tags_of(emulator)
    assert add(rest, stale, price="float64") is None
    assert tags_of(emulator) == before
    rest.drop("photos")
    with pytest.raises(NotFoundError):
        add(rest, stale, price="float64")


def test_fields_that_somebody_else_adds_at_the_same_moment_are_not_lost(
    emulator: Emulator, rest: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pinecone_store(emulator) as other:
        photos, theirs = filled(rest), other.open("photos")
        stale = described(other)
        tag = Control.tag

        def overtaken(self: Control, index: str, tags: dict[str, str]) -> None:
            """Both have looked; the other one writes last."""
            monkeypatch.setattr(Control, "tag", tag)
            tag(self, index, tags)
            wanted = driver_module.tags.changed(tags, grown(stale.spec, price="float64"))
            tag(self, index, wanted)

        monkeypatch.setattr(Control, "tag", overtaken)
        photos.add_fields({"title": "string"})
        assert [each.name for each in photos.spec.fields] == ["year", "price", "title"]
        theirs.add_fields({"price": "float64"})
        assert theirs.spec == photos.spec


def test_an_older_handle_reads_on_and_writes_until_it_looks_again(emulator: Emulator, store: Store) -> None:
    photos = filled(store)
    with pinecone_store(emulator) as other:
        old = other.open("photos")
        photos.add_fields({"title": "string"})
        photos.upsert([{"id": "c", "vector": [1, 0, 0, 0], "title": "C"}])
        assert scanned(old) == ["a", "b", "c"]
        assert old.fetch(["c"]).schema.names == ["id", "vector", "year"]
        old.upsert(rows(old.spec, ["b"], year=[5]))  # within ten seconds of its last look
        forget_last_look(old)
        with pytest.raises(SchemaError, match="open it again"):
            old.upsert(rows(old.spec, ["c"], year=[5]))
        assert scanned(old) == ["a", "b", "c"]
        assert photos.fetch(["b", "c"], include=["title"])["title"].to_pylist() == [None, "C"]


def test_records_of_an_older_index_stay_without_a_copy_of_their_id(emulator: Emulator, rest: Store) -> None:
    import pinecone

    filled(rest)
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client:
        older = tags_of(emulator)["vecbridge"].replace("2-", "1-", 1)
        client.indexes.configure("photos", tags={"vecbridge": older})
    photos = rest.open("photos")
    photos.add_fields({"title": "string"})
    assert tags_of(emulator)["vecbridge"].startswith("1-")
    for collection in (photos, rest.open("photos")):
        with pytest.raises(UnsupportedError, match="id of this index"):
            collection.count(vb.field("id") == "a")


def test_fields_for_which_there_are_no_tags_are_refused_before_anything_is_sent(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Control, index: str, tags: dict[str, str]) -> None:
        raise AssertionError("something was sent")

    monkeypatch.setattr(Control, "tag", refused)
    many = {f"field_{number * 7919 % 10_007}_{number**5}": "bool" for number in range(250)}
    few = dict(list(many.items())[:40])
    with pinecone_store(emulator, tags={f"tag{number}": "x" for number in range(14)}) as store:
        photos = filled(store)
        with pytest.raises(UnsupportedError, match="tags of an index"):
            photos.add_fields(many)
        with pytest.raises(UnsupportedError, match="14 tags"):
            photos.add_fields(few)
        assert store.open("photos").spec == photos.spec == small(fields={"year": "int64"})


def test_an_index_made_elsewhere_has_no_spec_to_add_fields_to(emulator: Emulator, store: Store) -> None:
    import pinecone

    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client:
        place = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
        client.indexes.create(name="photos", dimension=4, metric="cosine", spec=place)
    with pytest.raises(UnsupportedError, match="made elsewhere"):
        store.open("photos").add_fields({"title": "string"})
    assert described(store).identity.schema == 0
