"""A collection that a write makes: not before there is a row for it, and not left behind without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from vecbridge.bulk import NewCollection
from vecbridge.collection import Collection
from vecbridge.errors import BackendError
from vecbridge.store import Store
from vecbridge.testing.cases import CASES, StoreCase

BACKENDS = [case for case in CASES if case.id in ("snapshot", "milvus-lite", "pinecone")]
SPEC = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
GOOD = [{"id": "a", "vector": [1, 0], "year": 1}, {"id": "b", "vector": [0, 1]}]
BAD = [{"id": "", "vector": [1, 0]}, {"id": "c", "vector": [0, 0]}]


@pytest.fixture(params=["memory", "faiss"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with vb.connect(f"{request.param}://{tmp_path}/store") as opened:
        yield opened


def fails(error: BaseException) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


def source(*batches: Any, error: BaseException | None = None) -> Iterator[Any]:
    yield from batches
    if error is not None:
        raise error


def test_the_collection_is_made_with_its_first_good_row(store: Store) -> None:
    def watched() -> Iterator[Any]:
        yield BAD
        assert store.collections() == []
        yield GOOD
        yield BAD

    with NewCollection(store, SPEC) as photos:
        report = vb.write(photos, watched())
        assert (report.written, report.failed) == (2, 4)
        assert [failure.row for failure in report.failures] == [0, 1, 4, 5]
        assert photos.collection is not None
        assert photos.collection.count() == 2


@pytest.mark.parametrize(
    "batches",
    [
        lambda: source(),
        lambda: source(BAD, BAD),
        lambda: source(error=OSError("the file is gone")),
        lambda: source(BAD, error=vb.SchemaError("the ids are double")),
        lambda: fails(KeyboardInterrupt()),
    ],
    ids=["empty", "bad", "unreadable", "wrong", "interrupted"],
)
def test_nothing_is_made_for_a_source_without_a_good_row(
    store: Store, batches: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "create", fails(AssertionError("it was made")))
    with NewCollection(store, SPEC) as photos:
        try:
            report = vb.write(photos, batches(), journal=tmp_path / "run.journal")
        except (OSError, vb.SchemaError, KeyboardInterrupt):
            pass
        else:
            assert report.written == 0
    assert not (tmp_path / "run.journal").exists()


@pytest.mark.parametrize(
    "error",
    [BackendError("400"), vb.StorageFullError("full"), vb.AuthError("no"), KeyboardInterrupt(), OSError("?")],
    ids=lambda error: type(error).__name__,
)
def test_it_is_removed_again_with_its_journal_where_no_row_was_acknowledged(
    store: Store, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "run.journal"
    with monkeypatch.context() as patch, NewCollection(store, SPEC) as photos:
        patch.setattr(Collection, "upsert", fails(error))
        if type(error) is BackendError:  # the rows are refused, one by one
            assert vb.write(photos, [GOOD], journal=journal).failed == 2
        else:
            with pytest.raises(type(error)):
                vb.write(photos, [GOOD], journal=journal)
        assert photos.collection is None
    assert store.collections() == []
    assert not journal.exists()
    other = vb.CollectionSpec.single("photos", dim=2, id_type="int64")  # the corrected file has other ids
    with NewCollection(store, other) as photos:
        assert vb.write(photos, [[{"id": 1, "vector": [1, 0]}]], journal=journal).written == 1


def test_a_journal_of_another_run_leaves_no_collection_and_stays(store: Store, tmp_path: Path) -> None:
    journal = tmp_path / "run.journal"
    with NewCollection(store, SPEC) as photos:
        vb.write(photos, [GOOD], journal=journal)
    store.drop("photos")
    before = journal.read_bytes()
    with NewCollection(store, SPEC) as photos, pytest.raises(vb.JournalError):
        vb.write(photos, [GOOD], journal=journal)
    assert store.collections() == []
    assert journal.read_bytes() == before


def test_it_stays_once_a_row_was_acknowledged(store: Store) -> None:
    with NewCollection(store, SPEC) as photos, pytest.raises(OSError, match="gone"):
        vb.write(photos, source(GOOD, error=OSError("gone")))
    with store.open("photos") as opened:
        assert opened.count() == 2


def test_one_that_somebody_else_made_meanwhile_is_never_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(self: Collection, *_: object, **__: object) -> None:
        store.drop("photos")
        store.create(SPEC).close()
        raise vb.AuthError("the key was withdrawn")

    with NewCollection(store, SPEC) as photos:
        monkeypatch.setattr(Collection, "upsert", replaced)
        with pytest.raises(vb.AuthError):
            vb.write(photos, [GOOD])
    assert store.collections() == ["photos"]


def test_one_that_somebody_else_has_written_to_is_not_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = Collection.upsert

    def overtaken(self: Collection, *_: object, **__: object) -> None:
        with store.open("photos") as theirs:
            upsert(theirs, [{"id": "theirs", "vector": [1, 1]}])
        raise vb.AuthError("the key was withdrawn")

    with NewCollection(store, SPEC) as photos:
        monkeypatch.setattr(Collection, "upsert", overtaken)
        with pytest.raises(vb.AuthError):
            vb.write(photos, [GOOD])
    with store.open("photos") as opened:
        assert opened.count() == 1


def test_one_that_somebody_else_made_first_is_an_error_and_left_alone(store: Store) -> None:
    with NewCollection(store, SPEC) as photos:
        store.create(SPEC).close()
        with pytest.raises(vb.CollectionExistsError):
            vb.write(photos, [GOOD])
    assert store.collections() == ["photos"]


def test_what_the_store_cannot_build_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    spec = vb.CollectionSpec.single("photos", dim=2, index=vb.Other("scann", {}))
    with vb.connect(f"faiss://{tmp_path}/store") as store, pytest.raises(vb.UnsupportedError):
        NewCollection(store, spec)


def test_a_drop_by_identity_takes_no_other_collection(store: Store) -> None:
    with store.create(SPEC) as first:
        identity = first.identity
    store.drop_exactly("photos", identity)
    store.create(SPEC).close()
    with pytest.raises(vb.NotFoundError, match="another one has its name"):
        store.drop_exactly("photos", identity)
    assert store.collections() == ["photos"]


@pytest.mark.parametrize("case", BACKENDS, ids=lambda case: case.label)
def test_it_is_removed_again_on_each_backend(
    case: StoreCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (absent := case.missing()) is not None:
        pytest.skip(absent)
    spec = vb.CollectionSpec.single("fleeting", dim=2, fields={"year": "int64"})
    other = vb.CollectionSpec.single("fleeting", dim=3, fields={"year": "string"}, id_type="int64")
    with vb.connect(case.url(tmp_path), **case.options) as store:
        with monkeypatch.context() as patch, NewCollection(store, spec) as photos:
            patch.setattr(Collection, "upsert", fails(vb.AuthError("no")))
            with pytest.raises(vb.AuthError):
                vb.write(photos, [GOOD])
        assert "fleeting" not in store.collections()
        with NewCollection(store, other) as photos:
            report = vb.write(photos, [[{"id": 1, "vector": [1, 0, 0], "year": "x"}]])
        assert report.written == 1
        store.drop("fleeting")
